"""Lines, networks and closed forms: each continues what it should."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.compilation import jit_once
from extrap.factors import Fading
from extrap.models.periodic import (
  FANLayer,
  LineSpectrum,
  Siren,
  Snake,
  amplitudes,
  fan_network,
  fourier_network,
  least_squares,
  matching_pursuit,
  mlp,
)
from extrap.series import SeriesProblem
from extrap.training.config import TrainConfig
from extrap.training.loop import fit

TIME = np.linspace(-1, 1, 65)
FAR = np.linspace(1, 3, 65)
FREQUENCY = np.array([[11.9], [17.2]])  # Between bins, both of them.
STEPS = 800


def sines(time):
  return np.sin(FREQUENCY * time + np.array([[1.0], [4.0]]))


@functools.cache
def continued(learned=True, penalised=True):
  """Error far outside for two sines, and how large the lines are."""
  model = LineSpectrum(12, learned=learned)
  problem = SeriesProblem(
    model=model,
    time_B=np.asarray(TIME, 'f4'),
    value_RB=np.asarray(sines(TIME), 'f4'),
    factor=Fading(0.3, 0.003, 600) if penalised else Fading(),
  )
  config = TrainConfig(
    steps=STEPS,
    optimizer='adam',
    learning_rate=2e-2,
    clip=0.0,
    steps_per_dispatch=STEPS,
  )
  hparams = {'series': [0, 1], 'scale': 1.0}
  params = fit(problem, config, replicas=2, hparams=hparams).params
  times = jnp.asarray(FAR[:, None], 'f4')
  found = jax.vmap(problem.predict, (0, None, None))(params, times, 1.0)
  error = np.mean((found[..., 0] - sines(FAR)) ** 2, axis=1)
  return error, np.sort(jax.vmap(amplitudes)(params)[..., 0])


def test_lines_continue_a_sine_of_unknown_frequency():
  error, height = continued()
  assert np.all(error < 1e-3)
  assert np.all(height[:, -4:].sum(1) > 0.97)
  assert np.all(height[:, :6] < 0.01)


def test_neither_the_lasso_nor_learned_frequencies_can_be_left_out():
  assert np.all(continued(learned=False)[0] > 0.05)
  assert np.all(continued(penalised=False)[1][:, :6].sum(1) > 0.02)


def test_lines_start_one_in_each_bin_and_silent():
  model, x_B1 = LineSpectrum(8), jnp.ones((3, 1))
  keys = jax.random.split(jax.random.key(0), 50)
  params = jit_once(jax.vmap(model.init, (0, None)))(keys, x_B1)['params']
  params = jax.tree.map(np.asarray, params)
  bins = params['frequency'][:, 0] / math.pi
  np.testing.assert_array_equal(
    np.floor(bins), np.tile(np.arange(8.0), (50, 1))
  )
  assert np.std(bins[:, 0]) > 0.2
  first = jax.tree.map(lambda leaf: leaf[0], params)
  np.testing.assert_array_equal(model.apply({'params': first}, x_B1), 0)


def test_lines_are_sines_and_a_constant():
  params = {
    'frequency': jnp.array([[2.0, 5.0]]),
    'cosine': jnp.array([[1.0], [0.5]]),
    'sine': jnp.array([[0.0], [-2.0]]),
    'bias': jnp.array([[3.0]]),
  }
  x = np.linspace(-2, 2, 7)
  found = LineSpectrum(2).apply(
    {'params': params}, jnp.asarray(x[:, None], 'f4')
  )
  wanted = 3 + np.cos(2 * x) + np.cos(5 * x) / 2 - 2 * np.sin(5 * x)
  np.testing.assert_allclose(found[:, 0], wanted, atol=1e-5)
  # No line has an amplitude whose gradient is not finite.
  silent = jax.tree.map(jnp.zeros_like, params)
  slope = jax.grad(LineSpectrum(2).penalty)(silent)
  assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
  ('network', 'weights'),
  [
    (mlp(Snake(a=5.0)), 4353),
    (mlp(Snake(a=5.0, learned='channel')), 4353 + 128),
    (fan_network(), (16 + 32 + 32) + (64 * 48 + 32) + 65),
    (fourier_network(), 32 + 2 * (64 * 64 + 64) + 65),
  ],
  ids=['mlp', 'channel', 'fan', 'fourier'],
)
def test_networks_have_two_hidden_layers_of_their_width(network, weights):
  shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((5, 1)))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == weights
  found = jax.eval_shape(network.apply, shapes, jnp.ones((5, 1)))
  assert found.shape == (5, 1)
  assert isinstance(fan_network().layers[1], FANLayer)


def test_the_last_map_is_linear_and_starts_as_its_layers_say():
  network = mlp(Siren(), width=500)
  init = jit_once(network.init)
  params = init(jax.random.key(0), jnp.ones((1, 1)))['params']
  first, _, last = (params[f'layers_{place}'] for place in range(3))
  assert 0.99 < np.abs(first['kernel']).max() <= 1
  limit = math.sqrt(6 / 500) / 30
  assert 0.95 * limit < np.abs(last['kernel']).max() <= limit
  doubled = params | {'layers_2': jax.tree.map(lambda x: 2 * x, last)}
  x_B1 = jnp.array([[0.3], [2.0]])
  apply = jit_once(network.apply)
  one, two = (apply({'params': p}, x_B1) for p in (params, doubled))
  np.testing.assert_allclose(two, 2 * one, rtol=1e-5)


def test_least_squares_continues_what_it_is_told():
  for value, frequency in zip(sines(TIME), FREQUENCY, strict=True):
    found = least_squares(TIME, value, frequency, FAR)
    wanted = least_squares(FAR, found, frequency, FAR)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
  found = least_squares(TIME, sines(TIME)[0] + 2, FREQUENCY[0], FAR)
  np.testing.assert_allclose(found, sines(FAR)[0] + 2, atol=1e-9)


def test_pursuit_finds_lines_by_their_size():
  grid = np.linspace(0.1, 60, 600)
  value = 2 * np.cos(20 * TIME) + np.sin(40 * TIME + 1)
  found = matching_pursuit(TIME, value, grid, lines=2)
  np.testing.assert_allclose(found, [20, 40], atol=0.3)


def test_pursuit_looks_between_the_points_of_its_grid_and_ends():
  times = np.linspace(-20, 20, 2001)
  value = 3 + np.cos(20.033 * times + 1)
  found = matching_pursuit(times, value, np.arange(0.1, 60, 0.1), lines=5)
  assert len(found) < 5
  assert found[0] == pytest.approx(20.033, abs=2e-3)
