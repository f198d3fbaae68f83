"""The task of comparisons: its pairs, its answers, its large numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.tasks.comparisons import (
  COMPARISONS,
  Comparisons,
  most_held,
)

NAMES = list(COMPARISONS)


def drawn(name, inputs=2, seed=0, partners=None):
  key = jax.random.key(seed)
  partners = key if partners is None else jax.random.key(partners)
  sample = jax.jit(Comparisons(inputs=inputs).sample)
  found = sample(key, jnp.int32(NAMES.index(name)), partners)
  return [np.asarray(part) for part in found]


@pytest.mark.parametrize('name', ['gt', 'lt', 'ge', 'le'])
def test_orders_are_learned_on_all_pairs(name):
  x_BI, target_B, weight_B = drawn(name)
  assert {tuple(x) for x in x_BI} == {
    (a, b) for a in range(1, 10) for b in range(1, 10)
  }
  wanted = [COMPARISONS[name](int(a), int(b)) for a, b in x_BI]
  assert target_B.tolist() == wanted
  np.testing.assert_allclose(weight_B, 1 / 81)


@pytest.mark.parametrize('name', ['eq', 'ne'])
def test_equality_is_learned_on_as_many_equal_pairs_as_others(name):
  x_BI, target_B, weight_B = drawn(name)
  counts = weight_B > 0
  assert counts.sum() == Comparisons().trained_rows(name) == 18
  np.testing.assert_allclose(weight_B[counts], 1 / 18)
  pairs = x_BI[counts]
  equal = pairs[:, 0] == pairs[:, 1]
  assert equal.sum() == 9 and pairs.min() == 1 and pairs.max() == 9
  assert sorted(pairs[equal, 0]) == sorted(pairs[~equal, 0]) == [*range(1, 10)]
  np.testing.assert_array_equal(target_B[counts], equal == (name == 'eq'))


def test_unequal_partners_follow_their_own_key():
  kept = [drawn('eq', seed=seed, partners=7)[0] for seed in (0, 1)]
  np.testing.assert_array_equal(*kept)
  assert (drawn('eq', partners=8)[0] != kept[0]).any()


def test_other_inputs_come_first_and_from_the_same_numbers():
  x_BI, target_B, _ = drawn('gt', inputs=10)
  np.testing.assert_array_equal(x_BI[:, 8:], drawn('gt')[0])
  np.testing.assert_array_equal(target_B, x_BI[:, 8] > x_BI[:, 9])
  rest_BI = x_BI[:, :8]
  assert rest_BI.min() == 1 and rest_BI.max() == 9
  again_BI = drawn('gt', inputs=10, seed=1)[0][:, :8]
  assert (again_BI != rest_BI).mean() > 0.5


@pytest.mark.parametrize('name', NAMES)
def test_tests_are_near_pairs_of_large_numbers_with_exact_answers(name):
  task = Comparisons(inputs=4)
  rows = task.test(name, 18, 3)
  balanced = name in ('eq', 'ne')
  assert len(rows) == 3 * (20 if balanced else 21)
  for row in rows:
    a, b = row.inputs[-2:]
    assert all(10**18 - 5 <= x < 10**19 + 5 for x in row.inputs)
    assert abs(a - b) <= 5 and row.holds == COMPARISONS[name](a, b)
  equal = sum(row.inputs[-2] == row.inputs[-1] for row in rows)
  assert equal == 3 * (10 if balanced else 1)
  swapped = {tuple(reversed(row.inputs[-2:])) for row in rows}
  if not balanced:
    assert swapped == {row.inputs[-2:] for row in rows}
  assert rows == task.test(name, 18, 3)


def test_comparisons_are_tested_on_the_same_numbers():
  task, around = Comparisons(inputs=10), []
  for name in NAMES:
    pairs = [row.inputs[-2:] for row in task.test(name, 3, 4)]
    size = len(pairs) // 4
    around.append([min(map(min, pairs[i * size :][:size])) for i in range(4)])
  assert all(numbers == around[0] for numbers in around)


def test_numbers_end_where_a_type_no_longer_holds_them():
  most = most_held(np.float32)
  assert (most, most_held(np.float64)) == (2**24, 2**53)
  assert np.float32(most + 1) == np.float32(most)
  task = Comparisons(inputs=10)
  tests = [task.test('gt', n, 50, most) for n in (6, 7, 8)]
  largest = [max(max(row.inputs) for row in rows) for rows in tests]
  assert 9.9e6 < largest[0] <= 10**7 + 4
  assert 1.6e7 < largest[1] <= most and largest[2] > 9e8
