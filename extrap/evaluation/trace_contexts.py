"""Every context of running sums, in a window that sees one step of the trace.

A step adds one number to the sum before it, and the first one adds two numbers.
A query sees their digits at places p .. p + ahead, its own token (the new sum's
at p), the sign that its step begins with, and whether a '+' says that another
number follows. Which step it is, but for the first, it does not see: the
contexts are those of traces of any length. Any sum can come before, as that of
itself and 0.

Shape key: C contexts, K numbers of a step, M of a row, W places of a window.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import (
  ABSENT,
  Contexts,
  at_all_places,
  check_window,
  encode,
  widened,
)
from extrap.evaluation.summation_contexts import shown_at, windows_at
from extrap.tasks.summation import Summation


def trace_contexts(
  task: Summation,
  behind: int,
  ahead: int,
  shift: int | None = None,
  most: int | None = None,
) -> Contexts:
  """All contexts of a window with own_step; see `operation_contexts`.

  A context's numbers are the two numbers that are seen (the second one in a
  first step alone), the sum before, the step's sign, and the '+' after them.

  Raises:
    UsageError: the form is not enumerated, or the contexts are too many.
  """
  if task.order != 'lsb' or task.roles != 'shared':
    raise UsageError(
      'contexts of running sums are enumerated for --task.order=lsb and '
      '--task.roles=shared'
    )
  upper = 8 * (task.base + 1) ** (2 * (ahead + 1))
  check_window(task, behind, ahead, upper, sees_behind=False)
  return Contexts.union(
    [
      at_all_places(
        lambda place, step=step: step.at_place(
          task, place, ahead, shift or 0, most
        ),
        behind,
        shift,
      )
      for step in _steps(task)
    ]
  )


@dataclasses.dataclass(frozen=True)
class _Step:
  """A kind of step: the first one or not, the last one or not."""

  first: bool
  last: bool

  def at_place(
    self, task: Summation, place: int, ahead: int, shift: int, most: int | None
  ) -> Contexts:
    """The contexts at one place of the step's sum."""
    pair = Summation(
      base=task.base, operands=2, roles='shared' if self.first else 'own'
    )
    windows_C2W, carry_C = windows_at(pair, place, ahead, most=most)
    # Where both numbers have ended and nothing is carried, so has their sum:
    # the next token belongs to another step.
    goes_on_C = (windows_C2W != ABSENT).any(axis=(1, 2)) | (carry_C > 0)
    windows_C2W, carry_C = windows_C2W[goes_on_C], carry_C[goes_on_C]
    digits_2CN, size_C2 = shown_at(
      pair, windows_C2W, carry_C, max(0, place) + shift, ahead + 3 + shift
    )
    numbers = [0, 1] if self.first else [0, 2]  # in between there is a 0
    rows = (len(carry_C), task.operands)
    number_CMN = np.zeros((*rows, digits_2CN.shape[-1]), np.int32)
    size_CM = np.zeros(rows, np.int32)
    size_CM[:, : numbers[-1] + 1 + (not self.last)] = 1
    number_CMN[:, numbers] = digits_2CN.swapaxes(0, 1)
    size_CM[:, numbers] = size_C2
    batch = encode(task, number_CMN, size_CM)
    before = 0 if self.first else size_C2[:, 0] + 1
    seen_CKW = self._seen(task, widened(windows_C2W, ahead + 1))
    return Contexts.asked(batch, before + place + 1 + shift, seen_CKW, behind=0)

  def _seen(self, task: Summation, windows_C2W: np.ndarray) -> np.ndarray:
    """Numbers, the sum before, its sign, and what follows, [C, 5, W]."""
    nothing_CW = np.full_like(windows_C2W[:, 0], ABSENT)
    sign_CW, follows_CW = nothing_CW.copy(), nothing_CW.copy()
    sign_CW[:, 0] = task.token('=' if self.first else '>')
    if not self.last:
      follows_CW[:, 0] = task.token('+')
    one_CW, other_CW = windows_C2W.swapaxes(0, 1)
    numbers = [one_CW, other_CW, nothing_CW]
    if not self.first:  # the sum stands first
      # Nothing is seen under the first place, by any query.
      gone_CW = np.where(one_CW < ABSENT, one_CW, ABSENT)
      numbers = [other_CW, gone_CW, one_CW]
    return np.stack([*numbers, sign_CW, follows_CW], axis=1)


def _steps(task: Summation) -> Iterator[_Step]:
  """The kinds of steps that the numbers of a row make."""
  if task.fewest == 2:
    yield _Step(first=True, last=True)
  if task.operands > 2:
    yield _Step(first=True, last=False)
    yield _Step(first=False, last=True)
  if task.operands > 3:
    yield _Step(first=False, last=False)
