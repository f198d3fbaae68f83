"""Tests of curves that are cut off and forecast."""

import jax
import numpy as np
import pytest
from scipy import stats

from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.curves.cuts import (
  Found,
  Item,
  by_family,
  by_network,
  cut,
  guarded,
  scores_of,
)
from extrap.curves.lcpfn import LCPFN
from extrap.curves.least_squares import Settings
from extrap.curves.normalise import error, loss_from, unit
from extrap.errors import UsageError

SIZES = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)


@pytest.fixture(scope='module')
def model() -> LCPFN:
  return LCPFN(SIZES, fresh(SIZES, jax.random.key(0)))


def _item(count: int, task: str = 'a', how=None) -> Item:
  step_T = np.arange(1.0, count + 1)
  return Item(task, step_T, 1 - 0.5 / step_T, step_T, how or unit())


def test_a_share_of_the_points_is_seen_and_later_ones_are_scored():
  cuts = cut([_item(50), _item(30)], 0.4)
  assert [each.seen for each in cuts] == [20, 12]
  assert cuts[0].later_Q[[0, -1]].tolist() == [20, 49]
  assert len(cuts[0].later_Q) == 20 and len(cuts[1].later_Q) == 18


def test_five_points_are_seen_at_least_and_none_is_left_out():
  assert [each.seen for each in cut([_item(20)], 0.1)] == [5]
  assert cut([_item(5)], 0.9) == []


def test_nothing_of_later_points_is_in_a_forecast(model):
  item = _item(30)
  (seen,) = cut([item], 0.5)
  spoilt = item._replace(value_T=np.where(item.step_T > 15, 0.1, item.value_T))
  (other,) = cut([spoilt], 0.5)
  for method in (
    lambda cuts: by_network(model, cuts),
    lambda cuts: by_family('last_value', cuts),
  ):
    np.testing.assert_array_equal(
      method([seen]).median[0], method([other]).median[0]
    )


def test_curves_of_other_lengths_have_their_own_later_points(model):
  cuts = cut([_item(50), _item(12)], 0.5)
  together = by_network(model, cuts)
  for row, each in enumerate(cuts):
    alone = by_network(model, [each])
    assert len(together.median[row]) == len(each.later_Q)
    np.testing.assert_allclose(together.median[row], alone.median[0], atol=1e-4)
    np.testing.assert_allclose(
      together.log_density[row], alone.log_density[0], atol=1e-3
    )


def test_densities_are_of_normalised_values(model):
  item = _item(30)
  falling = item._replace(
    value_T=100 * (1 - item.value_T), normalisation=loss_from(80.0)
  )
  (seen,) = cut([falling], 0.5)
  found = by_network(model, [seen])
  direct = model.predict(
    [seen.item.value_T[:15]],
    100,
    at=seen.item.time_T[seen.later_Q],
    normalisation=falling.normalisation,
  )
  truth_Q = falling.value_T[seen.later_Q]
  wanted = direct.log_density(truth_Q[None])[0]
  wanted -= falling.normalisation.log_jacobian(truth_Q)
  np.testing.assert_allclose(found.log_density[0], wanted, atol=1e-4)


def test_the_last_value_has_the_error_that_others_are_over():
  cuts = cut([_item(40), _item(40, how=error())], 0.3)
  score_N4 = scores_of(cuts, by_family('last_value', cuts))
  np.testing.assert_allclose(score_N4[:, 2], score_N4[:, 3], rtol=1e-3)
  last, later = 1 - 0.5 / 12, 1 - 0.5 / (cuts[0].later_Q + 1)
  wanted = np.sqrt(np.mean((last - later) ** 2))
  np.testing.assert_allclose(score_N4[:, 1], wanted, rtol=1e-3)


def test_a_guard_bounds_how_wrong_a_forecast_can_be():
  found = Found([np.zeros(2)], [np.array([-500.0, 3.0])])
  (log_Q,) = guarded(found).log_density
  np.testing.assert_allclose(
    log_Q, [np.log(0.01), np.log(0.99 * np.exp(3) + 0.01)]
  )


def test_a_fit_of_values_as_they_are_may_see_zeros():
  item = _item(40, how=error())
  at_zero = item._replace(value_T=np.where(item.step_T < 8, 0.0, 0.5))
  (seen,) = cut([at_zero], 0.3)
  with pytest.raises(UsageError, match='has no logarithm'):
    by_family('last_value', [seen])
  found = by_family('last_value', [seen], Settings(log=False))
  np.testing.assert_allclose(found.median[0], 0.5, atol=1e-6)
  # Of 12 points seen, 7 are half a unit off.
  wanted = stats.t.logpdf(0, 11) - np.log(np.sqrt(7 * 0.5**2 / 11))
  np.testing.assert_allclose(found.log_density[0], wanted, atol=1e-4)
