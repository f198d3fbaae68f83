"""Addition of two numbers, digit by digit, in any base.

A row reads `a + b = s <end>`. Digits stand least or most significant first;
operands have no leading zeros, or are padded with zeros to the longer of the
two (the sum to one digit more). Formats: reversed as in McLeish et al. 2024
(arXiv 2405.17399), zero-padded as in Cho et al. 2024 (arXiv 2405.20671).

Shape key: B examples, T tokens, Q answer queries, N places (least significant
first, whatever the order of the tokens), S = 2 size axes.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import ask, join, symbol
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Batch, Structure

A, B, SUM, PLUS, EQUALS, END, PAD = range(7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition(NumberTask):
  """The task of adding two numbers; see the module's docstring."""

  zero_pad: bool = option(False, 'pad operands with zeros to equal length')

  axes = ('digits_a', 'digits_b')
  separators: ClassVar[tuple[str, ...]] = ('+', '=')
  seen: ClassVar[tuple[str, ...]] = ('+', '=')
  runs: ClassVar[int] = 3

  @property
  def plus(self) -> int:
    return self.token('+')

  @property
  def equals(self) -> int:
    return self.token('=')

  def token_length(self, max_size: int) -> int:
    """Two operands, two delimiters, a sum one digit longer, the end."""
    return 3 * max_size + 4

  def largest_ids(self, max_size: int) -> dict[str, int]:
    return {
      'position': self.token_length(max_size) - 1,
      'place': max_size,
      'role': PAD,
    }

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform numbers of exactly the given lengths; see `Task.sample`.

    Row contents do not depend on max_size when B is 1.
    """
    a_BN = self.number(named(key, 'a'), size_BS[:, 0], max_size)
    b_BN = self.number(named(key, 'b'), size_BS[:, 1], max_size)
    return self.encode(a_BN, b_BN, size_BS)

  def add(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    """Digits [B, N + 1] of the sum; carries by an associative scan."""
    total_BN = a_BN + b_BN
    # A place makes a carry, or passes one on; the pair composes associatively.
    makes_BN, passes_BN = total_BN >= self.base, total_BN == self.base - 1
    carry_BN, _ = jax.lax.associative_scan(
      lambda low, high: (high[0] | (high[1] & low[0]), high[1] & low[1]),
      (makes_BN, passes_BN),
      axis=1,
    )
    carry_BN = carry_BN.astype(total_BN.dtype)
    digit_BN = total_BN + jnp.pad(carry_BN[:, :-1], ((0, 0), (1, 0)))
    return jnp.concatenate([digit_BN % self.base, carry_BN[:, -1:]], axis=1)

  def encode(
    self, a_BN: jax.Array, b_BN: jax.Array, size_BS: jax.Array
  ) -> Batch:
    """The batch of given digits (least significant first, zero beyond size)."""
    max_size = a_BN.shape[1]
    sum_BM = self.add(a_BN, b_BN)
    longest_B = size_BS.max(axis=1)
    carry_B = jnp.take_along_axis(sum_BM, longest_B[:, None], 1)[:, 0] > 0
    if self.zero_pad:
      widths = longest_B, longest_B, longest_B + 1
    else:
      widths = size_BS[:, 0], size_BS[:, 1], longest_B + carry_B
    rows, length = a_BN.shape[0], self.token_length(max_size)
    numbers = zip((a_BN, b_BN, sum_BM), widths, strict=True)
    a, b, total = (self.part(digit_BN, width) for digit_BN, width in numbers)
    plus, equals, end = (
      symbol(token, rows) for token in (self.plus, self.equals, self.end)
    )
    parts = (a, plus, b, equals, total, end)
    tokens_BT, start_BP = join(parts, length, self.pad)
    return ask(tokens_BT, start_BP[:, 4], max_size + 2, self.pad)

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Places counted within each number from its first token.

    Zero-padded and most significant digit first, the sum is one digit longer
    than its operands, so its count starts one place lower and stays aligned.
    """
    structure = super().structure(tokens_BT)
    if self.order == 'lsb' or not self.zero_pad:
      return structure
    equals_BT = tokens_BT == self.equals
    return structure.replace(
      place=structure.place - (jnp.cumsum(equals_BT, axis=1) > 0)
    )

  def from_integers(
    self, pairs: Sequence[tuple[int, int]], max_size: int | None = None
  ) -> Batch:
    """The batch of given sums of non-negative Python integers."""
    numbers = [[self.digits(x) for x in pair] for pair in pairs]
    size_BS = np.array([[len(x) for x in row] for row in numbers], np.int32)
    needed = int(size_BS.max())
    places = needed if max_size is None else max_size
    if needed > places:
      raise UsageError(f'a number of {needed} digits where {places} fit')
    digits = np.zeros((2, len(pairs), places), np.int32)
    for row, pair in enumerate(numbers):
      for axis, number in enumerate(pair):
        digits[axis, row, : len(number)] = number
    return self.encode(
      jnp.asarray(digits[0]), jnp.asarray(digits[1]), jnp.asarray(size_BS)
    )

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, int], int | None]:
    """Operands and answer (None if it is no number) that a row spells."""
    (a, b, *rest), ends = self.split(tokens_T)
    complete = ends and len(rest) == 1
    return (
      (self.value(a), self.value(b)),
      self.value(rest[0]) if complete else None,
    )

  def oracle(self, instance: tuple[int, int]) -> int:
    """The sum, in Python integers."""
    return instance[0] + instance[1]
