"""Functions that need comparisons: of lists, and one in two pieces.

The least number of a list, how many of its numbers equal the first, and a
function whose first two inputs decide what it makes of the others (Faber and
Wattenhofer 2020, arXiv 2004.07085). A training set is small and drawn once;
tests are exact, on the host.

Shape key: B examples, I numbers of each.
"""

import dataclasses
import itertools
import random
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from extrap.randomness import named
from extrap.tasks.comparisons import BALANCED, COMPARISONS, NEAR, around

Numbers = tuple[int, ...]


class Example(NamedTuple):
  """Numbers of a test, and what is asked of them, exact."""

  inputs: Numbers
  answer: int


class Task(Protocol):
  """A function of so many numbers, learned on so many rows."""

  numbers: int
  rows: int

  def sample(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A training set, inputs [B, I] and answers [B]; integers."""

  def test(self, *arguments: int) -> list[Example]:
    """Examples of a size, which comes first, and how many are drawn."""


@dataclasses.dataclass(frozen=True)
class Minimum:
  """The least of a list."""

  numbers: int = 5
  largest: int = 10
  rows: int = 400

  def sample(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `Task`."""
    x_BI = uniform(key, (self.rows, self.numbers), 1, self.largest)
    return x_BI, jnp.min(x_BI, axis=1)

  def test(self, length: int, largest: int, rows: int) -> list[Example]:
    """Lists of that many numbers, up to that one."""
    draws = random.Random(f'minimum {length} {largest}')
    lists = [
      tuple(draws.randint(1, largest) for _ in range(length))
      for _ in range(rows)
    ]
    return [Example(numbers, min(numbers)) for numbers in lists]


@dataclasses.dataclass(frozen=True)
class Count:
  """How many of a list's numbers equal its first, which does not count."""

  numbers: int = 6
  largest: int = 10
  rows: int = 400

  def sample(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `Task`."""
    x_BI = uniform(key, (self.rows, self.numbers), 1, self.largest)
    return x_BI, jnp.sum(x_BI[:, 1:] == x_BI[:, :1], axis=1)

  def test(self, length: int, largest: int, rows: int) -> list[Example]:
    """A number up to the largest, then as many as `length` around it."""
    draws, examples = random.Random(f'count {length} {largest}'), []
    for _ in range(rows):
      first = draws.randint(NEAR + 1, largest)  # None around it is below 1.
      rest = [draws.randint(first - NEAR, first + NEAR) for _ in range(length)]
      examples.append(Example((first, *rest), rest.count(first)))
    return examples


@dataclasses.dataclass(frozen=True)
class TwoPieces:
  """x4 + 4 where a comparison holds of x0 and x1, else x3 - x2.

  Attributes:
    comparison: a key of `COMPARISONS`; of = as many rows are equal as not.
    draws: how often each pair, or each x0, is there.
  """

  comparison: str = 'gt'
  draws: int = 10
  numbers: int = 5
  compared: tuple[int, int] = (-10, 9)
  others: tuple[int, int] = (-100, 100)

  def sample(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `Task`."""
    pair_B2 = self._balanced(key) if self.balanced else self._every()
    shape = (len(pair_B2), self.numbers - 2)
    rest_BI = uniform(named(key, 'others'), shape, *self.others)
    x_BI = jnp.concatenate([pair_B2, rest_BI], axis=1)
    return x_BI, self._answers(x_BI)

  @property
  def rows(self) -> int:
    """Of a training set."""
    low, high = self.compared
    return self.draws * (high + 1 - low) ** 2

  @property
  def balanced(self) -> bool:
    """Whether equal and unequal pairs are there equally often."""
    return self.comparison in BALANCED

  def _every(self) -> jax.Array:
    """All pairs."""
    low, high = self.compared
    pairs = list(itertools.product(range(low, high + 1), repeat=2))
    return jnp.array(pairs * self.draws, jnp.int32)

  def _balanced(self, key: jax.Array) -> jax.Array:
    """As many rows as all pairs have, each x0 with itself and with another."""
    low, high = self.compared
    count = high + 1 - low
    place = jnp.tile(
      jnp.arange(count, dtype=jnp.int32), count * self.draws // 2
    )
    step = uniform(named(key, 'partners'), place.shape, 1, count - 1)
    other = jnp.concatenate([place, (place + step) % count])
    return low + jnp.stack([jnp.tile(place, 2), other], axis=1)

  def _answers(self, x_BI: jax.Array) -> jax.Array:
    first, second, x2, x3, x4 = x_BI.T
    holds_B = COMPARISONS[self.comparison](first, second)
    return jnp.where(holds_B, x4 + 4, x3 - x2)

  def test(self, base: int, rows: int) -> list[Example]:
    """A number from the base to below its double, against those near it.

    Args:
      base: a power of two.
      rows: numbers that are drawn.
    """
    draws, examples = random.Random(f'pieces {base}'), []
    for _ in range(rows):
      first = draws.randint(base, 2 * base - 1)
      for pair in around(first, self.balanced):
        x2, x3, x4 = (draws.randint(*self.others) for _ in range(3))
        holds = COMPARISONS[self.comparison](*pair)
        answer = x4 + 4 if holds else x3 - x2
        examples.append(Example((*pair, x2, x3, x4), answer))
    return examples


def uniform(
  key: jax.Array, shape: tuple[int, ...], low: int, high: int
) -> jax.Array:
  """Integers of an interval, both ends included."""
  return jax.random.randint(key, shape, low, high + 1, jnp.int32)
