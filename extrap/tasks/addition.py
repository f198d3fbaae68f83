"""Addition of two numbers, digit by digit, in any base.

A row reads `a + b = s <end>`. Digits stand least or most significant first;
operands have no leading zeros, or are padded with zeros to the longer of the
two (the sum to one digit more). Formats: reversed as in McLeish et al. 2024
(arXiv 2405.17399), zero-padded as in Cho et al. 2024 (arXiv 2405.20671).

Shape key: B examples, T tokens, N places (least significant first, whatever
the order of the tokens), M places of the sum, S = 2 size axes.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.tasks.operation import Operation, add
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition(Operation):
  """The task of adding two numbers; see the module's docstring."""

  separators: ClassVar[tuple[str, ...]] = ('+', '=')
  seen: ClassVar[tuple[str, ...]] = ('+', '=')

  @property
  def plus(self) -> int:
    return self.token('+')

  def longest(self, max_size: int) -> int:
    """A sum has at most one digit more than its longer operand."""
    return max_size + 1

  def result(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    """Digits [B, N + 1] of the sum."""
    above = ((0, 0), (0, 1))
    return add(jnp.pad(a_BN, above), jnp.pad(b_BN, above), self.base)

  def width(self, size_BS: jax.Array, result_BM: jax.Array) -> jax.Array:
    longest_B = size_BS.max(axis=1)
    if self.zero_pad:
      return longest_B + 1
    carry_B = jnp.take_along_axis(result_BM, longest_B[:, None], 1)[:, 0] > 0
    return longest_B + carry_B

  def oracle(self, instance: tuple[int, int]) -> int:
    a, b = instance
    return a + b

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
