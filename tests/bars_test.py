"""Tests of the bar distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves.bars import Bars

BARS = Bars(np.array([-0.5, 0.1, 0.2, 0.45, 0.9, 1.3], np.float32))
LOGITS = jnp.array([0.3, -1.0, 0.8, 0.1, -0.4])
GRID = np.linspace(-6, 6, 240_001)
STEP = GRID[1] - GRID[0]


def _density(values: np.ndarray) -> np.ndarray:
  logits = jnp.broadcast_to(LOGITS, (*values.shape, len(LOGITS)))
  return np.exp(BARS.log_density(logits, jnp.asarray(values, jnp.float32)))


def test_the_density_integrates_to_one():
  assert _density(GRID).sum() * STEP == pytest.approx(1, abs=1e-3)


def test_bins_have_their_mass_and_width():
  mass_K = np.asarray(jax.nn.softmax(LOGITS))
  assert _density(np.array([0.15])) == pytest.approx(mass_K[1] / 0.1, rel=1e-5)
  assert _density(np.array([0.3])) == pytest.approx(mass_K[2] / 0.25, rel=1e-5)


def test_half_of_an_outermost_bin_lies_within_it():
  mass_K = np.asarray(jax.nn.softmax(LOGITS))
  inside = _density(GRID)[(GRID >= -0.5) & (GRID < 0.1)].sum() * STEP
  assert inside == pytest.approx(mass_K[0] / 2, rel=1e-3)
  inside = _density(GRID)[(GRID > 0.9) & (GRID <= 1.3)].sum() * STEP
  assert inside == pytest.approx(mass_K[-1] / 2, rel=1e-3)


@pytest.mark.parametrize('value', [-1.0, -0.2, 0.1, 0.15, 0.44, 0.8, 1.0, 2.0])
def test_the_cdf_integrates_the_density(value: float):
  below = _density(GRID)[value >= GRID].sum() * STEP
  assert float(BARS.cdf(LOGITS, jnp.float32(value))) == pytest.approx(
    below, abs=1e-3
  )


@pytest.mark.parametrize('p', [0.001, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999])
def test_a_quantile_undoes_the_cdf(p: float):
  value = BARS.quantile(LOGITS, p)
  assert float(BARS.cdf(LOGITS, value)) == pytest.approx(p, abs=1e-5)


def test_the_mean_is_that_of_the_density():
  wanted = (GRID * _density(GRID)).sum() * STEP
  assert float(BARS.mean(LOGITS)) == pytest.approx(wanted, abs=1e-3)


def test_bins_of_equal_mass_hold_equally_many_values():
  values = np.random.default_rng(0).normal(size=10_000)
  bars = Bars.of_equal_mass(values, 20)
  counts, _ = np.histogram(values, bars.edge_K1)
  assert counts.min() >= 495 and counts.max() <= 505


def test_values_that_repeat_make_no_empty_bin():
  bars = Bars.of_equal_mass(np.repeat([0.1, 0.2, 0.5, 0.7], 50), 3)
  assert (np.diff(bars.edge_K1) > 0).all()


def test_edges_that_do_not_rise_are_refused():
  with pytest.raises(ValueError, match='rise'):
    Bars(np.array([0.0, 1.0, 1.0]))


def test_gradients_are_finite_in_every_bin():
  values = jnp.array([-3.0, 0.05, 0.1, 0.3, 1.0, 5.0])
  logits = jnp.broadcast_to(LOGITS, (len(values), len(LOGITS)))
  slope = jax.grad(lambda logits: BARS.log_density(logits, values).sum())(
    logits
  )
  assert jnp.isfinite(slope).all() and (jnp.abs(slope).sum(-1) > 0).all()
