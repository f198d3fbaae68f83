"""Contexts: what queries see through a window of places, as real problems.

A query that sees digits at places p - behind .. p + ahead, the answer's at
p - behind .. p (its own is the last) and the delimiters meets finitely many
contexts, whatever the length of the numbers. Each is realised by a short real
problem: one place below the window makes the carry, borrow or state that enters
it, one digit above says that a number goes on. What lies outside the window
does not matter, because it is not seen.

Shape key: C contexts, K numbers, N places, W places of a window, T tokens, Q
answer queries.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from extrap.errors import UsageError
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Batch

ABSENT, BELOW = -1, -2
MOST = 1_000_000  # contexts
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
    """The contexts of all parts, each once."""
    merged = cls(
      *(np.concatenate([getattr(part, f) for part in parts]) for f in FIELDS)
    )
    _, first = np.unique(merged.shown, axis=0, return_index=True)
    return merged.select(np.sort(first))

  @classmethod
  def asked(
    cls, batch: Batch, column: int, seen_CKW: np.ndarray, behind: int
  ) -> 'Contexts':
    """The contexts of one query of each row, where it is asked.

    An answer may have ended before: then nothing is asked there.

    Args:
      batch: problems that show the windows.
      column: which query.
      seen_CKW: what it sees of each number.
      behind: how many places of the answer it sees below its own.
    """
    tokens_CT = np.asarray(batch.tokens)
    query_C = np.asarray(batch.queries)[:, column]
    before_C = [
      tokens_CT[np.arange(len(query_C)), query_C - back]
      if back < column
      else np.full(len(query_C), BELOW)
      for back in range(1, behind + 1)
    ]
    contexts = cls(
      tokens_CT,
      query_C,
      np.asarray(batch.targets)[:, column],
      seen_CKW,
      np.array(before_C, np.int32).reshape(behind, len(query_C)).T,
    )
    return contexts.select(np.asarray(batch.mask)[:, column])

  def describe(self, task: NumberTask, row: int) -> str:
    """One context in words."""
    names = {ABSENT: '-', BELOW: '|'}
    seen = ' and '.join(
      ' '.join(names.get(int(d), str(d)) for d in number)
      for number in self.seen[row]
    )
    own = int(self.own[row])
    name = "'='" if own == task.token('=') else f'answer digit {own}'
    before = [str(digit) for digit in self.answers[row] if digit != BELOW]
    name += f' after {" ".join(reversed(before))}' * bool(before)
    return f'{name}, digits (lowest first, - for none) {seen}'


FIELDS = tuple(field.name for field in dataclasses.fields(Contexts))


def check_window(
  task: NumberTask, behind: int, ahead: int, upper: float, sees_behind: bool
) -> None:
  """Refuses a window that cannot be enumerated.

  Args:
    task: what is learned.
    behind: places seen below the query's own.
    ahead: places seen above it.
    upper: a bound on the number of contexts.
    sees_behind: whether windows with places behind are enumerated.

  Raises:
    UsageError: saying which.
  """
  if ahead < 1 or (behind and not sees_behind):
    least = 'at least one place ahead' + ' and no place behind' * (
      not sees_behind
    )
    raise UsageError(
      f'contexts of {type(task).__name__} are enumerated for windows of {least}'
    )
  if upper > MOST:
    raise UsageError(
      f'up to {upper:.2g} contexts in base {task.base} with a window of '
      f'{behind} places behind and {ahead} ahead; {MOST:,} can be enumerated'
    )


def at_all_places(
  at_place: Callable[[int], Contexts], behind: int, shift: int
) -> Contexts:
  """The contexts of all places, each once.

  Place -1 is '='; from place behind + 1 on, windows only move, so that shifted
  problems need no other.
  """
  inside = behind + 1
  places = [inside] if shift else range(-1, inside + 1)
  return Contexts.union([at_place(place) for place in places])


def some(cases: Sequence[Case], most: int | None) -> Sequence[Case]:
  """About `most` cases, evenly spread; all of them if None."""
  # An odd stride, or it would meet only one of two carries.
  return cases[:: len(cases) // (most or len(cases)) | 1]


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
  windows_CKW: np.ndarray, under_KC: np.ndarray, low: int, places: int
) -> tuple[np.ndarray, np.ndarray]:
  """Numbers that show given windows.

  Args:
    windows_CKW: their digits from place `low` on; one that fills its window
      goes on above it.
    under_KC: digits at the place under the window, where there is one.
    low: the lowest place seen.
    places: N, more than any of them has.

  Returns:
    Digits [K, C, N] and sizes [C, K].
  """
  cases, numbers, seen = windows_CKW.shape
  digits_KCN = np.zeros((numbers, cases, places), np.int32)
  if low:
    digits_KCN[:, :, low - 1] = under_KC
  digits_KCN[:, :, low : low + seen] = np.maximum(windows_CKW, 0).swapaxes(0, 1)
  present_CK = (windows_CKW != ABSENT).sum(axis=-1)
  goes_on_CK = present_CK == seen
  digits_KCN[:, :, low + seen] = goes_on_CK.T
  return digits_KCN, (low + present_CK + goes_on_CK).astype(np.int32)
