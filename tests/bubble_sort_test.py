"""Sorting by comparisons: the trace, and that what it points at suffices."""

import functools

import jax
import numpy as np
import pytest
from task_checks import check_asked, check_causal, check_same_row

from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import Pointers
from extrap.tasks.addition import Addition
from extrap.tasks.bubble_sort import SLOTS, BubbleSort
from extrap.tasks.task import uniform_sizes

MAX_SIZE, ROWS = 3, 60
TASKS = {
  'lsb': BubbleSort(tags=7),
  'msb': BubbleSort(tags=5, base=2, order='msb'),
}

of_every_task = pytest.mark.parametrize('name', TASKS)


@functools.cache
def drawn(name):
  """Sizes, a batch and its structure."""
  task = TASKS[name]

  @jax.jit
  def program(key):
    size_BS = uniform_sizes(key, ROWS, 2, 1, MAX_SIZE)
    batch = task.sample(key, size_BS, max_size=MAX_SIZE)
    return size_BS, batch, task.structure(batch.tokens)

  return jax.tree.map(np.asarray, program(jax.random.key(0)))


def given(task, *rows):
  """Two given rows, always of one shape: fewer programs to compile."""
  return task.from_integers(rows, MAX_SIZE)


def spell(task, tokens_T):
  """A row in letters, tags as capitals."""
  letters = f'0123456789:,={"ABCDEFGHI"[: task.tags]}<~>;_'
  return ''.join(letters[token] for token in tokens_T).rstrip('_')


def test_rows_read_as_documented():
  task = BubbleSort(tags=9)
  batch = given(task, [20, 91, 20], [7])
  three, one = (spell(task, row) for row in np.asarray(batch.tokens))
  assert three == 'A:02,B:19,C:02=CB>>CA~~,ABC<<,C,B;'
  assert one == 'A:7=,A;'


@of_every_task
def test_answers_are_right_and_of_the_sizes_asked_for(name):
  task, (size_BS, batch, _) = TASKS[name], drawn(name)
  for row, tokens_T in enumerate(batch.tokens):
    items, answer = task.read(tokens_T)
    assert answer == task.oracle(items)
    assert len(items) == size_BS[row, 1]
    longest = max(len(task.digits(number)) for _, number in items)
    assert longest == size_BS[row, 0]
    check_asked(task, batch, row)


def next_token(task, seen):
  """The next token, from what is seen alone, by slot."""
  state = {task.token(name): name for name in '<~>'}
  if 'digit carried' in seen:
    carried, met = seen['digit carried'], seen['digit met']
    before = state.get(seen['itself'], '~')
    sign = '<' if met < carried else '>' if met > carried else before
    return task.token(sign)
  if 'carried' in seen:
    if not {'next', 'outcome'} & seen.keys():
      return task.token(',')
    outcome = state[seen.get('outcome', seen['itself'])]
    return seen['carried' if outcome == '>' else 'met']
  if 'last carried' in seen:
    outcome = state[seen['last outcome']]
    return seen['last met' if outcome == '>' else 'last carried']
  if 'tag' in seen:
    return seen['tag']
  goes_on = 'next' in seen or seen['itself'] == task.token('=')
  return task.token(',') if goes_on else task.end


@of_every_task
def test_what_each_token_is_told_to_read_determines_the_next(name):
  task, (_, batch, structure) = TASKS[name], drawn(name)
  length = batch.tokens.shape[1]
  for row, tokens_T in enumerate(batch.tokens):
    for query, target in zip(
      batch.queries[row][batch.mask[row]],
      batch.targets[row][batch.mask[row]],
      strict=True,
    ):
      at = {
        slot: see_BT[row, query]
        for slot, see_BT in zip(SLOTS, structure.see, strict=True)
        if see_BT[row, query] < length
      }
      assert max(at.values()) == query  # Itself, and no later one.
      assert len(set(at.values())) == len(at)
      seen = {slot: tokens_T[i] for slot, i in at.items()}
      assert next_token(task, seen) == target


def test_the_longest_row_fits():
  batch = given(BubbleSort(), [999] * 3, [999] * 3)
  last = batch.queries[0][batch.mask[0]][-1]
  assert int(last) == batch.tokens.shape[1] - 2


def test_structure_is_causal():
  task = BubbleSort(tags=3)
  check_causal(task, given(task, [31, 5, 7], [1]).tokens[0])


def test_the_same_row_is_drawn_into_every_shape():
  check_same_row(TASKS['lsb'], [2, 2], 2, 3)


def test_the_least_number_is_found_in_the_first_round():
  task = BubbleSort(tags=9)
  batch = given(task, [20, 91], [7])
  found = [
    spell(task, targets_Q[least_Q])
    for targets_Q, least_Q in zip(
      np.asarray(batch.targets),
      np.asarray(task.finds_least(batch.targets)),
      strict=True,
    )
  ]
  assert found == ['BA<<,A', ',A']


@pytest.mark.parametrize('attention', ['dense', 'gathered'])
def test_a_model_sees_what_it_is_pointed_at_alone(attention):
  task = BubbleSort(tags=5)
  tokens_BT = given(task, [31, 25, 7], [4, 2]).tokens
  structure = jax.jit(task.structure)(tokens_BT)
  config = TransformerConfig(
    position=Pointers(), width=8, heads=2, ffn_width=8, attention=attention
  )
  model = Transformer(config, task.vocab_size)
  params = jax.jit(model.init)(jax.random.key(0), tokens_BT, structure)

  @jax.jit
  def logits(tokens_BT):
    return model.apply(params, tokens_BT, structure)[0]

  plain_TV = logits(tokens_BT)
  query = int(np.argmax(tokens_BT[0] == task.token('='))) + 4
  at = {int(see_BT[0, query]) for see_BT in structure.see}
  for index in range(query + 1):
    other_TV = logits(tokens_BT.at[0, index].add(1))
    moved = bool((other_TV[query] != plain_TV[query]).any())
    assert moved == (index in at)


def test_other_tasks_and_other_traces_are_refused():
  with pytest.raises(UsageError, match='the comparisons are the trace'):
    BubbleSort(trace=True)
  task = Addition()
  structure = task.structure(task.from_integers([(1, 2)]).tokens)
  with pytest.raises(UsageError, match='does not say what to read'):
    Pointers().prepare(structure, None, False)
