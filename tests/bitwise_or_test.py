"""Bitwise OR: what is drawn, and that the answer is right."""

import jax
import numpy as np
import pytest
from task_checks import check_same_row

from extrap.tasks.bitwise_or import BitwiseOr
from extrap.tasks.task import uniform_sizes

MAX_SIZE, ROWS = 5, 4000


@pytest.mark.parametrize('order', ['lsb', 'msb'])
@pytest.mark.parametrize('inputs', ['one_hot', 'uniform'])
def test_strings_have_the_sizes_asked_for_and_their_or_is_right(inputs, order):
  task = BitwiseOr(inputs=inputs, order=order)
  size_BS = uniform_sizes(jax.random.key(1), ROWS, 2, 1, MAX_SIZE)
  sample = jax.jit(lambda key: task.sample(key, size_BS, max_size=MAX_SIZE))
  tokens_BT = np.asarray(sample(jax.random.key(0)).tokens)
  met = set()
  for tokens_T, sizes in zip(tokens_BT, size_BS.tolist(), strict=True):
    (a, b, c), ends = task.split(tokens_T)
    assert ends
    assert [len(a), len(b), len(c)] == [*sizes, max(sizes)]
    pair, answer = task.read(tokens_T)
    assert answer == task.oracle(pair)
    if inputs == 'one_hot':
      assert sum(a) + sum(b) == 1
    met.add((tuple(a), tuple(b)))
  # Of sizes i and j there are i + j one-hot problems; all of them are met.
  problems = sum(i + j for i in range(1, 6) for j in range(1, 6))
  assert len(met) == problems or inputs == 'uniform'
  if inputs == 'uniform':
    ones = np.mean([sum(a) / len(a) for a, _ in met])
    assert 0.4 < ones < 0.6
    assert len(met) > 1000


@pytest.mark.parametrize('inputs', ['one_hot', 'uniform'])
def test_the_same_row_is_drawn_into_every_shape(inputs):
  check_same_row(BitwiseOr(inputs=inputs), [4, 3], 4, 7)
