"""Periodic signals: what each form is, how it is drawn, what is held out."""

import functools
import math

import jax
import numpy as np
import pytest
from scipy import signal as waves

from extrap.compilation import jit_once
from extrap.tasks.periodic_signals import (
  FORMS,
  PeriodicSignals,
  line_frequencies,
)

TASK = PeriodicSignals(points=64)
PLAIN = [name for name, form in FORMS.items() if not form.noise]
ANGLE = np.linspace(-20, 20, 1001)


def formula(name, a, b):
  """Written down a second time."""
  return {
    'sine': lambda: np.sin(a),
    'square': lambda: waves.square(a) * np.sqrt(0.5),
    'triangle': lambda: waves.sawtooth(a + np.pi / 2, 0.5) * np.sqrt(1.5),
    'sawtooth': lambda: waves.sawtooth(a) * np.sqrt(1.5),
    'rectified': lambda: (np.abs(np.sin(a / 2)) - 0.636620) * 2.297600,
    'exp_sine': lambda: (np.exp(np.sin(a)) - 1.266066) * 0.859599,
    'harmonics': lambda: 0.894427 * (np.sin(a) + np.sin(2 * a + 1) / 2),
    'two_periods': lambda: (np.sin(a) + np.cos(b)) * np.sqrt(0.5),
    'modulated': lambda: 0.870388 * (np.sin(a) + 0.8 * np.sin(b) * np.sin(a)),
  }[name]()


@pytest.mark.parametrize('name', PLAIN)
def test_is_its_formula(name):
  found = FORMS[name].shape(np, ANGLE, 0.7 * ANGLE + 1)
  wanted = formula(name, ANGLE, 0.7 * ANGLE + 1)
  np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize('name', FORMS)
def test_predicting_zero_has_the_error_of_a_sine(name):
  form = FORMS[name]
  angle = 0.157 * np.arange(400_000)
  values = form.shape(np, angle, form.ratio * angle)
  assert np.mean(values) == pytest.approx(0, abs=2e-3)
  assert np.mean(values**2) == pytest.approx(0.5, abs=2e-3)


@functools.cache
def drawn():
  """A signal of each form, as drawn and as sampled."""

  def draw(key):
    return {
      name: (TASK.draw(key, form), TASK.sample(key, form))
      for name, form in FORMS.items()
    }

  return jit_once(draw)(jax.random.key(3))


@pytest.mark.parametrize('name', FORMS)
def test_samples_are_what_the_oracle_says(name):
  signal, found = drawn()[name]
  off = np.abs(found - TASK.oracle(signal, FORMS[name]))
  # A time may fall on either side of a jump.
  assert np.sum(off > 1e-4) <= 2 * (name in ('square', 'sawtooth'))


def test_two_forms_have_periods_without_a_common_one():
  ratios = [form.ratio for form in FORMS.values() if form.ratio]
  assert len(ratios) == 2
  for ratio in ratios:
    assert (ratio * np.arange(1, 50) % 1).min() > 0.003


def test_every_time_is_used_once():
  splits = [
    TASK.split_T(name) for name in ('train', 'validation', 'inside', 'outside')
  ]
  np.testing.assert_array_equal(np.sum(splits, axis=0), 1)
  assert [split.sum() for split in splits] == [64, 32, 32, 256]
  for inside in splits[:3]:
    assert np.abs(TASK.times_T[inside]).max() < TASK.half_range
  far = np.abs(TASK.times_T[splits[3]])
  assert TASK.half_range < far.min() and far.max() < 3 * TASK.half_range
  steps = np.diff(TASK.times_T[splits[0]])
  np.testing.assert_allclose(steps, 2 * TASK.half_range / 64)


def test_period_and_phase_are_drawn():
  keys = jax.random.split(jax.random.key(0), 500)
  draw = jit_once(jax.vmap(lambda key: TASK.draw(key, FORMS['sine'])))
  many = jax.tree.map(np.asarray, draw(keys))
  assert 2 / 3 <= many.frequency.min() < 0.68
  assert 1.48 < many.frequency.max() <= 3 / 2
  assert np.median(many.frequency) == pytest.approx(1, abs=0.05)
  assert 0 <= many.phases.min() and many.phases.max() <= 2 * math.pi
  np.testing.assert_allclose(many.phases.mean(axis=0), math.pi, rtol=0.1)
  assert not np.any(many.noise_T)


@pytest.mark.parametrize(
  ('name', 'memory', 'step'), [('temperature', 0.7, 0.1), ('walk', 1.0, 0.03)]
)
def test_noise_remembers(name, memory, step):
  noise = np.asarray(drawn()[name][0].noise_T, 'f8')
  assert noise[TASK.inside_T].mean() == pytest.approx(0, abs=1e-5)
  steps = noise[1:] - memory * noise[:-1]
  assert np.std(steps) == pytest.approx(step, rel=0.15)
  assert abs(np.corrcoef(steps, noise[:-1])[0, 1]) < 0.15


@pytest.mark.parametrize(
  'name', ['sine', 'harmonics', 'two_periods', 'modulated']
)
def test_known_periods_explain_a_form(name):
  form = FORMS[name]
  times = TASK.times_T
  values = form.shape(np, 0.9 * times + 1, form.ratio * 0.9 * times + 2)
  angle = np.multiply.outer(times, line_frequencies(0.9, form))
  columns = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
  fitted = columns @ np.linalg.lstsq(columns, values)[0]
  np.testing.assert_allclose(fitted, values, atol=1e-6)
  wrong = np.multiply.outer(times, line_frequencies(1.0, form))
  left = np.linalg.lstsq(np.sin(wrong), values)[1]
  assert left > 0.01 * np.sum(values**2)


def test_points_resolve_frequencies_up_to_the_highest():
  at = np.arange(TASK.points) * 2 * TASK.half_range / TASK.points
  np.testing.assert_allclose(np.cos(TASK.nyquist * at[:4]), [1, -1, 1, -1])
