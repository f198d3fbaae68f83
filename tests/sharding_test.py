"""Tests of training/sharding.py, and of training on simulated devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from extrap.errors import UsageError
from extrap.models.config import TransformerConfig
from extrap.models.positions import NoPosition
from extrap.models.transformer import Transformer
from extrap.randomness import named
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.training import (
  Context,
  Fit,
  MeshConfig,
  Problem,
  ShardingRules,
  TrainConfig,
  fit,
  make_mesh,
)


@pytest.mark.parametrize(
  ('asked', 'sizes'),
  [
    ({}, (1, 1, 1)),
    ({'replica': 2, 'data': 2, 'model': 2}, (2, 2, 2)),
    ({'data': 3}, (1, 3, 1)),
    ({'data': -1}, (1, 8, 1)),
    ({'replica': 2, 'data': -1, 'model': 2}, (2, 2, 2)),
    ({'replica': -1, 'data': 8}, (1, 8, 1)),
  ],
)
def test_sizes_of_a_mesh(
  asked: dict[str, int], sizes: tuple[int, int, int]
) -> None:
  mesh = make_mesh(MeshConfig(**asked))
  assert mesh.axis_names == ('replica', 'data', 'model')
  assert mesh.devices.shape == sizes
  assert list(mesh.devices.flat) == jax.devices()[: np.prod(sizes)]


@pytest.mark.parametrize(
  ('asked', 'message'),
  [
    ({'data': 9}, '--mesh.data=9 --mesh.model=1 needs 9 devices, 8 are here'),
    ({'data': 4, 'model': 4}, 'needs 16 devices, 8 are here'),
    ({'data': -1, 'model': 3}, '3 does not divide 8 devices'),
    ({'data': -1, 'model': 16}, '16 does not divide 8 devices'),
    ({'data': -1, 'model': -1}, '-1 at most once'),
    ({'data': 0}, 'sizes are positive'),
  ],
)
def test_a_mesh_that_cannot_be_is_refused(
  asked: dict[str, int], message: str
) -> None:
  with pytest.raises(UsageError, match=re.escape(message)) as caught:
    make_mesh(MeshConfig(**asked))
  assert '\n' not in str(caught.value)
  for axis, size in asked.items():
    assert f'--mesh.{axis}={size}' in str(caught.value)


class Mlp:
  """Two products with the transformer's axis names; quick to compile."""

  def __init__(self, batch_size: int = 8, hidden: int = 16):
    self.batch_size, self.hidden = batch_size, hidden
    self.shardings = []

  def init(self, key: jax.Array) -> dict[str, object]:
    make = nn.initializers.lecun_normal()
    into = nn.with_logical_partitioning(make, ('embed', 'ffn'))
    out = nn.with_logical_partitioning(make, ('ffn', 'embed'))
    return {
      'in': into(named(key, 'in'), (8, self.hidden)),
      'out': out(named(key, 'out'), (self.hidden, 8)),
      'scale': jnp.ones(8),
    }

  def sample(self, ctx: Context) -> jax.Array:
    return jax.random.normal(ctx.key, (self.batch_size, 8))

  def loss(
    self, params: dict[str, jax.Array], x_BE: jax.Array, ctx: Context
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    jax.debug.inspect_array_sharding(x_BE, callback=self.shardings.append)
    y_BE = jnp.tanh(x_BE @ params['in']) @ params['out']
    error_BE = y_BE * params['scale'][None] - x_BE[:, ::-1]
    return jnp.mean(error_BE**2), {}


def _train(
  problem: Problem,
  replica: int,
  data: int,
  model: int,
  optimizer: str = 'adamw',
  **more: object,
) -> Fit:
  config = TrainConfig(
    steps=5,
    steps_per_dispatch=1,
    warmup_steps=1,
    evaluate_every=0,
    optimizer=optimizer,
  )
  mesh = make_mesh(MeshConfig(replica=replica, data=data, model=model))
  return fit(problem, config, replicas=2, mesh=mesh, **more)


def _losses(run: Fit) -> np.ndarray:
  return np.stack([record['train/loss'] for record in run.history])


@pytest.fixture(scope='module')
def whole() -> Fit:
  """The run of all replicas on a single device."""
  return _train(Mlp(), 1, 1, 1)


@pytest.mark.parametrize('sizes', [(2, 2, 2), (1, 4, 2), (1, 8, 1)])
def test_devices_do_not_change_what_is_learned(
  whole: Fit, sizes: tuple[int, int, int]
) -> None:
  problem = Mlp()
  run = _train(problem, *sizes)
  assert len(run.params['in'].sharding.device_set) == 8
  np.testing.assert_allclose(_losses(run), _losses(whole), rtol=1e-5)
  np.testing.assert_allclose(
    run.params['in'], whole.params['in'], rtol=1e-4, atol=1e-6
  )
  # The batch is spread, too.
  replica = 'replica' if sizes[0] > 1 else None
  assert problem.shardings[0].spec == P(replica, 'data')


def _transformer() -> SequenceProblem:
  task = Addition(base=2)
  config = TransformerConfig(
    position=NoPosition(), width=16, heads=2, ffn_width=12
  )
  model = Transformer(config, task.vocab_size)
  return SequenceProblem(task=task, model=model, max_size=2, batch_size=8)


def test_a_transformer_lies_where_the_rules_say() -> None:
  alone = _train(_transformer(), 1, 1, 1)
  run = _train(_transformer(), 2, 2, 2)
  np.testing.assert_allclose(_losses(run), _losses(alone), rtol=1e-5)
  moments = run.state.opt_state[1][0]
  # Leading axes: replica, layer.
  for tree in run.params, moments.mu, moments.nu:
    kernel = tree['layers']['ffn']['in']['kernel']
    assert kernel.sharding.spec == P('replica', None, 'data', 'model')
    assert kernel.shape == (2, 1, 16, 12)
    assert kernel.addressable_shards[0].data.shape == (1, 1, 8, 6)
    out = tree['layers']['ffn']['out']['kernel']
    assert out.addressable_shards[0].data.shape == (1, 1, 6, 8)
    query = tree['layers']['attention']['query']
    assert query.addressable_shards[0].data.shape == (1, 1, 8, 1, 8)
    scale = tree['norm']['scale']
    assert scale.addressable_shards[0].data.shape == (1, 16)


def test_the_state_of_two_optimizers_lies_where_the_rules_say() -> None:
  alone = _train(_transformer(), 1, 1, 1, 'muon')
  run = _train(_transformer(), 2, 2, 2, 'muon')
  np.testing.assert_allclose(_losses(run), _losses(alone), rtol=1e-4)
  states = run.state.opt_state[1].inner_states
  matrices = states['muon'].inner_state[0].mu
  others = states['adam'].inner_state[0].mu
  kernel = matrices['layers']['ffn']['in']['kernel']
  assert kernel.addressable_shards[0].data.shape == (1, 1, 8, 6)
  table = others['embedding']
  assert table.addressable_shards[0].data.shape[0] == 1
  # Each parameter is in the charge of one of them.
  assert len(jax.tree.leaves((matrices, others))) == len(
    jax.tree.leaves(run.params)
  )


def test_other_rules_put_axes_elsewhere() -> None:
  rules = ShardingRules(embed=None, ffn='data')
  run = _train(Mlp(), 2, 4, 1, rules=rules)
  moments = run.state.opt_state[1][0]
  for tree in run.params, moments.mu, moments.nu:
    assert tree['in'].addressable_shards[0].data.shape == (1, 8, 4)
    assert tree['out'].addressable_shards[0].data.shape == (1, 4, 8)


def test_an_odd_axis_stays_whole() -> None:
  run = _train(Mlp(hidden=9), 1, 4, 2)
  assert run.params['in'].addressable_shards[0].data.shape == (2, 2, 9)
  assert run.params['in'].sharding.spec == P('replica', 'data', None)
  assert np.isfinite(_losses(run)).all()


def test_the_batch_divides_the_mesh() -> None:
  message = '--mesh.data=4 does not divide the batch size=6'
  with pytest.raises(UsageError, match=re.escape(message)) as caught:
    _train(Mlp(batch_size=6), 1, 4, 1)
  assert '\n' not in str(caught.value)


def test_replicas_divide_the_mesh() -> None:
  message = '--mesh.replica=4 does not divide --replicas=2'
  with pytest.raises(UsageError, match=re.escape(message)):
    _train(Mlp(), 4, 1, 1)
