"""Learned tables indexed by a digit's place in its number.

Digits of the same weight share an id, so they start out aligned. Ids beyond
the training length are met in training through a random shift.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.positions.position import (
  POSITIONS,
  Limit,
  Param,
  Position,
  lookup,
)
from extrap.randomness import named
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ShiftedTable(Position):
  """A learned row an id, ids shifted at random in training."""

  max_size: int = option(128, 'rows of the table', unit='places', minimum=2)
  shift: int = option(
    100,
    'largest random shift of the ids in training',
    unit='places',
    minimum=0,
  )
  per: Literal['batch', 'sample'] = option(
    'batch', 'whether a batch shares its shift or each sample draws its own'
  )

  reads: ClassVar[tuple[str, ...]] = ('place',)
  cost: ClassVar[str] = 'E'
  table: ClassVar[str | None] = 'place'

  @property
  def max_id(self) -> int:
    """Row 0 is for tokens without a place; place 0 has row 1."""
    return self.max_size - 2

  @property
  def largest_shift(self) -> int:
    return self.shift

  def _placed(self, ids: Structure) -> jax.Array:
    """Which tokens have a place."""
    raise NotImplementedError

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    ids = super().prepare(ids, key, train)
    if not train or key is None:
      return ids
    rows = ids.place.shape[0] if self.per == 'sample' else 1
    shift_B1 = jax.random.randint(
      named(key, 'shift'), (rows, 1), 0, self.shift + 1
    )
    return self.shifted(ids, shift_B1)

  def shifted(self, ids: Structure, shift_B1: jax.Array) -> Structure:
    """The structure with all places raised; what has none stays."""
    place = jnp.where(self._placed(ids), ids.place + shift_B1, ids.place)
    return ids.replace(place=place)

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    init = jax.nn.initializers.normal(1.0)
    row_BT = jnp.where(self._placed(ids), ids.place + 1, 0)
    return lookup(param('table', init, (self.max_size, width)), row_BT)


@POSITIONS.register('abacus')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Abacus(_ShiftedTable):
  """Abacus embeddings (McLeish et al. 2024, arXiv 2405.17399).

  A digit's id is its rank in its own run of digits; one shift a batch.
  """

  rung: ClassVar[str] = 'L3 abacus'
  paper: ClassVar[str] = '2405.17399'

  def _placed(self, ids: Structure) -> jax.Array:
    return ids.digit


@POSITIONS.register('coupling')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Coupling(_ShiftedTable):
  """Position coupling (Cho et al. 2024, arXiv 2405.20671).

  As Abacus, but delimiters take the id before their run's first digit, and
  each sample has a shift of its own.
  """

  per: Literal['batch', 'sample'] = option(
    'sample', 'whether a batch shares its shift or each sample draws its own'
  )

  rung: ClassVar[str] = 'L4 coupling'
  paper: ClassVar[str] = '2405.20671'

  @property
  def max_id(self) -> int:
    """Row 0 is the rest, row 1 the delimiters', place 0 has row 2."""
    return self.max_size - 3

  def _placed(self, ids: Structure) -> jax.Array:
    return ids.digit | (ids.anchor > 0)

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    return super().embed(ids.replace(place=ids.place + 1), param, width)


@POSITIONS.register('coupling2')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Coupling2(Coupling):
  """Position coupling of two levels (Cho et al. 2025, arXiv 2410.15787).

  For sums of several numbers with a trace of running sums: beside the place, a
  second table couples each number with the running sum that first takes it in.
  Each sample shifts both ids at random. All delimiters have ids: the place
  before their number, and that number.
  """

  operands: int = option(
    64, 'rows of the table of numbers', unit='numbers', minimum=2
  )
  operand_shift: int = option(
    20,
    'largest random shift of the ids of numbers in training',
    unit='numbers',
    minimum=0,
  )

  reads: ClassVar[tuple[str, ...]] = ('place', 'run')
  paper: ClassVar[str] = '2410.15787'

  @property
  def limits(self) -> tuple[Limit, ...]:
    """A row has fewer ids of numbers than runs: its sums share theirs."""
    second = ('run', self.operands - 1, self.operand_shift, 'operands')
    return (*super().limits, Limit(*second))

  def _placed(self, ids: Structure) -> jax.Array:
    # What follows the answer's end counts as a delimiter, and nobody asks it.
    return ids.index >= 0

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    operand_BT = operands(ids)
    ids = super().prepare(ids, key, train)
    if train and key is not None:
      rows = ids.place.shape[0] if self.per == 'sample' else 1
      operand_BT += jax.random.randint(
        named(key, 'operand shift'), (rows, 1), 0, self.operand_shift + 1
      )
    return ids.replace(operand=operand_BT)

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    init = jax.nn.initializers.normal(1.0)
    table_NE = param('operands', init, (self.operands, width))
    place_BTE = super().embed(ids, param, width)
    return place_BTE + lookup(table_NE, ids.operand)


def operands(ids: Structure) -> jax.Array:
  """Which number a token is of, [B, T]; a delimiter leads to the next one.

  Numbers count from 0. A sum of a trace has the id of the number that its step
  takes in, the second one first; without steps, numbers count from 1 after
  every anchor.
  """
  last_BT = jax.lax.cummax(jnp.where(ids.digit, ids.run, 0), axis=1)
  if ids.asks is not None:
    step_BT = jax.lax.cummax(jnp.where(ids.digit, ids.asks, 0), axis=1)
    return jnp.where(ids.asks > 0, step_BT, last_BT) + ~ids.digit
  restarts_BT = (ids.anchor > 0) & ~ids.digit
  before_BT = jax.lax.cummax(jnp.where(restarts_BT, last_BT, 0), axis=1)
  return last_BT - before_BT + ~ids.digit
