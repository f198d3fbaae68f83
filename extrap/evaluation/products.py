"""The product suite: products that uniform digits hardly ever make.

Shape key: N places, S = 2 factors.
"""

import jax
import jax.numpy as jnp

from extrap.evaluation.stress import Kind, Numbers, palindromes, uniform
from extrap.tasks.multiplication import Multiplication


def _nines(
  task: Multiplication, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """99..9 x 99..9: the largest carries."""
  nines_N = jnp.full(places, task.base - 1)
  return nines_N, nines_N


def _by_nines(
  task: Multiplication, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """A uniform number times 99..9."""
  a_N = uniform(task, key, places)
  return a_N, jnp.full(places, task.base - 1)


def _powers(
  task: Multiplication, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """10..0 x 10..0."""
  place_N = jnp.arange(places)
  return place_N == size_S[0] - 1, place_N == size_S[1] - 1


def _ones(
  task: Multiplication, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """11..1 x 11..1: every column of another height."""
  ones_N = jnp.ones(places, jnp.int32)
  return ones_N, ones_N


PRODUCTS = {
  'nines': Kind(_nines, random=False),
  'by nines': Kind(_by_nines),
  'powers': Kind(_powers, random=False),
  'ones': Kind(_ones, random=False),
  'palindromes': Kind(palindromes),
}
