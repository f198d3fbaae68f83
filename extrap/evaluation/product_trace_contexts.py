"""Every context of a product's trace, in a window that sees one line's step.

A query at weight r of a line (-1 at the delimiter before it) sees the digits of
a at r and r + 1, those of the line before at r + 1 and r + 2, the digit b of
the other factor, '=' if no line follows, and its own token. With u for the line
before without its lowest digit, the line is u + a * b. Nothing else is seen:
neither which line it is, nor how long the numbers are.

What can occur. After enough lines u is any number below a (0 if a is): as u is
a * h // base^k, with h the digits of the other factor so far, it is made by
h = ceil(u * base^k / a), where a is at most base^k. The carry into weight r is
any of 0 .. b, or 0 .. max(b - 1, 0) in the first line, whose u is 0: two digits
of a below r, and two smaller ones of u, make it. So a window on which a goes on
above shows any digits and any carry; one that ends with a shows a digit v of u
and w of a with v <= w and any carry, as smaller digits lie below; under a
single 0 nothing is carried. The last line has no b = 0, unless it is the first.

Shape key: C contexts, N places, W = 2 places of a window.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import (
  ABSENT,
  BELOW,
  MOST,
  Contexts,
  Enumeration,
  check_count,
  encode,
  spread,
)
from extrap.tasks.product_trace import ProductTrace

WINDOW = (-1, 2)  # behind, ahead
DIGITS = 4  # of the longest a
BEFORE = 4  # lines that make any line before


def product_trace_contexts(
  task: ProductTrace,
  behind: int,
  ahead: int,
  shift: int | None = None,
  most: int | None = None,
) -> Enumeration:
  """All contexts of a window with own_step; see `operation_contexts`.

  A part has a digit b, and a line after it or not. A context's numbers are a,
  the line before, and b with the '=' that is seen.

  Raises:
    UsageError: the window is not enumerated, or the contexts are too many.
  """
  if (behind, ahead) != WINDOW:
    raise UsageError(
      'contexts of the trace of a product are enumerated for '
      '--model.position.behind=-1 and --model.position.ahead=2'
    )
  upper = task.base * (task.base + 1) ** 5
  check_count(task, behind, ahead, upper, MOST)
  each = None if most is None else -(-most // (8 * task.base))

  def part(b: int, last: bool) -> Contexts:
    lines = [
      _Line(task, b, first, last, shift or 0, each)
      for first in (True, False)
      if b or first or not last
    ]
    return Contexts.union(
      [asked for line in lines for asked in line.contexts(shift is None)]
    )

  kinds = itertools.product(range(task.base), (False, True))
  return Enumeration(upper, [functools.partial(part, *kind) for kind in kinds])


@dataclasses.dataclass(frozen=True)
class _Line:
  """Lines of a digit b, the first one or not, the last one or not.

  Attributes:
    task: what is learned.
    b: the digit that the line takes in.
    first: whether no line is before it.
    last: whether none follows.
    shift: zeros put below a and u.
    most: take about so many contexts of each kind; all of them if None.
  """

  task: ProductTrace
  b: int
  first: bool
  last: bool
  shift: int
  most: int | None

  def contexts(self, anywhere: bool) -> Iterator[Contexts]:
    """Its contexts; without those that zeros below would change."""
    base, zero = self.task.base, np.zeros(1, np.int64)
    a_C, u_C = self._inside()
    yield self._asked(4, a_C, u_C * base, 1)
    a_C, u_C = self._at_top()
    for weight in (2, 3):
      yield self._asked(3, a_C, u_C * base, weight)
    if anywhere:
      for weight in (0, 1):
        yield self._asked(1, zero, zero, weight)
    # The first '=' sees itself, whether it is the last one or not.
    if anywhere and not (self.first and self.last):
      lowest_C, before_C = _pairs(base, 1 if self.first else base**2)
      yield self._asked(2, lowest_C + base, before_C, -1)

  def _inside(self) -> tuple[np.ndarray, np.ndarray]:
    """Values [C] of a and u, where a goes on above the window.

    One digit under the window makes any carry, as u need not be smaller there.
    """
    base = self.task.base
    pair = _pairs(base**2, 1 if self.first else base**2)
    a_C, u_C = self._over(*pair, places=1)
    return a_C + base**3, u_C

  def _at_top(self) -> tuple[np.ndarray, np.ndarray]:
    """Values [C] of a and u, where the window shows a's highest digit."""
    base = self.task.base
    w_C, v_C = _pairs(base, 1 if self.first else base)
    real_C = (w_C > 0) & (v_C <= w_C)
    return self._over(w_C[real_C], v_C[real_C], places=2)

  def _over(
    self, a_C: np.ndarray, u_C: np.ndarray, places: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Digits of a and u over every carry that can come from below, [C]."""
    size = self.task.base**places
    most = self.b if not self.first else max(self.b - 1, 0)
    carry_K = np.arange(most + 1)
    low_K = -(-carry_K * size // max(self.b, 1))
    low_K = np.clip(low_K, 1, size - 1)
    rest_K = np.maximum(carry_K * size - low_K * self.b, 0)
    return tuple(
      (high_C[:, None] * size + low).ravel()
      for high_C, low in ((a_C, low_K), (u_C, rest_K))
    )

  def _asked(
    self, digits: int, a_C: np.ndarray, before_C: np.ndarray, weight: int
  ) -> Contexts:
    """The contexts of the query at a weight.

    Args:
      digits: how many a has.
      a_C: its values.
      before_C: the line before, but for its lowest digit where it is not seen.
      weight: that of the query's digit.
    """
    take_C = spread(len(a_C), self.most)
    a_C, before_C = a_C[take_C], before_C[take_C]
    lines, moved = self._lines_before, digits + self.shift
    sizes_2 = np.array((moved, lines + 1 + (not self.last)), np.int32)
    a_CN = np.pad(self._digits(a_C, DIGITS), ((0, 0), (self.shift, 0)))
    b_CN = self._other_factor(a_C, before_C)
    sizes_C2 = np.tile(sizes_2, (len(a_C), 1))
    batch = encode(self.task, a_CN, b_CN, sizes_C2)
    seen_CKW = self._seen(digits, a_C, before_C, weight)
    column = lines * (moved + 2) + weight + self.shift + 1
    return Contexts.asked(batch, column, seen_CKW, behind=0)

  @property
  def _lines_before(self) -> int:
    return 0 if self.first else BEFORE

  def _other_factor(self, a_C: np.ndarray, before_C: np.ndarray) -> np.ndarray:
    """Digits that make the line before, then b, then a 1 if it goes on."""
    lines, scale = self._lines_before, self.task.base ** (BEFORE - 1)
    made_C = -(-before_C * scale // np.maximum(a_C, 1))
    b_CN = np.zeros((len(a_C), BEFORE + 2), np.int32)
    b_CN[:, :lines] = self._digits(made_C, lines)
    b_CN[:, lines] = self.b
    b_CN[:, lines + 1] = not self.last
    return b_CN

  def _digits(self, number_C: np.ndarray, places: int) -> np.ndarray:
    """The lowest digits, int32 [C, N]."""
    power_N = self.task.base ** np.arange(places)
    return (number_C[:, None] // power_N % self.task.base).astype(np.int32)

  def _seen(
    self, digits: int, a_C: np.ndarray, before_C: np.ndarray, weight: int
  ) -> np.ndarray:
    """a, the line before, and b with the '=' that is seen, [C, 3, W]."""
    line_digits = 0 if self.first else digits + 1
    follows = self.task.token('=') if self.last else ABSENT
    b_CW = np.tile(np.array((self.b, follows), np.int32), (len(a_C), 1))
    a_CW = self._window(a_C, digits, weight)
    before_CW = self._window(before_C, line_digits, weight + 1)
    return np.stack([a_CW, before_CW, b_CW], axis=1)

  def _window(self, number_C: np.ndarray, digits: int, low: int) -> np.ndarray:
    """Digits of a number of given length at two weights, [C, W]."""
    weight_W = low + np.arange(2)
    digit_CW = self._digits(number_C, DIGITS + 3)[:, np.maximum(weight_W, 0)]
    digit_CW = np.where(weight_W < digits, digit_CW, ABSENT)
    return np.where(weight_W < 0, BELOW, digit_CW)


def _pairs(more: int, less: int) -> tuple[np.ndarray, np.ndarray]:
  """All pairs of a number below `more` and one below `less`, [C] each."""
  return np.divmod(np.arange(more * less), less)
