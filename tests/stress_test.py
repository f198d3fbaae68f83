"""Stress suites: every row is a valid problem of the kind it is named for."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.evaluation.borrows import BORROWS
from extrap.evaluation.ones import ONES
from extrap.evaluation.orders import ORDERS, order_sampler, order_suites
from extrap.evaluation.patterns import PATTERNS
from extrap.evaluation.products import LONG_PRODUCTS, PRODUCTS
from extrap.evaluation.stress import stress_sampler, stress_suites
from extrap.evaluation.sums import SUMS, sum_sampler
from extrap.tasks.bitwise_or import BitwiseOr
from extrap.tasks.copying import Copying
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums
from extrap.tasks.product_trace import ProductTrace
from extrap.tasks.sorting import Sorting
from extrap.tasks.subtraction import Subtraction
from extrap.tasks.summation import Summation

LENGTHS = (1, 2, 3, 7)
MAX_SIZE, DRAWS = 9, 3


def drawn(task, kind, lengths=LENGTHS, sampler_of=stress_sampler):
  """(length, instance) of every row; each is checked against the oracle."""
  suite = stress_suites(
    'stress', {'one': kind}, task, lengths, DRAWS, sampler=sampler_of
  )['one']
  sampler = suite.sampler
  sample = jax.jit(lambda key, size_1S: sampler(key, size_1S, MAX_SIZE))
  rows = []
  for length, cell in zip(lengths, suite.cells, strict=True):
    for seed in range(suite.rows):
      batch = sample(jax.random.key(seed), jnp.array([cell]))
      instance, answer = task.read(np.asarray(batch.tokens[0]))
      assert answer == task.oracle(instance)
      rows.append((length, instance))
  return rows


@pytest.mark.parametrize('base', [2, 10])
@pytest.mark.parametrize('kind', BORROWS)
def test_differences_are_valid_and_of_their_kind(kind, base):
  task = Subtraction(base=base)
  for length, (a, b) in drawn(task, BORROWS[kind]):
    assert a >= b
    assert len(task.digits(a)) == length
    if kind == 'powers':
      assert (a, b) == (base ** (length - 1), 1)
    if kind == 'equal':
      assert a == b
    if kind == 'chain' and length > 1:
      # The borrow reaches the leading digit: only nines and ones are left.
      assert set(task.digits(a - b)) == {base - 1}
      assert len(task.digits(a - b)) == length - 1
    if kind == 'alternating' and length > 1:
      assert task.digits(a)[::-1] == [(1 + i) % 2 for i in range(length)]
      assert a + b == sum(base**i for i in range(length))
    if kind == 'short':
      assert b < base


@pytest.mark.parametrize('second_digits', [0, 1, 2])
@pytest.mark.parametrize('kind', PRODUCTS)
def test_products_are_valid_and_of_their_kind(kind, second_digits):
  task = Multiplication(second_digits=second_digits)
  for length, (a, b) in drawn(task, PRODUCTS[kind]):
    second = second_digits or length
    assert [len(str(a)), len(str(b))] == [length, second]
    if kind in ('nines', 'by nines'):
      assert b == 10**second - 1
    if kind == 'nines':
      assert a == 10**length - 1
    if kind == 'powers':
      assert (a, b) == (10 ** (length - 1), 10 ** (second - 1))
    if kind == 'ones':
      assert set(str(a) + str(b)) == {'1'}
    if kind == 'palindromes':
      assert str(a) == str(a)[::-1]
      assert str(b) == str(b)[::-1]


@pytest.mark.parametrize('kind', LONG_PRODUCTS)
def test_traces_of_products_are_valid_and_of_their_kind(kind):
  rows = drawn(ProductTrace(), LONG_PRODUCTS[kind], lengths=(1, 2, 9))
  for length, (a, b) in rows:
    assert [len(str(a)), len(str(b))] == [length, length]
    if kind == 'nines':
      assert a == b == 10**length - 1
  if kind.startswith('zeros'):
    sparse, full = (
      ''.join(str(pair[k]) for _, pair in rows)
      for k in ((0, 1) if kind == 'zeros in a' else (1, 0))
    )
    assert sparse.count('0') > len(sparse) / 2
    assert '0' not in full


@pytest.mark.parametrize(
  'task', [Summation(operands=4), Summation(operands=2, trace=True)]
)
@pytest.mark.parametrize('kind', SUMS)
def test_sums_are_valid_and_of_their_kind(kind, task):
  rows = drawn(task, SUMS[kind], sampler_of=sum_sampler)
  for length, numbers in rows:
    assert len(numbers) == task.operands
    sizes = [len(str(number)) for number in numbers]
    nines = 10**length - 1
    if kind in ('nines', 'same', 'powers'):
      assert set(sizes) == {length} and len(set(numbers)) == 1
    if kind == 'nines':
      assert numbers[0] == nines
    if kind == 'powers':
      assert numbers[0] == 10 ** (length - 1)
    if kind == 'one more':
      assert numbers[:2] == (nines, 1) and not any(numbers[2:])
    if kind == 'chain':
      assert sum(numbers) == nines + (task.operands > 2)
    if kind == 'stairs':
      assert sizes == sorted(sizes, reverse=True)
      assert (sizes[0], sizes[-1]) == (length, 1)
  assert (len(set(rows)) > len(LENGTHS)) == SUMS[kind].random


def test_a_second_factor_that_does_not_fit_is_refused():
  sampler = stress_sampler(Multiplication(second_digits=2), PRODUCTS['ones'])
  with pytest.raises(UsageError, match='of 2 digits where 1 fit'):
    sampler(jax.random.key(0), jnp.array([[1]]), 1)


@pytest.mark.parametrize(
  'task', [Copying(backwards=True), Parity(trace=True), PrefixSums()]
)
@pytest.mark.parametrize('kind', PATTERNS)
def test_strings_are_valid_and_of_their_kind(kind, task):
  for length, string in drawn(task, PATTERNS[kind]):
    assert len(string) == length
    if kind in ('zeros', 'largest'):
      assert set(string) == {0 if kind == 'zeros' else task.base - 1}
    if kind == 'single':
      assert sum(string) == 1
    if kind.startswith('period'):
      period = int(kind[-1])
      assert string[period:] == string[:-period] or length <= period
    if kind == 'edges':
      assert string[0] == string[-1] == 1
      assert sum(string) == min(length, 2)
    if kind in ('first', 'last'):
      assert string.index(1) == (0 if kind == 'first' else length - 1)
      assert sum(string) == 1
    if kind == 'runs':
      assert sum(a != b for a, b in itertools.pairwise(string)) <= 1


def test_kinds_that_are_not_random_are_drawn_once():
  suites = stress_suites('pattern', PATTERNS, Parity(), (3, 5), rows=8)
  assert suites['zeros'].rows == 1
  assert suites['single'].rows == 8
  assert suites['zeros'].cells == ((3,), (5,))
  assert suites['single'].name == 'pattern:single'


@pytest.mark.parametrize('kind', ONES)
def test_strings_of_bits_are_valid_and_of_their_kind(kind):
  task, seconds = BitwiseOr(), set()
  for length, (a, b) in drawn(task, ONES[kind]):
    if kind == 'all ones':
      assert a == b == 2**length - 1
      continue
    assert sorted((a, b)) == [0, 2 ** (length - 1) if 'last' in kind else 1]
    seconds.add((length, b > 0))
  if kind in ('first', 'last', 'first, 1 x n'):
    assert {second for _, second in seconds} == {True, False}
  if kind == 'last, 1 x n':
    assert seconds >= {(length, True) for length in LENGTHS if length > 1}


@pytest.mark.parametrize('kind', ORDERS)
def test_lists_are_valid_and_of_their_kind(kind):
  task, shared = Sorting(tags=11), set()
  for length, items in drawn(task, ORDERS[kind], sampler_of=order_sampler):
    numbers = [task.digits(number)[::-1] for _, number in items]
    assert [len(digits) for digits in numbers] == [length] * length
    heads = {tuple(digits[:-1]) for digits in numbers}
    if kind in ('last digit', 'equal'):
      assert len(heads) == 1
    if kind == 'last digit' and length == 7:
      assert len({digits[-1] for digits in numbers}) > 1
    if kind == 'equal':
      assert len(set(map(tuple, numbers))) == 1
    if length == 7:
      same = [len(set(column)) == 1 for column in zip(*numbers, strict=True)]
      shared.add((*same, False).index(False))
  if kind == 'shared prefix':
    assert min(shared) >= 1 and len(shared) > 1
  if kind == 'one length':
    assert shared == {0}


def test_order_suites_are_lists_of_n_numbers_of_n_digits():
  suites = order_suites(Sorting(), (2, 15), rows=5)
  assert set(suites) == set(ORDERS)
  assert suites['equal'].cells == ((2, 2), (15, 15))
  assert suites['equal'].name == 'order:equal'
