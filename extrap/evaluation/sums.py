"""The suite of sums of several numbers that uniform digits hardly ever make.

All numbers that a row can have are there. Of some the length is less than the
cell's.

Shape key: K numbers, N places, S = 1 size axis.
"""

import jax
import jax.numpy as jnp

from extrap.evaluation.grid import Sampler
from extrap.evaluation.stress import Kind, Numbers, uniform
from extrap.randomness import named
from extrap.tasks.operation import digits_of
from extrap.tasks.summation import Summation
from extrap.tasks.task import Batch


def sum_sampler(task: Summation, kind: Kind) -> Sampler:
  """A sampler of one kind for `Suite`; numbers are as long as their digits."""

  def sample(key: jax.Array, size_1S: jax.Array, max_size: int) -> Batch:
    digit_KN = jnp.stack(kind.draw(task, key, size_1S[0], max_size))
    digit_KN = jnp.where(jnp.arange(max_size) < size_1S[0, 0], digit_KN, 0)
    digit_KN = digit_KN.astype(jnp.int32)
    return task.encode(digit_KN[None], digits_of(digit_KN)[None])

  return sample


def _with_zeros(task: Summation, *numbers: jax.Array) -> Numbers:
  """Numbers, and 0 for all others of the row."""
  zero_N = jnp.zeros_like(numbers[0])
  return (*numbers, *[zero_N] * (task.operands - len(numbers)))[: task.operands]


def _nines(
  task: Summation, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """99..9 + 99..9 + ..: the largest carry at every place."""
  return (jnp.full(places, task.base - 1),) * task.operands


def _one_more(
  task: Summation, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """99..9 + 1 + 0 + ..: a carry through every place."""
  first_N = (jnp.arange(places) == 0).astype(jnp.int32)
  return _with_zeros(task, jnp.full(places, task.base - 1), first_N)


def _chain(
  task: Summation, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Two uniform numbers that add up to 99..9, and 1 where there is a third."""
  digit_N = uniform(task, key, places)
  first_N = (jnp.arange(places) == 0).astype(jnp.int32)
  return _with_zeros(task, digit_N, task.base - 1 - digit_N, first_N)


def _same(
  task: Summation, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """One number over and over."""
  return (uniform(task, key, places),) * task.operands


def _stairs(
  task: Summation, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Every number shorter than the one before, down to one digit."""
  most = max(task.operands - 1, 1)
  size_K = [
    1 + (size_S[0] - 1) * (most - rank) // most for rank in range(task.operands)
  ]
  return tuple(
    jnp.where(
      jnp.arange(places) < size, uniform(task, named(key, rank), places), 0
    )
    for rank, size in enumerate(size_K)
  )


def _powers(
  task: Summation, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """10..0 + 10..0 + ..: places without any digit but 0."""
  return (jnp.arange(places) == size_S[0] - 1,) * task.operands


SUMS = {
  'nines': Kind(_nines, random=False),
  'one more': Kind(_one_more, random=False),
  'chain': Kind(_chain),
  'same': Kind(_same),
  'stairs': Kind(_stairs),
  'powers': Kind(_powers, random=False),
}
