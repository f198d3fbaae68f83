"""Contexts: what queries see through a window of places, as real problems.

A query that sees digits at places p - behind .. p + ahead, the answer's at
p - behind .. p (its own is the last) and the delimiters meets finitely many
contexts, whatever the length of the numbers. Each is realised by a short real
problem: places below the window make the carry, borrow or state that enters it,
one digit above says that a number goes on. What lies outside the window does
not matter, because it is not seen.

Shape key: C contexts, K numbers, N places, W places of a window, L places under
it, T tokens, Q answer queries.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np

from extrap.errors import UsageError
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Batch

ABSENT, BELOW = -1, -2
AT_ONCE, MOST = 1_000_000, 100_000_000  # contexts: in memory, and in parts
PART = 200_000  # contexts of a part, about
ROWS = 1 << 15  # problems that one call spells: bounds memory
Case = TypeVar('Case')


@dataclasses.dataclass(frozen=True)
class Contexts:
  """Contexts as real problems, each asked at one query.

  Attributes:
    tokens: int32 [C, T].
    query: int32 [C], the token that asks.
    target: int32 [C], its right successor.
    seen: int32 [C, K, W], digits of the K numbers that it sees, lowest place
      first: ABSENT above a number's end, BELOW under the answer's first place.
    answers: int32 [C, behind], digits of the answer before its own, the
      nearest first: BELOW under the first place.
  """

  tokens: np.ndarray
  query: np.ndarray
  target: np.ndarray
  seen: np.ndarray
  answers: np.ndarray

  def __len__(self) -> int:
    return len(self.query)

  @property
  def own(self) -> np.ndarray:
    """The tokens that ask, [C]."""
    return np.take_along_axis(self.tokens, self.query[:, None], 1)[:, 0]

  @property
  def shown(self) -> np.ndarray:
    """All that tells contexts apart, one row each."""
    seen_CX = self.seen.reshape(len(self), -1)
    return np.concatenate([self.own[:, None], self.answers, seen_CX], axis=1)

  def select(self, rows: np.ndarray) -> 'Contexts':
    """The contexts at some rows."""
    return Contexts(*(getattr(self, field)[rows] for field in FIELDS))

  @classmethod
  def union(cls, parts: Sequence['Contexts']) -> 'Contexts':
    """The contexts of all parts, each once.

    Raises:
      UsageError: one context has two answers, so that no model can be right.
    """
    merged = cls(
      *(np.concatenate([getattr(part, f) for part in parts]) for f in FIELDS)
    )
    _, first, again = np.unique(
      _codes(merged.shown), return_index=True, return_inverse=True
    )
    if (merged.target != merged.target[first][again]).any():
      raise UsageError(
        'what a query sees does not tell its answer: widen the window'
      )
    return merged.select(np.sort(first))

  @classmethod
  def asked(
    cls,
    batch: Batch,
    column: int | np.ndarray,
    seen_CKW: np.ndarray,
    behind: int,
  ) -> 'Contexts':
    """The contexts of one query of each row, where it is asked.

    An answer may have ended before: then nothing is asked there.

    Args:
      batch: problems that show the windows.
      column: which query, of all rows or of each.
      seen_CKW: what it sees of each number.
      behind: how many places of the answer it sees below its own.
    """
    tokens_CT = np.asarray(batch.tokens)
    row_C = np.arange(len(tokens_CT))
    column_C = np.broadcast_to(column, row_C.shape)
    query_C, target_C, mask_C = (
      np.asarray(field)[row_C, column_C]
      for field in (batch.queries, batch.targets, batch.mask)
    )
    before_C = [
      np.where(back < column_C, tokens_CT[row_C, query_C - back], BELOW)
      for back in range(1, behind + 1)
    ]
    answers = np.array(before_C, np.int32).reshape(behind, len(row_C)).T
    contexts = cls(tokens_CT, query_C, target_C, seen_CKW, answers)
    return contexts.select(mask_C)

  def describe(self, task: NumberTask, row: int) -> str:
    """One context in words."""
    names = dict(enumerate(task.names)) | {ABSENT: '-', BELOW: '|'}
    seen = ' and '.join(
      ' '.join(names[int(digit)] for digit in number)
      for number in self.seen[row]
    )
    own = int(self.own[row])
    name = task.names[own] if own >= task.base else f'answer digit {own}'
    before = [str(digit) for digit in self.answers[row] if digit != BELOW]
    name += f' after {" ".join(reversed(before))}' * bool(before)
    return f'{name}, digits (lowest first, - for none) {seen}'


FIELDS = tuple(field.name for field in dataclasses.fields(Contexts))


def _codes(shown_CX: np.ndarray) -> np.ndarray:
  """A number for each row, the same for equal rows alone, [C]."""
  low = shown_CX.min(axis=0)
  radix_X = (shown_CX.max(axis=0) - low + 1).tolist()
  code_C = np.zeros(len(shown_CX), np.int64)
  for column, radix in enumerate(radix_X):
    code_C = code_C * radix + (shown_CX[:, column] - low[column])
    if (
      column + 1 < len(radix_X) and code_C.max() >= 2**62 // radix_X[column + 1]
    ):
      # Codes that would overflow are numbered anew.
      code_C = np.unique(code_C, return_inverse=True)[1]
  return code_C


@dataclasses.dataclass(frozen=True)
class Enumeration:
  """All contexts of a task, made a part at a time, so that memory is bounded.

  Attributes:
    upper: no more contexts than these.
    parts: make the contexts of each part; no two parts share one.
  """

  upper: int
  parts: Sequence[Callable[[], Contexts]]

  def __iter__(self) -> Iterator[Contexts]:
    return (make() for make in self.parts)

  def whole(self) -> Contexts:
    """All contexts at once."""
    return Contexts.union(list(self))

  @classmethod
  def of(cls, contexts: Contexts) -> 'Enumeration':
    """Contexts that are there already, as one part."""
    return cls(len(contexts), (lambda: contexts,))


def check_window(
  task: NumberTask,
  behind: int,
  ahead: int,
  upper: float,
  sees_behind: bool,
  most: int = AT_ONCE,
) -> None:
  """Refuses a window that cannot be enumerated.

  Args:
    task: what is learned.
    behind: places seen below the query's own.
    ahead: places seen above it.
    upper: a bound on the number of contexts.
    sees_behind: whether windows with places behind are enumerated.
    most: how many contexts can be enumerated.

  Raises:
    UsageError: saying which.
  """
  if ahead < 1 or behind < 0 or (behind and not sees_behind):
    least = 'at least one place ahead, its own' + ' and no place behind' * (
      not sees_behind
    )
    raise UsageError(
      f'contexts of {type(task).__name__} are enumerated for windows of {least}'
    )
  check_count(task, behind, ahead, upper, most)


def check_count(
  task: NumberTask, behind: int, ahead: int, upper: float, most: int
) -> None:
  """Refuses more contexts than can be enumerated; see `check_window`.

  Raises:
    UsageError: saying how many there may be.
  """
  if upper > most:
    raise UsageError(
      f'up to {upper:.2g} contexts in base {task.base} with a window of '
      f'{behind} places behind and {ahead} ahead; {most:,} can be enumerated'
    )


def at_all_places(
  at_place: Callable[[int], Contexts],
  behind: int,
  shift: int | None,
  under: int = 1,
) -> Contexts:
  """The contexts of all places, each once.

  Place -1 is '='. From place behind + under on, where `under` places lie under
  the window, windows only move: shifted problems need no other.
  """
  inside = [behind + under]
  places = [*range(-1, behind + 1), *inside] if shift is None else inside
  return Contexts.union([at_place(place) for place in places])


@functools.lru_cache(maxsize=8)
def _encoder(task: NumberTask) -> Callable[..., Batch]:
  return jax.jit(task.encode)


def encode(task: NumberTask, *arrays: np.ndarray) -> Batch:
  """`task.encode` of any number of problems, in few shapes, on the host."""
  count = len(arrays[-1])
  rows = min(ROWS, 8 ** math.ceil(math.log(max(count, 1), 8)))
  # The last call is filled up, so that all of them have the same shape.
  filled = [np.pad(x, ((0, rows), *[(0, 0)] * (x.ndim - 1))) for x in arrays]
  parts = []
  for first in range(0, max(count, 1), rows):
    batch = _encoder(task)(*(x[first : first + rows] for x in filled))
    parts.append(jax.tree.map(np.asarray, batch))
  return jax.tree.map(lambda *leaf: np.concatenate(leaf)[:count], *parts)


def some(cases: Sequence[Case], most: int | None) -> Sequence[Case]:
  """About `most` cases, evenly spread; all of them if None."""
  # An odd stride, or it would meet only one of two carries.
  return cases[:: len(cases) // (most or len(cases)) | 1]


def spread(cases: int, most: int | None) -> np.ndarray:
  """Numbers of about `most` of some cases, at random; of all if None."""
  if most is None or most >= cases:
    return np.arange(cases)
  return np.unique(np.random.default_rng(0).integers(cases, size=most))


def states(
  base: int, seen: int, starts: bool, leading_zeros: bool = False
) -> list[tuple[int, ...]]:
  """What one number can show in a window of `seen` places.

  A number that fills the window may go on above it, so any digits will do; one
  that ends inside has no leading zero, unless it is the number 0 or a string.
  """
  states = []
  for present in range(1 if starts else 0, seen + 1):
    for digits in itertools.product(range(base), repeat=present):
      zero = leading_zeros or (starts and present == 1)
      if present in (0, seen) or digits[-1] or zero:
        states.append(digits + (ABSENT,) * (seen - present))
  return states


def widened(windows_CKW: np.ndarray, width: int) -> np.ndarray:
  """Windows that begin at the first place, with the places under it."""
  under = ((0, 0), (0, 0), (width - windows_CKW.shape[-1], 0))
  return np.pad(windows_CKW, under, constant_values=BELOW)


def realise(
  windows_CKW: np.ndarray,
  under_KCL: np.ndarray,
  low: int,
  places: int,
  zeros_lead: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Numbers that show given windows.

  Args:
    windows_CKW: their digits from place `low` on; one that fills its window
      goes on above it.
    under_KCL: digits at the places just under the window, where there are any.
    low: the lowest place seen.
    places: N, more than any of them has.
    zeros_lead: whether one that ends under the window keeps leading zeros.

  Returns:
    Digits [K, C, N] and sizes [C, K].
  """
  cases, numbers, seen = windows_CKW.shape
  digits_KCN = np.zeros((numbers, cases, places), np.int32)
  if low:
    digits_KCN[:, :, low - under_KCL.shape[-1] : low] = under_KCL
  digits_KCN[:, :, low : low + seen] = np.maximum(windows_CKW, 0).swapaxes(0, 1)
  present_CK = (windows_CKW != ABSENT).sum(axis=-1)
  goes_on_CK = present_CK == seen
  digits_KCN[:, :, low + seen] = goes_on_CK.T
  size_CK = low + present_CK + goes_on_CK
  if low and not zeros_lead:
    place_N = np.arange(places)
    shortest_CK = np.where(digits_KCN, place_N, 0).max(axis=-1).T + 1
    size_CK = np.where(present_CK, size_CK, shortest_CK)
  return digits_KCN, size_CK.astype(np.int32)
