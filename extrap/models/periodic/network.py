"""Networks of one input and one output over periodic layers.

Shape key: B examples, I inputs.
"""

import dataclasses

import jax
from flax import linen as nn

from extrap.models.periodic.activation import (
  ActivatedLayer,
  Activation,
  ReLU,
)
from extrap.models.periodic.fan import FANLayer
from extrap.models.periodic.fourier import FourierFeatures
from extrap.models.weights import Initializer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Readout(Activation):
  """None at all, with the initial weights of the layers before it."""

  behind: Activation = dataclasses.field(default_factory=Activation)

  def kernel(self, inputs: int, first: bool) -> Initializer:
    return self.behind.kernel(inputs, first)

  def bias(self, inputs: int) -> Initializer:
    return self.behind.bias(inputs)


class Network(nn.Module):
  """Layers, one after the other."""

  layers: tuple[nn.Module, ...]

  def __call__(self, x_BI: jax.Array) -> jax.Array:
    """[B, O] of the last layer."""
    for layer in self.layers:
      x_BI = layer(x_BI)
    return x_BI


def mlp(activation: Activation, width: int = 64, depth: int = 2) -> Network:
  """Hidden layers of an activation, then a linear map."""
  hidden = [
    ActivatedLayer(activation, width, first=index == 0)
    for index in range(depth)
  ]
  return Network((*hidden, ActivatedLayer(Readout(behind=activation), 1)))


def fan_network(width: int = 64, depth: int = 2) -> Network:
  """FAN layers, then a linear map."""
  hidden = [FANLayer(width) for _ in range(depth)]
  return Network((*hidden, ActivatedLayer(Readout(), 1)))


def fourier_network(
  width: int = 64, depth: int = 2, deviation: float = 1.0
) -> Network:
  """As many Fourier features as a layer is wide, then an MLP of ReLUs."""
  features = FourierFeatures(width // 2, deviation=deviation)
  hidden = [ActivatedLayer(ReLU(), width) for _ in range(depth)]
  return Network((features, *hidden, ActivatedLayer(Readout(), 1)))
