"""Every context of N x 1 products, seen through a window of places.

A query sees the long factor's digits at places p .. p + ahead, the short
factor's only digit, its own token (the product's at p) and the delimiters. The
carry into p is less than the short factor d, and one digit below makes any of
them: a * d // base runs through 0 .. d - 1 as a runs through the digits.

Shape key: C contexts, N places, W places of a window.
"""

import itertools

import jax
import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import (
  ABSENT,
  Contexts,
  at_all_places,
  check_window,
  realise,
  some,
  states,
  widened,
)
from extrap.tasks.multiplication import Multiplication


def product_contexts(
  task: Multiplication,
  behind: int,
  ahead: int,
  shift: int = 0,
  most: int | None = None,
) -> Contexts:
  """All contexts of a window, each once; see `operation_contexts`.

  Raises:
    UsageError: the form is not enumerated, or the contexts are too many.
  """
  plain = task.order == 'lsb' and not task.zero_pad and task.answer == 'trimmed'
  if not plain or task.second_digits != 1:
    raise UsageError(
      'contexts of products are enumerated for --task.second_digits=1, '
      '--task.order=lsb and --task.answer=trimmed without --task.zero_pad'
    )
  upper = (task.base + 1) ** (ahead + 3)
  check_window(task, behind, ahead, upper, sees_behind=False)

  def at_place(place: int) -> Contexts:
    return _at_place(task, place, ahead, shift, most)

  return at_all_places(at_place, behind, shift)


def _at_place(
  task: Multiplication, place: int, ahead: int, shift: int, most: int | None
) -> Contexts:
  """All contexts of the query at one place of the product."""
  base, low = task.base, max(0, place)
  shown = states(base, place + ahead - low + 1, starts=low == 0)
  under = range(base if low else 1)
  cases = some(list(itertools.product(shown, range(base), under)), most)
  windows_C1W = np.array([[window] for window, _, _ in cases], np.int32)
  under_1C = np.array([[digit for *_, digit in cases]])
  (a_CN,), size_C1 = realise(
    windows_C1W, under_1C, low + shift, ahead + 3 + shift
  )
  b_CN = np.zeros_like(a_CN)
  b_CN[:, 0] = [digit for _, digit, _ in cases]
  batch = jax.jit(task.encode)(a_CN, b_CN, task.lengths(size_C1))
  # The short factor is seen from everywhere, whatever the place.
  seen_C1W = widened(windows_C1W, ahead + 1)
  short_C1W = np.full_like(seen_C1W, ABSENT)
  short_C1W[:, 0, 0] = b_CN[:, 0]
  seen_C2W = np.concatenate([seen_C1W, short_C1W], axis=1)
  return Contexts.asked(batch, place + 1 + shift, seen_C2W, behind=0)
