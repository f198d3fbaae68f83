"""What biases by token distance have in common.

Shape key: B examples, or one where all count alike; Q queries, K keys, H heads,
F hidden units.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.models.hardware import hardware
from extrap.models.positions.position import (
  Param,
  Position,
  matmul_precision,
)
from extrap.tasks.task import Structure

# Activations of hidden units, a MiB of them, that a CPU's caches hold.
HELD = 2**18


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
    return prepared.replace(position=ids.index[:1], counted=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance(Relative):
  """A bias that is a function of the distance t = n - m alone.

  Where tokens are counted Q queries and K keys have but Q + K - 1 distances.
  """

  def of_distance(
    self, distance: jax.Array, param: Param, heads: int
  ) -> jax.Array:
    """Bias [B, H, Q, K or W] of distances [B, 1, Q, K or W], 0 or more.

    Each is that of its distance alone.
    """
    raise NotImplementedError

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    # Keys after the query are masked later; keep their bias finite.
    if not (query.counted and key.counted):
      distance = jnp.maximum(query.position - key.position, 0)
      return self.of_distance(distance, param, heads)
    queries, keys = query.position.shape[2], key.position.shape[3]
    first = query.position[:, :, :1] - key.position[..., :1]
    offset = queries - 1 - jnp.arange(queries + keys - 1).reshape(1, 1, 1, -1)
    distance = jnp.maximum(first + offset, 0)
    return along_diagonals(self.of_distance(distance, param, heads), queries)


def along_diagonals(x_BH1N: jax.Array, rows: int) -> jax.Array:
  """Spreads numbers over the diagonals of a matrix, the lowest first.

  A row is the one above shifted by one to the right. So are rows of N - 1 that
  are read off one number after the other, N at a time: no index, and a gradient
  that is a sum of rows.

  Args:
    x_BH1N: a number for each diagonal.
    rows: Q, at least 1.

  Returns:
    [B, H, Q, K] of K = N - Q + 1 columns.
  """
  *lead, _, count = x_BH1N.shape
  if rows == 1:
    return x_BH1N
  flat = jnp.broadcast_to(x_BH1N, (*lead, rows, count)).reshape(*lead, -1)
  flat = flat[..., rows - 1 : rows * count - 1]
  return flat.reshape(*lead, rows, count - 1)[..., : count - rows + 1]


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
  feature_BIQK = jnp.concatenate(features, axis=1)
  whole = functools.partial(_network, jnp.stack(list(kernels)), bias_F, out_FH)
  examples, _, queries, keys = feature_BIQK.shape
  row = examples * keys * bias_F.size
  if hardware().platform != 'cpu' or row * queries <= HELD:
    return whole(feature_BIQK)
  one_row = jax.checkpoint(lambda x_BIK: whole(x_BIK[:, :, None])[:, :, 0])
  out_QBHK = jax.lax.map(
    one_row,
    jnp.moveaxis(feature_BIQK, 2, 0),
    batch_size=max(1, HELD // row),
  )
  return jnp.moveaxis(out_QBHK, 0, 2)


def _network(
  kernel_IF: jax.Array,
  bias_F: jax.Array,
  out_FH: jax.Array,
  feature_BIQK: jax.Array,
) -> jax.Array:
  """As `network`, of all pairs at once."""
  line, hidden_BQKF = (1, 1, 1, -1), bias_F.reshape(1, 1, 1, -1)
  for nth, kernel_F in enumerate(kernel_IF):
    feature_BQK1 = feature_BIQK[:, nth, ..., None]
    hidden_BQKF += feature_BQK1 * kernel_F.reshape(line)
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
