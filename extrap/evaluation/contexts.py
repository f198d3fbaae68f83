"""Every context of sums or differences, seen through a window of places.

A query that sees the operands' digits at places p - behind .. p + ahead, the
answer's at p - behind .. p (its own is the last) and the delimiters meets
finitely many contexts, whatever the length of the numbers. Each is realised
here by a short real problem: one place below the window makes the carry or
borrow that enters it, one digit above says that a number goes on. What lies
outside the window does not matter, because it is not seen.

Shape key: C contexts, N places, T tokens, Q answer queries.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from extrap.errors import UsageError
from extrap.tasks.addition import Addition
from extrap.tasks.numbers import NumberTask
from extrap.tasks.operation import Operation
from extrap.tasks.subtraction import Subtraction

ABSENT, BELOW = -1, -2


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
  def join(cls, parts: Sequence['Contexts']) -> 'Contexts':
    """The contexts of all parts."""
    return cls(
      *(np.concatenate([getattr(part, f) for part in parts]) for f in FIELDS)
    )

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


MOST = 1_000_000  # contexts
FIELDS = tuple(field.name for field in dataclasses.fields(Contexts))


def operation_contexts(
  task: Operation,
  behind: int,
  ahead: int,
  shift: int = 0,
  most: int | None = None,
) -> Contexts:
  """All contexts of a window, each once.

  Args:
    task: addition, or subtraction with padded differences; least significant
      digit first, operands not padded.
    behind: places seen below the query's own.
    ahead: places seen above it.
    shift: further places put below every number, which no query sees, for
      measuring that the place itself does not matter; contexts at the
      answer's start, which cannot move, are left out then.
    most: take about so many, evenly spread, instead of all.

  Raises:
    UsageError: the format is not enumerated, or the contexts are too many.
  """
  trimmed = getattr(task, 'answer', 'padded') != 'padded'
  if type(task) not in RULES or trimmed:
    raise UsageError(
      f'contexts of {type(task).__name__} are not enumerated: only those of '
      'Addition, and of Subtraction with --task.answer=padded'
    )
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
  merged = Contexts.join(parts)
  _, first = np.unique(merged.shown, axis=0, return_index=True)
  return merged.select(np.sort(first))


def _at_place(
  task: Operation,
  place: int,
  behind: int,
  ahead: int,
  shift: int,
  most: int | None,
) -> Contexts:
  """All contexts of the query at one place of the answer."""
  low, window = max(0, place - behind), behind + ahead + 1
  shown = states(task.base, place + ahead - low + 1, starts=low == 0)
  carries = (0,) if low == 0 else (0, 1)
  cases = list(itertools.product(shown, shown, carries))
  # An odd stride, or it would meet only one of the two carries.
  cases = cases[:: len(cases) // (most or len(cases)) | 1]
  pairs = np.array([(a, b) for a, b, _ in cases], np.int32)
  carry = np.array([carry for _, _, carry in cases])
  possible = RULES[type(task)].possible(task, pairs, carry)
  pairs, carry = pairs[possible], carry[possible]
  places = window + 2 + shift  # one below the window, one above
  numbers = _realise(task, pairs, carry, low + shift, places)
  batch = jax.jit(task.encode)(*numbers)
  column = place + 1 + shift
  below = ((0, 0), (0, 0), (window - pairs.shape[-1], 0))
  tokens_CT = np.asarray(batch.tokens)
  query_C = np.asarray(batch.queries)[:, column]
  # Of the answer, too, `behind` places are seen.
  answers = [
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
    np.array(answers, np.int32).reshape(behind, len(pairs)).T,
  )
  # An answer may have ended before this place: then nothing is asked there.
  return contexts.select(np.asarray(batch.mask)[:, column])


def states(base: int, seen: int, starts: bool) -> list[tuple[int, ...]]:
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
  task: Operation, pairs: np.ndarray, carry: np.ndarray, low: int, places: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Digits [C, places] of both numbers and sizes [C, 2] that show windows."""
  cases, _, seen = pairs.shape
  rule = RULES[type(task)]
  digits = np.zeros((2, cases, places + rule.above), np.int32)
  if low:
    digits[:, :, low - 1] = rule.below(task)[:, carry]
  digits[:, :, low : low + seen] = np.maximum(pairs, 0).swapaxes(0, 1)
  present = (pairs != ABSENT).sum(axis=-1)
  goes_on = present == seen
  digits[:, :, low + seen] = goes_on.T
  size = (low + present + goes_on).astype(np.int32)
  # Where both go on, the first may have to lend to the place above the window.
  longer = goes_on.all(axis=1).astype(np.int32) * rule.above
  digits[0, :, low + seen + rule.above] |= longer
  size[:, 0] += longer
  return digits[0], digits[1], size


@dataclasses.dataclass(frozen=True)
class Rule:
  """What is particular to an operation.

  Attributes:
    below: task -> digits [2, carries] of both numbers at the place under the
      window, where they hand up no carry, and one.
    possible: (task, pairs [C, 2, W], carry [C]) -> bool [C], which windows
      some problem shows.
    above: further digits of the first number where both go on.
  """

  below: Callable[[Operation], np.ndarray]
  possible: Callable[[Operation, np.ndarray, np.ndarray], np.ndarray]
  above: int = 0


def _no_less(
  task: Operation, pairs: np.ndarray, borrow: np.ndarray
) -> np.ndarray:
  """Whether the first number can be the larger one.

  Where it goes on above the window, it can. Where it has ended, the second
  has too, and the window with what it lends must not fall below zero.
  """
  a_goes_on, b_goes_on = (pairs[:, :, -1] != ABSENT).T
  power_W = task.base ** np.arange(pairs.shape[-1])
  a, b = (np.maximum(pairs, 0) @ power_W).T
  present = (pairs != ABSENT).sum(axis=-1)
  ended = ~b_goes_on & (present[:, 0] >= present[:, 1]) & (a - b >= borrow)
  return a_goes_on | ended


RULES = {
  # Zeros under the window never lead: windows are above a number's start.
  Addition: Rule(
    below=lambda task: np.array([[0, task.base - 1]] * 2),
    possible=lambda task, pairs, carry: np.ones(len(pairs), bool),
  ),
  Subtraction: Rule(
    below=lambda task: np.array([[1, 0], [1, 1]]), possible=_no_less, above=1
  ),
}
