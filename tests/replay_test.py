"""Tests of stopping rules that are replayed on whole runs."""

import jax
import numpy as np
import pytest

from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.curves.lcpfn import LCPFN
from extrap.curves.replay import (
  RULES,
  Pool,
  best_by_epoch,
  length_of,
  random_orders,
  regrets,
  search,
  speed_ups,
  upper_bounds,
)
from extrap.curves.stopping import COARSE, Forecasting, Patience

SIZES = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)


@pytest.fixture(scope='module')
def model() -> LCPFN:
  made = fresh(SIZES, jax.random.key(0))
  return LCPFN(SIZES, jax.tree.map(lambda leaf: leaf + 0.02, made))


def _pool(*rows: list[float], upper: list[list[float]] | None = None) -> Pool:
  value_NT = np.array(rows, float)
  upper_NT = np.ones_like(value_NT) if upper is None else np.array(upper)
  return Pool(value_NT, upper_NT)


GOOD, BAD = [0.2, 0.4, 0.6, 0.8, 0.9], [0.1, 0.2, 0.2, 0.1, 0.1]


def test_a_bound_is_the_largest_later_quantile(model):
  value_NT = np.stack([np.linspace(0.2, 0.7, 8), np.linspace(0.3, 0.4, 8)])
  upper_NT = upper_bounds(model, value_NT, 0.05)
  assert upper_NT.shape == (2, 8) and (upper_NT[:, -1] == 1).all()
  for count in (1, 4, 7):
    later = np.arange(count + 1, 9)
    found = model.predict(value_NT[:, :count], 8, at=later)
    wanted = found.quantile(0.95).max(axis=1)
    np.testing.assert_allclose(
      np.clip(upper_NT[:, count - 1], 0, 1), wanted, atol=1e-3
    )


def test_a_run_is_stopped_as_the_rules_for_training_loops_do(model):
  # The network is next to untrained: its bound follows the running level.
  values = np.concatenate(
    [np.linspace(0.6, 0.9, 6), np.linspace(0.8, 0.05, 14)]
  )
  pool = Pool(values[None], upper_bounds(model, values[None], 0.05))
  lengths = set()
  for best in (0.2, 0.95, 1.0):
    for name, checks in (('fine', ()), ('coarse', COARSE)):
      rule = Forecasting(model=model, horizon=20, checks=checks)
      wanted = next((n for n in range(1, 21) if rule(values[:n], best)), 20)
      assert length_of(name, pool, 0, best) == wanted
      lengths.add(wanted)
  assert any(2 < length < 20 for length in lengths)
  bumpy = np.array([0.1, 0.5, 0.4, 0.5, 0.3, 0.2, 0.6, 0.1, 0.1, 0.1])
  for steps in (0, 1, 5):
    rule = Patience(steps=steps)
    wanted = next((n for n in range(1, 11) if rule(bumpy[:n], None)), 10)
    assert length_of(f'patience {steps}', _pool(bumpy), 0, 0.9) == wanted


def test_no_stopping_runs_to_the_end_or_to_where_a_run_diverges():
  pool = _pool(GOOD, [0.3, 0.4, np.nan, np.nan, np.nan])
  assert [length_of('none', pool, row, 0.9) for row in (0, 1)] == [5, 2]


def test_the_best_so_far_goes_on_from_run_to_run():
  pool = _pool(BAD, GOOD)
  found = best_by_epoch('none', pool, np.array([0, 1]), 8)
  np.testing.assert_allclose(found, [0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.4, 0.6])
  found = best_by_epoch('patience 0', pool, np.array([0, 1]), 8)
  # The bad run ends after its third epoch, which is no better.
  np.testing.assert_allclose(found, [0.1, 0.2, 0.2, 0.2, 0.4, 0.6, 0.8, 0.9])


def test_a_pool_that_ends_early_keeps_its_best_and_is_told():
  found = best_by_epoch('none', _pool(GOOD), np.array([0]), 12)
  np.testing.assert_allclose(found, GOOD)
  regret, ended = regrets('none', _pool(GOOD), [np.array([0])], 12)
  assert ended and len(regret) == 12 and not regret[4:].any()
  assert not regrets('none', _pool(GOOD), [np.array([0])], 5)[1]


def test_a_rule_sees_nothing_of_later_epochs():
  upper = [[1.0, 0.5, 1.0, 1.0, 1.0]]
  one = _pool(GOOD, upper=upper)
  other = _pool([*GOOD[:2], 0.95, 0.96, 0.97], upper=upper)
  assert length_of('fine', one, 0, 0.7) == length_of('fine', other, 0, 0.7) == 2
  assert length_of('fine', one, 0, 0.45) == 5


def test_speed_is_that_of_coming_to_the_same_regret():
  # Perfect foresight: bad runs are given up after two epochs.
  low = [[1.0, 0.0, 0.0, 0.0, 1.0]]
  rows, upper = [BAD] * 9 + [GOOD], low * 9 + [[1.0] * 5]
  pool = _pool(*rows, upper=upper)
  found = speed_ups(pool, random_orders(10, 30, 0), 10)
  assert found['none'].regret == pytest.approx(0, abs=1e-9)
  same, as_good, regret, ended = found['fine']
  assert regret == pytest.approx(0, abs=1e-9)
  assert 1.5 < same < 2.6 and as_good == pytest.approx(same)
  assert ended and not found['none'].ended
  assert set(found) == set(RULES)


def test_no_stopping_is_as_fast_as_itself_though_it_is_done_early():
  peaks = [[0.9, 0.1, 0.1, 0.1, 0.1], [0.5, 0.1, 0.1, 0.1, 0.1]]
  found = speed_ups(_pool(*peaks), random_orders(2, 5, 0), 2)
  for rule in ('none', 'patience 50'):
    assert found[rule][:2] == (1, 1)


def test_regret_is_a_mean_over_orders():
  orders = [np.array([0, 1]), np.array([1, 0])]
  found, _ = regrets('none', _pool(BAD, GOOD), orders, 10)
  assert found[0] == pytest.approx(0.9 - 0.15)
  assert found[-1] == pytest.approx(0)


def test_a_search_through_a_whole_pool_tells_what_it_spends_and_misses():
  # Stopped after its second epoch, the better run is never seen to be that.
  late = [0.1, 0.1, 0.3, 0.9, 0.9]
  pool = _pool(BAD, late, [0.5, np.nan, np.nan, np.nan, np.nan])
  order_N = np.array([2, 0, 1])
  assert search('none', pool, order_N) == (1.0, 0.0)
  found = search('patience 0', pool, order_N)
  assert found.spent == pytest.approx((1 + 3 + 2) / 11)
  assert found.regret == pytest.approx(0.9 - 0.5)


def test_what_fails_at_once_has_made_no_progress(model):
  value_NT = np.array([[np.nan] * 5, GOOD])
  pool = Pool.of(model, value_NT, 0.05)
  assert pool.value_NT[0, 0] == 0 and np.isnan(value_NT[0, 0])
  assert length_of('none', pool, 0, 0.0) == 1
  np.testing.assert_array_equal(
    pool.upper_NT, upper_bounds(model, pool.value_NT, 0.05)
  )
