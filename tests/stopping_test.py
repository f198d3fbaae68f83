"""Tests of the rules that stop training runs."""

import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves.forecast import Forecast
from extrap.curves.mixtures import Mixture
from extrap.curves.normalise import Normalisation, error, unit
from extrap.curves.stopping import COARSE, Forecasting, Patience


class Rising:
  """Forecasts one more step of .1 up to a limit, with a deviation of .01."""

  def __init__(self, limit: float) -> None:
    self.limit, self.asked = limit, []

  def predict(
    self,
    curves: list[np.ndarray],
    horizon: float,
    at: np.ndarray,
    steps: list[np.ndarray],
    normalisation: Normalisation,
  ) -> Forecast:
    assert len(steps[0]) == len(curves[0])
    self.asked.append((len(curves[0]), at.tolist(), horizon))
    last = float(normalisation.forward(curves[0][-1]))
    later = np.minimum(last + 0.1 * np.arange(1, len(at) + 1), self.limit)
    mean = jnp.asarray(later, jnp.float32)[None, :, None]
    mixture = Mixture(jnp.zeros_like(mean), mean, jnp.full_like(mean, 0.01))
    return Forecast(at[None], mixture, [normalisation])


def _rule(limit: float, **changes) -> Forecasting:
  return Forecasting(model=Rising(limit), horizon=10, **changes)


def test_a_run_that_will_not_reach_the_best_is_stopped():
  rule = _rule(limit=0.6)
  assert rule([0.2, 0.3, 0.4], best=0.7)
  assert not rule([0.2, 0.3, 0.4], best=0.55)
  assert rule.model.asked[0] == (3, [4, 5, 6, 7, 8, 9, 10], 10)


def test_one_later_step_is_enough_to_go_on():
  # Of ten steps only the last comes to .95.
  assert not _rule(limit=0.95)([0.2, 0.25], best=0.94)


def test_its_own_best_counts_as_well():
  rule = _rule(limit=0.6)
  assert rule([0.2, 0.9, 0.4], best=None)
  assert not rule([0.2, 0.3, 0.4], best=None)


def test_less_is_better_where_the_metric_is_minimised():
  rule = _rule(limit=0.6, normalisation=error())
  assert rule([0.8, 0.7, 0.6], best=0.3)
  assert not rule([0.8, 0.7, 0.6], best=0.45)


def test_the_chance_is_the_one_that_is_asked_for():
  assert not _rule(limit=0.6, chance=0.01)([0.2, 0.3], best=0.62)
  assert _rule(limit=0.6, chance=0.05)([0.2, 0.3], best=0.62)


@pytest.mark.parametrize('count', range(1, 11))
def test_checks_are_made_when_they_are_due(count: int):
  rule = _rule(limit=0.1, checks=COARSE)
  asked = rule(np.linspace(0.5, 0.4, count), best=0.9)
  assert asked == (count in (2, 4, 8))
  every = _rule(limit=0.1)
  assert every(np.linspace(0.5, 0.4, count), best=0.9) == (1 < count < 10)


def test_patience_ends_with_the_steps_since_the_best():
  rising = [0.1, 0.5, 0.4, 0.45, 0.3]
  assert [Patience(steps=2)(rising[:n], 0.9) for n in range(1, 6)] == [
    False,
    False,
    False,
    False,
    True,
  ]
  assert Patience(steps=0)(rising[:3], None)
  assert not Patience(steps=0)(rising[:2], None)
  assert not Patience(steps=0, minimise=True)([0.5, 0.4], None)
  assert Patience(steps=0, minimise=True)([0.4, 0.5], None)


def test_a_run_that_has_failed_is_stopped():
  for rule in (_rule(limit=0.9), Patience(steps=5)):
    assert rule([0.2, np.nan], best=0.5)
    assert not rule([], best=0.5)


def test_a_nan_in_between_is_no_best():
  rising = [0.1, np.nan, 0.2, 0.3, 0.4]
  assert not Patience(steps=1)(rising, None)
  rule = _rule(limit=0.9)
  assert not rule(rising, best=np.nan)
  assert rule.model.asked[0][0] == 4


def test_a_perfect_run_is_stopped():
  assert _rule(limit=1.2)([0.9, 1.0], best=None)


def test_the_default_metric_rises_from_0_to_1():
  assert _rule(limit=0.6).normalisation == unit()
