"""CLEX against its formula, where it starts, and what it trains on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import (
  Recorder,
  assert_encodes,
  softmax_of,
  structure,
  turned,
  with_each,
)

from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import CLEX, NTKAware
from extrap.tasks.addition import Addition

BASE, WIDTH, PAIRS = 50.0, 6, 3


def clex(case, head, n, m):
  stretch = min(-(-case.length // 3), 2)
  kernels = (case.params[name].tobytes() for name in ('up', 'down'))
  rate_F = clex_rates(stretch, *kernels)
  query = turned(case.query[head, n], n * rate_F)
  key = turned(case.key[head, m], m * rate_F)
  return query @ key / np.sqrt(case.width)


@functools.cache
def clex_rates(stretch, up, down):
  """The published equation, by fine steps in its own variables."""
  index = 2 * np.arange(PAIRS)
  up = np.frombuffer(up).reshape(PAIRS, WIDTH)
  down = np.frombuffer(down).reshape(WIDTH, PAIRS)

  def slope(t, z):
    alpha = 2 * t - 1
    ntk = BASE * alpha ** (WIDTH / (WIDTH - 2))
    rate = 1 / ntk ** (index / WIDTH)
    power = index / (WIDTH - 2)
    change = -2 * power / (BASE ** (index / WIDTH) * alpha ** (power + 1))
    return np.tanh((z + np.log(rate)) @ up) @ down + change / rate

  z, t, h = -index / WIDTH * np.log(BASE), 1.0, 1 / 100
  for _ in range(100 * (stretch - 1)):
    a = slope(t, z)
    b = slope(t + h / 2, z + h / 2 * a)
    c = slope(t + h / 2, z + h / 2 * b)
    d = slope(t + h, z + h * c)
    z, t = z + h / 6 * (a + 2 * b + 2 * c + d), t + h
  return np.exp(z)


def test_it_equals_its_formula():
  position = CLEX(base=BASE, scale=2, trained=3)
  others = with_each(position, base=30.0, scale=3, trained=7, activation='silu')
  assert_encodes(position, softmax_of(clex), others)


def test_published_settings():
  clex = CLEX()
  assert (clex.scale, clex.activation) == (16, 'tanh')


def clex_parameters(position, width, **changed):
  made = {}
  position.stretched(Recorder(made, jax.random.key(0)), width)
  return made | changed


def test_it_starts_as_ntk_and_four_steps_suffice():
  position, width = CLEX(base=BASE, scale=4), 16
  made = clex_parameters(position, width)
  assert {k: v.shape for k, v in made.items()} == {
    'up': (8, 16),
    'down': (16, 8),
  }
  bound = 1 / 16**0.5
  assert 0.9 * bound < abs(made['up']).max() <= bound
  wide = clex_parameters(dataclasses.replace(position, expansion=2), width)
  assert wide['up'].shape == (8, 32)
  read = lambda name, init, shape: made[name]  # noqa: E731
  for t, rate_F in enumerate(position.stretched(read, width), 1):
    expected = NTKAware(base=BASE, scale=2 * t - 1).rates(width)
    np.testing.assert_allclose(rate_F, expected, rtol=1e-6)
  normal = np.random.default_rng(0).normal(size=(16, 8))
  made['down'] = jnp.asarray(0.1 * normal, jnp.float32)
  few, one, many = (
    np.log(dataclasses.replace(position, steps=k).stretched(read, width))
    for k in (4, 1, 32)
  )
  assert abs(few - many).max() < 1e-5
  assert abs(one - many).max() > 1e-4
  assert abs(many - many[0]).max() > 1


def test_it_trains_on_positions_of_all_stretches():
  position, tokens = CLEX(scale=3, trained=8), 6
  ids = structure(tokens)
  draw = jax.vmap(lambda key: position.prepare(ids, key, True))
  drawn = draw(jax.random.split(jax.random.key(0), 200))
  place_NT = np.asarray(drawn.position[:, 0])
  stretch_N = np.asarray(drawn.length[:, 0, 0]) // 8
  length_NBT = np.broadcast_to(8 * stretch_N[:, None, None], (200, 2, tokens))
  np.testing.assert_array_equal(drawn.length, length_NBT)
  np.testing.assert_array_equal(place_NT[:, 0], 0)
  np.testing.assert_array_equal(place_NT[:, -1], stretch_N * tokens - 1)
  assert (np.diff(place_NT) > 0).all()
  for stretch in (1, 2, 3):
    chosen = place_NT[stretch_N == stretch]
    assert 45 < len(chosen) < 90
    assert set(chosen.ravel()) == set(range(stretch * tokens))
  assert position.prepare(ids, jax.random.key(0), False) is ids
  with pytest.raises(UsageError, match='trained=8 is less than the 9 tokens'):
    position.prepare(structure(9), jax.random.key(0), True)


def test_it_trains_in_a_transformer_with_rates_of_the_stretch():
  position = CLEX(scale=3, trained=64)
  config = TransformerConfig(position=position, depth=2, width=16, heads=2)
  task = Addition()
  tokens_BT = jax.ShapeDtypeStruct((2, 9), jnp.int32)
  index_BQ = jax.ShapeDtypeStruct((2, 4), jnp.int32)

  def train(key, tokens_BT, index_BQ):
    model = Transformer(config, task.vocab_size)
    ids = task.structure(tokens_BT)
    params = model.init(key, tokens_BT, ids)
    logits = model.apply(params, tokens_BT, ids, index_BQ, key=key, train=True)
    return params, logits

  params, logits = jax.eval_shape(train, jax.random.key(0), tokens_BT, index_BQ)
  assert logits.shape == (2, 4, task.vocab_size)
  # Once, not in each layer.
  assert params['params']['position_up'].shape == (4, 8)
  made = clex_parameters(position, 8, down=jnp.full((8, 4), 0.1))
  read = lambda name, init, shape: made[name]  # noqa: E731
  table_NF = position.stretched(read, 8)
  assert abs(np.diff(table_NF, axis=0)).min() > 1e-4
  for length, stretch in ((1, 1), (64, 1), (65, 2), (129, 3), (1000, 3)):
    ids = structure(3, length=np.full(3, length))
    rate_B1F = position.common(ids, read, 8)['rates']
    np.testing.assert_allclose(rate_B1F[0, 0], table_NF[stretch - 1])
