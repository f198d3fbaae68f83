"""Every context of sums of several numbers, seen through a window of places.

A query sees the digits of all numbers at places p .. p + ahead, its own token
(the sum's at p) and '='. The carry into p is at most M - 1 for M numbers, and
one place below makes any of them. If M is at most the base, the query's own
digit tells it.

Where numbers share a role, nothing that a query sees tells them apart: '+' is
no anchor, and neither biases nor embeddings know which number a digit is of. It
then sees a multiset of digits at each place. Of the numbers of one multiset
those that end there come last, with the largest digits: if any order of them is
a problem, this one is.

Shape key: C contexts, K = M numbers, U columns (digits of all numbers at one
place), W places of a window, N places.
"""

import functools
import itertools
import math

import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import (
  ABSENT,
  MOST,
  PART,
  Contexts,
  Enumeration,
  at_all_places,
  check_window,
  encode,
  realise,
  spread,
  widened,
)
from extrap.tasks.summation import Summation


def summation_contexts(
  task: Summation,
  behind: int,
  ahead: int,
  shift: int | None = None,
  most: int | None = None,
) -> Enumeration:
  """All contexts of a window; see `operation_contexts`.

  The numbers' digits at the lowest place are seen: parts have their own. Moved
  numbers that share a role also stand in reverse order, so that what is
  measured with them includes the order.

  Raises:
    UsageError: the form is not enumerated, or the contexts are too many.
  """
  if task.order != 'lsb':
    raise UsageError('contexts of sums are enumerated for --task.order=lsb')
  if task.operands > task.base:
    raise UsageError(
      f'sums of {task.operands} numbers in base {task.base}: a carry of '
      f'{task.base} looks like none; at most {task.base} numbers'
    )
  count = _column_count(task)
  upper = task.operands * count ** (ahead + 1)
  check_window(task, behind, ahead, upper, sees_behind=False, most=MOST)

  def part(first: int, columns: int) -> Contexts:
    return at_all_places(
      lambda place: _at_place(
        task, first, columns, place, ahead, shift or 0, most
      ),
      behind,
      shift,
    )

  group = count if most else max(1, PART * count // upper)
  return Enumeration(
    upper,
    [
      functools.partial(part, first, min(group, count - first))
      for first in range(0, count, group)
    ],
  )


def _column_count(task: Summation) -> int:
  """U: digits of all numbers at a place, or none, in an order or without."""
  symbols, numbers = task.base + 1, task.operands
  if task.roles == 'own':
    return symbols**numbers
  return math.comb(symbols + numbers - 1, numbers)


@functools.lru_cache(maxsize=8)
def _columns(task: Summation) -> np.ndarray:
  """All columns, int32 [U, K]; of those that are multisets the sorted ones."""
  symbols, numbers = (*range(task.base), ABSENT), task.operands
  if task.roles == 'own':
    columns = itertools.product(symbols, repeat=numbers)
  else:
    columns = itertools.combinations_with_replacement(symbols, numbers)
  return np.array(list(columns), np.int32)


def _at_place(
  task: Summation,
  first: int,
  columns: int,
  place: int,
  ahead: int,
  shift: int,
  most: int | None,
) -> Contexts:
  """The contexts at one place of the sum whose lowest columns are given."""
  windows_CKW, carry_C = windows_at(task, place, ahead, first, columns, most)
  number_KCN, size_CK = shown_at(
    task, windows_CKW, carry_C, max(0, place) + shift, ahead + 3 + shift
  )
  if shift and task.roles == 'shared':
    number_KCN, size_CK = number_KCN[::-1], size_CK[:, ::-1]
  batch = encode(task, number_KCN.swapaxes(0, 1), size_CK)
  seen_CKW = widened(windows_CKW, ahead + 1)
  return Contexts.asked(batch, place + 1 + shift, seen_CKW, behind=0)


def windows_at(
  task: Summation,
  place: int,
  ahead: int,
  first: int = 0,
  columns: int | None = None,
  most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """What the query at one place of a sum can see of the numbers.

  Args:
    task: the sum, not its trace.
    place: of the query.
    ahead: places seen above it.
    first: the first column at the lowest place.
    columns: how many from there on; all that are left if None.
    most: about so many windows, at random; all if None.

  Returns:
    Windows [C, K, W], each with every carry [C] that can enter it.
  """
  column_UK, low = _columns(task), max(0, place)
  carries = task.operands if low else 1
  columns = len(column_UK) - first if columns is None else columns
  above = [len(column_UK)] * (place + ahead - low)
  shape = (columns, *above, carries)
  *chosen, carry_C = np.unravel_index(spread(math.prod(shape), most), shape)
  chosen[0] = chosen[0] + first
  windows_CKW = np.stack([column_UK[column_C] for column_C in chosen], axis=-1)
  possible_C = _possible(task, windows_CKW, starts=low == 0)
  return windows_CKW[possible_C], carry_C[possible_C]


def shown_at(
  task: Summation,
  windows_CKW: np.ndarray,
  carry_C: np.ndarray,
  low: int,
  places: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Numbers that show windows with a carry: digits [K, C, N], sizes [C, K]."""
  return realise(windows_CKW, _below(task, carry_C), low, places)


def _possible(
  task: Summation, windows_CKW: np.ndarray, starts: bool
) -> np.ndarray:
  """Which windows some problem shows, bool [C].

  Numbers end once, and not with a leading zero; at their start the first ones
  are there, and others never.
  """
  here_CKW, digit_CKX = windows_CKW != ABSENT, windows_CKW[:, :, :-1]
  ends_CKX = here_CKW[:, :, :-1] & ~here_CKW[:, :, 1:]
  leads_CKX = digit_CKX > 0
  if starts:
    leads_CKX = leads_CKX | (np.arange(leads_CKX.shape[-1]) == 0)
  begins_CKX = ~here_CKW[:, :, :-1] & here_CKW[:, :, 1:]
  wrong_CKX = begins_CKX | (ends_CKX & ~leads_CKX)
  possible_C = ~wrong_CKX.any(axis=(1, 2))
  if starts:
    there_CK = here_CKW[:, :, 0]
    possible_C &= (there_CK[:, :-1] >= there_CK[:, 1:]).all(axis=1)
    possible_C &= there_CK.sum(axis=1) >= task.fewest
  return possible_C


def _below(task: Summation, carry_C: np.ndarray) -> np.ndarray:
  """Digits [K, C, 1] under the window that hand up a carry.

  As many nines as the carry, and the carry itself: together base * carry.
  """
  rank_K1 = np.arange(task.operands)[:, None]
  below_KC = np.where(rank_K1 < carry_C, task.base - 1, 0)
  return np.where(rank_K1 == carry_C, carry_C, below_KC)[..., None]
