"""Traces of products: the sampler against Python integers, structure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_checks import (
  check_asked,
  check_causal,
  check_gathered,
  check_same_row,
)

from extrap.errors import UsageError
from extrap.tasks.product_trace import ProductTrace
from extrap.tasks.task import EVERY, uniform_sizes

MAX_SIZE, ROWS = 5, 1000
WINDOW = {'behind': -1, 'ahead': 2, 'own_step': True}
PAIRS = [(95, 7), (123, 45), (0, 0), (9, 99999), (70007, 1000)]

in_every_base = pytest.mark.parametrize('base', [2, 10, 1000])


@functools.cache
def drawn(base):
  """Sizes and a batch."""

  @jax.jit
  def program(key):
    size_BS = uniform_sizes(key, ROWS, 2, 1, MAX_SIZE)
    task = ProductTrace(base=base)
    return size_BS, task.sample(key, size_BS, max_size=MAX_SIZE)

  return jax.tree.map(np.asarray, program(jax.random.key(base)))


@in_every_base
def test_sampled_traces_are_right_and_of_the_sizes_asked_for(base):
  task, (size_BS, batch) = ProductTrace(base=base), drawn(base)
  assert batch.tokens.shape[1] == task.token_length(MAX_SIZE)
  for row, tokens_T in enumerate(batch.tokens):
    pair, lines = task.read(tokens_T)
    assert lines == task.oracle(pair)
    assert task.product(lines) == pair[0] * pair[1]
    assert [len(task.digits(x)) for x in pair] == size_BS[row].tolist()
    check_asked(task, batch, row)


@in_every_base
def test_the_largest_factors_fit(base):
  task, largest = ProductTrace(base=base), base**40 - 1
  (tokens_T,) = np.asarray(task.from_integers([(largest, largest)]).tokens)
  assert tokens_T[-1] == task.end
  pair, lines = task.read(tokens_T)
  assert (len(lines), task.product(lines)) == (40, largest**2)
  assert lines == task.oracle(pair)
  structure = task.structure(jnp.asarray(tokens_T)[None])
  for name, most in task.largest_ids(40).items():
    assert int(getattr(structure, name).max()) <= most


def test_a_line_takes_in_a_digit_and_has_one_more_than_the_first_factor():
  task = ProductTrace()
  rows = [
    ''.join('0123456789x=,;_'[token] for token in tokens_T).rstrip('_')
    for tokens_T in np.asarray(task.from_integers(PAIRS).tokens)
  ]
  assert rows[:3] == ['59x7=566;', '321x54=5160,3550;', '0x0=00;']
  assert task.oracle((123, 45)) == (615, 61 + 492)
  assert task.product((615, 553)) == 5535


@pytest.mark.parametrize(
  ('row', 'right'),
  [
    ('59x7=566;', True),
    ('59x7=5660;', False),  # a line of another length
    ('59x7=566', False),
    ('321x54=5160,x550;', False),
  ],
)
def test_lines_that_are_no_numbers_of_their_length_are_not_read(row, right):
  task = ProductTrace()
  tokens = ['0123456789x=,;_'.index(token) for token in row]
  pair, lines = task.read(np.array(tokens))
  assert (lines == task.oracle(pair)) == (lines is not None) == right


def test_structure_says_what_each_line_reads():
  task = ProductTrace()
  structure = task.structure(task.from_integers([(123, 45)]).tokens)
  #  3  2  1  x  5  4  =  5  1  6  0  ,  3  5  5  0 end
  expected = {
    'place': [1, 2, 3, -1, 1, 2, -1, 0, 1, 2, 3, -1, 0, 1, 2, 3, -1],
    'role': [0, 0, 0, 3, 1, 1, 4, 2, 2, 2, 2, 5, 2, 2, 2, 2, 6],
    'anchor': [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    'asks': [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2],
  }
  for name, ids in expected.items():
    assert getattr(structure, name)[0, :17].tolist() == ids, name
  digit_T = np.asarray(structure.digit[0])
  assert np.flatnonzero(digit_T).tolist() == [
    0,
    1,
    2,
    *range(7, 11),
    12,
    13,
    14,
    15,
  ]
  read_T = np.asarray(structure.read[0])
  assert (read_T[:3] == EVERY).all()
  # The digits of the second factor, and '=', which the last line reads.
  assert read_T[4:7].tolist() == [1, 2, 2]
  assert (read_T[7:11] == 2).all() and (read_T[12:16] == 3).all()


def test_structure_is_causal():
  task = ProductTrace(base=3)
  for tokens_T in task.from_integers([(5, 17), (26, 2)]).tokens:
    check_causal(task, tokens_T)


@pytest.mark.parametrize('window', [WINDOW, {'own_step': True}, {}])
def test_gathered_keys_are_those_of_the_dense_window(window):
  task = ProductTrace()
  check_gathered(task, task.from_integers(PAIRS).tokens, **window)


def test_the_same_row_is_drawn_into_every_shape():
  check_same_row(ProductTrace(), [4, 2], 4, 6)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: ProductTrace(order='msb'), '--task.order=msb: the trace of a'),
    (
      lambda: ProductTrace().from_integers([(1, 123)], max_size=2),
      'a number of 3 digits where 2 fit',
    ),
  ],
)
def test_bad_input_is_one_line(call, message):
  with pytest.raises(UsageError, match=message):
    call()
