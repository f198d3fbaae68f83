"""The protocol of position encodings.

An encoding is a frozen dataclass of settings with pure hooks; every hook has a
neutral default, so a new encoding writes only what it changes. Parameters are
declared where they are used, through `param(name, initializer, shape)`.

Shape key: B examples, T tokens, Q queries, K keys, W neighbours, H heads,
D head width, E model width. In the pairwise hooks (`pair_bias`, `visible`) the
structures' fields are rank 4, [B, 1, Q, 1] against [B, 1, 1, K] (dense) or
[B, 1, Q, W] (gathered): write them elementwise and they serve both, blocks of
queries and keys, and cached decoding too. Parameters of `pair_bias` are then
declared on a single pair: their shapes do not depend on the number of tokens.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from extrap.config import Registry
from extrap.tasks.task import Structure

Param = Callable[
  [str, jax.nn.initializers.Initializer, tuple[int, ...]], jax.Array
]

POSITIONS = Registry('position')


class Limit(NamedTuple):
  """What a table can index.

  Attributes:
    field: the structure field that is looked up.
    largest: its largest id.
    shift: the largest random shift that training adds.
    option: the setting that makes the table larger.
  """

  field: str
  largest: int
  shift: int
  option: str = 'max_size'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
  """Base of all encodings; by itself, no encoding at all.

  Class attributes:
    reads: structure fields that it uses (beside the causal order).
    rung: how much of the alignment it gives away, the structure ladder's name.
    table: the structure field that indexes its table, if it has one.
  """

  reads: ClassVar[tuple[str, ...]] = ()
  rung: ClassVar[str] = 'L0 none'
  table: ClassVar[str | None] = None

  @property
  def max_id(self) -> int | None:
    """Largest id that its table holds; None where nothing limits it."""
    return None

  @property
  def largest_shift(self) -> int:
    """Largest random shift that training adds to an id of its table."""
    return 0

  @property
  def limits(self) -> tuple[Limit, ...]:
    """What each of its tables can index."""
    if self.max_id is None:
      return ()
    return (Limit(self.table, self.max_id, self.largest_shift),)

  @property
  def place_window(self) -> tuple[int, int] | None:
    """Places (behind, ahead) that a query sees, if it sees no others."""
    return None

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    """Ids that all layers share; random shifts are drawn here."""
    del key, train
    return ids

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array | None:
    """What is added to the token embeddings, [B, T, E]."""
    del ids, param, width
    return None

  def rotate(self, x_BTHD: jax.Array, ids: Structure) -> jax.Array:
    """Maps queries and keys alike."""
    del ids
    return x_BTHD

  def gate(
    self, x_BTE: jax.Array, param: Param, heads: int
  ) -> jax.Array | None:
    """What a key token contributes to `key_bias`, [B, T, H]; cached."""
    del x_BTE, param, heads
    return None

  def key_bias(self, ids: Structure, gate_BKH: jax.Array) -> jax.Array:
    """Bias of each key whatever the query, [B, K, H]; keys in token order."""
    del ids
    return gate_BKH

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array | None:
    """Bias of attention logits, [B or 1, H or 1, Q, K or W]."""
    del query, key, param, heads
    return None

  def visible(self, query: Structure, key: Structure) -> jax.Array | bool:
    """Which keys a query may see, beside the causal order."""
    del query, key
    return True

  def neighbours(self, ids: Structure) -> jax.Array | None:
    """Token indices [B, T, W] of all keys visible to each token.

    T stands for an absent neighbour. None: the encoding has no hard window.
    """
    del ids
    return None

  def attend(
    self,
    query_BQHD: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array,
    scale: jax.Array,
  ) -> jax.Array:
    """Softmax attention in float32; content-dependent rules replace it.

    Args:
      query_BQHD: queries.
      key: [B, K, H, D], or [B, Q, W, H, D] when gathered.
      value: as key.
      bias: added to the logits, broadcastable to [B, H, Q, K or W].
      mask: which pairs count, broadcastable likewise.
      scale: factor of the logits, broadcastable likewise.

    Returns:
      [B, Q, H, D].
    """
    weight_BHQK = self.weights(query_BQHD, key, bias, mask, scale)
    values = 'BKHD' if value.ndim == 4 else 'BQKHD'
    return jnp.einsum(
      f'BHQK,{values}->BQHD',
      weight_BHQK.astype(value.dtype),
      value,
      precision=matmul_precision(query_BQHD.dtype),
    )

  def weights(
    self,
    query_BQHD: jax.Array,
    key: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array,
    scale: jax.Array,
  ) -> jax.Array:
    """Share of each key in what is read, [B, H, Q, K or W], as `attend`."""
    keys = 'BKHD' if key.ndim == 4 else 'BQKHD'
    logits_BHQK = jnp.einsum(
      f'BQHD,{keys}->BHQK',
      query_BQHD,
      key,
      precision=matmul_precision(query_BQHD.dtype),
      preferred_element_type=jnp.promote_types(query_BQHD.dtype, jnp.float32),
    )
    logits_BHQK = logits_BHQK * scale
    if bias is not None:
      logits_BHQK += bias
    return jax.nn.softmax(
      jnp.where(mask, logits_BHQK, jnp.finfo(logits_BHQK.dtype).min), axis=-1
    )


def matmul_precision(dtype: jax.typing.DTypeLike) -> jax.lax.Precision:
  """Exact float32 products: TF32 fails every absolute threshold."""
  exact = jnp.dtype(dtype).itemsize >= 4
  return jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT


def lookup(table_NX: jax.Array, ids: jax.Array) -> jax.Array:
  """Rows of a table; a small one by a product, whose gradient is faster."""
  rows = table_NX.shape[0]
  if rows > 64:
    return jnp.take(table_NX, ids, axis=0, mode='clip')
  onehot = jax.nn.one_hot(ids, rows, dtype=table_NX.dtype)
  return jnp.matmul(
    onehot, table_NX, precision=matmul_precision(table_NX.dtype)
  )
