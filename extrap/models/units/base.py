"""The protocol of arithmetic units, and the layer that holds one.

A unit is a frozen dataclass of settings over a pure function. Its weights are
declared where they are named, through `param(name, initializer, shape)`; what
training does to them between and beside the updates (`project`, `penalty`) and
what evaluation asks of them (`sparsity_error`) are pure functions of the same
tree, for one replica: a population is a `jax.vmap` over each of them.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.config import Registry
from extrap.models.weights import Param, Weights, dot, parameters, uniform

# Of a and b: a + b, a - b, a * b, a / b, the square root of a, a squared.
OPERATIONS = ('add', 'sub', 'mul', 'div', 'root', 'squared')

UNITS = Registry('arithmetic unit')

EPSILON = 1e-7  # What is added to a magnitude before its logarithm.
# What units take of their inputs before a product.
FUNCTIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
  'x': lambda x: x,
  'log': lambda x: jnp.log(jnp.abs(x) + EPSILON),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
  """Base of all units.

  Class attributes:
    operations: those of `OPERATIONS` that it represents for all positive a and
      b, exactly or in the limit of its parameters; each input may be either,
      so that a squared is the product of two inputs that are both a.
  """

  operations: ClassVar[frozenset[str]] = frozenset()

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    """The weights, each declared through `param` and under its name."""
    raise NotImplementedError

  def products(self, weights: Weights) -> dict[str, jax.Array]:
    """What inputs are multiplied by: [I, X] by the name of a function of them.

    So that one product serves many models of the same inputs. Empty for a unit
    that is not made of such products; it defines `apply`.
    """
    del weights
    return {}

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    """What the unit makes of the products, [B, O], each of them [B, X]."""
    raise NotImplementedError

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    """What the unit makes of its inputs, [B, O].

    Args:
      weights: as declared.
      x_BI: inputs.
      key: randomness of a training step; None is evaluation.
    """
    del key
    product = {
      name: dot(FUNCTIONS[name](x_BI), matrix_IX)
      for name, matrix_IX in self.products(weights).items()
    }
    return self.finish(weights, product)

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    """The weights that are used, which ought to be -1, 0 or 1."""
    raise NotImplementedError

  def project(self, weights: Weights) -> Weights:
    """Weights clipped to where they belong, after an update."""
    return weights

  def penalty(self, weights: Weights) -> jax.Array:
    """What is added to the loss, times a factor of the training's choice."""
    del weights
    return jnp.zeros(())

  def sparsity_error(self, weights: Weights) -> jax.Array:
    """Largest distance of a used weight from -1, 0 or 1; a scalar."""
    errors = [jnp.max(distance(matrix)) for matrix in self.matrices(weights)]
    return jnp.max(jnp.stack(errors))


class Bounds(NamedTuple):
  """A closed interval."""

  low: float
  high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounded(Unit):
  """Base of units of one matrix, clipped to an interval after each update.

  The regulariser is the mean distance of its elements from -1, 0 or 1 (Madsen
  and Johansen 2020, arXiv 2001.05016).

  Class attributes:
    bounds: the interval.
  """

  bounds: ClassVar[Bounds]

  def initial(self, inputs: int, outputs: int) -> Bounds:
    """The interval from which fresh weights are drawn, uniformly."""
    raise NotImplementedError

  def rows(self, inputs: int) -> int:
    """How many rows the matrix has."""
    return inputs

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    initial = uniform(*self.initial(inputs, outputs))
    shape = (self.rows(inputs), outputs)
    return {'weight': param('weight', initial, shape)}

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return (weights['weight'],)

  def project(self, weights: Weights) -> Weights:
    return {'weight': jnp.clip(weights['weight'], *self.bounds)}

  def penalty(self, weights: Weights) -> jax.Array:
    return jnp.mean(distance(weights['weight']))


class UnitLayer(nn.Module):
  """A unit as a linen module.

  Attributes:
    unit: which one.
    outputs: how many.
    dtype: type of the parameters; products are as exact as it is.
  """

  unit: Unit
  outputs: int
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x_BI: jax.Array, key: jax.Array | None = None
  ) -> jax.Array:
    """[B, O]; the key is the randomness of training, None in evaluation."""
    param = parameters(self, self.dtype)
    weights = self.unit.declare(param, x_BI.shape[1], self.outputs)
    return self.unit.apply(weights, x_BI, key)

  @nn.nowrap
  def products(self, params: Weights) -> dict[str, jax.Array]:
    """What inputs are multiplied by, as `Unit.products`."""
    return self.unit.products(params)

  @nn.nowrap
  def finish(
    self,
    params: Weights,
    product: Mapping[str, jax.Array],
    key: jax.Array | None = None,
  ) -> jax.Array:
    """What the unit makes of these products, [B, O]."""
    del key
    return self.unit.finish(params, product)

  @nn.nowrap
  def project(self, params: Weights) -> Weights:
    """Parameters clipped to where they belong, after an update."""
    return self.unit.project(params)

  @nn.nowrap
  def penalty(self, params: Weights) -> jax.Array:
    """What is added to the loss, times a factor."""
    return self.unit.penalty(params)

  @nn.nowrap
  def sparsity_error(self, params: Weights) -> jax.Array:
    """Largest distance of a weight from -1, 0 or 1."""
    return self.unit.sparsity_error(params)


def distance(weight: jax.Array) -> jax.Array:
  """Of each element from the closest of -1, 0 and 1."""
  size = jnp.abs(weight)
  return jnp.minimum(size, jnp.abs(1 - size))


def clamp(weight: jax.Array, low: float, high: float) -> jax.Array:
  """As `jnp.clip`, but a weight at a bound has the whole gradient.

  A projected weight lies exactly there: without its gradient it would never
  leave the bound, and with half of it, as `jnp.clip` gives, late.
  """
  below = jnp.where(weight < low, low, weight)
  return jnp.where(below > high, high, below)
