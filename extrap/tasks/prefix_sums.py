"""Running sums of a string of digits, modulo their base.

A row reads `x1 .. xn = y1 .. yn <end>` with y_i = x_1 + .. + x_i. In base 2
these are the prefix sums of Schwarzschild et al. 2021 (arXiv 2106.04537).

Shape key: B examples, N places.
"""

import dataclasses
import itertools

import jax

from extrap.tasks.strings import StringTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixSums(StringTask):
  """The task of adding up prefixes; see the module's docstring."""

  def answer(self, symbol_BN: jax.Array, length_B: jax.Array) -> jax.Array:
    # Reduced at every step: a plain sum of long strings would overflow.
    return jax.lax.associative_scan(
      lambda x, y: (x + y) % self.base, symbol_BN, axis=1
    )

  def oracle(self, instance: tuple[int, ...]) -> tuple[int, ...]:
    sums = itertools.accumulate(instance)
    return tuple(total % self.base for total in sums)
