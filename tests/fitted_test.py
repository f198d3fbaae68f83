"""Forecasts by fits of a family, as those of the network."""

import numpy as np
import pytest
from scipy import stats

from extrap.curves.fitted import FittedForecast
from extrap.curves.normalise import error, loss_from, score_in, unit

STEP_T = np.arange(1.0, 13)
LATER_NQ = np.array([[20.0, 30.0]])


def _forecast(value_T: np.ndarray, how) -> FittedForecast:
  """By the last value, whose distribution is known."""
  pairs = [(STEP_T, value_T)]
  return FittedForecast.predict('last_value', pairs, LATER_NQ, [how])


def _two_values(low: float, last: float) -> np.ndarray:
  """Half of the points are the last value, the others a lower one."""
  return np.where(STEP_T <= 6, low, last)


def test_quantiles_are_those_of_students_distribution():
  found = _forecast(_two_values(-1.0, 0.5), score_in(-1, 1))
  scale = np.sqrt(6 * 1.5**2 / 11)  # Of twelve points six are 1.5 off.
  low_NQ, high_NQ = found.interval(0.8)
  half = scale * stats.t.ppf(0.9, 11)
  np.testing.assert_allclose(found.median(), 0.5, atol=1e-4)
  np.testing.assert_allclose(low_NQ, 0.5 - half, rtol=1e-3)
  np.testing.assert_allclose(high_NQ, 0.5 + half, rtol=1e-3)
  np.testing.assert_allclose(
    found.probability_better(1.0), stats.t.sf(0.5 / scale, 11), atol=1e-3
  )


def test_positive_values_are_fitted_in_logarithms():
  found = _forecast(_two_values(1.0, np.e), loss_from(4.0))
  scale = np.sqrt(6 / 11)
  wanted = np.exp(1 + scale * stats.t.ppf(0.9, 11))
  np.testing.assert_allclose(found.quantile(0.9), wanted, rtol=1e-3)
  # Less is better.
  better_NQ = found.probability_better(1.0)
  np.testing.assert_allclose(better_NQ, stats.t.cdf(-1 / scale, 11), atol=1e-3)
  assert not found.probability_better(0.0).any()


def test_nothing_is_beyond_the_bounds_of_a_metric():
  found = _forecast(_two_values(0.0, 0.9), unit())
  assert found.quantile(0.99).max() == 1 and found.quantile(0.01).min() == 0
  assert not found.probability_better(1.0).any()
  assert found.probability_better(0.95).min() > 0.3
  falling = _forecast(_two_values(0.0, 0.9), error())
  assert not falling.probability_better(0.0).any()


@pytest.mark.parametrize('row', [0, 1])
def test_a_row_is_the_forecast_of_its_curve(row):
  values = _two_values(-1.0, 0.5), _two_values(0.0, 0.9)
  pairs = [(STEP_T, value_T) for value_T in values]
  step_NQ = np.repeat(LATER_NQ, 2, axis=0)
  hows = [score_in(-1, 1), unit()]
  both = FittedForecast.predict('last_value', pairs, step_NQ, hows)
  alone = both.of_row(row)
  np.testing.assert_allclose(
    alone.quantile(0.8), both.quantile(0.8)[row : row + 1], rtol=1e-5
  )
  assert alone.normalisation_N == [hows[row]]
