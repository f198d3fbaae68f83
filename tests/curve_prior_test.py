"""Tests of the prior over learning curves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves import prior
from extrap.curves.prior import NAMES, PUBLISHED, Prior

KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def candidates() -> tuple[np.ndarray, np.ndarray]:
  """Draws [M, P], and which are kept, by the curve at all times."""
  theta_MP = prior.draw(KEY, 40_000)
  kept_M = prior.within(prior.curve(theta_MP, PUBLISHED.time_T))
  return np.asarray(theta_MP), np.asarray(kept_M)


def test_a_curve_is_the_weighted_sum_of_its_families():
  theta_MP = np.asarray(prior.draw(KEY, 50), np.float64)
  t = PUBLISHED.time_T.astype(np.float64)
  for theta_P, found_T in zip(
    theta_MP, prior.curve(theta_MP, PUBLISHED.time_T), strict=True
  ):
    p = dict(zip(NAMES, theta_P, strict=True))
    pow3 = p['pow3_limit'] - p['pow3_scale'] * t ** -np.exp(p['pow3_log_power'])
    ilog2 = p['ilog2_limit'] - p['ilog2_scale'] / np.log(t + 1)
    gone = np.exp(p['janoschek_log_rate']) * t ** np.exp(
      p['janoschek_log_power']
    )
    limit, start = p['janoschek_limit'], p['janoschek_start']
    janoschek = limit - (limit - start) * np.exp(-gone)
    wanted_T = (
      p['weight_pow3'] * pow3
      + p['weight_ilog2'] * ilog2
      + p['weight_janoschek'] * janoschek
    )
    np.testing.assert_allclose(found_T, wanted_T, atol=2e-5)


def test_draws_have_the_published_distributions(candidates):
  theta_MP, _ = candidates
  means = dict(zip(NAMES, theta_MP.mean(0), strict=True))
  deviations = dict(zip(NAMES, theta_MP.std(0), strict=True))
  assert means['pow3_limit'] == pytest.approx(0.625, abs=0.01)
  assert means['pow3_scale'] == pytest.approx(0.0, abs=0.01)
  assert means['ilog2_scale'] == pytest.approx(0.0, abs=0.01)
  assert means['janoschek_start'] == pytest.approx(1.0, abs=0.02)
  assert deviations['pow3_log_power'] == pytest.approx(2.0, abs=0.03)
  assert means['janoschek_log_rate'] == pytest.approx(-2.0, abs=0.03)
  assert deviations['janoschek_log_power'] == pytest.approx(0.5, abs=0.01)
  assert means['log_noise'] == pytest.approx(-4.0, abs=0.03)
  for name, (low, high) in prior.UNIFORM.items():
    column = theta_MP[:, NAMES.index(name)]
    assert low <= column.min() and column.max() <= high
    assert deviations[name] == pytest.approx((high - low) / 12**0.5, rel=0.02)


def test_one_draw_in_five_is_kept(candidates):
  _, kept_M = candidates
  # 20.54 % of two million, computed apart in float64; four deviations.
  assert kept_M.mean() == pytest.approx(0.2054, abs=0.008)


def test_what_is_kept_is_what_rejection_keeps(candidates):
  theta_MP, kept_M = candidates
  direct_NP = theta_MP[kept_M]
  found_NP = np.asarray(
    jax.jit(PUBLISHED.kept, static_argnums=1)(jax.random.key(1), 8000)
  )
  assert prior.within(prior.curve(found_NP, PUBLISHED.time_T)).all()
  assert len(np.unique(found_NP, axis=0)) == 8000
  error_P = direct_NP.std(0) * np.sqrt(1 / len(direct_NP) + 1 / len(found_NP))
  assert (np.abs(direct_NP.mean(0) - found_NP.mean(0)) < 5 * error_P).all()
  for share in (0.1, 0.5, 0.9):
    gap_P = np.quantile(direct_NP, share, 0) - np.quantile(found_NP, share, 0)
    assert (np.abs(gap_P) < 0.06 * direct_NP.std(0)).all()


@pytest.mark.parametrize('count', [1, 7])
def test_a_few_curves_are_as_many_as_asked_for(count: int):
  theta_NP = PUBLISHED.kept(KEY, count)
  assert theta_NP.shape == (count, len(NAMES))
  assert prior.within(prior.curve(theta_NP, PUBLISHED.time_T)).all()


def test_rounds_go_on_until_there_are_enough(monkeypatch):
  monkeypatch.setattr(prior, 'CANDIDATES', 0.5)
  theta_NP = PUBLISHED.kept(KEY, 500)
  assert prior.within(prior.curve(theta_NP, PUBLISHED.time_T)).all()
  assert len(np.unique(theta_NP, axis=0)) == 500


def test_noise_has_the_curves_own_size():
  curves = prior.sample(PUBLISHED, KEY, 400)
  noise_NT = curves.noisy_NT - curves.clean_NT
  unit_NT = (
    noise_NT / jnp.exp(curves.theta_NP[:, NAMES.index('log_noise')])[:, None]
  )
  assert float(unit_NT.mean()) == pytest.approx(0, abs=0.02)
  assert float(unit_NT.std()) == pytest.approx(1, abs=0.02)
  assert (curves.clean_NT >= 0).all() and (curves.clean_NT <= 1).all()


def test_curves_follow_from_the_key_alone():
  one, same = (prior.sample(PUBLISHED, KEY, 5).noisy_NT for _ in range(2))
  other = prior.sample(PUBLISHED, jax.random.key(3), 5).noisy_NT
  assert (one == same).all() and not (one == other).any()


def test_a_curve_that_falls_or_leaves_is_refused():
  rising = jnp.linspace(0.2, 0.8, 10)
  assert prior.within(rising)
  assert not prior.within(rising[::-1])
  assert not prior.within(rising.at[4].set(1.01))
  assert not prior.within(rising.at[4].set(-0.01))
  assert not prior.within(rising.at[4].set(jnp.nan))


def test_log_density_is_that_of_the_draws():
  theta_P = prior.draw(KEY, 1)[0]
  at = NAMES.index('log_noise')
  gap = prior.log_density(theta_P.at[at].set(-3.0)) - prior.log_density(
    theta_P.at[at].set(-4.0)
  )
  assert float(gap) == pytest.approx(-0.5)
  assert prior.log_density(theta_P.at[0].set(1.01)) == -jnp.inf
  assert prior.log_density(theta_P.at[0].set(0.5)) == prior.log_density(
    theta_P.at[0].set(0.1)
  )


def test_a_shorter_prior_ends_earlier():
  curves = prior.sample(Prior(30), KEY, 20)
  assert curves.noisy_NT.shape == (20, 30)
  assert (curves.clean_NT[:, -1] > curves.clean_NT[:, 0]).all()
