"""Tests of the forecaster that is ready to use, and of its forecasts."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves import LCPFN, lcpfn, mixtures, weights
from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.curves.forecast import Forecast
from extrap.curves.mixtures import Mixture
from extrap.curves.normalise import error, loss_from, percent, unit
from extrap.errors import ExtrapError, UsageError

SIZES = CausalPFNConfig(width=16, layers=1, heads=2, readout=16, components=3)
CURVE = np.linspace(0.2, 0.6, 8)


@pytest.fixture(scope='module')
def model() -> LCPFN:
  made = fresh(SIZES, jax.random.key(0))
  return LCPFN(SIZES, jax.tree.map(lambda leaf: leaf + 0.03, made))


def _direct(model: LCPFN, value_T, horizon: float, at: float) -> Mixture:
  """The forecast of one curve, straight from the network."""
  scale = 100 / max(horizon, 100)
  time_1T = scale * jnp.arange(1.0, len(value_T) + 1)[None]
  asked_1TQ = jnp.full((1, len(value_T), 1), scale * at)
  found = model.model.apply(
    {'params': model.params}, time_1T, jnp.asarray(value_T)[None], asked_1TQ
  )
  return jax.tree.map(lambda leaf: leaf[:, -1], found)


@pytest.mark.parametrize('horizon', [50, 400])
def test_a_forecast_is_the_networks(model, horizon: int):
  found = model.predict([CURVE], horizon)
  wanted = _direct(model, CURVE, horizon, horizon)
  for one, other in zip(found.mixture, wanted, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)
  assert found.step_NQ.tolist() == [[horizon]]


def test_curves_of_other_lengths_do_not_matter_to_each_other(model):
  curves = [CURVE, CURVE[:3], np.linspace(0.1, 0.9, 40)]
  together = model.predict(curves, 60, at=[45, 50, 60]).median()
  assert together.shape == (3, 3)
  for curve, row in zip(curves, together, strict=True):
    alone = model.predict([curve], 60, at=[45, 50, 60]).median()
    np.testing.assert_allclose(alone[0], row, atol=1e-4)


def test_each_curve_may_be_asked_about_other_steps(model):
  curves = [CURVE, CURVE[:3]]
  both = model.predict(curves, 60, at=[[45, 50], [5, 60]])
  assert both.step_NQ.tolist() == [[45, 50], [5, 60]]
  for curve, asked, row in zip(
    curves, both.step_NQ, both.median(), strict=True
  ):
    alone = model.predict([curve], 60, at=asked).median()
    np.testing.assert_allclose(alone[0], row, atol=1e-4)


def test_a_long_curve_is_thinned_and_its_last_point_kept(model):
  long_T = np.linspace(0.1, 0.7, 900)
  found = model.predict([long_T], 1000).median()
  changed = long_T.copy()
  changed[-1] += 0.1
  assert model.predict([changed], 1000).median() != found
  time_T, value_T = lcpfn._thinned(np.arange(1.0, 901), long_T)
  assert len(time_T) == 100 and time_T[0] == 1 and time_T[-1] == 900
  np.testing.assert_allclose(value_T, np.interp(time_T, [1, 900], [0.1, 0.7]))


def test_steps_may_lie_anywhere(model):
  steps = [np.array([1.0, 2, 5, 7, 20, 21, 30, 44])]
  usual = model.predict([CURVE], 60).median()
  assert model.predict([CURVE], 60, steps=steps).median() != usual


def test_a_metric_is_forecast_in_its_own_units(model):
  plain = model.predict([CURVE], 50)
  hundred = model.predict([100 * CURVE], 50, normalisation=percent())
  falling = model.predict([1 - CURVE], 50, normalisation=error())
  np.testing.assert_allclose(hundred.median(), 100 * plain.median(), rtol=1e-4)
  np.testing.assert_allclose(falling.median(), 1 - plain.median(), atol=1e-4)
  low, high = plain.interval(0.8)
  from_above, from_below = falling.interval(0.8)
  np.testing.assert_allclose(from_above, 1 - high, atol=1e-4)
  np.testing.assert_allclose(from_below, 1 - low, atol=1e-4)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'curves': []}, 'no curve'),
    ({'curves': [[]]}, 'curve 1 is not a row'),
    ({'curves': [[0.1, np.nan]]}, 'curve 1 has a number that is not finite'),
    ({'curves': [CURVE, CURVE], 'steps': [[1]]}, '2 curves, but steps of 1'),
    ({'curves': [[0.1, 0.2]], 'steps': [[1]]}, '2 values at 1 steps'),
    ({'curves': [[0.1, 0.2]], 'steps': [[2, 2]]}, 'positive and increasing'),
    ({'curves': [[0.1, 0.2]], 'steps': [[0, 2]]}, 'positive and increasing'),
    ({'curves': [CURVE], 'horizon': 8}, 'seen up to step 8'),
    ({'curves': [CURVE], 'at': [60]}, 'beyond the horizon'),
    ({'curves': [CURVE], 'at': [np.inf], 'horizon': np.inf}, 'beyond the hor'),
    ({'curves': [0.1, 0.2]}, 'curve 1 is not a row'),
    ({'curves': [CURVE], 'at': []}, 'not that of a row'),
    ({'curves': [CURVE], 'at': [[9], [9]]}, 'a row for each of 1 curves'),
    ({'curves': [CURVE], 'normalisation': [unit()] * 2}, '2 normalisations'),
    ({'curves': [[55, 60]]}, 'give a normalisation'),
    ({'curves': [[-1, 2]], 'normalisation': loss_from(3)}, 'curve 1, point 1'),
  ],
)
def test_what_cannot_be_forecast_is_refused(model, arguments, message: str):
  with pytest.raises(UsageError, match=message):
    model.predict(**{'horizon': 50, **arguments})


def test_a_network_comes_back_from_its_file(model, tmp_path: Path):
  path = weights.save(tmp_path / 'net.npz', SIZES, model.params)
  loaded = LCPFN.load(path)
  assert loaded.model.config == SIZES
  for one, other in zip(
    jax.tree.leaves(loaded.params), jax.tree.leaves(model.params), strict=True
  ):
    np.testing.assert_array_equal(one, other)


def test_a_file_that_is_no_network_is_one_clear_line(tmp_path: Path):
  for name, content in (('none', None), ('text', b'hello'), ('empty', b'')):
    path = tmp_path / name
    if content is not None:
      path.write_bytes(content)
    with pytest.raises(ExtrapError, match='holds no network'):
      LCPFN.load(path)
  config = np.array('{"width": 8, "heads": 1}')
  for arrays in ({'a': np.ones(3)}, {'config': config, 'a': np.ones(3)}):
    np.savez(tmp_path / 'other.npz', **arrays)
    with pytest.raises(ExtrapError, match='holds no network'):
      LCPFN.load(tmp_path / 'other.npz')


MIXTURE = Mixture(
  jnp.log(jnp.array([[[0.3, 0.7]]])),
  jnp.array([[[0.4, 0.6]]]),
  jnp.array([[[0.05, 0.1]]]),
)


@pytest.mark.parametrize('metric', [unit(), percent(), error(), loss_from(3.0)])
def test_a_density_integrates_to_its_quantiles(metric):
  found = Forecast(np.array([[9.0]]), MIXTURE, [metric])
  low, high = (end[0, 0] for end in found.interval(0.9))
  grid = np.linspace(low, high, 4001)
  density = [
    np.exp(found.log_density(np.array([[y]])))[0, 0] for y in grid[::40]
  ]
  assert np.trapezoid(density, grid[::40]) == pytest.approx(0.9, abs=2e-3)
  assert low < found.median()[0, 0] < high


def test_the_mean_is_that_of_samples():
  for metric in (percent(), loss_from(3.0)):
    found = Forecast(np.array([[9.0]]), MIXTURE, [metric])
    drawn = found.sample(jax.random.key(0), 4000)
    assert drawn.shape == (4000, 1, 1)
    assert found.mean()[0, 0] == pytest.approx(drawn.mean(), rel=0.02)


def test_better_is_more_or_less_by_the_metric():
  above = float(mixtures.probability_above(MIXTURE, jnp.array([[0.55]]))[0, 0])
  rising = Forecast(np.array([[9.0]]), MIXTURE, [unit()])
  falling = Forecast(np.array([[9.0]]), MIXTURE, [error()])
  assert rising.probability_better(0.55)[0, 0] == pytest.approx(above)
  assert falling.probability_better(0.45)[0, 0] == pytest.approx(
    above, rel=1e-4
  )


def test_noise_beyond_the_bounds_counts_as_the_bound():
  wide = Mixture(jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1)), jnp.ones((1, 1, 1)))
  found = Forecast(np.array([[9.0]]), wide, [unit()])
  assert found.quantile(0.9)[0, 0] == 1
  assert found.mean()[0, 0] < 1
  assert found.probability_better(1.0)[0, 0] == 0
  assert found.probability_better(0.99)[0, 0] > 0.4
