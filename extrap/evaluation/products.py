"""The product suites: products that uniform digits hardly ever make.

Shape key: N places, S = 2 factors.
"""

import jax
import jax.numpy as jnp

from extrap.evaluation.stress import Kind, Numbers, palindromes, uniform
from extrap.randomness import named
from extrap.tasks.numbers import NumberTask


def _nines(
  task: NumberTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """99..9 x 99..9: the largest carries."""
  nines_N = jnp.full(places, task.base - 1)
  return nines_N, nines_N


def _by_nines(
  task: NumberTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """A uniform number times 99..9."""
  a_N = uniform(task, key, places)
  return a_N, jnp.full(places, task.base - 1)


def _powers(
  task: NumberTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """10..0 x 10..0."""
  place_N = jnp.arange(places)
  return place_N == size_S[0] - 1, place_N == size_S[1] - 1


def _ones(
  task: NumberTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """11..1 x 11..1: every column of another height."""
  ones_N = jnp.ones(places, jnp.int32)
  return ones_N, ones_N


def _zeros_in_a(
  task: NumberTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Few digits of a are not 0."""
  a_N = _with_zeros(task, key, size_S[0], places)
  return a_N, uniform(task, named(key, 'b'), places)


def _zeros_in_b(
  task: NumberTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Few digits of b are not 0: many lines of a trace take none in."""
  a_N = uniform(task, named(key, 'a'), places)
  return a_N, _with_zeros(task, key, size_S[1], places)


def _with_zeros(
  task: NumberTask, key: jax.Array, size: jax.Array, places: int
) -> jax.Array:
  """Digits [N], of which about one in five and the first are not 0."""
  kept_N = jax.random.bernoulli(named(key, 'kept'), 0.2, (places,))
  kept_N |= jnp.arange(places) == size - 1
  return jnp.where(kept_N, uniform(task, key, places), 0)


PRODUCTS = {
  'nines': Kind(_nines, random=False),
  'by nines': Kind(_by_nines),
  'powers': Kind(_powers, random=False),
  'ones': Kind(_ones, random=False),
  'palindromes': Kind(palindromes),
}

# For factors of any lengths; in a single digit there is no room for zeros.
LONG_PRODUCTS = PRODUCTS | {
  'zeros in a': Kind(_zeros_in_a),
  'zeros in b': Kind(_zeros_in_b),
}
