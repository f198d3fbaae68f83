"""Needles in a haystack: items of several tokens hidden in a filler.

A context of n tokens that hides K items is a sequence of slots, each with one
token of filler or with an item. All choices of the items' slots are equally
likely, but for one item that may be pinned: at a depth d, 0 at the front of the
context and 1 at its end, its slot is the one at a share d of them. Pinned at a
random depth, that item too is as likely in any slot.

Shape key: B examples, N slots or tokens of the longest context, K items, W
tokens of the longest item, S = 1 size axis, '2' length and depth.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from extrap.randomness import named
from extrap.tasks.symbols import QuestionTask, distinct, marked, pick
from extrap.tasks.task import Batch

DEPTHS = 11  # 0 %, 10 %, .. 100 %


@dataclasses.dataclass(frozen=True, kw_only=True)
class HaystackTask(QuestionTask):
  """A task whose answer stands at a depth of the context."""

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Rows at random depths; see `SymbolTask.sample`."""
    self.check_size(max_size)
    return self.hide(key, self.lengths(size_BS), max_size, None)

  def at_depth(
    self, key: jax.Array, size_B2: jax.Array, max_size: int
  ) -> Batch:
    """The sampler of a suite of cells (length, depth), depths 1 .. DEPTHS.

    Depth 1 is the front of the context and depth DEPTHS its end.
    """
    self.check_size(max_size)
    share_B = (size_B2[:, 1] - 1) / (DEPTHS - 1)
    return self.hide(key, self.lengths(size_B2), max_size, share_B)

  def hide(
    self,
    key: jax.Array,
    length_B: jax.Array,
    max_size: int,
    share_B: jax.Array | None,
  ) -> Batch:
    """Rows with what is asked for at a share of the context, or anywhere."""
    raise NotImplementedError


@struct.dataclass
class Items:
  """What is hidden in each row.

  Attributes:
    tokens: int32 [B, K, W].
    width: int32 [B, K], how many of an item's tokens count; 0 for an item that
      is not there, of which none comes before one that is.
  """

  tokens: jax.Array
  width: jax.Array

  @property
  def count(self) -> jax.Array:
    """Items of each row, [B]."""
    return jnp.sum(self.width > 0, axis=1)

  def room(self, length_B: jax.Array) -> jax.Array:
    """Slots of a context of so many tokens, [B]."""
    return length_B - jnp.sum(jnp.maximum(self.width - 1, 0), axis=1)

  def take(self, order_BK: jax.Array) -> 'Items':
    """The same items in another order."""
    order_BK1 = order_BK[..., None]
    tokens_BKW = jnp.take_along_axis(self.tokens, order_BK1, axis=1)
    return Items(tokens_BKW, pick(self.width, order_BK))


def hidden(
  key: jax.Array,
  items: Items,
  filler_BN: jax.Array,
  length_B: jax.Array,
  share_B: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """Hides items in random order, the first one at a depth.

  Args:
    key: a typed key.
    items: at least one a row.
    filler_BN: tokens of the filler, in their order.
    length_B: tokens of each context, that fit the items.
    share_B: the depth; None for a random one.

  Returns:
    The tokens of the contexts, [B, N], and which item comes first in each,
    second and so on, [B, K].
  """
  item_BN, pinned_B = slots(
    named(key, 'places'), items, length_B, filler_BN.shape[1], share_B
  )
  order_BK = arranged(named(key, 'order'), items, pinned_B)
  return laid(item_BN, items.take(order_BK), filler_BN), order_BK


def slots(
  key: jax.Array,
  items: Items,
  length_B: jax.Array,
  most: int,
  share_B: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Which slots have items.

  Args:
    key: a typed key.
    items: at least one a row.
    length_B: tokens of each context; most: N.
    share_B: the depth of the pinned item; None for a random one.

  Returns:
    bool [B, N], and which item, from the front, is pinned, [B].
  """
  room_B, slot_1N = items.room(length_B), jnp.arange(most)[None]
  pinned_B1 = place(named(key, 'pinned'), room_B, share_B)[:, None]
  score_BN = jax.random.uniform(named(key, 'slots'), (len(room_B), most))
  score_BN = jnp.where(slot_1N < room_B[:, None], score_BN, -1.0)
  score_BN = jnp.where(slot_1N == pinned_B1, 2.0, score_BN)
  _, index_BK = jax.lax.top_k(score_BN, items.width.shape[1])
  item_BN = marked(index_BK, items.count, most)
  return item_BN, jnp.sum(item_BN & (slot_1N < pinned_B1), axis=1)


def place(
  key: jax.Array, room_B: jax.Array, share_B: jax.Array | None
) -> jax.Array:
  """A slot of each row, [B]: at a share of its slots, or any of them."""
  if share_B is None:
    return jax.random.randint(key, room_B.shape, 0, room_B)
  return jnp.round(share_B * (room_B - 1)).astype(jnp.int32)


def arranged(key: jax.Array, items: Items, pinned_B: jax.Array) -> jax.Array:
  """Which item stands where: a random order [B, K] with item 0 pinned.

  Items that are not there come last.
  """
  rows, most = items.width.shape
  order_BK = distinct(key, rows, most, most, items.width > 0)
  rank_1K = jnp.arange(most)[None]
  # Item 0 and the item where it should be change places.
  there_B1 = pick(order_BK, pinned_B[:, None])
  order_BK = jnp.where(order_BK == 0, there_B1, order_BK)
  return jnp.where(rank_1K == pinned_B[:, None], 0, order_BK)


def laid(item_BN: jax.Array, items: Items, filler_BN: jax.Array) -> jax.Array:
  """The tokens of a context, [B, N].

  Args:
    item_BN: which slots have items.
    items: in the order of their slots.
    filler_BN: tokens of the other slots, in their order.
  """
  (rows, most), longest = item_BN.shape, items.tokens.shape[2]
  rank_BN = jnp.cumsum(item_BN, axis=1) - 1
  width_BN = jnp.where(item_BN, pick(items.width, rank_BN), 1)
  start_BN = jnp.cumsum(width_BN, axis=1) - width_BN
  slot_BN = _slot_of_token(start_BN)
  offset_BN = jnp.arange(most)[None] - pick(start_BN, slot_BN)
  rank_BN = pick(rank_BN, slot_BN)
  entry_BN = rank_BN * longest + offset_BN
  hidden_BN = pick(items.tokens.reshape(rows, -1), entry_BN)
  filler_BN = pick(filler_BN, slot_BN - rank_BN - 1)
  return jnp.where(pick(item_BN, slot_BN), hidden_BN, filler_BN)


def _slot_of_token(start_BN: jax.Array) -> jax.Array:
  """The slot of each token, [B, N], by where slots begin."""
  row_B1 = jnp.arange(len(start_BN))[:, None]
  begins_BN = jnp.zeros_like(start_BN)
  begins_BN = begins_BN.at[row_B1, start_BN].set(1, mode='drop')
  return jnp.cumsum(begins_BN, axis=1) - 1
