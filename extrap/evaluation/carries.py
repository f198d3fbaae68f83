"""The carry suite: sums that uniform digits hardly ever make.

The longest run of places that pass a carry on averages 1.4 in sums of 100
uniform digits, and 3.4 in sums of 10,000; a model may be right on every
uniform sum and wrong on 99..9 + 1.

Shape key: N places.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from extrap.evaluation.grid import BUCKETS, Suite
from extrap.evaluation.stress import (
  Kind,
  Numbers,
  palindromes,
  stress_suites,
  uniform,
)
from extrap.randomness import named
from extrap.tasks.addition import Addition


def _chain(
  task: Addition, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """A carry made at place 0 and passed on by every place above it.

  Digits above place 0 add up to base - 1. In base 2, where the second number
  would lead with a zero, its first digit is a 1.
  """
  a_N = jax.random.randint(key, (places,), 1, max(task.base - 1, 2))
  place_N = jnp.arange(places)
  b_N = task.base - 1 - a_N
  b_N = jnp.where(place_N == size_S[1] - 1, jnp.maximum(b_N, 1), b_N)
  return a_N, jnp.where(place_N == 0, task.base - a_N, b_N)


def _nines(
  task: Addition, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """99..9 + 1."""
  nines_N = jnp.full((places,), task.base - 1)
  return nines_N, (jnp.arange(places) == 0).astype(jnp.int32)


def _zeros(
  task: Addition, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Round numbers, 10..0 + 10..0; 0 + 0 at size 1."""
  leads_N = (jnp.arange(places) > 0).astype(jnp.int32)
  return tuple(leads_N * (jnp.arange(places) == size - 1) for size in size_S)


def _alternating(
  task: Addition, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Places that make a carry and places that stop it, in turn.

  The first digits make one: in bases 2 and 3 no digits that may lead stop it.
  """
  makes_N = (size_S[0] - 1 - jnp.arange(places)) % 2 == 0
  digit_N = jnp.where(makes_N, task.base - 1, 0)
  return digit_N, digit_N


def _same(
  task: Addition, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """One digit repeated, 55..5 + 55..5."""
  digit = jax.random.randint(key, (), 1, task.base)
  return jnp.full((places,), digit), jnp.full((places,), digit)


def _unequal(
  task: Addition, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Uniform digits; the cell makes one number short."""
  return tuple(uniform(task, named(key, x), places) for x in ('a', 'b'))


KINDS = {
  'chain': Kind(_chain),
  'nines': Kind(_nines, lambda length: (length, 1), random=False),
  'zeros': Kind(_zeros, random=False),
  'palindromes': Kind(palindromes),
  'alternating': Kind(_alternating, random=False),
  'same': Kind(_same),
  'unequal': Kind(_unequal, lambda length: (1, length)),
}


def carry_suites(
  task: Addition,
  lengths: Sequence[int],
  rows: int,
  buckets: tuple[int, ...] = BUCKETS,
) -> dict[str, Suite]:
  """A suite of each kind, `rows` a length and replica (one if not random)."""
  return stress_suites('carry', KINDS, task, lengths, rows, buckets)
