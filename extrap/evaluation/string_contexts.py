"""Every context of copies and prefix sums, seen through a window of places.

A query sees the string at places p .. p + ahead, its own token (the answer at
p) and '='. What came before p is summed up by the answer's token there, so one
symbol below the window, where there is room for it, realises every context.

Shape key: C contexts, N places, W places of a window.
"""

import itertools

import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import (
  Contexts,
  at_all_places,
  check_window,
  encode,
  realise,
  some,
  states,
  widened,
)
from extrap.tasks.copying import Copying
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums
from extrap.tasks.strings import StringTask


def string_contexts(
  task: StringTask,
  behind: int,
  ahead: int,
  shift: int | None = None,
  most: int | None = None,
) -> Contexts:
  """All contexts of a window, each once; see `operation_contexts`.

  Raises:
    UsageError: the form is not enumerated, or the contexts are too many.
  """
  known = type(task) in (Copying, Parity, PrefixSums)
  at_once = isinstance(task, Parity) and not task.trace
  other = any(getattr(task, name, False) for name in ('backwards', 'begin'))
  if not known or at_once or other:
    raise UsageError(
      'contexts are enumerated for copies forwards with nothing before the '
      'string, parity with a trace and prefix sums'
    )
  upper = 2 * (task.base + 1) ** (ahead + 2)
  check_window(task, behind, ahead, upper, sees_behind=False)

  def at_place(place: int) -> Contexts:
    return _at_place(task, place, ahead, shift or 0, most)

  return at_all_places(at_place, behind, shift)


def _at_place(
  task: StringTask, place: int, ahead: int, shift: int, most: int | None
) -> Contexts:
  """All contexts of the query at one place of the answer."""
  low = max(0, place)
  shown = states(
    task.base, place + ahead - low + 1, starts=low == 0, leading_zeros=True
  )
  under = range(task.base if low else 1)
  cases = some(list(itertools.product(under, shown)), most)
  windows_C1W = np.array([[window] for _, window in cases], np.int32)
  under_1C1 = np.array([[[symbol] for symbol, _ in cases]])
  places = ahead + 3 + shift
  (symbol_CN,), size_C1 = realise(
    windows_C1W, under_1C1, low + shift, places, zeros_lead=True
  )
  batch = encode(task, symbol_CN, size_C1)
  seen_C1W = widened(windows_C1W, ahead + 1)
  return Contexts.asked(batch, place + 1 + shift, seen_C1W, behind=0)
