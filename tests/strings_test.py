"""Tasks on strings: samplers against loops in Python, and their structure.

Shape key: B examples, T tokens.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_checks import check_asked, check_causal, check_same_row

from extrap.errors import UsageError
from extrap.tasks.copying import Copying
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums

TASKS = {
  'copying': Copying(),
  'reversing': Copying(backwards=True, base=3),
  'copying behind $': Copying(begin=True),
  'reversing behind $': Copying(backwards=True, begin=True, base=3),
  'parity': Parity(),
  'parity trace': Parity(trace=True),
  'prefix sums': PrefixSums(),
  'prefix sums of bits': PrefixSums(base=2),
}
# What each writes for 1 0 1 1.
ANSWERS = {
  'copying': (1, 0, 1, 1),
  'reversing': (1, 1, 0, 1),
  'copying behind $': (1, 0, 1, 1),
  'reversing behind $': (1, 1, 0, 1),
  'parity': (1,),
  'parity trace': (1, 1, 0, 1),
  'prefix sums': (1, 1, 2, 3),
  'prefix sums of bits': (1, 1, 0, 1),
}
MAX_SIZE, ROWS = 9, 2000

of_every_task = pytest.mark.parametrize('name', TASKS)


@functools.cache
def drawn():
  """Sizes, and a batch of each task."""

  @jax.jit
  def program(key):
    size_B1 = jax.random.randint(key, (ROWS, 1), 1, MAX_SIZE + 1)
    return size_B1, {
      name: task.sample(key, size_B1, max_size=MAX_SIZE)
      for name, task in TASKS.items()
    }

  return jax.tree.map(np.asarray, program(jax.random.key(0)))


@of_every_task
def test_sampled_answers_are_right_and_of_the_sizes_asked_for(name):
  task, (size_B1, batches) = TASKS[name], drawn()
  batch, symbols = batches[name], set()
  for row, tokens_T in enumerate(batch.tokens):
    string, answer = task.read(tokens_T)
    assert len(string) == size_B1[row, 0]
    assert answer == task.oracle(string)
    check_asked(task, batch, row)
    symbols |= set(string)
  assert symbols == set(range(task.base))


@of_every_task
def test_a_given_string_has_the_answer_known(name):
  task = TASKS[name]
  tokens_BT = task.from_strings([(1, 0, 1, 1), (0,)]).tokens
  assert task.read(tokens_BT[0]) == ((1, 0, 1, 1), ANSWERS[name])
  structure = task.structure(tokens_BT)
  for field, largest in task.largest_ids(4).items():
    assert int(getattr(structure, field).max()) == largest


@of_every_task
def test_structure_is_causal(name):
  task = TASKS[name]
  check_causal(task, task.from_strings([(1, 0, 1, 1, 0)]).tokens[0])


def test_a_symbol_and_its_copy_share_a_place():
  batch = Copying().from_strings([(7, 8, 9)])
  assert Copying().structure(batch.tokens).place[0].tolist() == (
    [0, 1, 2, -1, 0, 1, 2, -1]
  )
  task = Copying(backwards=True)
  batch = task.from_strings([(7, 8, 9), (5, 6)])
  place_BT = task.structure(batch.tokens).place.tolist()
  assert place_BT[0] == [0, 1, 2, 3, 2, 1, 0, 3]
  assert place_BT[1][:6] == [0, 1, 2, 1, 0, 2]


@pytest.mark.parametrize('backwards', [False, True])
def test_a_token_before_the_string_changes_nothing_behind_it(backwards):
  plain, begun = (Copying(backwards=backwards, begin=x) for x in (False, True))
  strings = [(7, 8, 9), (5, 6)]
  tokens_BT = begun.from_strings(strings).tokens
  assert tokens_BT[:, 0].tolist() == [begun.token('$')] * 2
  before = plain.structure(plain.from_strings(strings).tokens)
  behind = begun.structure(tokens_BT)
  for name in ('place', 'run', 'anchor'):
    found_BT = getattr(behind, name)[:, 1:]
    assert found_BT.tolist() == getattr(before, name).tolist()


@of_every_task
def test_the_same_row_is_drawn_into_every_shape(name):
  check_same_row(TASKS[name], [4], 4, 7)


def test_long_prefix_sums_do_not_overflow():
  task = PrefixSums(base=1000)
  symbol_BN = jnp.full((1, 1 << 16), 999)
  answer_BN = jax.jit(task.answer)(symbol_BN, jnp.array([1 << 16]))
  expected_N = -np.arange(1, (1 << 16) + 1) % 1000
  np.testing.assert_array_equal(answer_BN[0], expected_N)


@pytest.mark.parametrize(
  ('strings', 'message'),
  [
    ([(0, 1, 0)], 'a string of 3 symbols where 2 fit'),
    ([(0, 2)], r'\(0, 2\) is no string of symbols 0..1'),
    ([()], r'\(\) is no string of symbols 0..1'),
  ],
)
def test_bad_strings_are_refused(strings, message):
  with pytest.raises(UsageError, match=message):
    Parity().from_strings(strings, max_size=2)
