"""Encodings around another one.

Shape key: B examples, T tokens, Q queries, K keys, W neighbours, H heads,
D head width, E model width; see `extrap.models.positions.position`.
"""

import dataclasses

import jax

from extrap.config import choice
from extrap.errors import UsageError
from extrap.models.positions.position import (
  ALL_PAIRS,
  POSITIONS,
  Gate,
  Limit,
  Pairs,
  Param,
  Position,
)
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wrapped(Position):
  """Does what `base` does; an encoding around it writes what it changes.

  Its hooks call `super()` for those of the base, and any of what `Position` has
  as class attributes may be one again: `reads` is the base's with `length`
  where a wrapper says so. `cost` and `paper` are its own.

  Around a pattern of layers every layer has a wrapper of its own.
  """

  base: Position = choice(POSITIONS, 'rotary', 'the encoding that it changes')

  @property
  def reads(self) -> tuple[str, ...]:
    return self.base.reads

  @property
  def rung(self) -> str:
    return self.base.rung

  @property
  def table(self) -> str | None:
    return self.base.table

  @property
  def late(self) -> bool:
    return self.base.late

  @property
  def layers(self) -> tuple[Position, ...]:
    if len(self.base.layers) == 1:
      return (self,)
    return tuple(dataclasses.replace(self, base=b) for b in self.base.layers)

  @property
  def max_id(self) -> int | None:
    return self.base.max_id

  @property
  def largest_shift(self) -> int:
    return self.base.largest_shift

  @property
  def limits(self) -> tuple[Limit, ...]:
    return tuple(
      limit._replace(option=f'base.{limit.option}')
      for limit in self.base.limits
    )

  @property
  def place_window(self) -> tuple[int, int] | None:
    return self.base.place_window

  def acts(self, hook: str) -> bool:
    return self._writes(hook) or self.base.acts(hook)

  def _writes(self, hook: str) -> bool:
    """Whether the wrapper itself has a hook."""
    return getattr(type(self), hook) is not getattr(Wrapped, hook)

  def check(self, heads: int, head_width: int) -> None:
    # What scores, weights or reads by a rule of its own asks itself for the
    # logits, not what is around it.
    own = any(map(self.base.acts, ALL_PAIRS))
    if own and any(map(self._writes, ('combine', *ALL_PAIRS))):
      raise UsageError(
        f'--model.position={self.name} cannot change --model.position.base='
        f'{self.base.name}, which has a rule of its own for attention'
      )
    self.base.check(heads, head_width)

  def key_shape(self, head_width: int) -> tuple[int, ...]:
    return self.base.key_shape(head_width)

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    return self.base.prepare(ids, key, train)

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array | None:
    return self.base.embed(ids, param, width)

  def common(
    self, ids: Structure, param: Param, head_width: int
  ) -> dict[str, jax.Array]:
    return self.base.common(ids, param, head_width)

  def rotate(self, x_BTHD: jax.Array, ids: Structure) -> jax.Array:
    return self.base.rotate(x_BTHD, ids)

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return self.base.query_map(query_BTHD, ids, param)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return self.base.key_map(key_BTHD, ids, param)

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> Gate:
    return self.base.gate(x_BTE, param, heads)

  def key_bias(self, ids: Structure, gate: Gate) -> jax.Array | None:
    return self.base.key_bias(ids, gate)

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array | None:
    return self.base.pair_bias(query, key, param, heads)

  def combine(
    self, score: jax.Array, query: Structure, key: Structure
  ) -> jax.Array:
    return self.base.combine(score, query, key)

  def visible(self, query: Structure, key: Structure) -> jax.Array | bool:
    return self.base.visible(query, key)

  def neighbours(self, ids: Structure) -> jax.Array | None:
    return self.base.neighbours(ids)

  def attend(self, pairs: Pairs, param: Param) -> jax.Array:
    own = self.base.acts('attend')
    return (self.base if own else super()).attend(pairs, param)

  def weights(self, pairs: Pairs, param: Param) -> jax.Array:
    own = self.base.acts('weights')
    return (self.base if own else super()).weights(pairs, param)

  def scores(self, pairs: Pairs, param: Param) -> jax.Array:
    own = self.base.acts('scores')
    return (self.base if own else super()).scores(pairs, param)
