"""What tasks on two numbers share: `a ? b = c <end>`, digit by digit.

Shape key: B examples, T tokens, N places (least significant first, whatever
the order of the tokens), M places of the result, S = 2 size axes.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.randomness import named
from extrap.tasks.layout import Part, ask, join, symbol
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Batch

A, B, RESULT, SIGN, EQUALS, END, PAD = range(7)  # roles


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation(NumberTask):
  """An operation on two numbers; the first separator is its sign."""

  zero_pad: bool = option(False, 'pad operands with zeros to equal length')

  axes = ('digits_a', 'digits_b')
  runs = 3

  def result(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    """Digits of the result, [B, M]."""
    raise NotImplementedError

  def longest(self, max_size: int) -> int:
    """M, digits of the longest result."""
    raise NotImplementedError

  def width(self, size_BS: jax.Array, result_BM: jax.Array) -> jax.Array:
    """How many digits of the result are written, [B]."""
    raise NotImplementedError

  def prepare(
    self, a_BN: jax.Array, b_BN: jax.Array, size_BS: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Numbers that the operation can take, made of any two."""
    return a_BN, b_BN, size_BS

  def check_pair(self, a: int, b: int) -> None:
    """Refuses a pair that the operation cannot take."""

  @property
  def equals(self) -> int:
    return self.token('=')

  @property
  def digit_tokens(self) -> int:
    """How many tokens write a digit."""
    return 1

  def token_length(self, max_size: int) -> int:
    """Two operands, two delimiters, the result, the end."""
    digits = 2 * max_size + self.longest(max_size)
    return self.digit_tokens * digits + 3

  def largest_ids(self, max_size: int) -> dict[str, int]:
    return {
      'position': self.token_length(max_size) - 1,
      'place': self.longest(max_size) - 1,
      'role': PAD,
      'run': self.runs,
    }

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform numbers of exactly the given lengths; see `Task.sample`.

    Row contents do not depend on max_size when B is 1.
    """
    a_BN = self.number(named(key, 'a'), size_BS[:, 0], max_size)
    b_BN = self.number(named(key, 'b'), size_BS[:, 1], max_size)
    return self.encode(*self.prepare(a_BN, b_BN, size_BS))

  def encode(
    self, a_BN: jax.Array, b_BN: jax.Array, size_BS: jax.Array
  ) -> Batch:
    """The batch of given digits (least significant first, zero beyond size)."""
    return self.row(self.written(a_BN, b_BN, size_BS), a_BN.shape[1])

  def written(
    self, a_BN: jax.Array, b_BN: jax.Array, size_BS: jax.Array
  ) -> list[Part]:
    """Both operands and the result, as they are written."""
    result_BM = self.result(a_BN, b_BN)
    operand_BS = size_BS
    if self.zero_pad:
      longest_B1 = size_BS.max(axis=1, keepdims=True)
      operand_BS = jnp.broadcast_to(longest_B1, size_BS.shape)
    return [
      self.part(a_BN, operand_BS[:, 0]),
      self.part(b_BN, operand_BS[:, 1]),
      self.part(result_BM, self.width(size_BS, result_BM)),
    ]

  def row(self, numbers: Sequence[Part], max_size: int) -> Batch:
    """Operands and result with what stands between and after them."""
    (a, b, result), rows = numbers, numbers[0].width.shape[0]
    sign, equals, end = (
      symbol(token, rows) for token in (self.base, self.equals, self.end)
    )
    parts = (a, sign, b, equals, result, end)
    tokens_BT, start_BP = join(parts, self.token_length(max_size), self.pad)
    most = self.digit_tokens * self.longest(max_size) + 1
    return ask(tokens_BT, start_BP[:, RESULT + 2], most, self.pad)

  def from_integers(
    self, pairs: Sequence[tuple[int, int]], max_size: int | None = None
  ) -> Batch:
    """The batch of given non-negative Python integers.

    Raises:
      UsageError: a number does not fit, or the operation cannot take a pair.
    """
    for a, b in pairs:
      self.check_pair(a, b)
    digit_BKN, size_BS = self.spelt(pairs, 2, max_size)
    a_BN, b_BN = digit_BKN.swapaxes(0, 1)
    return self.encode(*map(jnp.asarray, (a_BN, b_BN, size_BS)))

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
    """The result, in Python integers."""
    raise NotImplementedError


def ripple(makes_BN: jax.Array, passes_BN: jax.Array) -> jax.Array:
  """Which places hand a carry (or borrow) up, [B, N], by associative scan.

  A place makes a carry, or passes one on; the pair composes associatively.
  """
  carry_BN, _ = jax.lax.associative_scan(
    lambda low, high: (high[0] | (high[1] & low[0]), high[1] & low[1]),
    (makes_BN, passes_BN),
    axis=1,
  )
  return carry_BN


def add(a_BN: jax.Array, b_BN: jax.Array, base: int) -> jax.Array:
  """Digits [B, N] of a sum; what is carried out of the top is dropped."""
  total_BN = a_BN + b_BN
  carry_BN = ripple(total_BN >= base, total_BN == base - 1)
  return (total_BN + shift_up(carry_BN)) % base


def digits_of(number_BM: jax.Array) -> jax.Array:
  """How many digits a number has without leading zeros, [B]; 0 has one."""
  place_M = jnp.arange(number_BM.shape[1])
  return jnp.max(jnp.where(number_BM > 0, place_M[None], 0), axis=1) + 1


def shift_up(carry_BN: jax.Array) -> jax.Array:
  """What comes into each place from the one below it, int32 [B, N]."""
  below_BN = jnp.pad(carry_BN[:, :-1], ((0, 0), (1, 0)))
  return below_BN.astype(jnp.int32)
