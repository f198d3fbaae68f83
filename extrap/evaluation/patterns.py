"""The pattern suite: strings that uniform symbols hardly ever make.

Shape key: N places, S = 1 size axis.
"""

import jax
import jax.numpy as jnp

from extrap.evaluation.stress import Draw, Kind, Numbers
from extrap.tasks.strings import StringTask


def _zeros(
  task: StringTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """The first symbol alone."""
  return (jnp.zeros(places, jnp.int32),)


def _largest(
  task: StringTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """The last symbol alone: all ones in base 2."""
  return (jnp.full(places, task.base - 1),)


def _single(
  task: StringTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """A single one, anywhere."""
  return (jnp.arange(places) == jax.random.randint(key, (), 0, size_S[0]),)


def _periodic(period: int) -> Draw:
  """A short string over and over."""

  def draw(
    task: StringTask, key: jax.Array, size_S: jax.Array, places: int
  ) -> Numbers:
    unit_P = jax.random.randint(key, (period,), 0, task.base)
    return (unit_P[jnp.arange(places) % period],)

  return draw


def _edges(
  task: StringTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Ones at both ends and zeros between."""
  place_N = jnp.arange(places)
  return ((place_N == 0) | (place_N == size_S[0] - 1),)


def _end(last: bool) -> Draw:
  """A single one at an end."""

  def draw(
    task: StringTask, key: jax.Array, size_S: jax.Array, places: int
  ) -> Numbers:
    return (jnp.arange(places) == (size_S[0] - 1 if last else 0),)

  return draw


def _runs(
  task: StringTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Two long runs: one symbol up to a random place, another from there."""
  key_2 = jax.random.split(key)
  turn = jax.random.randint(key_2[0], (), 0, size_S[0])
  symbol_2 = jax.random.randint(key_2[1], (2,), 0, task.base)
  return (jnp.where(jnp.arange(places) < turn, *symbol_2),)


PATTERNS = {
  'zeros': Kind(_zeros, random=False),
  'largest': Kind(_largest, random=False),
  'single': Kind(_single),
  'period 2': Kind(_periodic(2)),
  'period 3': Kind(_periodic(3)),
  'edges': Kind(_edges, random=False),
  'first': Kind(_end(last=False), random=False),
  'last': Kind(_end(last=True), random=False),
  'runs': Kind(_runs),
}
