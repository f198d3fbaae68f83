"""The prior over scaling curves: its laws, its points and its noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves.scaling_prior import PRIOR, ScalingPrior, Shape, curve

COUNT = 400


@pytest.fixture(scope='module')
def drawn():
  return jax.jit(lambda key: PRIOR.sample(key, COUNT, 3))(jax.random.key(1))


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
  assert 16 < np.median(counts_N) < 24  # Log-uniform.
  np.testing.assert_array_equal(drawn.u_NT[:, 0], 0)
  step_NT = np.diff(drawn.u_NT, axis=1)[np.asarray(drawn.there_NT)[:, 1:]]
  assert step_NT.min() > 0
  ahead_NTQ = drawn.asked_NTQ - drawn.u_NT[..., None]
  assert ahead_NTQ.min() > 0 and 1.6 < ahead_NTQ.max() < 1.9


def test_points_are_on_lines_and_on_logarithms(drawn):
  linear, logarithmic = 0, 0
  for u_T, there_T in zip(drawn.u_NT, drawn.there_NT, strict=True):
    u_T = np.asarray(u_T, np.float64)[np.asarray(there_T)]
    for steps_T in (np.diff(np.exp(u_T)), np.diff(u_T)):
      even = steps_T.std() < 0.1 * steps_T.mean()
      linear += even and steps_T is not None and steps_T[0] > 0
    logarithmic += np.diff(u_T).std() < 0.1 * np.diff(u_T).mean()
  assert logarithmic > 5 and linear - logarithmic > 5


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
