"""What decides a comparison: status registers, and what they are compared with.

All take the inputs, the scale of a register and the sharpness of its operands,
which the others leave aside, and give the probability that a comparison holds
and that it does not. With a redundancy of R there are R pairs of operands or as
many units as these have operands (Faber and Wattenhofer 2020, arXiv
2004.07085).

Shape key: B examples, I inputs, '1' a scalar's axes, 2 the answer and its
negation.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.units import (
  NALU,
  NAU,
  NPU,
  Linear,
  StatusRegister,
  TwoLayers,
  Unit,
)
from extrap.models.weights import GLOROT_NORMAL, Weights, dot, parameters

Factor = jax.Array | float
Params = Mapping[str, object]


class Comparator(Protocol):
  """A linen module; methods as those of `StatusRegister`."""

  def __call__(
    self, x_BI: jax.Array, scale: Factor | None = None, sharpness: Factor = 1.0
  ) -> jax.Array:
    """Probability that the comparison holds, and that it does not, [B, 2]."""

  def project(self, params: Params) -> Params:
    """Parameters clipped to where they belong, after an update."""

  def penalty(self, params: Params) -> jax.Array:
    """The regulariser."""


class Perceptron(nn.Module):
  """A layer of sigmoid units and one of them above it.

  Attributes:
    hidden: units of the layer.
    dtype: type of the parameters.
  """

  hidden: int = 20
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x_BI: jax.Array, scale: Factor | None = None, sharpness: Factor = 1.0
  ) -> jax.Array:
    """As `Comparator`."""
    del scale, sharpness
    param, zeros = parameters(self, self.dtype), jax.nn.initializers.zeros
    first_IH = param('first', GLOROT_NORMAL, (x_BI.shape[1], self.hidden))
    bias_1H = param('first_bias', zeros, (1, self.hidden))
    hidden_BH = jax.nn.sigmoid(dot(x_BI, first_IH) + bias_1H)
    second_H1 = param('second', GLOROT_NORMAL, (self.hidden, 1))
    return _either(dot(hidden_BH, second_H1) + param('bias', zeros, (1, 1)))

  @nn.nowrap
  def project(self, params: Weights) -> Weights:
    """As `Comparator`: nothing is clipped."""
    return params

  @nn.nowrap
  def penalty(self, params: Weights) -> jax.Array:
    """As `Comparator`; there is none."""
    del params
    return jnp.zeros(())


class UnitComparator(nn.Module):
  """Two layers of arithmetic units, a bias unless they have it, a sigmoid.

  Attributes:
    layers: the units, with one output.
    regularised: whether their regulariser is used.
    dtype: type of the bias.
  """

  layers: TwoLayers
  regularised: bool = False
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x_BI: jax.Array, scale: Factor | None = None, sharpness: Factor = 1.0
  ) -> jax.Array:
    """As `Comparator`."""
    del scale, sharpness
    logit_B1 = self.layers(x_BI)
    if not isinstance(self.layers.second, Linear):
      zeros = jax.nn.initializers.zeros
      logit_B1 += parameters(self, self.dtype)('bias', zeros, (1, 1))
    return _either(logit_B1)

  @nn.nowrap
  def project(self, params: Params) -> Params:
    """As `Comparator`."""
    return {**params, 'layers': self.layers.project(params['layers'])}

  @nn.nowrap
  def penalty(self, params: Params) -> jax.Array:
    """As `Comparator`: the sum of its layers'."""
    if not self.regularised:
      return jnp.zeros(())
    return self.layers.penalty(params['layers'])


def _either(logit_B1: jax.Array) -> jax.Array:
  return jax.nn.sigmoid(jnp.concatenate([logit_B1, -logit_B1], axis=1))


def _units(
  first: Unit, second: Unit, each: int = 1, regularised: bool = False
) -> Callable[[int, jax.typing.DTypeLike], UnitComparator]:
  """Makes a head of so many units for each redundant pair."""

  def make(redundancy: int, dtype: jax.typing.DTypeLike) -> UnitComparator:
    layers = TwoLayers(first, second, each * redundancy, 1, dtype)
    return UnitComparator(layers, regularised, dtype)

  return make


# By name: makes a head of a redundancy and a type.
HEADS: Mapping[str, Callable[[int, jax.typing.DTypeLike], Comparator]] = {
  'nsr': lambda pairs, dtype: StatusRegister(redundancy=pairs, dtype=dtype),
  'mlp': lambda pairs, dtype: Perceptron(2 * pairs, dtype),
  'nalu': _units(NALU(), Linear()),
  'nau': _units(NAU(), NAU(), 2, regularised=True),
  'npu': _units(NPU(), Linear(), 2),
}
