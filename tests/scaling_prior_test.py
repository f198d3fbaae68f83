"""The prior over scaling curves: its laws, its points and its noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves.scaling_prior import PRIOR, ScalingPrior, Shape, curve

COUNT, MANY = 400, 20_000


@pytest.fixture(scope='module')
def drawn():
  return jax.jit(lambda key: PRIOR.sample(key, COUNT, 3))(jax.random.key(1))


@pytest.fixture(scope='module')
def shapes() -> Shape:
  """Of many curves, as NumPy arrays."""
  span_N1 = jnp.full((MANY, 1), 4.0)
  made = jax.jit(lambda key: PRIOR.shape(key, span_N1))(jax.random.key(4))
  return jax.tree.map(np.asarray, made)


def _shape(**changed: float | list[float]) -> Shape:
  """One curve: a power law with breaks, without limit and waves."""
  given = {
    'slope_NB': [0.1, 0.4, 0.2, 0.2],
    'place_NB': [1.0, 3.0, 4.0],
    'width_NB': [0.3, 0.2, 0.1],
    'rate': 0.0,
    'middle': 1.0,
    'limit': -jnp.inf,
    'wave_NB': [0.0, 0.0, 0.0],
    'pace_NB': [1.0, 2.0, 3.0],
    'phase_NB': [0.0, 1.0, 2.0],
  } | changed
  return Shape(**{name: jnp.array([each]) for name, each in given.items()})


def test_a_power_law_bends_as_published():
  """y = x^-c0 prod (1 + (x/d)^(1/f))^(-c f), arXiv 2210.14891."""
  x_T = np.exp(np.linspace(0, 6, 13))
  y_T = x_T**-0.1
  for place, width, change in ((1.0, 0.3, 0.3), (3.0, 0.2, -0.2)):
    y_T *= (1 + (x_T / np.exp(place)) ** (1 / width)) ** (-change * width)
  log_y_NT = curve(_shape(), jnp.log(x_T)[None])
  np.testing.assert_allclose(np.exp(log_y_NT[0]), y_T, rtol=1e-5)
  above_NT = curve(_shape(limit=float(np.log(0.3))), jnp.log(x_T)[None])
  np.testing.assert_allclose(np.exp(above_NT[0]), y_T + 0.3, rtol=1e-5)


def test_a_stretched_exponential_falls_by_e_at_its_middle():
  u_NT = jnp.array([[0.0, 1.0, 2.0]])
  log_y_NT = curve(_shape(rate=0.7, middle=1.0), u_NT)
  np.testing.assert_allclose(log_y_NT[0, 1], -1.0, rtol=1e-6)
  np.testing.assert_allclose(log_y_NT[0, 2], -np.exp(0.7), rtol=1e-6)


def test_waves_come_on_top():
  u_NT = jnp.linspace(0, 5, 7)[None]
  plain_NT = curve(_shape(), u_NT)
  waved_NT = curve(_shape(wave_NB=[0.1, 0.0, 0.02]), u_NT)
  wanted_NT = 0.1 * jnp.sin(u_NT) + 0.02 * jnp.sin(3 * u_NT + 2)
  np.testing.assert_allclose(waved_NT - plain_NT, wanted_NT, atol=1e-5)


def test_points_ascend_from_zero_and_what_is_asked_follows(drawn):
  assert all(np.isfinite(each).all() for each in drawn)
  counts_N = drawn.there_NT.sum(1)
  assert counts_N.min() == PRIOR.least and counts_N.max() == PRIOR.length
  # Log-uniform over 6..400, of which 64 are shown.
  assert (counts_N == PRIOR.length).mean() == pytest.approx(0.43, abs=0.08)
  assert (counts_N < 20).mean() == pytest.approx(0.28, abs=0.08)
  np.testing.assert_array_equal(drawn.u_NT[:, 0], 0)
  step_NT = np.diff(drawn.u_NT, axis=1)[np.asarray(drawn.there_NT)[:, 1:]]
  assert step_NT.min() > 0
  ahead_NTQ = np.asarray(drawn.asked_NTQ - drawn.u_NT[..., None])
  assert ahead_NTQ.min() > 0 and 3.8 < ahead_NTQ.max() < 3.901
  assert np.median(ahead_NTQ) == pytest.approx(0.98, abs=0.05)


def test_points_are_on_lines_on_logarithms_and_at_random_places(drawn):
  ratios = []
  for u_T, there_T in zip(drawn.u_NT, drawn.there_NT, strict=True):
    u_T = np.asarray(u_T, np.float64)[np.asarray(there_T)]
    if len(u_T) > 20 and u_T[-1] > 2:
      steps_T, powers_T = np.diff(np.exp(u_T)), np.diff(u_T)
      ratios.append([each.std() / each.mean() for each in (steps_T, powers_T)])
  of_line_N, of_logarithm_N = np.transpose(ratios)
  assert (of_line_N < 0.3).sum() > 5 and (of_logarithm_N < 0.3).sum() > 5
  # Gaps of points at random places differ as exponential variables do.
  random_N = np.minimum(of_line_N, of_logarithm_N) > 0.7
  assert 0.15 < random_N.mean() < 0.5


def test_shapes_are_drawn_in_the_shares_that_are_said(shapes):
  assert (shapes.limit > -np.inf).mean() == pytest.approx(0.73, abs=0.02)
  decays_N = shapes.rate > 0
  assert decays_N.mean() == pytest.approx(0.085, abs=0.01)
  rises_N = (shapes.slope_NB < 0).any(1)
  assert rises_N.mean() == pytest.approx(0.15, abs=0.01)
  assert not (rises_N & decays_N).any()
  assert (shapes.slope_NB[:, 1] < 0)[rises_N].all()
  # A flat start bends at the first break, even where no other power follows.
  first_N, second_N = shapes.slope_NB[~rises_N][:, :2].T
  assert (first_N < 0.2 * second_N).mean() == pytest.approx(0.365, abs=0.02)
  pieces_N = 1 + (np.diff(shapes.slope_NB, axis=1) != 0).sum(1)
  shares = [(pieces_N == count).mean() for count in (1, 2, 3, 4)]
  np.testing.assert_allclose(shares, [0.169, 0.333, 0.325, 0.173], atol=0.015)
  slopes = np.quantile(np.abs(shapes.slope_NB[:, 1]), (0.25, 0.5, 0.75))
  np.testing.assert_allclose(slopes, [0.136, 0.25, 0.459], rtol=0.05)
  assert np.median(shapes.wave_NB) == pytest.approx(PRIOR.wave, rel=0.05)


def test_a_limit_is_a_share_of_the_last_value(shapes):
  laws_N = np.isfinite(shapes.limit) & (shapes.rate == 0)
  flat = shapes._replace(
    limit=np.full(MANY, -np.inf), wave_NB=np.zeros_like(shapes.wave_NB)
  )
  end_N = np.asarray(curve(flat, jnp.full((MANY, 1), 4.0)))[:, 0]
  share_N = 1 / (1 + np.exp(end_N - shapes.limit))[laws_N]
  assert share_N.max() == pytest.approx(0.97, abs=0.01)
  assert np.median(share_N) == pytest.approx(0.485, abs=0.02)
  rest_N = np.exp(shapes.limit[shapes.rate > 0])
  assert 0.02 <= rest_N.min() and rest_N.max() <= 0.95


def test_answers_are_points_of_the_same_curve():
  quiet = dataclasses.replace(PRIOR, noise=1e-9, wave=1e-9, exponential=0.0)
  made = jax.jit(lambda key: quiet.sample(key, COUNT, 3))(jax.random.key(5))
  # Between a point and the next one an answer lies between their values.
  u_NT, log_y_NT = np.asarray(made.u_NT), np.asarray(made.log_y_NT)
  checked = 0
  for row in range(COUNT):
    count = int(made.there_NT[row].sum())
    seen = u_NT[row, :count], log_y_NT[row, :count]
    found = np.interp(made.asked_NTQ[row], *seen)
    inside_TQ = np.asarray(made.asked_NTQ[row]) < u_NT[row, count - 1]
    if count == PRIOR.length and inside_TQ.any():
      error_TQ = np.abs(found - np.asarray(made.answer_NTQ[row]))[inside_TQ]
      assert np.median(error_TQ) < 0.01
      checked += 1
  assert checked > 50


def test_few_curves_rise():
  quiet = dataclasses.replace(PRIOR, noise=1e-9, wave=1e-9)
  drawn = jax.jit(lambda key: quiet.sample(key, COUNT, 3))(jax.random.key(2))
  step_NT = np.diff(drawn.log_y_NT, axis=1)
  rises_N = ((step_NT > 0.01) & np.asarray(drawn.there_NT)[:, 1:]).any(1)
  assert 0.05 < rises_N.mean() < 0.25
  straight = ScalingPrior(falls=1.0, noise=1e-9, wave=1e-9)
  drawn = jax.jit(lambda key: straight.sample(key, COUNT, 3))(jax.random.key(2))
  step_NT = np.diff(drawn.log_y_NT, axis=1)
  rises_N = ((step_NT > 0.01) & np.asarray(drawn.there_NT)[:, 1:]).any(1)
  # Where a wide bend comes before a sharp one that is left of it.
  assert rises_N.mean() < 0.01


def test_noise_is_as_large_as_said_and_its_points_may_be_alike():
  u_NS = jnp.zeros((COUNT, 300))
  noise_NS = np.asarray(PRIOR.noises(jax.random.key(3), u_NS, 200))
  size_N = noise_NS[:, 200:].std(1)
  assert np.median(size_N) == pytest.approx(PRIOR.noise, rel=0.25)
  assert size_N.max() < 0.4 and size_N.min() > 3e-4
  alike_N = (noise_NS[:, :199] * noise_NS[:, 1:200]).mean(1) / size_N**2
  # A third of the curves, up to .95; what is asked is never alike.
  assert 0.2 < (alike_N > 0.2).mean() < 0.4
  later_N = (noise_NS[:, 200:299] * noise_NS[:, 201:]).mean(1) / size_N**2
  assert np.abs(later_N).max() < 0.5
  # The first point of those is as noisy as any other.
  first_N = (noise_NS[:, :2] / size_N[:, None])[alike_N > 0.5]
  assert first_N.std(0) == pytest.approx([1.0, 1.0], abs=0.25)


def test_noise_may_shrink():
  u_NS = jnp.tile(jnp.array([[0.0] * 50 + [5.0] * 50]), (COUNT, 1))
  noise_NS = np.asarray(PRIOR.noises(jax.random.key(3), u_NS, 1))
  ratio_N = noise_NS[:, 1:50].std(1) / noise_NS[:, 50:].std(1)
  assert (ratio_N > 1.5).mean() == pytest.approx(0.32, abs=0.08)
  assert ratio_N.max() > 4


def test_means_of_neighbours_have_less_noise():
  loud = ScalingPrior(noise=0.2, wave=1e-9, falls=1.0)
  quiet = dataclasses.replace(loud, most=PRIOR.length)
  ratio = []
  for prior in (quiet, loud):
    made = jax.jit(lambda key, prior=prior: prior.sample(key, COUNT, 3))(
      jax.random.key(6)
    )
    full_N = np.asarray(made.there_NT.sum(1) == PRIOR.length)
    rough_N = np.diff(made.log_y_NT, n=2, axis=1).std(1)
    ratio.append(np.median(rough_N[full_N]) if full_N.any() else 0)
  wide = jax.jit(lambda key: loud.extent(key, MANY)[0])(jax.random.key(7))
  share = float((wide > PRIOR.length).mean())
  assert share == pytest.approx(0.43, abs=0.02) and wide.max() == loud.most
  assert 0 < ratio[1] < 0.8 * ratio[0]
