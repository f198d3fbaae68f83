"""The borrow suite: differences that uniform digits hardly ever make.

Shape key: N places, S = 2 size axes.
"""

import jax
import jax.numpy as jnp

from extrap.evaluation.stress import Kind, Numbers, uniform
from extrap.randomness import named
from extrap.tasks.subtraction import Subtraction


def _powers(
  task: Subtraction, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """10..0 - 1: a borrow through every place."""
  place_N = jnp.arange(places)
  return place_N == size_S[0] - 1, place_N == 0


def _chain(
  task: Subtraction, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """A borrow made at place 0 and passed on by equal digits, to a leading 1."""
  place_N = jnp.arange(places)
  digit_N = uniform(task, key, places)
  first_N, leads_N = place_N == 0, place_N == size_S[0] - 1
  a_N = jnp.where(first_N, 0, digit_N)
  b_N = jnp.where(first_N, 1, digit_N)
  return jnp.where(leads_N, 1, a_N), b_N


def _equal(
  task: Subtraction, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """A number less itself."""
  digit_N = uniform(task, key, places)
  return digit_N, digit_N


def _alternating(
  task: Subtraction, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """1010.. - 101..: places that borrow and places that lend, in turn."""
  odd_N = (size_S[0] - 1 - jnp.arange(places)) % 2
  return 1 - odd_N, odd_N


def _short(
  task: Subtraction, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """A long number less a digit."""
  a_N, b_N = (uniform(task, named(key, x), places) for x in ('a', 'b'))
  return a_N, jnp.where(size_S[0] == 1, jnp.minimum(a_N, b_N), b_N)


def _shorter(length: int) -> tuple[int, int]:
  return length, max(1, length - 1)


BORROWS = {
  'powers': Kind(_powers, lambda length: (length, 1), random=False),
  'chain': Kind(_chain, _shorter),
  'equal': Kind(_equal),
  'alternating': Kind(_alternating, _shorter, random=False),
  'short': Kind(_short, lambda length: (length, 1)),
}
