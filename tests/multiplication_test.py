"""Products: the sampler against Python integers, and what structure knows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_checks import check_asked, check_gathered

from extrap.errors import UsageError
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.task import uniform_sizes

MAX_SIZE, ROWS = 6, 1000
TASKS = {
  'trimmed': Multiplication(),
  'padded': Multiplication(answer='padded'),
  'msb': Multiplication(order='msb', zero_pad=True),
  'base 2': Multiplication(base=2),
  'base 1000': Multiplication(base=1000),
  'N x 1': Multiplication(second_digits=1),
  '2 x N': Multiplication(second_digits=2, short_first=True),
  'N x 2': Multiplication(second_digits=2, answer='padded'),
}

of_every_task = pytest.mark.parametrize('name', TASKS)


@functools.cache
def drawn():
  """Sizes, and a batch of each task."""

  @jax.jit
  def program(key):
    size_BS = uniform_sizes(key, ROWS, 2, 1, MAX_SIZE)
    return size_BS, {
      name: task.sample(key, size_BS[:, : len(task.axes)], max_size=MAX_SIZE)
      for name, task in TASKS.items()
    }

  return jax.tree.map(np.asarray, program(jax.random.key(0)))


@of_every_task
def test_sampled_products_are_right_and_of_the_sizes_asked_for(name):
  task, (size_BS, batches) = TASKS[name], drawn()
  batch = batches[name]
  assert batch.tokens.shape[1] == task.token_length(MAX_SIZE)
  for row, tokens_T in enumerate(batch.tokens):
    pair, product = task.read(tokens_T)
    assert product == task.oracle(pair) == pair[0] * pair[1]
    lengths = [len(task.digits(x)) for x in pair]
    second = task.second_digits or size_BS[row, 1]
    assert lengths == [size_BS[row, 0], second]
    result = task.split(tokens_T)[0][2]
    digits = len(task.digits(product))
    assert len(result) == (digits if task.answer == 'trimmed' else sum(lengths))
    check_asked(task, batch, row)


@pytest.mark.parametrize('base', [2, 10, 1000])
def test_products_of_long_numbers_are_exact(base):
  task, places = Multiplication(base=base), 150
  rng = np.random.default_rng(base)
  largest = base**places - 1
  digits = [rng.integers(base, size=places).tolist() for _ in range(2)]
  a, b = (task.value(x) for x in digits)
  pairs = [(largest, largest), (largest, 1), (0, largest), (a, b)]
  batch = jax.jit(lambda: task.from_integers(pairs, places))()
  for pair, tokens_T in zip(pairs, np.asarray(batch.tokens), strict=True):
    assert task.read(tokens_T) == (pair, pair[0] * pair[1])


def test_a_second_factor_longer_than_the_first_fits():
  task = Multiplication(second_digits=3)
  sample = jax.jit(task.sample, static_argnames='max_size')
  batch = sample(jax.random.key(0), jnp.ones((20, 1), int), max_size=1)
  assert batch.tokens.shape == (20, task.token_length(1))
  for tokens_T in np.asarray(batch.tokens):
    pair, product = task.read(tokens_T)
    assert product == task.oracle(pair)
    assert len(str(pair[1])) == 3


@pytest.mark.parametrize('second_digits', [1, 2])
def test_a_window_always_sees_a_short_second_factor(second_digits):
  """The last digit of a long product depends on that factor's digits."""
  task = Multiplication(second_digits=second_digits)
  pairs = [(123456, 7 * 10 ** (second_digits - 1) + k) for k in range(2)]
  tokens_BT = task.from_integers(pairs).tokens[:, :14]
  structure = task.structure(tokens_BT)
  assert structure.anchor.sum(axis=1).tolist() == [2 + second_digits] * 2
  # The prompts differ in one digit, answers do not matter.
  same_BT = tokens_BT.at[1, 8:].set(tokens_BT[0, 8:])
  logits_BTV = check_gathered(task, same_BT)
  assert abs(logits_BTV[0, -1] - logits_BTV[1, -1]).max() > 1e-3


def test_the_short_factor_may_stand_first_and_keeps_its_role():
  pairs = [(123456, 78)]
  usual, first = (
    Multiplication(second_digits=2, short_first=x) for x in (False, True)
  )
  row = first.from_integers(pairs).tokens[0]
  assert ''.join('0123456789x=;_'[t] for t in row).startswith('87x654321=')
  assert first.read(row) == (pairs[0], 123456 * 78)
  long, short = slice(0, 6), slice(7, 9)
  was = usual.structure(usual.from_integers(pairs).tokens)
  now = first.structure(row[None])
  assert now.role[0, 3:9].tolist() == was.role[0, long].tolist()
  assert now.role[0, :2].tolist() == was.role[0, short].tolist()
  assert now.anchor[0, :2].tolist() == [1, 1] == was.anchor[0, short].tolist()
  check_gathered(first, first.from_integers(pairs).tokens)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: Multiplication(short_first=True), '--task.short_first needs'),
    (
      lambda: Multiplication(base=1000).from_integers([(1, 1)], 2200),
      'products of 2200 digits in base 1000 overflow 32 bits',
    ),
    (
      lambda: Multiplication(second_digits=1).from_integers([(5, 12)]),
      'the second factor 12 has 2 digits, not --task.second_digits=1',
    ),
  ],
)
def test_bad_input_is_one_line(call, message):
  with pytest.raises(UsageError, match=message):
    call()
