"""Batched least squares, and the residual bootstrap."""

import numpy as np
import pytest

from extrap.curves import least_squares, residual_bootstrap
from extrap.curves.families import family
from extrap.curves.least_squares import Settings, as_points
from extrap.errors import UsageError

X_T = np.geomspace(10.0, 3000.0, 18)
FAR_Q = np.array([6000.0, 20000.0])


def curve_of(name, theta):
  """A curve in raw units, of theta in scaled units of x."""
  shape = family(name)

  def curve(x):
    return np.asarray(shape.curve(np.float32(x / 10.0), np.float32(theta)))

  return curve


@pytest.mark.parametrize(
  ('name', 'theta'),
  [
    ('pow3', (0.2, -0.8, 0.6)),
    ('pow4', (0.2, -0.7, 0.9, 1.0)),
    ('mmf4', (1.0, 2.0, 0.2, 0.8)),
    ('m2', (-0.2, -0.5, 0.1)),
    ('m3', (-0.1, 0.4, -3.0)),
    ('m4', (0.0, -0.6, 0.5, 0.1, 1.1)),
    ('bnsl1', (0.1, -0.1, 0.1, 0.6, 2.0, -0.5)),
  ],
)
def test_noiseless_curves_are_continued(name, theta):
  curve = curve_of(name, theta)
  # In a unit of y that is not the scaled one.
  found_BQ = least_squares.forecast(family(name), X_T, 50 * curve(X_T), FAR_Q)
  np.testing.assert_allclose(found_BQ[0], 50 * curve(FAR_Q), rtol=0.01)


def test_parameters_are_recovered_in_their_scaled_units():
  theta = (-0.2, -0.5, 0.1)
  y_T = curve_of('m2', theta)(X_T)
  settings = Settings(dtype='float64', steps=60)
  found = least_squares.fit(family('m2'), as_points(X_T, y_T), settings)
  wanted = (np.log(np.exp(-0.2) / y_T.max()), -0.5, 0.1 / y_T.max())
  np.testing.assert_allclose(found.theta_BP[0], wanted, atol=1e-4)
  assert found.finite_B.all() and found.rss_B[0] < 1e-8


def test_rising_curves_are_fitted_in_y():
  y_T = 30 * (0.9 - 1.2 * (X_T / 10) ** -0.5)
  found_BQ = least_squares.forecast(
    family('pow3'), X_T, y_T, FAR_Q, Settings(log=False)
  )
  wanted_Q = 30 * (0.9 - 1.2 * (FAR_Q / 10) ** -0.5)
  np.testing.assert_allclose(found_BQ[0], wanted_Q, rtol=1e-3)


def noisy(count, scale=0.03, seed=0):
  """Curves of M2 with noise, up to 3000 and at the far points."""
  rng = np.random.default_rng(seed)
  x_N = np.append(X_T, FAR_Q)
  clean_N = 0.2 + 0.8 * (x_N / 10) ** -0.5
  y_BN = clean_N * np.exp(scale * rng.normal(size=(count, len(x_N))))
  return y_BN[:, : len(X_T)], y_BN[:, len(X_T) :]


@pytest.mark.parametrize('hidden', [np.nan, 1e9, -3.0])
def test_masked_points_have_no_influence(hidden):
  seen = as_points(X_T, noisy(2)[0])
  mask_BT = seen.mask_BT.copy()
  mask_BT[0, [0, 4, -1]] = False
  garbage = seen._replace(
    y_BT=np.where(mask_BT, seen.y_BT, hidden),
    x_BT=np.where(mask_BT, seen.x_BT, hidden),
    mask_BT=mask_BT,
  )
  shape = family('m4')
  short_T = mask_BT[0]
  pairs = [
    (X_T[short_T], seen.y_BT[0, short_T]),
    (X_T, seen.y_BT[1]),
  ]
  wanted = least_squares.fit(shape, least_squares.points(pairs))
  found = least_squares.fit(shape, garbage)
  np.testing.assert_allclose(found.rss_B, wanted.rss_B, rtol=1e-3)
  again = residual_bootstrap.bootstrap(shape, found, garbage, draws=4)
  assert np.isfinite(again.theta_BSP).all()
  np.testing.assert_allclose(again.freedom_B, [18 - 3 - 5, 18 - 5])


def test_curves_do_not_influence_each_other():
  y_BT, _ = noisy(18)  # More than a batch.
  together = least_squares.fit(family('m2'), as_points(X_T, y_BT))
  for row in (0, 17):
    alone = least_squares.fit(family('m2'), as_points(X_T, y_BT[row]))
    np.testing.assert_allclose(alone.rss_B[0], together.rss_B[row], rtol=1e-3)


def test_last_value_and_ceiling():
  y_BT, _ = noisy(1)
  found_BQ = least_squares.forecast(family('last_value'), X_T, y_BT, FAR_Q)
  np.testing.assert_allclose(found_BQ, np.full((1, 2), y_BT[0, -1]), rtol=1e-6)
  low = as_points(X_T, y_BT)._replace(ceiling_B=np.array([1.2]))
  theta_P = least_squares.fit(family('m4'), low).theta_BP[0]
  assert theta_P[-1] * y_BT.max() <= 1.2 + 2e-3 * y_BT.max()


def test_bootstrap_covers_what_comes():
  seen_BT, new_BQ = noisy(150)
  shape, seen = family('m2'), as_points(X_T, seen_BT)
  found = least_squares.fit(shape, seen)
  drawn = residual_bootstrap.bootstrap(shape, found, seen, draws=32)
  low_BQ, middle_BQ, high_BQ = residual_bootstrap.quantiles(
    shape, drawn, FAR_Q, (0.1, 0.5, 0.9)
  )
  covered = np.mean((low_BQ <= new_BQ) & (new_BQ <= high_BQ))
  assert 0.7 < covered < 0.9
  log_BQ, below_BQ = residual_bootstrap.judge(shape, drawn, FAR_Q, middle_BQ)
  np.testing.assert_allclose(below_BQ, 0.5, atol=1e-6)
  # Without fitting again, curves would not differ.
  assert np.std(drawn.theta_BSP[:, :, 2], axis=1).min() > 1e-3
  samples_BSQ = residual_bootstrap.samples(shape, drawn, FAR_Q)
  share = np.mean(samples_BSQ <= middle_BQ[:, None])
  assert 0.45 < share < 0.55
  assert np.isfinite(log_BQ).all()


@pytest.mark.parametrize('log', [True, False])
def test_density_integrates_to_one(log):
  seen_BT, _ = noisy(1)
  shape, seen = family('m2'), as_points(X_T, 40 * seen_BT)
  settings = Settings(log=log)
  found = least_squares.fit(shape, seen, settings)
  drawn = residual_bootstrap.bootstrap(shape, found, seen, 8, settings)
  y_Q = np.linspace(1.0, 25.0, 4000)
  x_Q = np.full_like(y_Q, 6000.0)
  log_BQ = residual_bootstrap.log_density(shape, drawn, x_Q, y_Q[None])
  mass = np.sum(np.exp(log_BQ[0])) * (y_Q[1] - y_Q[0])
  assert mass == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
  ('x', 'y', 'message'),
  [
    (1.0, np.nan, 'point 2 of curve 0, x=1, y=nan, is not finite'),
    (0.0, 1.0, 'point 2 of curve 0, x=0, y=1, has an x that is not'),
    (1.0, -1.0, 'point 2 of curve 0, x=1, y=-1, has no logarithm'),
  ],
)
def test_bad_points_are_named_in_one_line(x, y, message):
  x_T, y_T = np.arange(1.0, 6.0), np.ones(5)
  x_T[2], y_T[2] = x, y
  with pytest.raises(UsageError, match=message):
    least_squares.fit(family('m1'), as_points(x_T, y_T))


def test_curves_without_points_are_refused():
  with pytest.raises(UsageError, match='each with a point'):
    least_squares.points([(np.array([]), np.array([]))])
