"""Metrics as numbers in 0..1, and back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves import normalise
from extrap.curves.normalise import Normalisation, guess
from extrap.errors import UsageError

INF = math.inf
FORMS = {
  'unit': normalise.unit(),
  'error': normalise.error(),
  'percent': normalise.percent(),
  'percent_error': normalise.percent_error(),
  'loss': normalise.loss_from(2.3),
  'loss_above': normalise.loss_from(10.0, best=2.6),
  'score': normalise.score_in(-200.0, 1400.0),
  'falling_score': normalise.score_in(-3.0, 5.0, minimise=True),
  'room_on_both_sides': Normalisation(False, -1.0, 0.0, 1.0, 3.0),
  'room_above': Normalisation(False, 0.0, 0.0, 1.0, 3.0),
  'only_low_is_open': Normalisation(True, -INF, 0.0, 1.0, 1.0),
}
forms = pytest.mark.parametrize('form', FORMS.values(), ids=FORMS)


def values(form):
  """Values of the metric, rising, between its bounds or near enough."""
  width = form.soft_up - form.soft_low
  low = max(form.hard_low, form.soft_low - 4 * width)
  up = min(form.hard_up, form.soft_up + 4 * width)
  return np.linspace(low, up, 101)


@forms
def test_there_and_back(form):
  y = values(form)
  np.testing.assert_allclose(form.inverse(form.forward(y)), y, atol=1e-9)


@forms
def test_bounds_are_reached_and_order_is_kept(form):
  ends = form.forward(np.array([form.hard_low, form.hard_up]))
  best = [1.0, 0.0] if form.minimise else [0.0, 1.0]
  np.testing.assert_allclose(ends, best, atol=1e-12)
  steps = np.diff(form.forward(values(form)))
  assert (steps < 0).all() if form.minimise else (steps > 0).all()
  back = form.inverse(np.array(best))
  np.testing.assert_allclose(back, [form.hard_low, form.hard_up], atol=1e-9)
  # What a forecast says beyond the best is the best.
  np.testing.assert_array_equal(
    form.inverse(np.array([-0.5, 1.5])), form.inverse(np.array([0.0, 1.0]))
  )


@forms
def test_jacobian_is_the_slope(form):
  y = values(form)[1:-1]
  small = 1e-6 * (form.soft_up - form.soft_low)
  slope = (form.forward(y + small) - form.forward(y - small)) / (2 * small)
  expected = np.log(np.abs(slope))
  np.testing.assert_allclose(form.log_jacobian(y), expected, atol=1e-5)


@forms
def test_inside_jit_it_is_the_same(form):
  y = values(form)[::10]
  found = jax.jit(form.forward)(jnp.asarray(y, jnp.float32))
  np.testing.assert_allclose(found, form.forward(y), atol=1e-6)
  density = jax.jit(form.log_jacobian)(jnp.asarray(y, jnp.float32))
  np.testing.assert_allclose(density, form.log_jacobian(y), atol=1e-5)
  back = jax.jit(form.inverse)(found)
  assert np.isfinite(back[1:-1]).all()


def test_a_density_stays_a_density():
  form = normalise.loss_from(1.5)
  y = np.linspace(0, 60, 200_001)
  # Uniform in 0..1: the density of the loss is the slope itself.
  total = np.trapezoid(np.exp(form.log_jacobian(y)), y)
  assert total == pytest.approx(1, abs=1e-6)


def test_same_bounds_make_a_straight_line():
  y = np.linspace(0, 1, 11)
  np.testing.assert_array_equal(normalise.unit().forward(y), y)
  np.testing.assert_allclose(normalise.error().forward(y), 1 - y)
  np.testing.assert_allclose(normalise.percent().forward(100 * y), y)


def test_the_published_form():
  # An untrained loss of 0.7, by hand: 2 y / 0.7 - 1 through a logistic
  # function, then 0 to 1 and no upper bound to 0.
  def logistic(x):
    return 1 / (1 + math.exp(-x))

  form = normalise.loss_from(0.7)
  for y in (0.0, 0.2, 0.7, 3.0):
    scale = 1 / (1 - logistic(-1))
    expected = 1 - scale * (logistic(2 * y / 0.7 - 1) - logistic(-1))
    assert form.forward(y) == pytest.approx(expected)


def test_huge_losses_are_told_apart():
  # A subtraction from 1 would round all of them to 0.
  u = normalise.loss_from(0.7).forward(np.array([30.0, 60.0, 90.0]))
  assert (u > 0).all() and (np.diff(u) < 0).all()


@pytest.mark.parametrize(
  ('seen', 'kind', 'expected'),
  [
    ([0.1, 0.4, 0.6], 'auto', normalise.unit()),
    ([0.5, 0.5, 0.5], 'auto', normalise.unit()),
    ([0.9, 0.5, 0.3], 'auto', normalise.error()),
    ([0.05, 0.02, 0.01], 'auto', normalise.loss_from(0.05)),
    ([10.0, 55.0, 70.0], 'auto', normalise.percent()),
    ([2.3, 1.9, 0.8], 'auto', normalise.loss_from(2.3)),
    ([2.3, 9.9, 0.8], 'auto', normalise.loss_from(2.3)),
    ([900.0, 80.0, 7.0], 'auto', normalise.loss_from(900.0)),
    ([-5.0, 20.0, 300.0], 'auto', normalise.score_in(-5.0, 300.0)),
    ([5.0, 1.0, -7.0], 'auto', normalise.score_in(-7.0, 5.0, True)),
    ([120.0, 120.0], 'auto', normalise.score_in(120.0, 121.0)),
    ([0.9, 0.5, 0.3], 'accuracy', normalise.unit()),
    ([90.0, 50.0], 'percent', normalise.percent()),
    ([0.5, 0.7], 'percent', normalise.percent()),
    ([0.1, 0.4], 'error', normalise.error()),
    ([10.0, 4.0], 'percent_error', normalise.percent_error()),
    ([0.1, 0.4], 'loss', normalise.loss_from(0.1)),
    ([0.0, 0.4], 'loss', normalise.loss_from(0.4)),
    ([0.1, 0.4], 'score', normalise.score_in(0.1, 0.4)),
    ([0.1, 0.4], 'cost', normalise.score_in(0.1, 0.4, True)),
  ],
)
def test_guesses(seen, kind, expected):
  assert guess(seen, kind) == expected


def test_the_kind_of_a_file_is_that_of_most_of_its_curves():
  falling, diverging = np.array([2.3, 1.9, 0.8]), np.array([2.3, 2.5, 2.9])
  kind = normalise.kind_of_all([falling, diverging, falling])
  assert kind == 'loss'
  assert normalise.suited(diverging, kind) == normalise.loss_from(2.3)
  low, high = np.array([0.4, 0.8]), np.array([20.0, 55.0])
  assert normalise.kind_of_all([low, high]) == 'percent'


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (lambda: guess([1, 150], 'percent'), r'point 2: 150 is outside 0\.\.100'),
    (lambda: guess([0.5, -0.1], 'error'), r'point 2: -0\.1 is outside 0\.\.1'),
    (
      lambda: guess([-0.5, -1.0], 'loss'),
      r'point 1: -0\.5 is outside 0\.\.inf',
    ),
    (lambda: guess([]), 'at least one finite value'),
    (lambda: guess([0.5, math.nan]), 'at least one finite value'),
    (lambda: guess([0.5], 'reward'), "'reward' is no kind of metric: auto"),
    (
      lambda: normalise.unit().check([0.5, 1.2], 'run 7'),
      r'run 7, point 2: 1\.2 is outside 0\.\.1',
    ),
    (lambda: normalise.loss_from(1.0, best=2.0), 'not 0, 2, 1, inf'),
    (lambda: normalise.loss_from(math.inf), 'the soft ones finite'),
  ],
)
def test_what_does_not_fit_is_one_line(wrong, message):
  with pytest.raises(UsageError, match=message) as caught:
    wrong()
  assert '\n' not in str(caught.value)
