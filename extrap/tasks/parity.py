"""Parity of a string of bits, at once or by a trace of prefix parities.

A row reads `x1 .. xn = p <end>`, or with a trace `x1 .. xn = p1 .. pn <end>`
where p_i is the parity of the first i bits, and p_n the answer.

Shape key: B examples, N places.
"""

import dataclasses
import itertools
import operator

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.tasks.strings import StringTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity(StringTask):
  """The task of counting ones modulo 2; see the module's docstring."""

  base: int = option(2, 'number of symbols', minimum=2, maximum=2)
  trace: bool = option(False, 'write the parity of every prefix')

  def longest(self, max_size: int) -> int:
    return max_size if self.trace else 1

  def width(self, length_B: jax.Array) -> jax.Array:
    return length_B if self.trace else jnp.ones_like(length_B)

  def answer(self, symbol_BN: jax.Array, length_B: jax.Array) -> jax.Array:
    prefix_BN = jnp.cumsum(symbol_BN, axis=1) % 2
    # Beyond a string's end there are zeros: the last prefix is the whole.
    return prefix_BN if self.trace else prefix_BN[:, -1:]

  def oracle(self, instance: tuple[int, ...]) -> tuple[int, ...]:
    prefixes = tuple(itertools.accumulate(instance, operator.xor))
    return prefixes if self.trace else prefixes[-1:]
