"""Stress suites: problems that uniform sampling hardly ever makes.

A kind of problem draws the digits of every number of a row; those at and beyond
a number's size are cut off.

Shape key: N places, S numbers of a row.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from extrap.evaluation.grid import BUCKETS, Cell, Sampler, Suite
from extrap.randomness import named
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Batch

# Digits [N] of each number of a row, or [K, N] of all of them.
Numbers = tuple[jax.Array, ...] | jax.Array
# (task, key, sizes [S], N) -> numbers.
Draw = Callable[[NumberTask, jax.Array, jax.Array, int], Numbers]


@dataclasses.dataclass(frozen=True)
class Kind:
  """One way to draw a problem.

  Attributes:
    draw: the digits.
    cell: gives its sizes for a length; None for as many as there are axes.
    random: whether two draws of a size differ.
  """

  draw: Draw
  cell: Callable[[int], Cell] | None = None
  random: bool = True


def uniform(task: NumberTask, key: jax.Array, places: int) -> jax.Array:
  """Digits 1 .. base - 1: any of them may lead."""
  return jax.random.randint(key, (places,), 1, task.base)


def palindromes(
  task: NumberTask, key: jax.Array, size_S: jax.Array, places: int
) -> Numbers:
  """Two numbers that read the same from both ends."""
  place_N = jnp.arange(places)

  def mirrored(name: str, size: jax.Array) -> jax.Array:
    digit_N = uniform(task, named(key, name), places)
    return digit_N[jnp.minimum(place_N, jnp.abs(size - 1 - place_N))]

  return mirrored('a', size_S[0]), mirrored('b', size_S[1])


def stress_suites(
  name: str,
  kinds: Mapping[str, Kind],
  task: NumberTask,
  lengths: Sequence[int],
  rows: int,
  buckets: tuple[int, ...] = BUCKETS,
  sampler: Callable[[NumberTask, Kind], Sampler] | None = None,
) -> dict[str, Suite]:
  """A suite of each kind, `rows` a length and replica (one if not random).

  `sampler` turns a kind into a sampler, `stress_sampler` by default.
  """
  sampler = sampler or stress_sampler

  def cell(kind: Kind, length: int) -> Cell:
    return kind.cell(length) if kind.cell else (length,) * len(task.axes)

  return {
    key: Suite(
      name=f'{name}:{key}',
      cells=tuple(cell(kind, length) for length in lengths),
      rows=rows if kind.random else 1,
      sampler=sampler(task, kind),
      buckets=buckets,
    )
    for key, kind in kinds.items()
  }


def stress_sampler(task: NumberTask, kind: Kind) -> Sampler:
  """A sampler of one kind for `Suite`."""

  def sample(key: jax.Array, size_1S: jax.Array, max_size: int) -> Batch:
    size_1S = task.lengths(size_1S)
    numbers = kind.draw(task, key, size_1S[0], max_size)
    place_N = jnp.arange(max_size)
    cut = (
      jnp.where(place_N < size, digit_N, 0)[None].astype(jnp.int32)
      for digit_N, size in zip(numbers, size_1S[0], strict=True)
    )
    return task.encode(*cut, size_1S)

  return sample
