"""Tests of MCMC on curves that are cut off."""

import jax
import numpy as np
import pytest

from extrap.curves import chains, ensemble
from extrap.curves.cuts import SCORED, Item, cut
from extrap.curves.normalise import error, unit
from extrap.curves.prior import PUBLISHED


def _item(count, time_T=None, how=None):
  step_T, how = np.arange(1.0, count + 1), how or unit()
  times_T = step_T if time_T is None else time_T
  return Item('a', step_T, how.inverse(0.8 - 0.5 / step_T), times_T, how)


def test_what_is_not_seen_is_not_shown():
  (seen,) = cut([_item(30)], 0.5)
  value_T, time_T, count, later_C, truth_C = chains._chained(seen)
  assert count == 15 and len(value_T) == len(time_T) == PUBLISHED.length
  np.testing.assert_allclose(value_T[:15], seen.item.value_T[:15], rtol=1e-6)
  assert not value_T[15:].any()
  # At all of the prior's times curves stay within bounds.
  np.testing.assert_allclose(time_T, PUBLISHED.time_T, rtol=1e-6)
  assert later_C[:15].tolist() == list(range(16, 31))
  assert len(later_C) == len(truth_C) == SCORED


def test_values_are_normalised_and_times_at_least_one():
  item = _item(40, np.arange(1, 41) * 100 / 137, error())
  value_T, time_T, _, later_C, _ = chains._chained(cut([item], 0.5)[0])
  np.testing.assert_allclose(value_T[:20], 1 - item.value_T[:20], rtol=1e-6)
  np.testing.assert_allclose(time_T[:20], np.arange(1, 21), rtol=1e-5)
  np.testing.assert_allclose(later_C, np.arange(21, 41), rtol=1e-5)


def test_of_many_points_the_first_and_the_last_that_are_seen_are_kept():
  _, time_T, count, later_C, _ = chains._chained(cut([_item(400)], 0.9)[0])
  assert count == 99 and time_T[[0, 98, 99]].tolist() == [1, 360, 400]
  assert (np.diff(time_T[:99]) > 0).all() and later_C[-1] == 400


def test_walkers_forecast_each_curve_by_itself(monkeypatch):
  monkeypatch.setattr(chains, 'BATCH', 2)
  settings = ensemble.Settings(150, 40, 100, thin=10)
  monkeypatch.setattr(chains, 'SETTINGS', settings)
  with jax.default_matmul_precision('highest'):
    items = [_item(50), _item(30, how=error()), _item(50)]
    cuts = cut(items, 0.5)
    found = chains.by_chains(cuts, 0)
  assert [len(each) for each in found.median] == [20, 15, 20]
  for each, median_Q, log_Q in zip(cuts, *found, strict=True):
    truth_Q = each.item.normalisation.forward(each.item.value_T[each.later_Q])
    last = each.item.normalisation.forward(each.item.value_T[each.seen - 1])
    assert np.isfinite(log_Q).all()
    assert abs(median_Q - truth_Q).max() < 0.1
    assert median_Q.max() > last and log_Q.mean() > 0
  # The last curve is the first one, with random numbers of its own.
  assert found.median[0].tolist() != found.median[2].tolist()
  assert found.median[0] == pytest.approx(found.median[2], abs=0.05)
