"""Every context of N x 1 and N x 2 products, seen through a window of places.

A query sees the long factor's digits at places p - behind .. p + ahead, all
digits of the short factor b, the product's at p - behind .. p (its own token is
the last) and the delimiters. What enters the window is the product of the
digits under it, cut below it: less than b, and as many places as b has make any
such number h, since a * b // base^D = h for a = ceil(h * base^D / b).

The next digit is told by D - 1 places behind: with D places of the product and
the long factor's digits there, h is known modulo base^D, and it is less.

Shape key: C contexts, D digits of the short factor, N places, W places of a
window, S states of a window, P pairs of a short factor and what enters.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence

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
  states,
  widened,
)
from extrap.tasks.multiplication import Multiplication


def product_contexts(
  task: Multiplication,
  behind: int,
  ahead: int,
  shift: int | None = None,
  most: int | None = None,
) -> Enumeration:
  """All contexts of a window; see `operation_contexts`.

  Every query sees the short factor: parts have factors of their own.

  Raises:
    UsageError: the form is not enumerated, or the contexts are too many.
  """
  plain = task.order == 'lsb' and not task.zero_pad and task.answer == 'trimmed'
  if not plain or task.second_digits not in (1, 2):
    raise UsageError(
      'contexts of products are enumerated for --task.second_digits=1 or 2, '
      '--task.order=lsb and --task.answer=trimmed without --task.zero_pad'
    )
  if behind < task.second_digits - 1:
    raise UsageError(
      f'the next digit of a product with {task.second_digits} digits needs '
      f'--model.position.behind={task.second_digits - 1} or more'
    )
  shorts = _shorts(task)
  width = (task.base + 1) ** (behind + ahead + 1)
  upper = sum(max(b, 1) for b in shorts) * width
  check_window(task, behind, ahead, upper, sees_behind=True, most=MOST)

  def part(shorts: Sequence[int]) -> Contexts:
    return at_all_places(
      lambda place: _at_place(
        task, shorts, place, behind, ahead, shift or 0, most
      ),
      behind,
      shift,
      under=task.second_digits,
    )

  groups = [shorts] if most else _groups(shorts, width)
  return Enumeration(
    upper, [functools.partial(part, group) for group in groups]
  )


def _shorts(task: Multiplication) -> range:
  """All short factors."""
  digits = task.second_digits
  return range(task.base ** (digits - 1) * (digits > 1), task.base**digits)


def _groups(shorts: Iterable[int], width: int) -> Iterator[list[int]]:
  """Short factors with about as many contexts as fit a part."""
  group: list[int] = []
  for b in shorts:
    if group and sum(group) + b > PART // width:
      yield group
      group = []
    group.append(b)
  yield group


def _at_place(
  task: Multiplication,
  shorts: Sequence[int],
  place: int,
  behind: int,
  ahead: int,
  shift: int,
  most: int | None,
) -> Contexts:
  """All contexts of the query at one place of the product."""
  low = max(0, place - behind)
  shown_SW = np.array(
    states(task.base, place + ahead - low + 1, starts=low == 0), np.int32
  )
  entering_P2 = np.array(
    [(b, h) for b in shorts for h in range(max(b, 1) if low else 1)]
  )
  case_C = spread(len(shown_SW) * len(entering_P2), most)
  window_C, pair_C = np.divmod(case_C, len(entering_P2))
  windows_C1W = shown_SW[window_C, None]
  b_C, h_C = entering_P2[pair_C].T
  digits = task.second_digits
  under_C = -(-h_C * task.base**digits // np.maximum(b_C, 1))
  places = behind + ahead + digits + 3 + shift
  (a_CN,), size_C1 = realise(
    windows_C1W, _spelt(task, under_C, digits)[None], low + shift, places
  )
  b_CN = _spelt(task, b_C, places)
  sizes_C2 = np.pad(size_C1, ((0, 0), (0, 1)), constant_values=digits)
  batch = encode(task, a_CN, b_CN, sizes_C2)
  # The short factor is seen from everywhere, whatever the place.
  seen_C1W = widened(windows_C1W, behind + ahead + 1)
  short_CW = np.full_like(seen_C1W[:, 0], ABSENT)
  short_CW[:, :digits] = b_CN[:, :digits]
  seen_C2W = np.concatenate([seen_C1W, short_CW[:, None]], axis=1)
  return Contexts.asked(batch, place + 1 + shift, seen_C2W, behind)


def _spelt(task: Multiplication, number_C: np.ndarray, places: int):
  """Digits int32 [C, places], least significant first."""
  power_N = task.base ** np.arange(min(places, 2 * task.second_digits))
  digit_CN = number_C[:, None] // power_N % task.base
  return np.pad(digit_CN, ((0, 0), (0, places - len(power_N)))).astype(np.int32)
