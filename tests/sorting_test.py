"""Sorting: the sampler against Python's sort, and what structure knows.

Shape key: B examples, T tokens.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_checks import check_asked, check_causal, check_same_row

from extrap.errors import UsageError
from extrap.tasks.sorting import Sorting
from extrap.tasks.task import uniform_sizes

MAX_SIZE, ROWS = 4, 1500
TASKS = {
  'mixed': Sorting(tags=7),
  'equal': Sorting(lengths='equal', order='msb'),
  'duplicates': Sorting(base=2, tags=5),
  'trace': Sorting(trace=True, tags=9),
}

of_every_task = pytest.mark.parametrize('name', TASKS)


@functools.cache
def drawn():
  """Sizes, and a batch of each task."""

  @jax.jit
  def program(key):
    size_BS = uniform_sizes(key, ROWS, 2, 1, MAX_SIZE)
    return size_BS, {
      name: task.sample(key, size_BS, max_size=MAX_SIZE)
      for name, task in TASKS.items()
    }

  return jax.tree.map(np.asarray, program(jax.random.key(0)))


@of_every_task
def test_sampled_answers_are_right_and_of_the_sizes_asked_for(name):
  task, (size_BS, batches) = TASKS[name], drawn()
  batch, firsts = batches[name], set()
  for row, tokens_T in enumerate(batch.tokens):
    items, answer = task.read(tokens_T)
    assert answer == task.oracle(items)
    lengths = [len(task.digits(number)) for _, number in items]
    assert max(lengths) == size_BS[row, 0]
    assert len(items) == size_BS[row, 1]
    if task.lengths == 'equal':
      assert set(lengths) == {size_BS[row, 0]}
    first = items[0][0]
    firsts.add(first)
    assert [tag for tag, _ in items] == (
      [(first + k) % task.tags for k in range(len(items))]
    )
    check_asked(task, batch, row)
  assert firsts == set(range(task.tags))


def spell(task, tokens_T):
  """A row in letters, tags as capitals."""
  letters = f'0123456789:,={"ABCDEFGHI"[: task.tags]};_'
  return ''.join(letters[token] for token in tokens_T).rstrip('_')


def test_rows_read_as_documented():
  plain, trace = Sorting(tags=9), Sorting(tags=9, trace=True)
  given = ([[31, 5, 120, 5]], None, 7)
  (tokens_T,) = np.asarray(plain.from_integers(*given).tokens)
  assert spell(plain, tokens_T) == 'H:13,I:5,A:021,B:5=IBHA;'
  (tokens_T,) = np.asarray(trace.from_integers(*given).tokens)
  assert spell(trace, tokens_T) == ('H:13,I:5,A:021,B:5=I:5,B:5,H:13,A:021;')


@of_every_task
def test_the_longest_row_fits(name):
  task = TASKS[name]
  largest = task.base**MAX_SIZE - 1
  batch = task.from_integers([[largest] * MAX_SIZE])
  items, answer = task.read(batch.tokens[0])
  assert answer == task.oracle(items)
  structure = task.structure(batch.tokens)
  for field, bound in task.largest_ids(MAX_SIZE).items():
    assert int(getattr(structure, field).max()) <= bound
  last = batch.queries[0][batch.mask[0]][-1]
  assert int(last) == batch.tokens.shape[1] - 2


def test_numbers_that_differ_at_a_single_place_are_told_apart():
  task, digits = Sorting(), 40
  numbers = [10 ** (digits - 1) + 10**p for p in (5, 0, 38, 20)]
  batch = task.from_integers([numbers])
  assert task.read(batch.tokens[0])[1] == (1, 0, 3, 2)


def test_structure_tells_numbers_of_the_prompt_from_those_of_the_answer():
  task = Sorting(tags=9, trace=True)
  batch = task.from_integers([[31, 5]])
  structure = task.structure(batch.tokens)
  #                 A  :  1  3  ,  B  :  5  =  B  :  5  ,  A  :  1  3  ;
  assert structure.role[0, :18].tolist() == (
    [5, 2, 0, 0, 3, 5, 2, 0, 4, 5, 2, 1, 3, 5, 2, 1, 1, 6]
  )
  digit_T = structure.digit[0, :18]
  assert structure.run[0, :18][digit_T].tolist() == [0, 0, 1, 2, 3, 3]
  assert structure.place[0, :18][digit_T].tolist() == [0, 1, 0, 0, 0, 1]


def test_structure_is_causal():
  task = Sorting(tags=3, trace=True)
  check_causal(task, task.from_integers([[31, 5]]).tokens[0])


@of_every_task
def test_the_same_row_is_drawn_into_every_shape(name):
  check_same_row(TASKS[name], [3, 2], 3, 5)


def test_more_numbers_than_tags_are_refused():
  with pytest.raises(UsageError, match='4 numbers need as many tags'):
    Sorting(tags=3).sample(jax.random.key(0), jnp.ones((1, 2)), max_size=4)
  with pytest.raises(UsageError, match='a size of 4 where 4 fit, with 3 tags'):
    Sorting(tags=3).from_integers([[1, 2, 3, 4]])
