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
  as class attributes may be one again; `cost` and `paper` are its own. As the
  base calls its own `rotate`, a wrapper writes `query_map` and `key_map`.

  Around a pattern of layers every layer has a wrapper of its own.
  """

  base: Position = choice(POSITIONS, 'rotary', 'the encoding that it changes')

  @property
  def inside(self) -> Position:
    """The encoding whose hooks it passes on: its base."""
    return self.base

  def refuse_itself(self) -> None:
    """Refuses another of its kind inside: their parameters have one name."""
    inside = self.base
    while isinstance(inside, Wrapped):
      if isinstance(inside, type(self)):
        raise UsageError(
          f'--model.position={self.name} is around another {self.name}'
        )
      inside = inside.base

  @property
  def reads(self) -> tuple[str, ...]:
    return self.inside.reads

  @property
  def rung(self) -> str:
    return self.inside.rung

  @property
  def table(self) -> str | None:
    return self.inside.table

  @property
  def late(self) -> bool:
    return self.inside.late

  @property
  def layers(self) -> tuple[Position, ...]:
    if len(self.base.layers) == 1:
      return (self,)
    return tuple(dataclasses.replace(self, base=b) for b in self.base.layers)

  @property
  def max_id(self) -> int | None:
    return self.inside.max_id

  @property
  def largest_shift(self) -> int:
    return self.inside.largest_shift

  @property
  def limits(self) -> tuple[Limit, ...]:
    return tuple(limit.of_base() for limit in self.inside.limits)

  @property
  def place_window(self) -> tuple[int, int] | None:
    return self.inside.place_window

  @property
  def token_window(self) -> int | None:
    return self.inside.token_window

  def acts(self, hook: str) -> bool:
    return self._writes(hook) or self.inside.acts(hook)

  def _writes(self, hook: str) -> bool:
    """Whether the wrapper itself has a hook."""
    return getattr(type(self), hook) is not getattr(Wrapped, hook)

  def check(self, heads: int, head_width: int) -> None:
    # What scores, weights or reads by a rule of its own asks itself for the
    # logits, not what is around it.
    own = any(map(self.inside.acts, ALL_PAIRS))
    if own and any(map(self._writes, ('combine', *ALL_PAIRS))):
      raise UsageError(
        f'--model.position={self.name} cannot change --model.position.base='
        f'{self.inside.name}, which has a rule of its own for attention'
      )
    self.inside.check(heads, head_width)

  def key_shape(self, head_width: int) -> tuple[int, ...]:
    return self.inside.key_shape(head_width)

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    return self.inside.prepare(ids, key, train)

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array | None:
    return self.inside.embed(ids, param, width)

  def common(
    self, ids: Structure, param: Param, head_width: int
  ) -> dict[str, jax.Array]:
    return self.inside.common(ids, param, head_width)

  def rotate(self, x_BTHD: jax.Array, ids: Structure) -> jax.Array:
    return self.inside.rotate(x_BTHD, ids)

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return self.inside.query_map(query_BTHD, ids, param)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return self.inside.key_map(key_BTHD, ids, param)

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> Gate:
    return self.inside.gate(x_BTE, param, heads)

  def key_bias(self, ids: Structure, gate: Gate) -> jax.Array | None:
    return self.inside.key_bias(ids, gate)

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array | None:
    return self.inside.pair_bias(query, key, param, heads)

  def combine(
    self, score: jax.Array, query: Structure, key: Structure
  ) -> jax.Array:
    return self.inside.combine(score, query, key)

  def visible(self, query: Structure, key: Structure) -> jax.Array | bool:
    return self.inside.visible(query, key)

  def neighbours(self, ids: Structure) -> jax.Array | None:
    return self.inside.neighbours(ids)

  def attend(self, pairs: Pairs, param: Param) -> jax.Array:
    own = self.inside.acts('attend')
    return (self.inside if own else super()).attend(pairs, param)

  def weights(self, pairs: Pairs, param: Param) -> jax.Array:
    own = self.inside.acts('weights')
    return (self.inside if own else super()).weights(pairs, param)

  def scores(self, pairs: Pairs, param: Param) -> jax.Array:
    own = self.inside.acts('scores')
    return (self.inside if own else super()).scores(pairs, param)
