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
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.task import Batch, Structure

A, B, SUM, PLUS, EQUALS, END, PAD = range(7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition:
  """The task of adding two numbers; see the module's docstring."""

  base: int = option(10, 'base of the digits', minimum=2, maximum=1000)
  order: Literal['lsb', 'msb'] = option(
    'lsb', 'which digit stands first: the least or the most significant'
  )
  zero_pad: bool = option(False, 'pad operands with zeros to equal length')

  axes = ('digits_a', 'digits_b')

  @property
  def vocab_size(self) -> int:
    """Digits, then '+', '=', end and padding."""
    return self.base + 4

  @property
  def plus(self) -> int:
    return self.base

  @property
  def equals(self) -> int:
    return self.base + 1

  @property
  def end(self) -> int:
    return self.base + 2

  @property
  def pad(self) -> int:
    return self.base + 3

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

  def number(
    self, key: jax.Array, length_B: jax.Array, places: int
  ) -> jax.Array:
    """Uniform numbers of given lengths, [B, places]; 0 beyond a length."""
    shape = (length_B.shape[0], places)
    digit_BN = jax.random.randint(named(key, 'digits'), shape, 0, self.base)
    first_BN = jax.random.randint(named(key, 'first'), shape, 1, self.base)
    place_N = jnp.arange(places)[None]
    leading_BN = (place_N == length_B[:, None] - 1) & (place_N > 0)
    digit_BN = jnp.where(leading_BN, first_BN, digit_BN)
    return jnp.where(place_N < length_B[:, None], digit_BN, 0)

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
    tokens_BT = self._layout(a_BN, b_BN, sum_BM, widths)
    equals_B = widths[0] + 1 + widths[1]
    query_Q = jnp.arange(max_size + 2)[None]
    queries_BQ = equals_B[:, None] + query_Q
    targets_BQ = jnp.take_along_axis(tokens_BT, queries_BQ + 1, axis=1)
    return Batch(tokens_BT, queries_BQ, targets_BQ, targets_BQ != self.pad)

  def _layout(
    self,
    a_BN: jax.Array,
    b_BN: jax.Array,
    sum_BM: jax.Array,
    widths: tuple[jax.Array, jax.Array, jax.Array],
  ) -> jax.Array:
    """Writes three numbers of given widths in a row of tokens."""
    places = a_BN.shape[1]
    a_B1, b_B1, sum_B1 = (width[:, None] for width in widths)
    token_T = jnp.arange(self.token_length(places))[None]
    # Each token's number, its rank there, and where that number's digits are.
    in_b_BT, in_sum_BT = token_T > a_B1, token_T > a_B1 + 1 + b_B1
    start_BT = jnp.where(in_b_BT, a_B1 + 1, 0)
    start_BT = jnp.where(in_sum_BT, a_B1 + b_B1 + 2, start_BT)
    width_BT = jnp.where(in_sum_BT, sum_B1, jnp.where(in_b_BT, b_B1, a_B1))
    rank_BT = token_T - start_BT
    if self.order == 'msb':
      rank_BT = width_BT - 1 - rank_BT
    source_BT = places * (in_b_BT.astype(jnp.int32) + in_sum_BT) + rank_BT
    digits_BX = jnp.concatenate([a_BN, b_BN, sum_BM], axis=1)
    tokens_BT = jnp.take_along_axis(digits_BX, source_BT, 1, mode='clip')
    end_B1 = a_B1 + b_B1 + 2 + sum_B1
    tokens_BT = jnp.where(token_T == a_B1, self.plus, tokens_BT)
    tokens_BT = jnp.where(token_T == a_B1 + 1 + b_B1, self.equals, tokens_BT)
    tokens_BT = jnp.where(token_T == end_B1, self.end, tokens_BT)
    return jnp.where(token_T > end_B1, self.pad, tokens_BT)

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Places counted within each number from its first token.

    Zero-padded and most significant digit first, the sum is one digit longer
    than its operands, so its count starts one place lower and stays aligned.
    """
    index_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    digit_BT = tokens_BT < self.base
    delimiter_BT = jnp.where(digit_BT, -1, index_BT)
    place_BT = index_BT - jax.lax.cummax(delimiter_BT, axis=1) - 1
    plus_BT, equals_BT = tokens_BT == self.plus, tokens_BT == self.equals
    run_BT = jnp.cumsum(plus_BT, axis=1) + jnp.cumsum(equals_BT, axis=1)
    if self.order == 'msb' and self.zero_pad:
      place_BT -= run_BT >= SUM
    kind_BT = tokens_BT - self.base + PLUS
    return Structure(
      index=index_BT,
      position=index_BT,
      place=place_BT,
      role=jnp.where(digit_BT, jnp.minimum(run_BT, SUM), kind_BT),
      anchor=(plus_BT | equals_BT).astype(jnp.int32),
      runs=3,
      roles=7,
      anchors=2,
    )

  def from_integers(
    self, pairs: Sequence[tuple[int, int]], max_size: int | None = None
  ) -> Batch:
    """The batch of given sums of non-negative Python integers."""
    numbers = [[self._digits(x) for x in pair] for pair in pairs]
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

  def _digits(self, number: int) -> list[int]:
    digits = []
    while number or not digits:
      number, digit = divmod(number, self.base)
      digits.append(digit)
    return digits

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, int], int | None]:
    """Operands and answer (None if it is no number) that a row spells."""
    tokens = [int(token) for token in np.asarray(tokens_T)]
    plus, equals = tokens.index(self.plus), tokens.index(self.equals)
    end = tokens.index(self.end) if self.end in tokens else len(tokens)
    answer = tokens[equals + 1 : end]
    complete = end < len(tokens) and answer and max(answer) < self.base
    return (
      (self._value(tokens[:plus]), self._value(tokens[plus + 1 : equals])),
      self._value(answer) if complete else None,
    )

  def _value(self, digits: list[int]) -> int:
    value = 0
    for digit in digits if self.order == 'msb' else reversed(digits):
      value = value * self.base + digit
    return value

  def oracle(self, instance: tuple[int, int]) -> int:
    """The sum, in Python integers."""
    return instance[0] + instance[1]
