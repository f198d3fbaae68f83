"""The order suite: lists to sort that uniform numbers hardly ever make.

Uniform numbers are told apart by their lengths and first digits; here all
numbers of a list are of one length.

Shape key: B examples, Q answer queries, V vocabulary, K numbers of a row, N
places.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from extrap.evaluation.exact_match import right_tokens
from extrap.evaluation.grid import BUCKETS, Sampler, Suite
from extrap.evaluation.stress import Kind, stress_suites
from extrap.randomness import named
from extrap.tasks.sorting import Sorting
from extrap.tasks.task import Batch


def _one_length(
  task: Sorting, key: jax.Array, size_S: jax.Array, places: int
) -> jax.Array:
  """Uniform numbers."""
  size_1K = jnp.full((1, places), size_S[0])
  return task.numbers(key, size_1K, places)[0]


def _shared(
  task: Sorting, key: jax.Array, size_S: jax.Array, places: int
) -> jax.Array:
  """The first digits are the same, all but one of them at most."""
  number_KN = _one_length(task, key, size_S, places)
  most = jnp.maximum(size_S[0] - 1, 1)
  free = jax.random.randint(named(key, 'free'), (), 1, most + 1)
  return jnp.where(jnp.arange(places) < free, number_KN, number_KN[:1])


def _last_digit(
  task: Sorting, key: jax.Array, size_S: jax.Array, places: int
) -> jax.Array:
  """The least significant digit alone differs."""
  number_KN = _one_length(task, key, size_S, places)
  return jnp.where(jnp.arange(places) < 1, number_KN, number_KN[:1])


def _equal(
  task: Sorting, key: jax.Array, size_S: jax.Array, places: int
) -> jax.Array:
  """One number, over and over: the tags keep their order."""
  number_KN = _one_length(task, key, size_S, places)
  return jnp.broadcast_to(number_KN[:1], number_KN.shape)


ORDERS = {
  'one length': Kind(_one_length),
  'shared prefix': Kind(_shared),
  'last digit': Kind(_last_digit),
  'equal': Kind(_equal),
}


def order_suites(
  task: Sorting,
  lengths: Sequence[int],
  rows: int,
  buckets: tuple[int, ...] = BUCKETS,
) -> dict[str, Suite]:
  """A suite of each kind: n numbers of n digits, `rows` of each n."""
  args = ('order', ORDERS, task, lengths, rows, buckets)
  return stress_suites(*args, sampler=order_sampler)


def order_sampler(task: Sorting, kind: Kind) -> Sampler:
  """A sampler of one kind for `Suite`."""

  def sample(key: jax.Array, size_1S: jax.Array, max_size: int) -> Batch:
    digits, count = size_1S[0]
    number_KN = kind.draw(task, key, size_1S[0], max_size)
    there_K = jnp.arange(max_size) < count
    kept_KN = there_K[:, None] & (jnp.arange(max_size)[None] < digits)
    number_1KN = jnp.where(kept_KN, number_KN, 0)[None]
    size_1K = jnp.where(there_K, digits, 0)[None]
    first_1 = jax.random.randint(named(key, 'tag'), (1,), 0, task.tag_runs)
    return task.encode(number_1KN, size_1K, first_1)

  return sample


@dataclasses.dataclass(frozen=True)
class Minimum:
  """Scores an answer by its least number alone, for `grid.evaluate`."""

  task: Sorting

  def __call__(self, logits_BQV: jax.Array, batch: Batch) -> jax.Array:
    """bool [B]: right up to the first tag in order."""
    counts_BQ = self.task.finds_least(batch.targets)
    return jnp.all(right_tokens(logits_BQV, batch) | ~counts_BQ, axis=-1)
