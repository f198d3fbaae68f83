"""Every context that can occur in addition, seen through a window of places.

A query that sees the operands' digits at places p - behind .. p + ahead, the
sum's at p - behind .. p (its own is the last) and the delimiters meets finitely
many contexts, whatever the length of the numbers. Each is realised here by a
short real sum: one place below the window makes the carry that enters it, one
digit above says that a number goes on. What lies outside the window does not
matter, because it is not seen.

Shape key: C contexts, N places, T tokens, Q answer queries.
"""

import dataclasses
import itertools

import jax
import numpy as np

from extrap.errors import UsageError
from extrap.tasks.addition import Addition

ABSENT, BELOW = -1, -2


@dataclasses.dataclass(frozen=True)
class Contexts:
  """Contexts as real sums, each asked at one query.

  Attributes:
    tokens: int32 [C, T].
    query: int32 [C], the token that asks.
    target: int32 [C], its right successor.
    seen: int32 [C, 2, W], digits of both numbers that it sees, lowest place
      first: ABSENT above a number's end, BELOW under the sum's first place.
    sums: int32 [C, behind], digits of the sum before its own, the nearest
      first: BELOW under the first place.
  """

  tokens: np.ndarray
  query: np.ndarray
  target: np.ndarray
  seen: np.ndarray
  sums: np.ndarray

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
    return np.concatenate([self.own[:, None], self.sums, seen_CX], axis=1)

  def select(self, rows: np.ndarray) -> 'Contexts':
    """The contexts at some rows."""
    return Contexts(*(getattr(self, field)[rows] for field in FIELDS))

  def describe(self, task: Addition, row: int) -> str:
    """One context in words."""
    names = {ABSENT: '-', BELOW: '|'}
    a, b = (
      ' '.join(names.get(int(d), str(d)) for d in number)
      for number in self.seen[row]
    )
    own = int(self.own[row])
    name = "'='" if own == task.equals else f'sum digit {own}'
    before = [str(digit) for digit in self.sums[row] if digit != BELOW]
    name += f' after {" ".join(reversed(before))}' * bool(before)
    return f'{name}, digits (lowest first, - for none) {a} and {b}'


MOST = 1_000_000  # contexts
FIELDS = tuple(field.name for field in dataclasses.fields(Contexts))


def addition_contexts(
  task: Addition,
  behind: int,
  ahead: int,
  shift: int = 0,
  most: int | None = None,
) -> Contexts:
  """All contexts of a window, each once.

  Args:
    task: least significant digit first, not padded.
    behind: places seen below the query's own.
    ahead: places seen above it.
    shift: further places put below every sum, which no query sees, for
      measuring that the place itself does not matter; contexts at the sum's
      start, which cannot move, are left out then.
    most: take about so many, evenly spread, instead of all.

  Raises:
    UsageError: the format is not enumerated, or the contexts are too many.
  """
  if task.order != 'lsb' or task.zero_pad or ahead < 1:
    raise UsageError(
      'contexts are enumerated for --task.order=lsb without --task.zero_pad, '
      'and for a window of at least one place ahead'
    )
  upper = 2 * (task.base + 1) ** (2 * (behind + ahead + 1))
  if upper > MOST:
    raise UsageError(
      f'up to {upper:.2g} contexts in base {task.base} with a window of '
      f'{behind} places behind and {ahead} ahead; {MOST:,} can be enumerated'
    )
  # Place -1 is '='; from place behind + 1 on, windows only move.
  inside = behind + 1
  places = [inside] if shift else range(-1, inside + 1)
  parts = [_at_place(task, p, behind, ahead, shift, most) for p in places]
  merged = Contexts(
    *(np.concatenate([getattr(part, f) for part in parts]) for f in FIELDS)
  )
  _, first = np.unique(merged.shown, axis=0, return_index=True)
  return merged.select(np.sort(first))


def _at_place(
  task: Addition,
  place: int,
  behind: int,
  ahead: int,
  shift: int,
  most: int | None,
) -> Contexts:
  """All contexts of the query at one place of the answer."""
  low, window = max(0, place - behind), behind + ahead + 1
  states = _states(task.base, place + ahead - low + 1, starts=low == 0)
  carries = (0,) if low == 0 else (0, 1)
  cases = list(itertools.product(states, states, carries))
  # An odd stride, or it would meet only one of the two carries.
  cases = cases[:: len(cases) // (most or len(cases)) | 1]
  pairs = np.array([(a, b) for a, b, _ in cases], np.int32)
  carry = np.array([carry for _, _, carry in cases])
  places = window + 2 + shift  # one below the window, one above
  sums = _realise(task, pairs, carry, low + shift, places)
  batch = jax.jit(task.encode)(*sums)
  column = place + 1 + shift
  below = ((0, 0), (0, 0), (window - pairs.shape[-1], 0))
  tokens_CT = np.asarray(batch.tokens)
  query_C = np.asarray(batch.queries)[:, column]
  # Of the sum, too, `behind` places are seen.
  sums = [
    tokens_CT[np.arange(len(pairs)), query_C - back]
    if back <= place
    else np.full(len(pairs), BELOW)
    for back in range(1, behind + 1)
  ]
  contexts = Contexts(
    tokens_CT,
    query_C,
    np.asarray(batch.targets)[:, column],
    np.pad(pairs, below, constant_values=BELOW),
    np.array(sums, np.int32).reshape(behind, len(pairs)).T,
  )
  # A sum may have ended before this place: then nothing is asked there.
  return contexts.select(np.asarray(batch.mask)[:, column])


def _states(base: int, seen: int, starts: bool) -> list[tuple[int, ...]]:
  """What one number can show in a window of `seen` places.

  A number that fills the window may go on above it, so any digits will do; one
  that ends inside has no leading zero, unless it is the number 0.
  """
  states = []
  for present in range(1 if starts else 0, seen + 1):
    for digits in itertools.product(range(base), repeat=present):
      zero = starts and present == 1
      if present in (0, seen) or digits[-1] or zero:
        states.append(digits + (ABSENT,) * (seen - present))
  return states


def _realise(
  task: Addition, pairs: np.ndarray, carry: np.ndarray, low: int, places: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Digits [C, places] of both numbers and sizes [C, 2] that show windows."""
  cases, _, seen = pairs.shape
  digits = np.zeros((2, cases, places), np.int32)
  if low:
    digits[:, :, low - 1] = np.where(carry == 1, task.base - 1, 0)
  digits[:, :, low : low + seen] = np.maximum(pairs, 0).swapaxes(0, 1)
  present = (pairs != ABSENT).sum(axis=-1)
  goes_on = present == seen
  digits[:, :, low + seen] = goes_on.T
  # One place below the window is enough, and its zeros never lead.
  return digits[0], digits[1], (low + present + goes_on).astype(np.int32)
