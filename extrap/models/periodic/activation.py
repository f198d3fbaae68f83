"""The protocol of activations, the layer that holds one, and the plain ones.

An activation is a frozen dataclass of settings over a pure function. It says
which initial weights its layer needs, and may have parameters of its own.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.config import Registry
from extrap.models.weights import Initializer, Param, Weights, dot, parameters

ACTIVATIONS = Registry('activation')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activation:
  """Base of all activations; by itself, none at all."""

  def declare(self, param: Param, width: int) -> Weights:
    """Parameters of its own, each declared through `param`."""
    del param, width
    return {}

  def apply(self, weights: Weights, x_BO: jax.Array) -> jax.Array:
    """Elementwise, [B, O]."""
    del weights
    return x_BO

  def kernel(self, inputs: int, first: bool) -> Initializer:
    """Draws the weights before it, by default with variance 1 / inputs.

    Args:
      inputs: of the layer.
      first: whether those are the network's.
    """
    del inputs, first
    return jax.nn.initializers.lecun_uniform()

  def bias(self, inputs: int) -> Initializer:
    """Draws the bias before it."""
    del inputs
    return jax.nn.initializers.zeros


class ActivatedLayer(nn.Module):
  """An activation of a linear map.

  Attributes:
    activation: which one.
    outputs: width of the layer.
    first: whether its inputs are the network's.
    dtype: type of the parameters; products are as exact as it is.
  """

  activation: Activation
  outputs: int
  first: bool = False
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_BI: jax.Array) -> jax.Array:
    """[B, O]."""
    param = parameters(self, self.dtype)
    inputs, activation = x_BI.shape[1], self.activation
    kernel = activation.kernel(inputs, self.first)
    weight_IO = param('kernel', kernel, (inputs, self.outputs))
    bias_1O = param('bias', activation.bias(inputs), (1, self.outputs))
    own = activation.declare(param, self.outputs)
    return activation.apply(own, dot(x_BI, weight_IO) + bias_1O)


@ACTIVATIONS.register('relu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReLU(Activation):
  """Rectified linear, which goes on as a straight line."""

  def apply(self, weights: Weights, x_BO: jax.Array) -> jax.Array:
    del weights
    return jax.nn.relu(x_BO)

  def kernel(self, inputs: int, first: bool) -> Initializer:
    del inputs, first
    return jax.nn.initializers.he_uniform()


@ACTIVATIONS.register('tanh')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tanh(Activation):
  """Hyperbolic tangent, which goes on as a constant."""

  def apply(self, weights: Weights, x_BO: jax.Array) -> jax.Array:
    del weights
    return jnp.tanh(x_BO)


@ACTIVATIONS.register('sin')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sin(Activation):
  """The sine (Parascandolo, Huttunen and Virtanen 2017, 'Taming the waves')."""

  def apply(self, weights: Weights, x_BO: jax.Array) -> jax.Array:
    del weights
    return jnp.sin(x_BO)


@ACTIVATIONS.register('x_plus_sin')
@dataclasses.dataclass(frozen=True, kw_only=True)
class XPlusSin(Activation):
  """x + sin(x), which never falls (Ziyin et al. 2020, arXiv 2006.08195)."""

  def apply(self, weights: Weights, x_BO: jax.Array) -> jax.Array:
    del weights
    return x_BO + jnp.sin(x_BO)
