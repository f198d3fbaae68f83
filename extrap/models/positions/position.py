"""The protocol of position encodings.

An encoding is a frozen dataclass of settings with pure hooks; every hook has a
neutral default, so a new encoding writes only what it changes. Parameters are
declared where they are used, through `param(name, initializer, shape)`, which
also gives what `common` has computed for all layers.

Shape key: B examples, T tokens, Q queries, K keys, W neighbours, H heads,
D head width, V kinds of scores, E model width. In the pairwise hooks
(`pair_bias`, `combine`, `visible`) the structures' fields are rank 4,
[B, 1, Q, 1] against [B, 1, 1, K] (dense) or [B, 1, Q, W] (gathered): write them
elementwise and they serve both, blocks of queries and keys, and cached decoding
too; where `Structure.counted` is true, a function of distance may be computed
once for each. Parameters of `pair_bias` are then declared on a single pair:
their shapes do not depend on the number of tokens.

What a rule costs: maps of queries and keys (`query_map`, `key_map`) and biases
of keys are as fast as none; pairwise hooks run in every block of pairs; who
replaces `scores`, `weights` or `attend` has all pairs in memory.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from extrap.config import Registry
from extrap.errors import ExtrapError
from extrap.tasks.task import Structure

Param = Callable[
  [str, jax.nn.initializers.Initializer, tuple[int, ...]], jax.Array
]

Gate = jax.Array | dict[str, jax.Array] | None

POSITIONS = Registry('position')

# Hooks that see all pairs at once.
ALL_PAIRS = ('attend', 'weights', 'scores')


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

  def of_base(self) -> 'Limit':
    """The same, as what is around the encoding calls it."""
    return self._replace(option=f'base.{self.option}')


@struct.dataclass
class Pairs:
  """Queries and the keys that they may read, as `Position.attend` finds them.

  Attributes:
    query: mapped queries [B, Q, H, D]; [B, Q, H, V, D] of V kinds of scores.
    key: [B, K, H, D], or [B, Q, W, H, D] when gathered; V as above.
    value: [B, K, H, D], or [B, Q, W, H, D].
    bias: added to the logits, broadcastable to [B, H, Q, K or W], or None.
    mask: which pairs count, broadcastable likewise.
    scale: factor of the logits, broadcastable likewise.
    query_ids: structure of the queries, fields [B, 1, Q, 1].
    key_ids: structure of the keys, fields [B, 1, 1, K] or [B, 1, Q, W].
    gate: what the key tokens contribute beside key and value, [B, K, ...] or
      [B, Q, W, ...].
  """

  query: jax.Array
  key: jax.Array
  value: jax.Array
  bias: jax.Array | None
  mask: jax.Array
  scale: jax.Array
  query_ids: Structure
  key_ids: Structure
  gate: Gate = None

  @property
  def gathered(self) -> bool:
    """Whether each query has keys of its own."""
    return self.value.ndim == 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
  """Base of all encodings; by itself, no encoding at all.

  Class attributes:
    reads: structure fields that it uses (beside the causal order).
    rung: how much of the alignment it gives away, the structure ladder's name.
    table: the structure field that indexes its table, if it has one.
    paper: where it is from, an arXiv number or a name.
    cost: its class of computation. A: a map of queries and keys; B: a bias of
      keys; C: a rule for each pair; D: all pairs at once; E: added to the
      embeddings; F: a mask, a layout or a schedule.
    late: keys are cached as they are and mapped whenever they are read, as
      what they become depends on how much has been read since.
  """

  reads: ClassVar[tuple[str, ...]] = ()
  rung: ClassVar[str] = 'L0 none'
  table: ClassVar[str | None] = None
  paper: ClassVar[str] = ''
  cost: ClassVar[str] = ''
  late: ClassVar[bool] = False

  @property
  def name(self) -> str:
    """Its name as a flag's value, or that of its class."""
    try:
      return POSITIONS.name_of(self)
    except ExtrapError:  # A library user need not register an encoding.
      return type(self).__name__

  @property
  def layers(self) -> tuple['Position', ...]:
    """The encodings of a period of layers; by default all have this one."""
    return (self,)

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

  @property
  def token_window(self) -> int | None:
    """How many tokens up to a query, itself included, hold all that it sees.

    Blocks of keys before them are left out. None: it may see any of the past.
    """
    return None

  def acts(self, hook: str) -> bool:
    """Whether it has a rule of its own for a hook, by the hook's name."""
    return getattr(type(self), hook) is not getattr(Position, hook)

  def check(self, heads: int, head_width: int) -> None:
    """Refuses heads that it cannot serve, with a UsageError."""

  def key_shape(self, head_width: int) -> tuple[int, ...]:
    """Shape of a mapped key of one head: (D,), or (V, D)."""
    return (head_width,)

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

  def common(
    self, ids: Structure, param: Param, head_width: int
  ) -> dict[str, jax.Array]:
    """What all layers read by `param(name, ..)`, once a forward pass."""
    del ids, param, head_width
    return {}

  def rotate(self, x_BTHD: jax.Array, ids: Structure) -> jax.Array:
    """Maps queries and keys alike."""
    del ids
    return x_BTHD

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    """What queries become before they meet keys: [B, T, H, *key_shape]."""
    del param
    return self.rotate(query_BTHD, ids)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    """What keys become before queries meet them: [B, T, H, *key_shape]."""
    del param
    return self.rotate(key_BTHD, ids)

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> Gate:
    """What a key token contributes beside key and value, [B, T, ..]; cached."""
    del x_BTE, param, heads
    return None

  def key_bias(self, ids: Structure, gate: Gate) -> jax.Array | None:
    """Bias of each key whatever the query, [B, K, H]; keys in token order."""
    del ids, gate
    return None

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array | None:
    """Bias of attention logits, [B or 1, H or 1, Q, K or W]."""
    del query, key, param, heads
    return None

  def combine(
    self, score: jax.Array, query: Structure, key: Structure
  ) -> jax.Array:
    """Logits without bias, [B, H, Q, K or W], of scaled products.

    Args:
      score: [B, H, Q, K or W]; [V, B, H, Q, K or W] of V kinds of scores.
      query: structure of the queries.
      key: structure of the keys.
    """
    del query, key
    return score

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

  def attend(self, pairs: Pairs, param: Param) -> jax.Array:
    """What the queries read, [B, Q, H, D]: the mean of values by `weights`."""
    weight_BHQK = self.weights(pairs, param)
    values = 'BQKHD' if pairs.gathered else 'BKHD'
    return jnp.einsum(
      f'BHQK,{values}->BQHD',
      weight_BHQK.astype(pairs.value.dtype),
      pairs.value,
      precision=matmul_precision(pairs.query.dtype),
    )

  def weights(self, pairs: Pairs, param: Param) -> jax.Array:
    """Share of each key in what is read, [B, H, Q, K or W], in float32."""
    logits_BHQK = self.scores(pairs, param)
    return jax.nn.softmax(
      jnp.where(pairs.mask, logits_BHQK, jnp.finfo(logits_BHQK.dtype).min),
      axis=-1,
    )

  def scores(self, pairs: Pairs, param: Param) -> jax.Array:
    """Logits of all pairs, with biases, [B, H, Q, K or W], in float32."""
    del param
    score = products(pairs.query, pairs.key, pairs.gathered)
    score *= jnp.expand_dims(pairs.scale, tuple(range(score.ndim - 4)))
    logits_BHQK = self.combine(score, pairs.query_ids, pairs.key_ids)
    return logits_BHQK if pairs.bias is None else logits_BHQK + pairs.bias


def products(
  query_BQHD: jax.Array, key: jax.Array, gathered: bool = False
) -> jax.Array:
  """Dot products, [B, H, Q, K or W], or [V, B, ..] of V kinds; see `Pairs`."""
  keys = 'BQKH...D' if gathered else 'BKH...D'
  return jnp.einsum(
    f'BQH...D,{keys}->...BHQK',
    query_BQHD,
    key,
    precision=matmul_precision(query_BQHD.dtype),
    preferred_element_type=jnp.promote_types(query_BQHD.dtype, jnp.float32),
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
