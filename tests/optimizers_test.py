"""Tests of training/optimizers.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import AbacusFIRE
from extrap.tasks.addition import Addition
from extrap.training import TrainConfig
from extrap.training.optimizers import (
  as_replicas,
  check_schedule,
  default_hparams,
  make_optimizer,
  schedule,
)

PARTS = ('gate', 'in', 'out')
START = {'kernel': np.array([1.0, -2.0, 3.0], np.float32)}


def _config(**changes: object) -> TrainConfig:
  defaults = {
    'steps': 100,
    'schedule': 'constant',
    'warmup_steps': 0,
    'learning_rate': 0.1,
    'weight_decay': 0.0,
    'clip': 0.0,
  }
  return TrainConfig(**(defaults | changes))


def _factors(config: TrainConfig, *steps: int) -> list[float]:
  return [float(schedule(config)(jnp.int32(step))) for step in steps]


def _once(config: TrainConfig, params: dict, grads: dict) -> dict:
  """The first update."""
  optimizer = make_optimizer(config, default_hparams(config))
  return optimizer.update(grads, optimizer.init(params), params)[0]


def test_warm_up_rises_in_a_line_from_the_first_step() -> None:
  config = _config(warmup_steps=10)
  np.testing.assert_allclose(
    _factors(config, 0, 1, 4, 9, 10, 50, 99, 200),
    [0.1, 0.2, 0.5, 1, 1, 1, 1, 1],
    rtol=1e-6,
  )
  assert _factors(_config(warmup_steps=1), 0, 1) == [1, 1]
  assert _factors(_config(), 0, 1) == [1, 1]


def test_cosine_falls_from_the_warm_up_to_the_end() -> None:
  config = _config(schedule='cosine', warmup_steps=20)
  quarter = (1 + np.cos(np.pi / 4)) / 2
  np.testing.assert_allclose(
    _factors(config, 9, 20, 40, 60, 100, 150),
    [0.5, 1, quarter, 0.5, 0, 0],
    atol=1e-6,
  )
  config = _config(schedule='cosine', final_fraction=0.2)
  np.testing.assert_allclose(
    _factors(config, 0, 50, 100), [1, 0.6, 0.2], atol=1e-6
  )


def test_trapezoid_is_flat_until_its_cooldown() -> None:
  config = _config(schedule='trapezoid', warmup_steps=10, cooldown_fraction=0.2)
  np.testing.assert_allclose(
    _factors(config, 4, 10, 79, 80, 85, 90, 100, 120),
    [0.5, 1, 1, 1, 0.75, 0.5, 0, 0],
    atol=1e-6,
  )


def test_the_schedule_has_a_length_of_its_own() -> None:
  config = _config(schedule='cosine', steps=10, schedule_steps=100)
  np.testing.assert_allclose(_factors(config, 50), [0.5], atol=1e-6)
  check_schedule(config)
  # A run shorter than its warm-up still reaches the peak.
  assert _factors(_config(steps=4, warmup_steps=100), 0, 3) == [0.25, 1]


@pytest.mark.parametrize(
  'optimizer',
  [
    'adamw',
    'adam',
    'nadamw',
    'lion',
    'adafactor',
    'rmsprop',
    'sgd',
    'muon',
  ],
)
def test_lowers_a_quadratic(optimizer: str) -> None:
  config = _config(optimizer=optimizer, learning_rate=0.05)

  @jax.jit
  def train(rate: jax.Array) -> jax.Array:
    made = make_optimizer(
      config, {'learning_rate': rate, 'weight_decay': jnp.zeros(())}
    )

    def step(carry: tuple, _: None) -> tuple:
      params, state = carry
      loss, grads = jax.value_and_grad(_quadratic)(params)
      updates, state = made.update(grads, state, params)
      return (jax.tree.map(jnp.add, params, updates), state), loss

    start = jax.tree.map(jnp.asarray, START)
    return jax.lax.scan(step, (start, made.init(start)), length=100)[1]

  losses = train(0.05)
  assert losses[-1] < 0.1 * losses[0]
  # The traced number, not the config's, is what acts.
  np.testing.assert_array_equal(train(0.0), jnp.full(100, losses[0]))


def _quadratic(params: dict[str, jax.Array]) -> jax.Array:
  return jnp.sum(params['kernel'] ** 2)


def test_optimizers_are_different() -> None:
  grads = {'kernel': np.array([1.0, 0.1, -3.0], np.float32)}
  first = {
    name: _once(_config(optimizer=name), START, grads)['kernel']
    for name in ('adam', 'nadamw', 'lion', 'rmsprop', 'sgd', 'adafactor')
  }
  np.testing.assert_allclose(first['sgd'], -0.1 * grads['kernel'], rtol=1e-6)
  np.testing.assert_allclose(
    first['adam'], -0.1 * np.sign(grads['kernel']), rtol=1e-5
  )
  np.testing.assert_allclose(
    first['lion'], -0.1 * np.sign(grads['kernel']), rtol=1e-6
  )
  rest = [first[name] for name in ('adam', 'nadamw', 'rmsprop', 'adafactor')]
  for row, one in enumerate(rest):
    for other in rest[:row]:
      assert not np.allclose(one, other, rtol=1e-3)


def test_adadelta_steps_by_the_size_of_its_steps() -> None:
  config = _config(optimizer='adadelta', learning_rate=0.5)
  optimizer = make_optimizer(config, default_hparams(config))
  grads = {'kernel': np.array([2.0, -0.5, 1.0], np.float32)}
  state = optimizer.init(START)
  gradient, step = np.zeros(3), np.zeros(3)
  for _ in range(3):
    updates, state = optimizer.update(grads, state, START)
    # Zeiler (2012), algorithm 1.
    gradient = 0.9 * gradient + 0.1 * grads['kernel'] ** 2
    wanted = np.sqrt((step + 1e-6) / (gradient + 1e-6)) * grads['kernel']
    step = 0.9 * step + 0.1 * wanted**2
    np.testing.assert_allclose(updates['kernel'], -wanted / 2, rtol=1e-5)


def test_betas_and_epsilon_reach_adam() -> None:
  grads = {'kernel': np.array([1e-3, 2e-3, 4e-3], np.float32)}
  found = _once(_config(epsilon=1e-3), START, grads)['kernel']
  np.testing.assert_allclose(found, [-0.05, -0.2 / 3, -0.08], rtol=1e-5)
  config = _config(b1=0.5, b2=0.0)
  optimizer = make_optimizer(config, default_hparams(config))
  state = optimizer.init(START)
  for factor in (1.0, 3.0):
    scaled = jax.tree.map(lambda g, f=factor: g * f, grads)
    updates, state = optimizer.update(scaled, state, START)
  # First moment (1 / 4 + 3 / 2) / (1 - 1 / 4), second 3 squared.
  np.testing.assert_allclose(updates['kernel'], [-0.1 * 7 / 9] * 3, rtol=1e-4)


def test_clips_the_global_norm() -> None:
  params = {'a': np.zeros(1, np.float32), 'b': np.zeros(1, np.float32)}
  grads = {'a': np.array([30.0], np.float32), 'b': np.array([40.0], np.float32)}
  sgd = functools.partial(_config, optimizer='sgd', learning_rate=1.0)
  found = _once(sgd(clip=5.0), params, grads)
  np.testing.assert_allclose([found['a'][0], found['b'][0]], [-3, -4])
  for free in (sgd(clip=0.0), sgd(clip=100.0)):
    found = _once(free, params, grads)
    np.testing.assert_allclose([found['a'][0], found['b'][0]], [-30, -40])


def test_muon_has_the_hidden_matrices_of_a_model_and_nothing_else() -> None:
  config = TransformerConfig(
    position=AbacusFIRE(), ffn='geglu', ffn_depth=2, qk_norm=True, depth=2
  )
  model, tokens = Transformer(config, 14), jnp.zeros((1, 4), jnp.int32)
  params = jax.eval_shape(
    lambda key: model.init(key, tokens, Addition().structure(tokens)),
    jax.random.key(0),
  )['params']
  one = _config(optimizer='muon')
  state = make_optimizer(one, default_hparams(one)).init(nn.unbox(params))
  found = {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, _ in jax.tree.leaves_with_path(state.inner_states['muon'])
  }
  matrices = {name.partition('layers/')[2] for name in found} - {''}
  ffns = {f'ffn{n}/{part}/kernel' for n in ('', '_2') for part in PARTS}
  heads = {f'attention/{part}' for part in ('query', 'key', 'value', 'out')}
  assert matrices == ffns | heads


def test_muon_decays_hidden_matrices_alone() -> None:
  one = np.ones((2, 2), np.float32)
  params = {'embedding': one, 'logits': {'kernel': one}, 'kernel': one}
  config = _config(optimizer='muon', weight_decay=0.5)
  updates = _once(config, params, jax.tree.map(np.zeros_like, params))
  np.testing.assert_allclose(updates['kernel'], -0.05 * one, rtol=1e-6)
  assert not updates['embedding'].any()
  assert not updates['logits']['kernel'].any()


@pytest.mark.parametrize('optimizer', ['adamw', 'nadamw', 'lion'])
def test_decays_kernels_and_embeddings_alone(optimizer: str) -> None:
  one = np.ones(2, np.float32)
  params = {
    'embedding': one,
    'position_table': one,
    'norm': {'scale': one, 'bias': one},
    'layers': {'ffn': {'kernel': one}, 'attention': {'position_bias': one}},
  }
  config = _config(optimizer=optimizer, weight_decay=0.5)
  updates = _once(config, params, jax.tree.map(np.zeros_like, params))
  moved = {
    jax.tree_util.keystr(path, simple=True, separator='/'): float(leaf[0])
    for path, leaf in jax.tree.leaves_with_path(updates)
    if leaf.any()
  }
  # Decoupled: learning rate times decay times the parameter.
  assert moved == pytest.approx(
    {'embedding': -0.05, 'layers/ffn/kernel': -0.05}
  )


def test_muon_makes_the_updates_of_hidden_matrices_orthogonal() -> None:
  rng = np.random.default_rng(0)

  def stretched(*shape: int) -> np.ndarray:
    """Singular values 1..4; other ones would take more iterations."""
    u, _, v = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return (u * np.linspace(1, 4, u.shape[-1])) @ v

  grads = {
    'layers': {
      'attention': {
        'query': stretched(3, 8, 8).reshape(3, 8, 2, 4),
        'out': stretched(3, 8, 8).reshape(3, 2, 4, 8),
      },
      'ffn': {'kernel': stretched(3, 8, 16)},
    },
    'logits': {'kernel': rng.normal(size=(8, 5))},
    'embedding': rng.normal(size=(5, 8)),
    'position_table': rng.normal(size=(7, 8)),
  }
  grads = jax.tree.map(lambda leaf: leaf.astype(np.float32), grads)
  zeros = jax.tree.map(np.zeros_like, grads)
  updates = _once(_config(optimizer='muon'), zeros, grads)
  layers = updates['layers']
  for leaf, longest in (
    (layers['attention']['query'].reshape(3, 8, 8), 8),
    (layers['attention']['out'].reshape(3, 8, 8), 8),
    (layers['ffn']['kernel'], 16),
  ):
    values = np.linalg.svd(leaf, compute_uv=False)
    # Five iterations leave singular values near 1, not at 1.
    np.testing.assert_allclose(values / (0.1 * 0.2 * longest**0.5), 1, atol=0.4)
  # All others have Adam's, with Nesterov's momentum.
  adam = _once(_config(optimizer='nadamw'), zeros, grads)
  for name in ('embedding', 'position_table', 'logits'):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-5),
      updates[name],
      adam[name],
    )


def test_traced_numbers_reach_every_replica() -> None:
  config = _config(optimizer='adamw')
  sweep = {'learning_rate': [0.1, 0.2, 0.2], 'weight_decay': [0.0, 0.0, 0.5]}
  hparams_R = as_replicas(default_hparams(config) | sweep, 3)

  @jax.jit
  @jax.vmap
  def update(hparams: dict[str, jax.Array]) -> jax.Array:
    optimizer = make_optimizer(config, hparams)
    start = jax.tree.map(jnp.asarray, START)
    grads = {'kernel': jnp.ones(3)}
    return optimizer.update(grads, optimizer.init(start), start)[0]['kernel']

  wanted = [
    [-0.1] * 3,
    [-0.2] * 3,
    -0.2 - 0.1 * START['kernel'],
  ]
  np.testing.assert_allclose(update(hparams_R), wanted, atol=1e-6)


def test_numbers_become_one_a_replica() -> None:
  made = as_replicas({'a': 2, 'b': [1.0, 3.0]}, 2)
  assert {x.dtype for x in made.values()} == {jnp.dtype('float32')}
  np.testing.assert_array_equal(made['a'], [2, 2])
  np.testing.assert_array_equal(made['b'], [1, 3])
