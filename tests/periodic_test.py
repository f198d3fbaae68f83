"""Periodic activations and layers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from extrap.errors import UsageError
from extrap.models.periodic import (
  ACTIVATIONS,
  ActivatedLayer,
  FANLayer,
  FourierFeatures,
  Siren,
  Snake,
  fan,
  fourier_features,
  snake,
  snake_mean,
  snake_variance,
)

X = np.linspace(-7, 7, 101)
FREQUENCIES = (0.0, 1e-14, 1e-6, 0.2, 0.5605, 1.0, 5.0, 10.0, 30.0, -2.0)
NAMES = ACTIVATIONS.names()


def formula(name, x):
  return {
    'relu': np.maximum(x, 0),
    'tanh': np.tanh(x),
    'sin': np.sin(x),
    'x_plus_sin': x + np.sin(x),
    'siren': np.sin(30 * x),
    'snake': x + np.sin(x) ** 2,
  }[name]


@pytest.mark.parametrize('name', NAMES)
def test_is_its_formula(name):
  with jax.enable_x64(True):
    found = ACTIVATIONS.get(name)().apply({}, jnp.asarray(X)[None])
  np.testing.assert_allclose(found[0], formula(name, X), atol=1e-12)


@pytest.mark.parametrize('a', FREQUENCIES)
def test_snake_and_its_gradients(a):
  with jax.enable_x64(True):
    x, frequency = jnp.asarray(X), jnp.asarray(a)
    value = snake(x, frequency)
    slope = jax.vmap(jax.grad(snake), (0, None))(x, frequency)
    by_a = jax.vmap(jax.grad(snake, 1), (0, None))(x, frequency)
    value, slope, by_a = map(np.asarray, (value, slope, by_a))
  wave = np.sin(a * X) ** 2 / a if a else 0 * X
  np.testing.assert_allclose(value, X + wave, atol=1e-12)
  np.testing.assert_allclose(slope, 1 + np.sin(2 * a * X), atol=1e-9)
  assert np.all(slope >= -1e-12)
  if abs(a) < 1e-5:
    np.testing.assert_allclose(by_a, X**2, rtol=1e-6)
  else:
    exact = X * np.sin(2 * a * X) / a - np.sin(a * X) ** 2 / a**2
    np.testing.assert_allclose(by_a, exact, atol=1e-9)


@pytest.mark.parametrize('a', FREQUENCIES)
def test_snake_is_finite_in_float32(a):
  x, frequency = jnp.asarray(X, jnp.float32), jnp.float32(a)
  moments = (snake_mean(frequency), snake_variance(frequency))
  slopes = jax.vmap(jax.grad(snake, (0, 1)), (0, None))(x, frequency)
  steepness = [jax.grad(f)(frequency) for f in (snake_mean, snake_variance)]
  for leaf in jax.tree.leaves((moments, slopes, steepness)):
    assert np.all(np.isfinite(leaf))
  np.testing.assert_allclose(slopes[0], 1 + np.sin(2 * a * X), atol=1e-4)


@pytest.mark.parametrize('a', FREQUENCIES)
def test_moments_of_snake_are_those_of_a_sample(a):
  nodes, shares = special.roots_hermitenorm(180)
  shares = shares / shares.sum()
  value = np.asarray(snake(jnp.asarray(nodes, jnp.float32), jnp.float32(a)))
  sample = np.random.default_rng(0).normal(size=400_000)
  drawn = np.asarray(snake(jnp.asarray(sample, jnp.float32), jnp.float32(a)))
  mean, variance = snake_mean(jnp.float32(a)), snake_variance(jnp.float32(a))
  np.testing.assert_allclose(mean, drawn.mean(), atol=0.006)
  np.testing.assert_allclose(variance, drawn.var(), rtol=0.01)
  if abs(a) < 2:  # What the quadrature resolves.
    np.testing.assert_allclose(mean, shares @ value, atol=1e-5)
    spread = shares @ value**2 - (shares @ value) ** 2
    np.testing.assert_allclose(variance, spread, rtol=1e-4)


@pytest.mark.parametrize(
  ('a', 'variance'), [(0.5605, 1.2036), (1, 1.1205), (5, 1.0050), (10, 1.00125)]
)
def test_known_variances_of_snake(a, variance):
  found = snake_variance(jnp.float32(a))
  np.testing.assert_allclose(found, variance, atol=6e-5)


def test_corrected_snake_keeps_unit_variance():
  sample = jnp.asarray(np.random.default_rng(0).normal(size=(100_000, 1)), 'f4')
  plain, corrected = (
    Snake(a=0.6, corrected=on).apply({}, sample) for on in (False, True)
  )
  np.testing.assert_allclose(np.var(plain), 1.203, rtol=0.02)
  np.testing.assert_allclose(np.var(corrected), 1, rtol=0.02)
  layer = {'a': jnp.full((1, 1), 5.0)}
  learned = Snake(a=0.6, learned='shared', corrected=True).apply(layer, sample)
  wanted = snake(sample, layer['a']) / np.sqrt(snake_variance(jnp.float32(0.6)))
  np.testing.assert_allclose(learned, wanted, rtol=1e-5)


@pytest.mark.parametrize(
  ('learned', 'shape'), [('shared', (1, 1)), ('channel', (1, 4))]
)
def test_learned_frequencies(learned, shape):
  layer = ActivatedLayer(Snake(a=0.0, learned=learned), 4)
  x_BI = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), 'f4')
  params = jax.jit(layer.init)(jax.random.key(0), x_BI)['params']
  assert params['a'].shape == shape and np.all(params['a'] == 0)

  def loss(params):
    return jnp.sum(layer.apply({'params': params}, x_BI))

  grad = jax.jit(jax.grad(loss))(params)
  hidden = x_BI @ params['kernel'] + params['bias']
  wanted = np.sum(hidden**2, axis=0, keepdims=True)
  if learned == 'shared':
    wanted = wanted.sum(keepdims=True)
  np.testing.assert_allclose(grad['a'], wanted, rtol=1e-4)


def test_each_channel_has_its_own_frequency():
  a = jnp.array([[0.5, 3.0]])
  x_BO = jnp.array([[1.0, 1.0], [2.0, -2.0]])
  found = Snake(learned='channel').apply({'a': a}, x_BO)
  for row, column in np.ndindex(2, 2):
    wanted = snake(x_BO[row, column], a[0, column])
    np.testing.assert_allclose(found[row, column], wanted, rtol=1e-6)


def fresh(layer, inputs):
  return jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, inputs)))['params']


@pytest.mark.parametrize(
  ('activation', 'first', 'limit'),
  [
    (Siren(), True, 1 / 64),
    (Siren(), False, math.sqrt(6 / 64) / 30),
    (Siren(omega=5.0), False, math.sqrt(6 / 64) / 5),
    (Snake(), False, math.sqrt(3 / 64)),
    (Snake(), True, math.sqrt(3 / 64)),
    (ACTIVATIONS.get('relu')(), False, math.sqrt(6 / 64)),
  ],
)
def test_fresh_weights(activation, first, limit):
  params = fresh(ActivatedLayer(activation, 500, first), 64)
  drawn = np.asarray(params['kernel'])
  assert 0.995 * limit < np.abs(drawn).max() <= limit * (1 + 1e-6)
  np.testing.assert_allclose(drawn.var(), limit**2 / 3, rtol=0.03)
  largest = 1 / 8 if isinstance(activation, Siren) else 0
  assert 0.95 * largest <= np.abs(params['bias']).max() <= largest


@pytest.mark.parametrize('name', NAMES)
def test_layer_is_an_activation_of_a_linear_map(name):
  activation = ACTIVATIONS.get(name)()
  layer = ActivatedLayer(activation, 4)
  x_BI = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), 'f4')
  params = fresh(layer, 3)
  params['bias'] = jnp.array([[0.1, -0.2, 0.3, 0.0]])
  hidden = np.asarray(x_BI, 'f8') @ np.asarray(params['kernel'], 'f8')
  hidden += np.asarray(params['bias'], 'f8')
  found = layer.apply({'params': params}, x_BI)
  np.testing.assert_allclose(found, formula(name, hidden), atol=2e-5)


def test_fan_layer():
  layer = FANLayer(12)
  params = fresh(layer, 3)
  assert jax.tree.map(jnp.shape, params) == {
    'periodic': (3, 3),
    'kernel': (3, 6),
    'bias': (1, 6),
  }
  rows = np.random.default_rng(0).normal(size=(5, 3))
  found = layer.apply({'params': params}, jnp.asarray(rows, jnp.float32))
  angle = rows @ params['periodic']
  plain = rows @ params['kernel'] + params['bias']
  gelu = plain * (1 + special.erf(plain / math.sqrt(2))) / 2
  wanted = np.concatenate([np.cos(angle), np.sin(angle), gelu], axis=1)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  large = fresh(FANLayer(400), 25)
  for leaf in large.values():
    assert 0.98 / 5 < np.abs(leaf).max() <= 1 / 5


def test_fan_repeats_itself_but_for_its_plain_part():
  periodic = jnp.full((1, 1), 2.0)
  x_BI = jnp.array([[0.3], [0.3 + math.pi]])
  found = fan(x_BI, periodic, jnp.ones((1, 2)), jnp.zeros((1, 2)))
  np.testing.assert_allclose(found[0, :2], found[1, :2], atol=1e-5)
  assert np.all(found[0, 2:] < found[1, 2:])


def test_fourier_features():
  frequency = np.array([[1.0, 0.5]])
  found = fourier_features(jnp.array([[0.25]]), jnp.asarray(frequency, 'f4'))
  half = math.sqrt(0.5)
  np.testing.assert_allclose(found, [[0, half, 1, half]], atol=1e-6)


@pytest.mark.parametrize('learned', [False, True])
def test_only_learned_frequencies_have_a_gradient(learned):
  layer = FourierFeatures(2000, deviation=3.0, learned=learned)
  params = fresh(layer, 2)
  np.testing.assert_allclose(np.std(params['frequency']), 3, rtol=0.05)
  x_BI = jnp.array([[0.3, -0.2]])
  grad = jax.jit(
    jax.grad(lambda params: jnp.sum(layer.apply({'params': params}, x_BI)))
  )(params)
  assert np.any(grad['frequency'] != 0) == learned


@pytest.mark.parametrize(
  'layer',
  [
    ActivatedLayer(Snake(learned='channel'), 4),
    FANLayer(4),
    FourierFeatures(2),
  ],
  ids=['snake', 'fan', 'fourier'],
)
def test_populations_share_their_inputs(layer):
  x_BI = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), 'f4')
  keys = jax.random.split(jax.random.key(0), 3)
  variables = jax.jit(jax.vmap(layer.init, (0, None)))(keys, x_BI)
  found = jax.vmap(layer.apply, (0, None))(variables, x_BI)
  assert found.shape == (3, 5, 4)
  last = jax.tree.map(lambda leaf: leaf[2], variables)
  np.testing.assert_allclose(found[2], layer.apply(last, x_BI), atol=1e-5)


def test_an_unknown_activation_is_one_line():
  with pytest.raises(UsageError, match=r"^unknown activation 'snak'; did you"):
    ACTIVATIONS.get('snak')
