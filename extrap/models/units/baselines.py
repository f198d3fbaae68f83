"""What arithmetic units are compared with: linear maps, ReLU and ReLU6.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax

from extrap.models.units.base import UNITS, Unit
from extrap.models.weights import Initializer, Param, Weights


@UNITS.register('linear')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Unit):
  """A linear map with a bias, of Glorot and Bengio's initial weights."""

  operations: ClassVar[frozenset[str]] = frozenset(('add', 'sub'))
  initial: ClassVar[Initializer] = staticmethod(
    jax.nn.initializers.glorot_uniform()
  )

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    zeros = jax.nn.initializers.zeros
    return {
      'weight': param('weight', self.initial, (inputs, outputs)),
      'bias': param('bias', zeros, (1, outputs)),
    }

  def products(self, weights: Weights) -> dict[str, jax.Array]:
    return {'x': weights['weight']}

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    # Examples stand last: the bias's gradient sums over them, and is faster so.
    return (product['x'].T + weights['bias'].T).T

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return (weights['weight'],)


@UNITS.register('relu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReLU(Linear):
  """Rectified linear units, initially as in He et al., arXiv 1502.01852."""

  operations: ClassVar[frozenset[str]] = frozenset(('add',))
  initial: ClassVar[Initializer] = staticmethod(
    jax.nn.initializers.he_uniform()
  )

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    return jax.nn.relu(super().finish(weights, product))


@UNITS.register('relu6')
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReLU6(ReLU):
  """Rectified linear units that are 6 at most: nothing is added beyond it."""

  operations: ClassVar[frozenset[str]] = frozenset()

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    return jax.nn.relu6(Linear.finish(self, weights, product))
