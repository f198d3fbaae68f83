"""Subtraction of the smaller of two numbers from the larger, in any base.

A row reads `a - b = d <end>` with a >= b: of the two lengths the longer one is
a's, and of two numbers of one length the larger is a. Operands have no leading
zeros, or are padded with zeros to a's length. The difference is padded to a's
length too: least significant digit first, nothing nearby tells where a trimmed
one ends (1000...0 - 999...9 = 1), so that stopping would need the whole number.
`trimmed` asks for just that.

Shape key: B examples, N places (least significant first, whatever the order of
the tokens), S = 2 size axes.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.tasks.operation import Operation, digits_of, ripple, shift_up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subtraction(Operation):
  """The task of subtracting; see the module's docstring."""

  answer: Literal['padded', 'trimmed'] = option(
    'padded', "the difference: with zeros to the first number's length, or none"
  )

  separators: ClassVar[tuple[str, ...]] = ('-', '=')
  seen: ClassVar[tuple[str, ...]] = ('-', '=')

  @property
  def minus(self) -> int:
    return self.token('-')

  def longest(self, max_size: int) -> int:
    """A difference has at most the digits of its first operand."""
    return max_size

  def prepare(
    self, a_BN: jax.Array, b_BN: jax.Array, size_BS: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The larger number first.

    Uniform numbers stay uniform, given that the first is not the smaller.
    """
    less_B1 = self._borrows(a_BN, b_BN)[:, -1:]
    return (
      jnp.where(less_B1, b_BN, a_BN),
      jnp.where(less_B1, a_BN, b_BN),
      jnp.where(less_B1, size_BS[:, ::-1], size_BS),
    )

  def result(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    """Digits [B, N] of the difference."""
    borrow_BN = shift_up(self._borrows(a_BN, b_BN))
    return (a_BN - b_BN - borrow_BN) % self.base

  def _borrows(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    """Which places borrow from the next; the last one's says a < b."""
    return ripple(a_BN < b_BN, a_BN == b_BN)

  def width(self, size_BS: jax.Array, result_BM: jax.Array) -> jax.Array:
    if self.answer == 'padded':
      return size_BS[:, 0]
    return digits_of(result_BM)

  def oracle(self, instance: tuple[int, int]) -> int:
    a, b = instance
    return a - b

  def check_pair(self, a: int, b: int) -> None:
    if a < b:
      raise UsageError(f'{a} - {b} is negative; put the larger number first')
