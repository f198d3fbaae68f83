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
from extrap.evaluation.contexts import ABSENT, BELOW, MOST, Contexts, states
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
  if behind or ahead < 1:
    raise UsageError(
      'contexts of products are enumerated for a window of no place behind '
      'and at least one ahead'
    )
  if (upper := (task.base + 1) ** (ahead + 3)) > MOST:
    raise UsageError(f'up to {upper:.2g} contexts; {MOST:,} can be enumerated')
  # Place -1 is '='; from place 1 on, windows only move.
  places = [1] if shift else range(-1, 2)
  parts = [_at_place(task, p, ahead, shift, most) for p in places]
  merged = Contexts.join(parts)
  _, first = np.unique(merged.shown, axis=0, return_index=True)
  return merged.select(np.sort(first))


def _at_place(
  task: Multiplication, place: int, ahead: int, shift: int, most: int | None
) -> Contexts:
  """All contexts of the query at one place of the product."""
  base, low = task.base, max(0, place)
  seen = place + ahead - low + 1
  below = range(base if place == 1 else 1)
  shown = states(base, seen, starts=low == 0)
  cases = list(itertools.product(shown, range(base), below))
  cases = cases[:: len(cases) // (most or len(cases)) | 1]
  windows = np.array([window for window, _, _ in cases], np.int32)
  places = ahead + 3 + shift  # the window, one below it, one above
  under = [digit for *_, digit in cases]
  a_CN, size_C = _long_factor(windows, under, low + shift, places)
  b_CN = np.zeros_like(a_CN)
  b_CN[:, 0] = [digit for _, digit, _ in cases]
  size_C2 = np.stack([size_C, np.ones_like(size_C)], axis=1)
  batch = jax.jit(task.encode)(a_CN, b_CN, size_C2)
  column = place + 1 + shift
  seen_C2W = np.full((len(cases), 2, ahead + 1), ABSENT, np.int32)
  seen_C2W[:, 0] = BELOW
  seen_C2W[:, 0, ahead + 1 - seen :] = windows
  seen_C2W[:, 1, 0] = b_CN[:, 0]
  contexts = Contexts(
    np.asarray(batch.tokens),
    np.asarray(batch.queries)[:, column],
    np.asarray(batch.targets)[:, column],
    seen_C2W,
    np.zeros((len(cases), 0), np.int32),
  )
  return contexts.select(np.asarray(batch.mask)[:, column])


def _long_factor(
  windows: np.ndarray, below: list[int], low: int, places: int
) -> tuple[np.ndarray, np.ndarray]:
  """Digits [C, N] and sizes [C] of factors that show given windows."""
  cases, seen = windows.shape
  a_CN = np.zeros((cases, places), np.int32)
  a_CN[:, low : low + seen] = np.maximum(windows, 0)
  if low:
    a_CN[:, low - 1] = below
  present = (windows != ABSENT).sum(axis=1)
  goes_on = present == seen
  a_CN[:, low + seen] = goes_on
  return a_CN, (low + present + goes_on).astype(np.int32)
