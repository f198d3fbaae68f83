"""Every context of sums and differences, seen through a window of places.

A carry or borrow enters the window or not, and one place below makes it.

Shape key: C contexts, W places of a window.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import (
  ABSENT,
  Contexts,
  at_all_places,
  check_window,
  encode,
  realise,
  some,
  states,
  widened,
)
from extrap.tasks.addition import Addition
from extrap.tasks.operation import Operation
from extrap.tasks.subtraction import Subtraction


def operation_contexts(
  task: Operation,
  behind: int,
  ahead: int,
  shift: int | None = None,
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
      answer's start, which cannot move, are left out then, even if it is 0.
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
  if task.order != 'lsb' or task.zero_pad or task.digit_tokens > 1:
    raise UsageError(
      'contexts are enumerated for --task.order=lsb without --task.zero_pad '
      'and without --task.hints'
    )
  upper = 2 * (task.base + 1) ** (2 * (behind + ahead + 1))
  check_window(task, behind, ahead, upper, sees_behind=True)

  def at_place(place: int) -> Contexts:
    return _at_place(task, place, behind, ahead, shift or 0, most)

  return at_all_places(at_place, behind, shift)


def _at_place(
  task: Operation,
  place: int,
  behind: int,
  ahead: int,
  shift: int,
  most: int | None,
) -> Contexts:
  """All contexts of the query at one place of the answer."""
  low, rule = max(0, place - behind), RULES[type(task)]
  shown = states(task.base, place + ahead - low + 1, starts=low == 0)
  carries = (0,) if low == 0 else (0, 1)
  cases = some(list(itertools.product(shown, shown, carries)), most)
  windows_C2W = np.array([(a, b) for a, b, _ in cases], np.int32)
  carry_C = np.array([carry for _, _, carry in cases])
  possible_C = rule.possible(task, windows_C2W, carry_C)
  windows_C2W, carry_C = windows_C2W[possible_C], carry_C[possible_C]
  # One place below the window, one above, and what the rule asks for.
  places = behind + ahead + 3 + rule.above + shift
  numbers_2CN, size_C2 = realise(
    windows_C2W, rule.below(task)[:, carry_C, None], low + shift, places
  )
  if rule.above:
    # Where both go on, the first may have to lend to the place above.
    longer_C = (windows_C2W[:, :, -1] != ABSENT).all(axis=1)
    top = low + shift + windows_C2W.shape[-1] + rule.above
    numbers_2CN[0, :, top] = longer_C
    size_C2[:, 0] += longer_C
  batch = encode(task, *numbers_2CN, size_C2)
  seen_C2W = widened(windows_C2W, behind + ahead + 1)
  return Contexts.asked(batch, place + 1 + shift, seen_C2W, behind)


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
