"""Sums of several numbers: the sampler against Python integers, structure.

Shape key: B examples, T tokens, K numbers of a row.
"""

import functools
import itertools

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
from extrap.tasks.summation import Summation

FORMATS = tuple(itertools.product(('lsb', 'msb'), (False, True)))
SHAPES = ((2, 12), (10, 5), (10, 2))  # base, numbers of a row
MAX_SIZE, ROWS = 5, 1500

in_every_shape = pytest.mark.parametrize(('base', 'operands'), SHAPES)
in_every_format = pytest.mark.parametrize(('order', 'trace'), FORMATS)


def build(base, operands, form):
  return Summation(base=base, operands=operands, order=form[0], trace=form[1])


@functools.cache
def drawn(base, operands):
  """Sizes, and a batch in each format, of the same random numbers."""

  @jax.jit
  def program(key):
    size_B1 = jax.random.randint(key, (ROWS, 1), 1, MAX_SIZE + 1)
    return size_B1, {
      form: build(base, operands, form).sample(key, size_B1, max_size=MAX_SIZE)
      for form in FORMATS
    }

  return jax.tree.map(np.asarray, program(jax.random.key(base)))


@in_every_shape
@in_every_format
def test_sampled_sums_are_right_and_of_the_sizes_asked_for(
  base, operands, order, trace
):
  task = build(base, operands, (order, trace))
  size_B1, batches = drawn(base, operands)
  batch, counts = batches[order, trace], set()
  for row, tokens_T in enumerate(batch.tokens):
    numbers, sums = task.read(tokens_T)
    assert sums == task.oracle(numbers)
    assert len(sums) == (len(numbers) - 1 if trace else 1)
    assert max(len(task.digits(x)) for x in numbers) == size_B1[row, 0]
    for number in task.split(tokens_T)[0]:  # no leading zeros
      assert (
        number
        == task.digits(task.value(number))[:: 1 if order == 'lsb' else -1]
      )
    counts.add(len(numbers))
    check_asked(task, batch, row)
  assert counts == set(range(2, operands + 1))


@in_every_shape
def test_the_largest_numbers_fit(base, operands):
  nines = (base**MAX_SIZE - 1,) * operands
  for form in FORMATS:
    task = build(base, operands, form)
    (tokens_T,) = np.asarray(task.from_integers([nines]).tokens)
    assert task.read(tokens_T) == (nines, task.oracle(nines))
    structure = task.structure(jnp.asarray(tokens_T)[None])
    for name, largest in task.largest_ids(MAX_SIZE).items():
      assert int(getattr(structure, name).max()) <= largest


def test_a_trace_adds_one_number_at_a_time():
  task = Summation(trace=True)
  (tokens_T,) = np.asarray(task.from_integers([(95, 7, 1000)]).tokens)
  spelt = ''.join('0123456789+=>;_'[token] for token in tokens_T)
  assert spelt.rstrip('_') == '59+7+0001=201>2011;'


def test_roles_are_shared_or_each_number_has_its_own():
  shared, own = (
    Summation(roles=roles, trace=True) for roles in ('shared', 'own')
  )
  tokens_BT = shared.from_integers([(12, 34, 56)]).tokens
  assert shared.structure(tokens_BT).role[0, :17].tolist() == (
    [0, 0, 2, 0, 0, 2, 0, 0, 3, 1, 1, 4, 1, 1, 1, 5, 6]
  )
  assert own.structure(tokens_BT).role[0, :17].tolist() == (
    [0, 0, 4, 1, 1, 4, 2, 2, 5, 3, 3, 6, 3, 3, 3, 7, 8]
  )
  for task in (shared, own):
    assert task.structure(tokens_BT).run[0, :17].tolist() == (
      [0, 0, 5, 1, 1, 5, 2, 2, 5, 3, 3, 5, 4, 4, 4, 5, 5]
    )


@pytest.mark.parametrize('roles', ['shared', 'own'])
def test_structure_is_causal(roles):
  task = Summation(roles=roles, trace=True)
  for tokens_T in task.from_integers([(12, 34, 56), (9, 999, 1)]).tokens:
    check_causal(task, tokens_T)


@pytest.mark.parametrize('roles', ['shared', 'own'])
def test_gathered_keys_are_those_of_the_dense_window(roles):
  """Numbers that share a role and a place are all seen."""
  task = Summation(roles=roles, operands=4, trace=True)
  batch = task.from_integers([(99, 1, 2345, 7), (5, 50, 3)])
  for own_step in (False, True):
    check_gathered(task, batch.tokens, own_step=own_step)


def test_a_step_tells_whether_a_sum_of_equal_digits_goes_on():
  """Attention is a mean: of equal digits alone it cannot tell how many."""
  task = Summation(trace=True)
  goes_on, ends = '011+1+0=111>111;', '01+1+0=11>11;'
  batch = task.from_integers([(110, 1, 0), (10, 1, 0)])
  logits_BTV = check_gathered(task, batch.tokens, own_step=True)
  one, other = goes_on.index('>') + 2, ends.index('>') + 2
  assert abs(logits_BTV[0, one] - logits_BTV[1, other]).max() > 1e-3


def test_the_same_row_is_drawn_into_every_shape():
  for varies in (False, True):
    task = Summation(operands=4, alike=0.5, alike_varies=varies)
    check_same_row(task, [4], 4, 7)
  check_same_row(Summation(operands=4, alike_lengths=0.5), [4], 4, 7)


def test_numbers_may_be_as_long_as_the_one_before():
  """One is as long as asked; the others repeat each other by that chance."""
  size_B1 = jnp.full((600, 1), 8)
  for chance in (0.0, 0.5, 1.0):
    task = Summation(operands=4, fewest=4, alike_lengths=chance)
    tokens_BT = task.sample(jax.random.key(1), size_B1, max_size=8).tokens
    same = []
    for tokens_T in np.asarray(tokens_BT):
      numbers, sums = task.read(tokens_T)
      assert sums == (sum(numbers),)
      lengths = [len(str(number)) for number in numbers]
      assert max(lengths) == 8
      same.append(lengths[0] == lengths[1])
      # All but the one that is given its length are alike.
      assert chance < 1 or len(set(sorted(lengths)[:-1])) == 1
    # Half of pairs hold the one that is given its length, 8 of 1 .. 8.
    like = chance + (1 - chance) / 8
    assert np.mean(same) == pytest.approx(0.5 * like + 0.5 / 8, abs=0.07)


def test_the_chance_of_like_digits_may_vary_by_row():
  """Equal numbers are common then, and so are rows of no like digits."""
  size_B1 = jnp.full((1000, 1), 3)
  shares = []
  for varies in (False, True):
    task = Summation(operands=2, alike=0.5, alike_varies=varies)
    tokens_BT = task.sample(jax.random.key(0), size_B1, max_size=3).tokens
    pairs = [task.read(tokens_T)[0] for tokens_T in np.asarray(tokens_BT)]
    pairs = [(a, b) for a, b in pairs if len(str(a)) == len(str(b)) == 3]
    shares.append(np.mean([a == b for a, b in pairs]))
  # (1/2 + 1/20)^3, and the mean of (u + (1 - u) / 10)^3 over 0 <= u <= 1.
  assert shares == pytest.approx([0.166, 0.278], abs=0.05)
  with pytest.raises(UsageError, match='at most 1'):
    Summation(alike=0.6, alike_varies=True)


def test_digits_may_be_like_those_of_the_number_before():
  """Half of them, and a tenth of the rest; lengths stay as they are."""
  plain = Summation(operands=3, fewest=3)
  alike = Summation(operands=3, fewest=3, alike=0.5)
  size_B1 = jnp.full((400, 1), 6)

  @jax.jit
  def program(key):
    return [
      task.sample(key, size_B1, max_size=6).tokens for task in (plain, alike)
    ]

  shares = []
  before_B, after_B = program(jax.random.key(0))
  for before_T, after_T in zip(
    *map(np.asarray, (before_B, after_B)), strict=True
  ):
    (numbers, sums) = alike.read(after_T)
    assert sums == (sum(numbers),)
    lengths = [
      [len(str(x)) for x in numbers],
      [len(str(x)) for x in plain.read(before_T)[0]],
    ]
    assert lengths[0] == lengths[1]
    low = min(lengths[0])
    shares += [
      str(x)[::-1][i] == str(y)[::-1][i]
      for x, y in itertools.pairwise(numbers)
      for i in range(low - 1)
    ]
  assert 0.5 < np.mean(shares) < 0.6


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: Summation(fewest=5), 'at least --task.fewest=5 numbers, but'),
    (lambda: Summation().from_integers([(1,)]), '1 numbers; a row has 2 to 3'),
    (
      lambda: Summation().from_integers([(1, 123)], max_size=2),
      'a number of 3 digits where 2 fit',
    ),
  ],
)
def test_bad_input_is_one_line(call, message):
  with pytest.raises(UsageError, match=message):
    call()
