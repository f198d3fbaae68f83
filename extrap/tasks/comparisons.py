"""Comparisons of two numbers among some inputs, small and then large.

Trained on pairs of 1..9, tested on pairs of large numbers that are close
together (Faber and Wattenhofer 2020, arXiv 2004.07085). Which of the inputs are
compared has to be found where there are more than two.

Shape key: B pairs, I inputs, '2' the two numbers.
"""

import dataclasses
import itertools
import operator
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.randomness import named

# Of Python's integers, exact.
COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
  'gt': operator.gt,
  'lt': operator.lt,
  'ge': operator.ge,
  'le': operator.le,
  'eq': operator.eq,
  'ne': operator.ne,
}
# Those of which equal and unequal pairs are trained on and tested equally.
BALANCED = ('eq', 'ne')
# Whether each holds of a number that is less, equal and greater.
TRUTH = np.array(
  [[holds(sign, 0) for sign in (-1, 0, 1)] for holds in COMPARISONS.values()]
)
NEAR = 5  # Largest distance of two numbers of a test.


class Pairs(NamedTuple):
  """A training set: inputs [B, I], answers [B], what each pair counts [B]."""

  x_BI: jax.Array
  target_B: jax.Array
  weight_B: jax.Array


class Row(NamedTuple):
  """A pair of a test, exact: the two numbers are its last inputs."""

  inputs: tuple[int, ...]
  holds: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparisons:
  """The task; see the module's docstring.

  Attributes:
    inputs: I, of which the last two are compared.
    largest: of the numbers of training, which begin at 1.
  """

  inputs: int = 2
  largest: int = 9

  def sample(
    self, key: jax.Array, comparison: jax.Array, partners: jax.Array
  ) -> Pairs:
    """All pairs of training; of = and !=, each number with itself and another.

    Args:
      key: of the other inputs, drawn from the same numbers.
      comparison: a scalar, the place of one in `COMPARISONS`.
      partners: key of what numbers are unequal to.
    """
    every_B2 = self._every()
    balanced_B2, share_B = self._balanced(named(partners, 'partners'))
    balanced = comparison >= len(COMPARISONS) - len(BALANCED)
    pair_B2 = jnp.where(balanced, balanced_B2, every_B2)
    weight_B = jnp.where(balanced, share_B, 1 / len(every_B2))
    sign_B = jnp.sign(pair_B2[:, 0] - pair_B2[:, 1])
    shape = (len(pair_B2), self.inputs - 2)
    rest_BI = jax.random.randint(
      named(key, 'others'), shape, 1, self.largest + 1, jnp.int32
    )
    x_BI = jnp.concatenate([rest_BI, pair_B2], axis=1)
    return Pairs(x_BI, jnp.asarray(TRUTH)[comparison, sign_B + 1], weight_B)

  def _every(self) -> np.ndarray:
    numbers = np.arange(1, self.largest + 1, dtype=np.int32)
    return np.array(list(itertools.product(numbers, repeat=2)), np.int32)

  def _balanced(self, key: jax.Array) -> tuple[jax.Array, np.ndarray]:
    """As many rows as all pairs have; those beyond the balanced count 0."""
    n = self.largest
    place = jnp.arange(n, dtype=jnp.int32)
    step = jax.random.randint(key, (n,), 1, n, jnp.int32)
    other = 1 + (place + step) % n
    equal_B2 = jnp.stack([1 + place, 1 + place], axis=1)
    unequal_B2 = jnp.stack([1 + place, other], axis=1)
    pair_B2 = jnp.concatenate([equal_B2, unequal_B2])
    rows = n * n
    share_B = np.where(np.arange(rows) < 2 * n, 1 / (2 * n), 0.0)
    # Numbers up to 2 have no more pairs than these.
    return jnp.resize(pair_B2, (rows, 2)), share_B.astype(np.float32)

  def trained_rows(self, comparison: str) -> int:
    """Pairs of a step."""
    n = self.largest
    return 2 * n if comparison in BALANCED else n * n

  def test(
    self, comparison: str, magnitude: int, bases: int, most: int | None = None
  ) -> list[Row]:
    """Pairs of numbers from 10^magnitude on, at most `NEAR` apart, exact.

    Other inputs are any numbers of the magnitude.

    Args:
      comparison: one of `COMPARISONS`.
      magnitude: number of zeros.
      bases: numbers that are compared with those close to them; the same for
        all comparisons.
      most: numbers end here, if the magnitude begins below it.
    """
    low, high = 10**magnitude, 10 ** (magnitude + 1) - 1
    if most is not None and low + NEAR < most:
      high = min(high, most - NEAR)
    draws = random.Random(f'{magnitude} {self.inputs}')
    compared, rows = [draws.randint(low, high) for _ in range(bases)], []
    for base in compared:
      for pair in around(base, comparison in BALANCED):
        rest = [draws.randint(low, high) for _ in range(self.inputs - 2)]
        rows.append(Row((*rest, *pair), COMPARISONS[comparison](*pair)))
    return rows


def around(base: int, balanced: bool) -> list[tuple[int, int]]:
  """A number against those near it, in both orders, or as often itself."""
  pairs = []
  for other in range(base - NEAR, base + NEAR + 1):
    if other == base:
      pairs += [] if balanced else [(base, base)]
    else:
      pairs += [(base, other), (other, other if balanced else base)]
  return pairs


def most_held(dtype: np.typing.DTypeLike) -> int:
  """Up to which number a type has every integer.

  Beyond, it has some, but not those next to them.
  """
  return 2 ** (np.finfo(dtype).nmant + 1)
