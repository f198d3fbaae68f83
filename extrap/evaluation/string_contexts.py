"""Every context of copies and prefix sums, seen through a window of places.

A query sees the string at places p .. p + ahead, its own token (the answer at
p) and '='. What came before p is summed up by the answer's token there, so one
symbol below the window, where there is room for it, realises every context.

Shape key: C contexts, N places, W places of a window.
"""

import itertools

import jax
import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import ABSENT, MOST, Contexts
from extrap.tasks.copying import Copying
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums
from extrap.tasks.strings import StringTask


def string_contexts(
  task: StringTask,
  behind: int,
  ahead: int,
  shift: int = 0,
  most: int | None = None,
) -> Contexts:
  """All contexts of a window, each once; see `operation_contexts`.

  Raises:
    UsageError: the form is not enumerated, or the contexts are too many.
  """
  known = type(task) in (Copying, Parity, PrefixSums)
  at_once = isinstance(task, Parity) and not task.trace
  if not known or at_once or getattr(task, 'backwards', False):
    raise UsageError(
      'contexts are enumerated for copies forwards, parity with a trace and '
      'prefix sums'
    )
  if behind or ahead < 1:
    raise UsageError(
      'contexts of strings are enumerated for a window of no place behind and '
      'at least one ahead'
    )
  if (upper := 2 * (task.base + 1) ** (ahead + 2)) > MOST:
    raise UsageError(f'up to {upper:.2g} contexts; {MOST:,} can be enumerated')
  # Place -1 is '='; from place 1 on, windows only move.
  places = [1] if shift else range(-1, 2)
  parts = [_at_place(task, p, ahead, shift, most) for p in places]
  merged = Contexts.join(parts)
  _, first = np.unique(merged.shown, axis=0, return_index=True)
  return merged.select(np.sort(first))


def _at_place(
  task: StringTask, place: int, ahead: int, shift: int, most: int | None
) -> Contexts:
  """All contexts of the query at one place of the answer."""
  window, low = ahead + 1, max(0, place)
  seen = place + ahead - low + 1
  below = range(task.base if place == 1 else 1)
  cases = list(itertools.product(below, _windows(task.base, seen, low)))
  cases = cases[:: len(cases) // (most or len(cases)) | 1]
  windows = np.array([shown for _, shown in cases], np.int32)
  start = low + shift
  # One shape for all places: a symbol below the window, one above.
  symbol_CN = np.zeros((len(cases), window + 2 + shift), np.int32)
  symbol_CN[:, start : start + seen] = np.maximum(windows, 0)
  if start:
    symbol_CN[:, start - 1] = [first for first, _ in cases]
  present = (windows != ABSENT).sum(axis=1)
  # One that fills its window goes on: what is above it is not seen.
  size_C1 = (start + present + (present == seen))[:, None]
  batch = jax.jit(task.encode)(symbol_CN, size_C1.astype(np.int32))
  column = place + 1 + shift
  seen_CW = np.pad(
    windows, ((0, 0), (window - seen, 0)), constant_values=ABSENT
  )
  contexts = Contexts(
    np.asarray(batch.tokens),
    np.asarray(batch.queries)[:, column],
    np.asarray(batch.targets)[:, column],
    seen_CW[:, None],
    np.zeros((len(cases), 0), np.int32),
  )
  return contexts.select(np.asarray(batch.mask)[:, column])


def _windows(base: int, seen: int, low: int) -> list[tuple[int, ...]]:
  """What a string can show; at place 0 it has a symbol at least."""
  return [
    symbols + (ABSENT,) * (seen - present)
    for present in range(0 if low else 1, seen + 1)
    for symbols in itertools.product(range(base), repeat=present)
  ]
