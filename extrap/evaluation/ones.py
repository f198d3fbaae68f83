"""The place suite of bitwise OR: ones where alignment is easily lost.

Shape key: N places, S = 2 size axes.
"""

import jax
import jax.numpy as jnp

from extrap.evaluation.stress import Draw, Kind, Numbers
from extrap.tasks.bitwise_or import BitwiseOr


def _single(last: bool) -> Draw:
  """A single one at the first or last place, in either string of that size."""

  def draw(
    task: BitwiseOr, key: jax.Array, size_S: jax.Array, places: int
  ) -> Numbers:
    longest = size_S.max()
    one_N = jnp.arange(places) == (longest - 1 if last else 0)
    second = jax.random.bernoulli(key)
    # The last place may be that of one string alone.
    second = jnp.where(last & (size_S[0] < longest), True, second)
    second = jnp.where(last & (size_S[1] < longest), False, second)
    return one_N & ~second, one_N & second

  return draw


def _ones(
  task: BitwiseOr, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """All ones."""
  return jnp.ones(places, jnp.int32), jnp.ones(places, jnp.int32)


def _unequal(length: int) -> tuple[int, int]:
  return 1, length


ONES = {
  'first': Kind(_single(last=False)),
  'last': Kind(_single(last=True)),
  'first, 1 x n': Kind(_single(last=False), _unequal),
  'last, 1 x n': Kind(_single(last=True), _unequal, random=False),
  'all ones': Kind(_ones, random=False),
}
