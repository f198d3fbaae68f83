"""Biases by difference of places, with or without a hard window.

Relative over coupled ids: no table ceiling, no random shift. With a window
nothing that a query sees depends on the length of the problem.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import (
  POSITIONS,
  Param,
  Position,
  lookup,
)
from extrap.tasks.task import EVERY, Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PlaceRelative(Position):
  """A learned bias per head, key role and clipped difference of places."""

  clip: int = option(
    2,
    'differences of places beyond this share a bias',
    unit='places',
    minimum=1,
  )

  reads: ClassVar[tuple[str, ...]] = ('place', 'role')
  rung: ClassVar[str] = 'L5 place-relative'
  paper: ClassVar[str] = 'this library'
  cost: ClassVar[str] = 'C'

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    init = jax.nn.initializers.normal(1.0)
    return lookup(param('roles', init, (ids.roles, width)), ids.role)

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    difference = self._difference(query, key)
    columns = range(-self.clip, self.clip + 1)
    init = jax.nn.initializers.normal(0.1)
    table_RH = param('bias', init, (key.roles * len(columns), heads))
    table_RCH = table_RH.reshape(key.roles, len(columns), heads)

    def of_keys(column: int) -> jax.Array:
      table_RH = table_RCH[:, column + self.clip]
      return jnp.moveaxis(lookup(table_RH, key.role[:, 0]), -1, 1)

    # A choice of few columns a key, not a lookup of every pair.
    bias = of_keys(columns[0])
    for column in columns[1:]:
      bias = jnp.where(difference == column, of_keys(column), bias)
    return bias

  def _difference(self, query: Structure, key: Structure) -> jax.Array:
    """Clipped difference of places.

    An anchor has no distance: a delimiter takes the middle column of its own
    role, a digit the column of its place.
    """
    own = jnp.where(key.digit, key.place, 0)
    difference = jnp.where(key.anchor > 0, own, key.place - query.place)
    return jnp.clip(difference, -self.clip, self.clip)


@POSITIONS.register('place_bias')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaceBias(_PlaceRelative):
  """Place-relative biases; far places fade with the logarithm of length.

  A key `clip` or more places away gets -c log n, n the tokens so far. The far
  places then hold a share of attention of about n^(1 - c): for c > 1 it shrinks
  as problems grow, while the near ones keep their logits among themselves (a
  scale of all logits would sharpen those, too). No place is masked.
  """

  decay: float = option(1.0, 'where c starts (0: no decay)', minimum=0.0)
  learn_decay: bool = option(True, 'whether c is learned, one a head')

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    bias = super().pair_bias(query, key, param, heads)
    if not self.decay:
      return bias
    far = jnp.abs(self._difference(query, key)) == self.clip
    decay_H = jnp.full(heads, self.decay)
    if self.learn_decay:
      init = jax.nn.initializers.constant(self.decay)
      decay_H = param('decay', init, (heads,))
    fade = decay_H[None, :, None, None] * jnp.log(query.index + 2.0)
    return jnp.where(far, bias - fade, bias)


@POSITIONS.register('place_window')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaceWindow(_PlaceRelative):
  """Place-relative biases in a hard window: no other place is seen at all.

  In a task with a trace, of the digits and anchors of its steps only those that
  the query's own step reads may be seen.
  """

  behind: int = option(
    0,
    'places seen below its own (-1: not its own either)',
    unit='places',
    minimum=-1,
  )
  ahead: int = option(1, 'places seen above its own', unit='places', minimum=0)
  own_step: bool = option(
    False, 'of a trace, see what the step of the query reads alone'
  )

  rung: ClassVar[str] = 'L6 hard window'

  def __post_init__(self) -> None:
    if self.behind + self.ahead < 0:
      raise UsageError(
        f'--model.position.behind={self.behind} with --model.position.ahead='
        f'{self.ahead}: no place is seen'
      )

  @property
  def place_window(self) -> tuple[int, int]:
    return self.behind, self.ahead

  def most_seen(self, ids: Structure) -> int:
    """Most tokens that a query sees, itself included."""
    width = self.behind + self.ahead + 1
    if self._steps(ids):
      return 2 * ids.most_read * (width + 1) + 1
    return ids.runs * width + ids.anchors + 1

  def _steps(self, ids: Structure) -> bool:
    """Whether a query sees the tokens of its own step alone."""
    return self.own_step and ids.read is not None

  def visible(self, query: Structure, key: Structure) -> jax.Array:
    difference = key.place - query.place
    near = (difference >= -self.behind) & (difference <= self.ahead)
    seen = (near & key.digit) | (key.anchor > 0)
    if self._steps(key):
      seen &= (key.read == query.asks) | (key.read == EVERY)
    return seen | (key.index == query.index)

  def neighbours(self, ids: Structure) -> jax.Array:
    """The window's tokens, the anchors, and the token itself.

    A window of places is not a band of tokens: the same place of another
    number lies any number of tokens away.
    """
    tokens = ids.index.shape[1]
    seen_BTW = self._of_step(ids) if self._steps(ids) else self._of_all(ids)
    there_BT = (seen_BTW == ids.index[..., None]).any(axis=-1)
    own_BT = jnp.where(there_BT, tokens, ids.index)
    return jnp.concatenate([seen_BTW, own_BT[..., None]], axis=-1)

  def _of_step(self, ids: Structure) -> jax.Array:
    """Tokens sorted by (step, place), found by bisection.

    A table of all steps and places would grow with the square of the length.
    """
    tokens = ids.index.shape[1]
    places = tokens + 2  # anchors take one, and -1 is one (`Structure.place`)
    rank_BT = jnp.where(ids.anchor > 0, 0, ids.place + 2)
    code_BT = (ids.read - EVERY) * places + rank_BT
    known_BT = ids.digit | (ids.anchor > 0)
    code_BT = jnp.where(known_BT, code_BT, jnp.iinfo(jnp.int32).max)
    order_BT = jnp.argsort(code_BT, axis=1)
    sorted_BT = jnp.take_along_axis(code_BT, order_BT, axis=1)
    wanted_BTX = self._wanted(ids, places)
    at_BTX = jax.vmap(jnp.searchsorted)(sorted_BT, wanted_BTX)
    found = []
    for more in range(ids.most_read):
      is_it_BTX = _pick(sorted_BT, at_BTX + more, -2) == wanted_BTX
      token_BTX = _pick(order_BT, at_BTX + more, tokens)
      found.append(jnp.where(is_it_BTX, token_BTX, tokens))
    return jnp.concatenate(found, axis=-1)

  def _wanted(self, ids: Structure, places: int) -> jax.Array:
    """Codes [B, T, X] of what each token sees, of its step and of every one.

    A code is that of a step, a multiple of `places`, plus 0 for anchors, or a
    digit's place plus 2.
    """
    offset_O = jnp.arange(-self.behind, self.ahead + 1) + 2
    rank_BTO = ids.place[..., None] + offset_O[None, None]
    inside_BTO = (rank_BTO > 0) & (rank_BTO < places)
    parts = []
    for step_BT in (ids.asks - EVERY, jnp.zeros_like(ids.asks)):
      anchor_BT1 = (step_BT * places)[..., None]
      parts.append(anchor_BT1)
      parts.append(jnp.where(inside_BTO, anchor_BT1 + rank_BTO, -1))
    return jnp.concatenate(parts, axis=-1)

  def _of_all(self, ids: Structure) -> jax.Array:
    """Tokens scattered to (run, place), gathered at place + offset."""
    examples, tokens = ids.index.shape
    # A run may start one place below 0 (see `Structure.place`).
    places, lowest = tokens + 1, -1
    slots = ids.runs * places + ids.anchors
    in_run_BT = ids.digit
    anchor_BT = ids.runs * places + jnp.cumsum(ids.anchor, axis=1) - 1
    placed_BT = ids.run * places + ids.place - lowest
    slot_BT = jnp.where(in_run_BT, placed_BT, slots)
    slot_BT = jnp.where(ids.anchor > 0, anchor_BT, slot_BT)
    row_B1 = jnp.arange(examples)[:, None]
    token_BS = jnp.full((examples, slots), tokens)
    # The first of two tokens with one slot: later ones stay without effect.
    token_BS = token_BS.at[row_B1, slot_BT].min(ids.index, mode='drop')

    offset_O = jnp.arange(-self.behind, self.ahead + 1) - lowest
    place_BTO = ids.place[..., None] + offset_O[None, None]
    inside_BTO = (place_BTO >= 0) & (place_BTO < places)
    parts = []
    for run in range(ids.runs):
      wanted_BTO = jnp.where(inside_BTO, run * places + place_BTO, slots)
      parts.append(_pick(token_BS, wanted_BTO, tokens))
    every_A = ids.runs * places + jnp.arange(ids.anchors)
    shape = (examples, tokens, ids.anchors)
    parts.append(_pick(token_BS, jnp.broadcast_to(every_A, shape), tokens))
    return jnp.concatenate(parts, axis=-1)


def _pick(token_BS: jax.Array, slot_BTX: jax.Array, absent: int) -> jax.Array:
  """token_BS at the given slots; `absent` beyond the last slot."""
  flat_BX = slot_BTX.reshape(slot_BTX.shape[0], -1)
  found_BX = jnp.take_along_axis(
    token_BS, flat_BX, axis=1, mode='fill', fill_value=absent
  )
  return found_BX.reshape(slot_BTX.shape)
