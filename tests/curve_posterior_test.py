"""Posteriors of curves, against closed forms and float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from extrap.curves import bank as banks
from extrap.curves import ensemble, posterior, smc
from extrap.curves.posterior import Particles
from extrap.curves.prior import NORMAL, Prior, curve, sample, within
from extrap.errors import UsageError

PRIOR = Prior(length=20)
SEEN = 5
QUICK = smc.Settings(particles=256, moves=12, snapshots=2)
SCORE = jax.jit(posterior.mean_log_density, static_argnums=0)
PREDICTIVE = jax.jit(lambda each: posterior.predictive(each, PRIOR.time_T))
SHORT = ensemble.Settings(60, 30, 20, thin=2)


@pytest.fixture(scope='module')
def bank():
  return banks.build(PRIOR, jax.random.key(0), 3000, 1000)


@pytest.fixture(scope='module')
def curves():
  return sample(PRIOR, jax.random.key(1), 16)


@pytest.fixture(scope='module')
def weighed(bank, curves):
  seen_B = jnp.full(16, SEEN)
  return banks.weigh(PRIOR, bank, jax.random.key(2), curves.noisy_NT, seen_B)


def directly(bank, value_T):
  """Weights [N, S] in float64, with a grid of its own for the noise."""
  clean_NT = np.moveaxis(np.asarray(bank.clean_CTn, float), 1, 2)
  clean_NT = clean_NT.reshape(-1, PRIOR.length)
  mean, deviation = NORMAL['log_noise']
  noise_S = np.exp(np.linspace(mean - 5, mean + 5, 1001))
  squares_N = ((clean_NT[:, :SEEN] - value_T[:SEEN]) ** 2).sum(1)
  log_NS = -SEEN * np.log(noise_S) - squares_N[:, None] / noise_S**2 / 2
  log_NS += stats.norm.logpdf(np.log(noise_S), mean, deviation)
  return special.softmax(log_NS), clean_NT, noise_S


def test_the_bank_weighs_as_a_direct_computation_does(bank, curves, weighed):
  for i in range(4):
    value_T = np.asarray(curves.noisy_NT[i], float)
    weight_NS, clean_NT, noise_S = directly(bank, value_T)
    weight_N = weight_NS.sum(1)
    assert weighed.effective[i] == pytest.approx(
      1 / (weight_N**2).sum(), rel=0.01
    )
    one = jax.tree.map(lambda each, i=i: each[i], weighed)
    found = jax.tree.map(np.asarray, PREDICTIVE(one))
    mean_T = (np.exp(found.log_weight) * found.mean).sum(1)
    spread = clean_NT.std(0)
    gap_T = (mean_T - weight_N @ clean_NT) / spread
    assert np.abs(gap_T).max() < 0.02
    density = (
      stats.norm.pdf(value_T[-1], clean_NT[:, -1:], noise_S) * weight_NS
    ).sum()
    score = SCORE(PRIOR, one, jnp.asarray(curves.noisy_NT[i]), PRIOR.length - 1)
    assert score == pytest.approx(np.log(density), abs=0.1)


def test_squared_errors_keep_their_digits(bank, curves):
  """Noise of 1e-4: the difference of two squares would be rounding alone."""
  value_BT = bank.clean_CTn[0, :, :2].T + 1e-4
  squares_BN = banks.squared_errors(
    bank.clean_CTn, value_BT, jnp.array([20, 8])
  )
  assert squares_BN[0, 0] == pytest.approx(20e-8, rel=0.01)
  assert squares_BN[1, 1] == pytest.approx(8e-8, rel=0.01)


def test_thinning_keeps_what_is_heavy_and_is_right_on_average():
  rng = np.random.default_rng(0)
  log_weight_N = jnp.asarray(rng.normal(0, 2, 2000), jnp.float32)
  value_N = jnp.asarray(rng.random(2000), jnp.float32)
  exact_N = jax.nn.softmax(log_weight_N)

  def estimate(key):
    lot_N = jax.random.uniform(key, (2000,))
    index_K, log_weight_K = banks.thin(lot_N, log_weight_N, 200)
    weight_K = jnp.exp(log_weight_K)
    heaviest = jnp.argmax(exact_N)
    return (
      jnp.sum(weight_K * value_N[index_K]),
      jnp.sum(jnp.where(index_K == heaviest, weight_K, 0.0)),
      jnp.sum(weight_K > 0),
    )

  keys = jax.random.split(jax.random.key(0), 99)
  mean, heavy, count = jax.jit(jax.vmap(estimate))(keys)
  exact = float(jnp.sum(exact_N * value_N))
  assert jnp.mean(mean) == pytest.approx(exact, abs=4e-3)
  np.testing.assert_allclose(heavy, exact_N.max(), rtol=0.25)
  assert (count > 80).all() and (count <= 200).all()
  # With room for all of them, all remain with the weights that they have.
  index_K, log_weight_K = banks.thin(value_N, log_weight_N, 2500)
  kept_N = jnp.zeros(2000).at[index_K].add(jnp.exp(log_weight_K))
  np.testing.assert_allclose(kept_N, exact_N, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
  'method',
  [
    lambda bank, *given: banks.weigh(PRIOR, bank, jax.random.key(3), *given),
    lambda bank, *given: smc.refine(
      PRIOR, bank, jax.random.key(3), *given, QUICK
    ),
    lambda bank, *given: ensemble.posterior_ensemble(
      PRIOR, jax.random.key(3), *given, SHORT
    ),
  ],
  ids=['bank', 'smc', 'ensemble'],
)
def test_nothing_after_the_cutoff_has_any_influence(method, bank, curves):
  value_BT, seen_B = curves.noisy_NT[:2], jnp.array([SEEN, SEEN + 2])
  before = method(bank, value_BT, seen_B)
  hidden_BT = jnp.arange(20)[None] >= seen_B[:, None]
  after = method(bank, jnp.where(hidden_BT, jnp.nan, value_BT), seen_B)
  jax.tree.map(np.testing.assert_array_equal, before, after)
  # It is not that nothing has.
  other = method(bank, value_BT + 0.01, seen_B)
  assert not np.array_equal(before.theta_NP, other.theta_NP)
  # And what comes out is of the prior, sums to one and is finite.
  assert np.isfinite(after.theta_NP).all()
  np.testing.assert_allclose(
    jnp.exp(after.log_weight_N).sum(-1), 1.0, rtol=1e-3
  )


def test_the_score_is_that_of_later_noisy_values(curves):
  theta_NP = curves.theta_NP[:1]
  one = Particles(theta_NP, jnp.zeros(1), jnp.ones(()))
  noise = float(jnp.exp(theta_NP[0, -1]))
  found = SCORE(PRIOR, one, curves.noisy_NT[0], SEEN)
  each_T = stats.norm.logpdf(curves.noisy_NT[0], curves.clean_NT[0], noise)
  assert found == pytest.approx(each_T[SEEN:].mean(), rel=1e-3)
  without = SCORE(PRIOR, one, curves.clean_NT[0], SEEN)
  assert without > found + 0.1


def test_the_likelihood_is_scipys_and_walls_are_the_priors(curves):
  theta_NP = curves.theta_NP.at[0, 3].set(1.3)  # Above its bound.
  theta_NP = theta_NP.at[1, 7].set(-0.1)
  log_prior_N, likelihood_N = posterior.densities(
    PRIOR, theta_NP, curves.noisy_NT[2], jnp.int32(SEEN)
  )
  noise_N = np.exp(np.asarray(theta_NP[:, -1:], float))
  direct_N = stats.norm.logpdf(
    curves.noisy_NT[2, :SEEN], curves.clean_NT[:, :SEEN], noise_N
  ).sum(1)
  np.testing.assert_allclose(likelihood_N[2:], direct_N[2:], rtol=1e-3)
  assert np.isneginf(log_prior_N[:2]).all()
  assert np.isfinite(log_prior_N[2:]).all()


def test_values_may_be_of_other_times(curves):
  time_T = (PRIOR.time_T + 1) / 2
  value_T = curve(curves.theta_NP[:1], time_T)[0]
  given = (PRIOR, curves.theta_NP, value_T, jnp.int32(SEEN))
  _, at_others_N = posterior.densities(*given, jnp.asarray(time_T))
  _, at_first_N = posterior.densities(*given)
  # Its own values have no error at all.
  noise = float(curves.theta_NP[0, -1])
  best = -SEEN * (noise + 0.5 * np.log(2 * np.pi))
  assert at_others_N[0] == pytest.approx(best, rel=1e-4)
  assert at_first_N[0] < best - 1
  value_BT, seen_B = value_T[None], jnp.array([SEEN])
  found = [
    ensemble.posterior_ensemble(
      PRIOR, jax.random.key(3), value_BT, seen_B, SHORT, time_BT
    )
    for time_BT in (None, PRIOR.time_T[None], time_T[None])
  ]
  jax.tree.map(np.testing.assert_array_equal, found[0], found[1])
  assert not np.array_equal(found[0].theta_NP, found[2].theta_NP)


def test_stretch_moves_find_a_normal_distribution():
  """Correlated, and of deviations 100 times apart."""
  mean_D = jnp.array([1.0, -200.0])
  root_DD = jnp.array([[1.0, 0.0], [80.0, 60.0]])

  def log_density(x_HD):
    standard_HD = (x_HD - mean_D[None]) @ jnp.linalg.inv(root_DD).T
    return -0.5 * jnp.sum(standard_HD**2, axis=-1)

  start_WD = jax.random.normal(jax.random.key(0), (40, 2))
  settings = ensemble.Settings(1600, 40, 200, thin=2)
  walked = jax.jit(ensemble.walk, static_argnums=(1, 3))(
    jax.random.key(1), log_density, start_WD, settings
  )
  assert walked.x_KWD.shape == (700, 40, 2)
  assert 0.5 < walked.accepted < 0.9
  x_ND = np.asarray(walked.x_KWD).reshape(-1, 2)
  np.testing.assert_allclose(x_ND.mean(0), mean_D, atol=0.1, rtol=0.05)
  np.testing.assert_allclose(np.std(x_ND, axis=0), [1, 100], rtol=0.06)
  assert np.corrcoef(x_ND.T)[0, 1] == pytest.approx(0.8, abs=0.03)


def conjugate(x_ND):
  """Standard normal; a sum of 3 seen to 0.02, and the first number to 0.5."""
  prior_N = -0.5 * jnp.sum(x_ND**2, axis=-1)
  gap_N = (jnp.sum(x_ND, axis=-1) - 3) / 0.02
  return prior_N, -0.5 * gap_N**2 - 0.5 * ((x_ND[:, 0] - 1) / 0.5) ** 2


def test_tempering_finds_a_conjugate_posterior():
  start_ND = jax.random.normal(jax.random.key(0), (2048, 2))
  run = jax.jit(smc.temper, static_argnums=(1, 5))
  settings = smc.Settings(particles=1024, moves=30)
  found = run(
    jax.random.key(1), conjugate, start_ND, jnp.zeros(2048), 0.0, settings
  )
  row_DD = np.array([[50.0, 50.0], [2.0, 0.0]])
  covariance = np.linalg.inv(np.eye(2) + row_DD.T @ row_DD)
  mean = covariance @ row_DD.T @ [150.0, 2.0]
  x_ND = np.asarray(found.theta_NP)
  assert x_ND.shape == (4096, 2)
  deviation = np.sqrt(covariance[0, 0])
  np.testing.assert_allclose(x_ND.mean(0), mean, atol=0.15 * deviation)
  np.testing.assert_allclose(np.cov(x_ND.T), covariance, rtol=0.2)
  total_N = x_ND.sum(1)
  exact = np.sqrt(covariance.sum())
  assert total_N.std() == pytest.approx(exact, rel=0.15)
  # A lower limit of it: starts of which descendants remain.
  assert 2 < found.effective < 1024


def test_no_particle_passes_a_wall():
  def walled(x_ND):
    prior_N, likelihood_N = conjugate(x_ND)
    return jnp.where(x_ND[:, 0] < 1.2, prior_N, -jnp.inf), likelihood_N

  start_ND = jax.random.normal(jax.random.key(0), (2048, 2))
  start_ND = jnp.minimum(start_ND, 1.1)
  found = jax.jit(smc.temper, static_argnums=(1, 5))(
    jax.random.key(1), walled, start_ND, jnp.zeros(2048), 0.0, QUICK
  )
  assert found.theta_NP[:, 0].max() < 1.2
  assert found.theta_NP[:, 0].max() > 1.1


def test_coordinates_go_back_and_their_volume_is_the_determinants(curves):
  x_NP = smc.straight(curves.theta_NP)
  np.testing.assert_allclose(
    smc.curved(x_NP), curves.theta_NP, rtol=1e-2, atol=1e-4
  )
  slope_NPP = jax.vmap(jax.jacfwd(smc.curved))(x_NP)
  exact_N = np.linalg.slogdet(np.asarray(slope_NPP, float))[1]
  np.testing.assert_allclose(smc.log_volume(x_NP), exact_N, rtol=1e-3)


def test_moved_particles_say_what_the_bank_says_where_it_suffices(
  bank, curves, weighed
):
  """And those that the bank can represent are left as they are."""
  wide = jnp.argsort(-weighed.effective)[:3]
  moved = smc.refine(
    PRIOR,
    bank,
    jax.random.key(4),
    curves.noisy_NT[wide],
    jnp.full(3, SEEN),
    QUICK,
  )
  clean_BNT = jnp.moveaxis(jax.vmap(PREDICTIVE)(moved).mean, 1, 2)
  assert within(clean_BNT).all()
  for i, query in enumerate(wide):
    value_T = curves.noisy_NT[query]
    one, other = (
      SCORE(
        PRIOR, jax.tree.map(lambda each, i=i: each[i], found), value_T, SEEN
      )
      for found, i in ((moved, i), (weighed, query))
    )
    assert one == pytest.approx(float(other), abs=0.15)


def test_the_reference_moves_only_where_the_bank_is_poor(
  bank, curves, weighed, monkeypatch
):
  monkeypatch.setattr(smc, 'DEFAULT', QUICK)
  monkeypatch.setattr(
    smc, 'LEAST_EFFECTIVE', float(jnp.median(weighed.effective))
  )

  def told(prior, bank, key, value_BT, seen_B):
    mark_BNP = jnp.full((len(seen_B), 512, 13), value_BT[:, :1, None])
    return Particles(mark_BNP, jnp.zeros((len(seen_B), 512)), jnp.ones(5))

  monkeypatch.setattr(smc, 'refine', told)
  found, size_B = smc.reference(
    PRIOR,
    bank,
    jax.random.key(2),
    curves.noisy_NT,
    jnp.full(16, SEEN),
    batch=5,
  )
  np.testing.assert_allclose(size_B, weighed.effective, rtol=1e-3)
  moved_B = np.asarray(found.theta_NP[:, 0, 0] == curves.noisy_NT[:, 0])
  np.testing.assert_array_equal(moved_B, size_B < smc.LEAST_EFFECTIVE)
  assert 0 < moved_B.sum() < 16


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda v, s: (v[:, :7], s), '20 values'),
    (lambda v, s: (v, s[:1]), '16 curves and 1 numbers'),
    (lambda v, s: (v, s.at[0].set(20)), 'between 1 and 19'),
    (lambda v, s: (v.at[3, 2].set(jnp.nan), s), 'not a finite number'),
  ],
)
def test_what_cannot_be_used_is_refused(bank, curves, change, message):
  given = change(curves.noisy_NT, jnp.full(16, SEEN))
  with pytest.raises(UsageError, match=message):
    banks.weigh(PRIOR, bank, jax.random.key(0), *given)


def test_settings_that_leave_nothing_are_refused():
  with pytest.raises(UsageError, match='multiple of 1000'):
    banks.build(PRIOR, jax.random.key(0), 1500, 1000)
  with pytest.raises(UsageError, match='none is kept'):
    dataclasses.replace(ensemble.M1, burn=2000)
  with pytest.raises(UsageError, match='even'):
    ensemble.Settings(walkers=33)
  with pytest.raises(UsageError, match='are shares'):
    smc.Settings(target=1.0)
