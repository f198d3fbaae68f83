"""What biases by token distance have in common.

Shape key: B examples, or one where all count alike; Q queries, K keys, H heads,
F hidden units.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.models.positions.position import (
  Param,
  Position,
  matmul_precision,
)
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relative(Position):
  """A bias of pairs that reads token positions.

  Where all rows count their tokens alike it is computed for one of them.
  """

  reads: ClassVar[tuple[str, ...]] = ('position',)
  rung: ClassVar[str] = 'L2 smooth relative'
  cost: ClassVar[str] = 'C'

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    prepared = super().prepare(ids, key, train)
    if prepared.position is not ids.index:
      return prepared
    return prepared.replace(position=ids.index[:1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance(Relative):
  """A bias that is a function of the distance t = n - m alone."""

  def of_distance(
    self, distance: jax.Array, param: Param, heads: int
  ) -> jax.Array:
    """Bias [B, H, Q, K or W] of distances [B, 1, Q, K or W], 0 or more."""
    raise NotImplementedError

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    # Keys after the query are masked later; keep their bias finite.
    distance = jnp.maximum(query.position - key.position, 0)
    return self.of_distance(distance, param, heads)


def network(
  features: Sequence[jax.Array],
  kernels: Sequence[jax.Array],
  bias_F: jax.Array,
  out_FH: jax.Array,
) -> jax.Array:
  """A hidden layer of ReLU over features of pairs, [B, H, Q, K].

  There is no bias of outputs: what all keys have in common changes nothing.

  Args:
    features: some numbers for each pair, [B, 1, Q, K] each.
    kernels: what hidden units make of each feature, [F] each.
    bias_F: biases of hidden units.
    out_FH: from hidden units to heads.
  """
  line = (1, 1, 1, -1)
  hidden_BQKF = bias_F.reshape(line)
  for feature, kernel_F in zip(features, kernels, strict=True):
    hidden_BQKF += feature[:, 0, ..., None] * kernel_F.reshape(line)
  return jnp.einsum(
    'BQKF,FH->BHQK',
    jax.nn.relu(hidden_BQKF),
    out_FH,
    precision=matmul_precision(out_FH.dtype),
  )


def uniform_within(bound: float) -> jax.nn.initializers.Initializer:
  """Uniform from -bound to bound, as PyTorch's linear layers start."""

  def init(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: jax.typing.DTypeLike = jnp.float32,
  ) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
