"""Multiplication of two numbers by a trace of running products.

A row reads `a x b = t , t , .. , t <end>`, with a line t for each digit of b:
the first is a times the lowest digit, and each further one is a times the next
digit, plus the line before without its lowest digit. A line is less than a
times the base, and is written with one digit more than a. The lowest digit of
every line and then the other digits of the last one are the product: it is read
off the trace. All numbers stand least significant digit first.

Every step is local. The next digit of a line depends on two digits of a, two of
the line before, the digit of b, and the digit before (which tells the carry).
Digits of a line have the place of their weight, those of a one more: a query
finds the digits that it needs one and two places above its own.

Shape key: B examples, T tokens, N places of a, X of a line, M of b and lines of
a row, K tokens of the trace, S = 2 size axes.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import Part, ask, join, symbol
from extrap.tasks.numbers import NumberTask
from extrap.tasks.operation import add, shift_up
from extrap.tasks.task import EVERY, Batch, Structure

A, B, LINE, DELIMITERS = range(4)  # roles


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductTrace(NumberTask):
  """The task of multiplying line by line; see the module's docstring."""

  axes = ('digits_a', 'digits_b')
  separators: ClassVar[tuple[str, ...]] = ('x', '=', ',')

  def __post_init__(self) -> None:
    if self.order != 'lsb':
      raise UsageError(
        f'--task.order={self.order}: the trace of a product is written least '
        'significant digit first'
      )

  def token_length(self, max_size: int) -> int:
    """Two factors, what stands after them, and the trace with its end."""
    return _length(max_size, max_size)

  def largest_ids(self, max_size: int) -> dict[str, int]:
    length = self.token_length(max_size)
    return {
      'position': length - 1,
      'place': max_size,
      'role': DELIMITERS + len(self.separators) + 1,
      'run': _most_runs(length),
    }

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform factors of exactly the given lengths; see `Task.sample`.

    Row contents do not depend on max_size when B is 1.
    """
    a_BN = self.number(named(key, 'a'), size_BS[:, 0], max_size)
    b_BM = self.number(named(key, 'b'), size_BS[:, 1], max_size)
    return self.encode(a_BN, b_BM, size_BS)

  def encode(
    self, a_BN: jax.Array, b_BM: jax.Array, size_BS: jax.Array
  ) -> Batch:
    """The batch of given digits (least significant first, zero beyond size)."""
    rows, most = a_BN.shape[0], (a_BN.shape[1], b_BM.shape[1])
    times, equals, end = (
      symbol(token, rows)
      for token in (self.token('x'), self.token('='), self.end)
    )
    a, b = self.part(a_BN, size_BS[:, 0]), self.part(b_BM, size_BS[:, 1])
    trace = self._trace(self.lines(a_BN, b_BM), size_BS)
    parts = (a, times, b, equals, trace, end)
    tokens_BT, start_BP = join(parts, _length(*most), self.pad)
    return ask(tokens_BT, start_BP[:, 4], most[1] * (most[0] + 2), self.pad)

  def lines(self, a_BN: jax.Array, b_BM: jax.Array) -> jax.Array:
    """Digits of all lines, [B, M, X]."""
    a_BX = jnp.pad(a_BN, ((0, 0), (0, 1)))

    def step(line_BX: jax.Array, b_B: jax.Array) -> tuple[jax.Array, jax.Array]:
      rest_BX = jnp.pad(line_BX[:, 1:], ((0, 0), (0, 1)))
      total_BX = rest_BX + a_BX * b_B[:, None]
      tens_BX = shift_up(total_BX // self.base)
      line_BX = add(total_BX % self.base, tens_BX, self.base)
      return line_BX, line_BX

    _, line_MBX = jax.lax.scan(step, jnp.zeros_like(a_BX), b_BM.T)
    return line_MBX.swapaxes(0, 1)

  def _trace(self, line_BMX: jax.Array, size_BS: jax.Array) -> Part:
    """Lines of one digit more than a, with what stands between them."""
    rows, lines, places = line_BMX.shape
    written_B1 = size_BS[:, :1] + 2  # digits of a line, and its delimiter
    token_1K = jnp.arange(lines * (places + 1))[None]
    line_BK, weight_BK = token_1K // written_B1, token_1K % written_B1
    at_BK = line_BK * places + weight_BK
    digit_BK = jnp.take_along_axis(
      line_BMX.reshape(rows, -1), at_BK, axis=1, mode='clip'
    )
    ends_BK = weight_BK == written_B1 - 1
    tokens_BK = jnp.where(ends_BK, self.token(','), digit_BK)
    return Part(tokens_BK, size_BS[:, 1] * written_B1[:, 0] - 1)

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """What each line reads: a, the line before, its digit of b, maybe '='.

    '=' is read by the line of the last digit of b: it says that none follows.
    """
    structure, tokens = super().structure(tokens_BT), tokens_BT.shape[1]
    digit_BT, equals_BT = tokens_BT < self.base, tokens_BT == self.token('=')
    line_BT = jnp.cumsum(equals_BT | (tokens_BT == self.token(',')), axis=1)
    answer_BT, runs = line_BT > 0, _most_runs(tokens)
    second_BT = jnp.cumsum(tokens_BT == self.token('x'), axis=1) > 0
    second_BT &= digit_BT & ~answer_BT
    given_BT = second_BT | equals_BT
    count_BT = jnp.cumsum(second_BT, axis=1)  # the line of a digit of b
    kind_BT = jnp.where(second_BT, B, jnp.where(answer_BT, LINE, A))
    delimiter_BT = DELIMITERS + tokens_BT - self.base
    run_BT = jnp.minimum(line_BT, runs - 1)
    read_BT = jnp.where(answer_BT, line_BT + 1, EVERY)
    return structure.replace(
      place=structure.place + (structure.digit & ~answer_BT),
      role=jnp.where(digit_BT, kind_BT, delimiter_BT),
      run=jnp.where(digit_BT & ~second_BT, run_BT, runs),
      anchor=given_BT.astype(jnp.int32),
      asks=line_BT,
      read=jnp.where(given_BT, count_BT, read_BT),
      most_read=2,
      runs=runs,
      roles=DELIMITERS + len(self.separators) + 2,
      anchors=tokens,
    )

  def from_integers(
    self, pairs: Sequence[tuple[int, int]], max_size: int | None = None
  ) -> Batch:
    """The batch of given non-negative Python integers.

    Raises:
      UsageError: a number does not fit.
    """
    digit_BKN, size_BS = self.spelt(pairs, 2, max_size)
    a_BN, b_BM = digit_BKN.swapaxes(0, 1)
    return self.encode(*map(jnp.asarray, (a_BN, b_BM, size_BS)))

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, int], tuple[int, ...] | None]:
    """Factors and lines (None if one is no number of its length)."""
    tokens = [int(token) for token in np.asarray(tokens_T)]
    equals = tokens.index(self.token('='))
    (a, b), _ = self.split(tokens[:equals])
    lines, complete = self.split(tokens[equals + 1 :])
    complete &= all(len(line) == len(a) + 1 for line in lines)
    values = tuple(self.value(line) for line in lines)
    complete &= None not in values
    return (self.value(a), self.value(b)), values if complete else None

  def oracle(self, instance: tuple[int, int]) -> tuple[int, ...]:
    """All lines, in Python integers."""
    a, b = instance
    lines, line = [], 0
    for digit in self.digits(b):
      line = line // self.base + a * digit
      lines.append(line)
    return tuple(lines)

  def product(self, lines: Sequence[int]) -> int:
    """The product that lines spell."""
    *lower, product = lines
    for line in reversed(lower):
      product = product * self.base + line % self.base
    return product


def _length(digits_a: int, digits_b: int) -> int:
  """Tokens of a row of factors of given lengths."""
  return digits_a + digits_b + 2 + digits_b * (digits_a + 2)


def _most_runs(tokens: int) -> int:
  """A line has a delimiter and two digits at least; the first number is a."""
  return 1 + tokens // 3
