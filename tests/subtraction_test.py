"""Subtraction: the sampler against Python integers, and what structure knows.

Shape key: B examples, T tokens, S size axes.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_checks import check_asked, check_causal, check_same_row

from extrap.errors import UsageError
from extrap.tasks.subtraction import Subtraction
from extrap.tasks.task import uniform_sizes

FORMATS = tuple(
  itertools.product(('lsb', 'msb'), (False, True), ('padded', 'trimmed'))
)
BASES = (2, 10, 1000)
MAX_SIZE, ROWS = 6, 2000

in_every_format = pytest.mark.parametrize('form', FORMATS)
in_every_base = pytest.mark.parametrize('base', BASES)


def task_of(base, form):
  order, zero_pad, answer = form
  return Subtraction(base=base, order=order, zero_pad=zero_pad, answer=answer)


@functools.cache
def drawn(base):
  """Sizes, and a batch in each format, of the same random differences."""

  @jax.jit
  def program(key):
    size_BS = uniform_sizes(key, ROWS, 2, 1, MAX_SIZE)
    return size_BS, {
      form: task_of(base, form).sample(key, size_BS, max_size=MAX_SIZE)
      for form in FORMATS
    }

  return jax.tree.map(np.asarray, program(jax.random.key(base)))


@in_every_base
@in_every_format
def test_sampled_differences_are_right_and_of_the_sizes_asked_for(base, form):
  task, (size_BS, batches) = task_of(base, form), drawn(base)
  _, zero_pad, answer = form
  for size_S, tokens_T in zip(size_BS, batches[form].tokens, strict=True):
    instance, difference = task.read(tokens_T)
    assert difference == task.oracle(instance) >= 0
    lengths = [len(task.digits(x)) for x in instance]
    assert sorted(lengths) == sorted(size_S)
    assert lengths[0] == size_S.max()
    (a, b, result), ends = task.split(tokens_T)
    assert ends
    assert len(a) == size_S.max()
    assert len(b) == (len(a) if zero_pad else size_S.min())
    trimmed = len(task.digits(difference))
    assert len(result) == (len(a) if answer == 'padded' else trimmed)


@in_every_format
def test_answer_and_end_are_asked_for_and_nothing_else(form):
  task, (_, batches) = task_of(10, form), drawn(10)
  batch = batches[form]
  for row in range(200):
    check_asked(task, batch, row)


def test_equal_lengths_are_swapped_and_not_drawn_again():
  """All pairs of digits with a >= b, unequal ones twice as often."""
  task = Subtraction(base=3)
  size_BS = jnp.ones((6000, 2), jnp.int32)
  sample = jax.jit(lambda key: task.sample(key, size_BS, max_size=1).tokens)
  tokens_BT = np.asarray(sample(jax.random.key(0)))
  pairs, counts = np.unique(tokens_BT[:, [0, 2]], axis=0, return_counts=True)
  assert pairs.tolist() == [[0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2]]
  shares = counts / len(tokens_BT)
  expected = np.array([1, 2, 1, 2, 2, 1]) / 9
  np.testing.assert_allclose(shares, expected, atol=0.03)


@in_every_format
def test_given_integers_are_read_back(form):
  task = task_of(10, form)
  pairs = [(0, 0), (1000, 999), (1000, 1), (7, 7), (10**6, 10**6)]
  batch = task.from_integers(pairs)
  for pair, tokens_T in zip(pairs, np.asarray(batch.tokens), strict=True):
    assert task.read(tokens_T) == (pair, pair[0] - pair[1])


def test_a_negative_difference_is_refused():
  with pytest.raises(UsageError, match='3 - 5 is negative'):
    Subtraction().from_integers([(4, 4), (3, 5)])


@pytest.mark.parametrize('order', ['lsb', 'msb'])
def test_places_align_and_do_not_know_what_comes_after(order):
  """Zero-padded, digits of one weight have one place in either order."""
  task = Subtraction(order=order, zero_pad=True)
  batch = task.from_integers([(1000, 999), (52, 7)])
  structure = jax.tree.map(np.asarray, task.structure(batch.tokens))
  assert structure.place[0].tolist() == [
    *(0, 1, 2, 3, -1, 0, 1, 2, 3, -1, 0, 1, 2, 3),
    *(-1, *[-1] * (structure.place.shape[1] - 15)),
  ]
  for tokens_T in batch.tokens:
    check_causal(task, tokens_T)


def test_the_same_row_is_drawn_into_every_shape():
  check_same_row(Subtraction(), [3, 4], 4, 9)
