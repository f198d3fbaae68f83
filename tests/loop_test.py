"""Tests of training/loop.py and trainer.py, and of problems that they train.

Shape key: B examples, F features, R replicas, K dispatches.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models.config import TransformerConfig
from extrap.models.positions import NoPosition
from extrap.models.transformer import Transformer
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.tasks.task import Batch, Structure
from extrap.training import (
  Context,
  Fit,
  MeshConfig,
  TrainConfig,
  fit,
  make_mesh,
)
from extrap.training.checkpoints import Checkpoints
from extrap.training.flops import count_step_flops

TRUTH = np.array([1.0, -2.0], np.float32)


def _uniform(key: jax.Array, count: int) -> jax.Array:
  """Numbers in [-1, 1) of a key; much faster to compile than jax.random."""
  low, high = jax.random.key_data(key)
  bits = low + high * (2 * jnp.arange(count, dtype=jnp.uint32) + 1)
  bits = (bits ^ (bits >> 15)) * jnp.uint32(0x2C1B3C6D)
  return (bits >> 8).astype(jnp.float32) / 2**23 - 1


@dataclasses.dataclass(frozen=True)
class Regression:
  """Two weights, y = x . TRUTH; never evaluated, never projected.

  Attributes:
    noise: standard deviation of y, drawn in `loss`.
    breaks: what is not finite from step ctx.hparams['breaks'] on.
  """

  noise: float = 0.0
  breaks: str = ''

  def init(self, key: jax.Array) -> dict[str, jax.Array]:
    return {'w': _uniform(key, 2)}

  def sample(self, ctx: Context) -> jax.Array:
    return 2 * _uniform(ctx.key, 16).reshape(8, 2)

  def loss(
    self, params: dict[str, jax.Array], x_BF: jax.Array, ctx: Context
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    w_1F, truth_1F = params['w'][None], jnp.asarray(TRUTH)[None]
    noise_B = self.noise * _uniform(ctx.key, 8)
    error_B = jnp.sum(x_BF * (w_1F - truth_1F), axis=1) + noise_B
    loss = jnp.mean(error_B**2)
    if self.breaks:
      broken = ctx.step >= ctx.hparams['breaks']
      # The root's value is 0 but its derivative is infinite.
      nothing = params['w'][0] - jax.lax.stop_gradient(params['w'][0])
      root = jnp.sqrt(jnp.where(broken, nothing, 1.0))
      bad = root if self.breaks == 'gradient' else jnp.nan
      loss += jnp.where(broken, bad, 0.0)
    flat = x_BF.ravel()
    return loss, {f'x{i}': flat[i] for i in range(16)}


@dataclasses.dataclass(frozen=True)
class HeldOut(Regression):
  """Held-out metrics that are known: how far the step is from a target."""

  def evaluate(
    self, params: dict[str, jax.Array], ctx: Context
  ) -> dict[str, jax.Array]:
    distance = jnp.abs(ctx.step + 1.0 - ctx.hparams['target'])
    draw = _uniform(ctx.key, 1)[0]
    return {'distance': distance, 'nearness': -distance, 'draw': draw} | {
      f'w{i}': params['w'][i] for i in range(2)
    }


@dataclasses.dataclass(frozen=True)
class Sharing(Regression):
  """Replicas 0 and 1 share their data; so do 2 and 3."""

  def stream(self, replica: jax.Array) -> jax.Array:
    return replica // 2


@dataclasses.dataclass(frozen=True)
class Clipped(Regression):
  """Weights stay in [-limit, limit]."""

  def project(
    self, params: dict[str, jax.Array], ctx: Context
  ) -> dict[str, jax.Array]:
    limit = ctx.hparams['limit']
    return {'w': jnp.clip(params['w'], -limit, limit)}


@dataclasses.dataclass(frozen=True)
class Limited(Clipped):
  """The limit is a quarter of the seed."""

  def hparams(self, seeds: Sequence[int]) -> dict[str, list[float]]:
    return {'limit': [seed / 4 for seed in seeds]}


@dataclasses.dataclass(frozen=True)
class Stored(Regression):
  """The batch is a window of stored data."""

  def sample(self, ctx: Context) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(ctx.data['x'], ctx.step, 8)


def _config(**changes: object) -> TrainConfig:
  defaults = {
    'steps': 20,
    'optimizer': 'sgd',
    'learning_rate': 0.05,
    'schedule': 'constant',
    'warmup_steps': 0,
    'b1': 0.0,
    'clip': 0.0,
    'steps_per_dispatch': 1,
    'evaluate_every': 0,
  }
  return TrainConfig(**(defaults | changes))


def _series(run: Fit, name: str = 'train/loss') -> np.ndarray:
  """A metric of all records that have it, [K, R]."""
  return np.stack([record[name] for record in run.history if name in record])


def _batches(run: Fit) -> np.ndarray:
  """Every number of every batch, [K, R, 16]."""
  return np.stack([_series(run, f'train/x{i}') for i in range(16)], axis=-1)


def _w(run: Fit) -> np.ndarray:
  return np.asarray(run.params['w'])


def _assert_same(one: object, other: object) -> None:
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope='module')
def single() -> Fit:
  """One replica, seed 7."""
  return fit(Regression(noise=0.1), _config(), seed=7)


@pytest.fixture(scope='module')
def population() -> Fit:
  """Three replicas, seeds 5, 6 and 7."""
  return fit(Regression(noise=0.1), _config(), replicas=3, seed=5)


def test_gives_arrays_back_without_a_folder(
  single: Fit, population: Fit
) -> None:
  for run, replicas in (single, 1), (population, 3):
    assert {leaf.shape[0] for leaf in jax.tree.leaves(run.state)} == {replicas}
    assert _w(run).shape == (replicas, 2)
    assert run.finite.shape == (replicas,) and run.finite.all()
    assert (run.start, run.steps, run.preempted) == (0, 20, False)
    assert run.best is None and run.ema is None
    assert [int(record['step']) for record in run.history] == [*range(1, 21)]
    assert _series(run).shape == (20, replicas)
    # It learns.
    assert (_series(run)[-5:].mean(0) < 0.3 * _series(run)[:2].mean(0)).all()


def test_without_steps_nothing_is_trained(population: Fit) -> None:
  start = fit(Regression(), _config(steps=0), replicas=3, seed=5)
  assert start.history == []
  assert not (_w(start) == _w(population)).any()
  last = fit(Regression(), _config(steps=0), seed=7)
  np.testing.assert_array_equal(_w(start)[2], _w(last)[0])
  assert len(np.unique(_w(start))) == 6


def test_a_replica_is_the_run_of_its_seed(single: Fit, population: Fit) -> None:
  np.testing.assert_array_equal(
    _batches(population)[:, 2], _batches(single)[:, 0]
  )
  # `noise` makes the losses depend on the loss's own key, too.
  np.testing.assert_allclose(
    _series(population)[:, 2], _series(single)[:, 0], rtol=1e-5
  )
  assert not np.isclose(_series(population)[:, 0], _series(single)[:, 0]).any()


def test_no_draw_is_used_twice(population: Fit) -> None:
  assert len(np.unique(_batches(population))) == 20 * 3 * 16


def test_replicas_of_a_stream_share_their_data() -> None:
  run = fit(Sharing(), _config(steps=3), replicas=4)
  batches = _batches(run)
  np.testing.assert_array_equal(batches[:, 0], batches[:, 1])
  np.testing.assert_array_equal(batches[:, 2], batches[:, 3])
  assert not (batches[:, 0] == batches[:, 2]).any()
  # They differ in all else.
  assert len(np.unique(_w(run))) == 8


def test_a_sweep_equals_separate_runs() -> None:
  rates = [0.0, 0.01, 0.1]
  run = fit(
    Regression(), _config(), replicas=3, hparams={'learning_rate': rates}
  )
  start = fit(Regression(), _config(steps=0), replicas=3)
  np.testing.assert_array_equal(_w(run)[0], _w(start)[0])
  swept = fit(Regression(), _config(), seed=1, hparams={'learning_rate': 0.01})
  configured = fit(Regression(), _config(learning_rate=0.1), seed=2)
  for replica, alone in (1, swept), (2, configured):
    np.testing.assert_allclose(
      _series(run)[:, replica], _series(alone)[:, 0], rtol=1e-5
    )
    np.testing.assert_allclose(_w(run)[replica], _w(alone)[0], rtol=1e-5)


def test_a_problem_has_numbers_of_its_own_for_each_seed() -> None:
  config = _config(learning_rate=0.5)
  run = fit(Limited(), config, seed=1, replicas=2)
  np.testing.assert_array_equal(np.abs(_w(run)), [[0.25] * 2, [0.5] * 2])
  given = fit(Limited(), config, seed=1, hparams={'limit': 0.125})
  np.testing.assert_array_equal(np.abs(_w(given)), [[0.125] * 2])
  assert count_step_flops(Limited(), run.params) == 0.0
  with pytest.raises(UsageError, match='seed=5: limit is beyond'):
    fit(Clipped(), config, seed=5, hparams={'limit': 2**24 + 1})


def test_data_reaches_the_problem() -> None:
  stored = np.arange(60, dtype=np.float32).reshape(30, 2) / 60
  run = fit(Stored(), _config(steps=3), replicas=2, data={'x': stored})
  for step in range(3):
    for replica in range(2):
      np.testing.assert_array_equal(
        _batches(run)[step, replica], stored[step : step + 8].ravel()
      )


def test_projects_after_the_update() -> None:
  limits = np.array([0.25, 9.0], np.float32)
  sweep = {'limit': limits, 'learning_rate': 0.5}
  run = fit(Clipped(), _config(), replicas=2, hparams=sweep)
  np.testing.assert_array_equal(_w(run)[0], limits[0] * np.sign(TRUTH))
  free = fit(Regression(), _config(learning_rate=0.5), replicas=2)
  np.testing.assert_allclose(_w(run)[1], _w(free)[1], rtol=1e-6)


def _held_out(**changes: object) -> Fit:
  config = _config(evaluate_every=5, steps_per_dispatch=10, **changes)
  target = {'target': [10.0, 5.0, 20.0]}
  return fit(HeldOut(), config, replicas=3, hparams=target)


def test_keeps_the_best_of_each_replica() -> None:
  # The lowest is asked for below, in the test of a frozen replica.
  run = _held_out(best='-nearness')
  np.testing.assert_array_equal(run.state.best.step, [10, 5, 20])
  np.testing.assert_array_equal(run.state.best.value, [0, 0, 0])
  for replica, step in enumerate([10, 5, 20]):
    then = fit(Regression(), _config(steps=step), seed=replica)
    np.testing.assert_allclose(run.best['w'][replica], _w(then)[0], rtol=1e-5)
  # Dispatches of 10 steps; held-out metrics stand at their own steps.
  assert [int(record['step']) for record in run.history] == [5, 10, 15, 20]
  np.testing.assert_array_equal(
    _series(run, 'held_out/distance'),
    [[5, 0, 15], [0, 5, 10], [5, 10, 5], [10, 15, 0]],
  )
  assert ['train/loss' in record for record in run.history] == [
    False,
    True,
    False,
    True,
  ]
  np.testing.assert_array_equal(_series(run, 'held_out/w1')[-1], _w(run)[:, 1])


def test_of_equal_values_the_later_is_best() -> None:
  run = _held_out(best='draw')
  # The examples are the same at every evaluation, and those of no other.
  draws = _series(run, 'held_out/draw')
  np.testing.assert_array_equal(draws, draws[:1].repeat(4, axis=0))
  assert len(np.unique(draws)) == 3
  np.testing.assert_array_equal(run.state.best.step, [20, 20, 20])
  np.testing.assert_array_equal(run.best['w'], _w(run))


def test_averages_parameters() -> None:
  config = _config(steps=5, ema=0.8, evaluate_every=1, best='distance')
  run = fit(HeldOut(), config, replicas=2, hparams={'target': 0.0})
  starts = fit(Regression(), _config(steps=0), replicas=2)
  average = _w(starts).astype(np.float64)
  for steps in range(1, 6):
    w = _w(fit(Regression(), _config(steps=steps), replicas=2))
    average = 0.8 * average + 0.2 * w
  np.testing.assert_allclose(run.ema['w'], average, rtol=1e-5, atol=1e-6)
  assert not np.isclose(run.ema['w'], _w(run)).any()
  # What is evaluated, and kept as the best, is the average.
  np.testing.assert_array_equal(
    _series(run, 'held_out/w0')[-1], run.ema['w'][:, 0]
  )


@pytest.mark.parametrize('breaks', ['loss', 'gradient'])
def test_a_replica_that_breaks_is_frozen_alone(breaks: str) -> None:
  # Lion takes the sign: an infinite gradient makes a finite step.
  sweep = {'breaks': [1e9, 4.0]}
  run = fit(
    Regression(breaks=breaks), _config(optimizer='lion'), replicas=2,
    hparams=sweep,
  )  # fmt: skip
  np.testing.assert_array_equal(run.finite, [True, False])
  np.testing.assert_array_equal(run.state.step, [20, 4])
  assert run.steps == 20 and not run.diverged
  for name in ('train/loss', 'train/grad_norm', 'train/x0'):
    assert np.isfinite(_series(run, name)[:, 0]).all()
    assert np.isfinite(_series(run, name)[:4, 1]).all()
    assert np.isnan(_series(run, name)[4:, 1]).all()
  then = fit(
    Regression(breaks=breaks), _config(optimizer='lion', steps=4), replicas=2,
    hparams=sweep,
  )  # fmt: skip
  for now, before in zip(
    jax.tree.leaves((run.params, run.state.opt_state)),
    jax.tree.leaves((then.params, then.state.opt_state)),
    strict=True,
  ):
    np.testing.assert_array_equal(now[1], before[1])
  assert not np.isclose(_w(run)[0], _w(then)[0]).any()


def test_parameters_that_overflow_are_refused() -> None:
  run = fit(
    Regression(), _config(), replicas=2,
    hparams={'learning_rate': [0.05, np.inf]},
  )  # fmt: skip
  start = fit(Regression(), _config(steps=0), replicas=2)
  np.testing.assert_array_equal(run.finite, [True, False])
  np.testing.assert_array_equal(_w(run)[1], _w(start)[1])


def test_a_frozen_replica_is_never_the_best_again() -> None:
  config = _config(evaluate_every=5, best='distance')
  sweep = {'target': [20.0, 20.0], 'breaks': [1e9, 8.0]}
  run = fit(HeldOut(breaks='loss'), config, replicas=2, hparams=sweep)
  np.testing.assert_array_equal(run.state.best.step, [20, 5])


@dataclasses.dataclass(frozen=True)
class Learning(HeldOut):
  """Replica r is right from step hparams['right'] on."""

  def evaluate(
    self, params: dict[str, jax.Array], ctx: Context
  ) -> dict[str, jax.Array]:
    right = jnp.where(ctx.step + 1 >= ctx.hparams['right'], 1.0, 0.5)
    return {'distance': jnp.sum(params['w'] ** 2), 'exact_match': right}


def test_a_replica_that_has_learned_stops_alone(tmp_path: Path) -> None:
  config = _config(steps=40, evaluate_every=4, enough=0.9, best='distance')
  hparams = {'right': np.array([8.0, 20.0], np.float32)}
  arguments = (Learning(), config)
  with Checkpoints(tmp_path / 'checkpoints', 100) as checkpoints:
    run = fit(*arguments, replicas=2, hparams=hparams, checkpoints=checkpoints)
  assert np.asarray(run.state.step).tolist() == [8, 20]
  assert not run.diverged and run.finite.all()
  assert run.steps < 40
  whole = fit(
    Learning(),
    dataclasses.replace(config, steps=20, enough=0.0),
    replicas=2,
    hparams=hparams,
  )
  np.testing.assert_array_equal(_w(run)[1], _w(whole)[1])
  assert (_w(run)[0] != _w(whole)[0]).any()
  # Resumed, it is over.
  with Checkpoints(tmp_path / 'checkpoints', 100) as checkpoints:
    again = fit(
      *arguments, replicas=2, hparams=hparams, checkpoints=checkpoints
    )
  assert np.asarray(again.state.step).tolist() == [8, 20]
  np.testing.assert_array_equal(_w(again), _w(run))


def test_what_is_enough_is_exact_match() -> None:
  with pytest.raises(UsageError, match='needs a held-out exact_match'):
    fit(
      HeldOut(),
      _config(steps=4, evaluate_every=2, enough=0.9, best='distance'),
      hparams={'target': 2.0},
    )


def test_stops_when_all_replicas_are_broken() -> None:
  run = fit(
    Regression(breaks='loss'), _config(steps=100), replicas=2,
    hparams={'breaks': [3.0, 6.0]},
  )  # fmt: skip
  assert run.diverged and not run.finite.any()
  assert not run.preempted
  np.testing.assert_array_equal(run.state.step, [3, 6])
  assert run.steps < 10 and len(run.history) == run.steps


def test_logs_each_dispatch_once() -> None:
  seen = []
  run = fit(
    Regression(), _config(steps_per_dispatch=6),
    log=lambda step, record: seen.append((step, record)),
  )  # fmt: skip
  assert [step for step, _ in seen] == [6, 12, 18, 20]
  assert [record for _, record in seen] == run.history
  each = fit(Regression(), _config())
  np.testing.assert_allclose(
    seen[0][1]['train/loss'], _series(each)[:6].mean(axis=0), rtol=1e-6
  )


def test_steps_of_a_dispatch_change_no_bit(optimised: None) -> None:
  runs = [
    fit(
      HeldOut(noise=0.1),
      _config(
        steps=21, optimizer='adamw', ema=0.9, evaluate_every=4, best='distance',
        steps_per_dispatch=steps, schedule='cosine', clip=1.0,
      ),
      replicas=2,
      hparams={'target': 9.0},
    )
    for steps in (1, 7, 50)
  ]  # fmt: skip
  one, seven, fifty = runs
  _assert_same(one.state, seven.state)
  _assert_same(one.state, fifty.state)
  losses = _series(one)
  np.testing.assert_array_equal(
    _series(seven),
    [losses[:7].mean(0), losses[7:14].mean(0), losses[14:].mean(0)],
  )
  np.testing.assert_array_equal(_series(fifty), [losses.mean(0)])


def _stop_after(calls: int) -> object:
  left = iter(range(calls))
  return lambda: next(left, None) is None


def test_resumes_bit_for_bit(tmp_path: Path, optimised: None) -> None:
  config = _config(
    steps_per_dispatch=4, optimizer='adamw', schedule='cosine', ema=0.9,
    evaluate_every=4, best='distance',
  )  # fmt: skip
  arguments = {'replicas': 2, 'hparams': {'target': [6.0, 20.0]}}
  whole = fit(HeldOut(noise=0.1), config, **arguments)
  with Checkpoints(tmp_path, every=100) as checkpoints:
    part = fit(
      HeldOut(noise=0.1), config, **arguments, checkpoints=checkpoints,
      stop=_stop_after(1),
    )  # fmt: skip
    assert part.preempted and part.steps == 8
    assert checkpoints.latest() == 8
  with Checkpoints(tmp_path, every=100) as checkpoints:
    rest = fit(HeldOut(noise=0.1), config, **arguments, checkpoints=checkpoints)
    assert checkpoints.latest() == 20
    # What is done is not done again.
    again = fit(
      HeldOut(noise=0.1), config, **arguments, checkpoints=checkpoints
    )
    with pytest.raises(UsageError, match='--steps=10') as caught:
      fit(
        HeldOut(noise=0.1),
        dataclasses.replace(config, steps=10, schedule_steps=20),
        **arguments,
        checkpoints=checkpoints,
      )
  assert '20 steps' in str(caught.value) and '\n' not in str(caught.value)
  assert (rest.start, rest.steps, rest.preempted) == (8, 20, False)
  _assert_same(rest.state, whole.state)
  _assert_same(part.history + rest.history, whole.history)
  assert (again.start, again.steps, again.history) == (20, 20, [])
  _assert_same(again.state, whole.state)


def test_starts_from_the_parameters_of_another_run(tmp_path: Path) -> None:
  config = _config(
    optimizer='adam', steps_per_dispatch=4, schedule='trapezoid', ema=0.9,
    evaluate_every=4, best='distance',
  )  # fmt: skip
  arguments = {'replicas': 2, 'hparams': {'target': 1.0}}
  with Checkpoints(tmp_path / 'other', every=1) as checkpoints:
    first = fit(HeldOut(), config, **arguments, checkpoints=checkpoints)
  with (
    Checkpoints(tmp_path / 'other', every=None) as init_from,
    Checkpoints(tmp_path / 'own', every=1) as checkpoints,
  ):
    arguments |= {'seed': 9, 'init_from': init_from}
    nothing = dataclasses.replace(config, steps=0, schedule_steps=20)
    begin = fit(HeldOut(), nothing, **arguments)
    for copied in begin.params, begin.ema, begin.best:
      _assert_same(copied, first.params)
    assert np.isinf(begin.state.best.value).all()
    for leaf in jax.tree.leaves((begin.state.step, begin.state.opt_state)):
      assert not np.asarray(leaf).any()
    arguments |= {'checkpoints': checkpoints}
    part = fit(HeldOut(), config, **arguments, stop=lambda: True)
    assert (part.start, part.steps) == (0, 4)
    # Its own checkpoint comes before the other run's.
    rest = fit(HeldOut(), config, **arguments)
  assert (rest.start, rest.steps) == (4, 20)


def test_a_run_to_start_from_has_a_checkpoint(tmp_path: Path) -> None:
  with Checkpoints(tmp_path, every=None) as empty:
    with pytest.raises(UsageError, match='--init_from'):
      fit(Regression(), _config(), init_from=empty)


@pytest.mark.parametrize('schedule', ['cosine', 'trapezoid'])
def test_no_steps_beyond_a_schedule_that_ended_at_zero(schedule: str) -> None:
  ended = _config(steps=30, schedule_steps=20, schedule=schedule)
  with pytest.raises(UsageError) as caught:
    fit(Regression(), ended)
  assert '--steps=30' in str(caught.value)
  assert '--train.schedule_steps=20' in str(caught.value)
  assert '\n' not in str(caught.value)
  low = dataclasses.replace(ended, final_fraction=0.1, steps_per_dispatch=30)
  assert fit(Regression(), low).steps == 30


def test_replicas_divide_the_mesh() -> None:
  mesh = make_mesh(MeshConfig(replica=2))
  message = '--mesh.replica=2 does not divide --replicas=3'
  with pytest.raises(UsageError, match=re.escape(message)):
    fit(Regression(), _config(), replicas=3, mesh=mesh)


def test_the_rule_of_the_best_is_a_metric() -> None:
  config = _config(evaluate_every=5, best='-accuracy')
  with pytest.raises(UsageError) as caught:
    fit(HeldOut(), config, hparams={'target': 0.0})
  message = str(caught.value)
  assert '--train.best=-accuracy' in message and 'nearness' in message
  assert '\n' not in message


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuickSums(SequenceProblem):
  """Sums, with draws that are quick to compile."""

  def init(self, key: jax.Array) -> dict:
    shapes, tree = jax.tree.flatten(nn.unbox(jax.eval_shape(super().init, key)))
    count = sum(leaf.size for leaf in shapes)
    numbers, ends = _uniform(key, count), np.cumsum([x.size for x in shapes])
    leaves = [
      part.reshape(leaf.shape)
      for part, leaf in zip(jnp.split(numbers, ends[:-1]), shapes, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)

  def sample(self, ctx: Context) -> Batch:
    """Two-digit numbers, 10 or 11 in base 2."""
    low_2B = (_uniform(ctx.key, 16) > 0).astype(jnp.int32).reshape(2, 8)
    a_BN, b_BN = jnp.stack([low_2B, jnp.ones_like(low_2B)], axis=-1)
    return self.task.encode(a_BN, b_BN, jnp.full((8, 2), 2))


@pytest.fixture(scope='module')
def sums() -> SequenceProblem:
  """A tiny transformer that adds."""
  task = Addition(base=2)
  config = TransformerConfig(
    position=NoPosition(), width=16, heads=2, ffn_width=16
  )
  return QuickSums(
    task=task,
    model=Transformer(config, task.vocab_size),
    max_size=2,
    batch_size=8,
    validation_examples=8,
  )


def _train(problem: SequenceProblem, **changes: object) -> Fit:
  replicas, seed = changes.pop('replicas', 2), changes.pop('seed', 0)
  return fit(problem, _config(**changes), replicas=replicas, seed=seed)


def test_models_train_alike_alone_and_together(
  sums: SequenceProblem, optimised: None
) -> None:
  together = _train(sums, steps_per_dispatch=20)
  each = _train(sums)
  _assert_same(together.state, each.state)
  assert len(np.unique(_series(each))) == 40
  np.testing.assert_array_equal(
    _series(together)[0], _series(each).mean(axis=0)
  )
  alone = _train(sums, replicas=1, seed=1)
  np.testing.assert_allclose(
    _series(alone)[:, 0], _series(each)[:, 1], atol=1e-5
  )


class Uniform:
  """A model that finds every token equally likely; remembers its call."""

  def apply(
    self,
    variables: dict,
    tokens_BT: jax.Array,
    structure: Structure,
    queries_BQ: jax.Array,
    key: jax.Array | None,
    train: bool,
  ) -> jax.Array:
    self.tokens, self.key, self.train = tokens_BT, key, train
    return jnp.zeros((*queries_BQ.shape, 6))


def _widths(task: Addition, tokens_BT: jax.Array) -> set[tuple[int, ...]]:
  rows = np.asarray(tokens_BT)
  return {tuple(x.bit_length() for x in task.read(row)[0]) for row in rows}


def test_held_out_sums_are_longer_and_the_same_each_time() -> None:
  model, task = Uniform(), Addition(base=2)
  problem = SequenceProblem(
    task=task, model=model, min_size=2, max_size=4, batch_size=64,
    validation_examples=8,
  )  # fmt: skip

  @jax.jit
  def train(ctx: Context) -> tuple:
    loss, metrics = problem.loss({}, problem.sample(ctx), ctx)
    assert model.train and model.key is ctx.key
    return model.tokens, {'loss': loss} | metrics

  @jax.jit
  def evaluate(ctx: Context) -> tuple:
    metrics = problem.evaluate({}, ctx)
    assert not model.train and model.key is None
    return model.tokens, metrics

  ctx = Context(jax.random.key(3), jnp.int32(0), {})
  tokens, metrics = train(ctx)
  held_out, held_out_metrics = evaluate(ctx)
  for found in metrics, held_out_metrics:
    np.testing.assert_allclose(found['loss'], np.log(6), rtol=1e-6)
    assert found['exact_match'] == 0
  assert _widths(task, tokens) == {(a, b) for a in (2, 3, 4) for b in (2, 3, 4)}
  assert _widths(task, held_out) == {(6, 6)} and len(held_out) == 8
  _assert_same(held_out, evaluate(ctx.replace(step=jnp.int32(9)))[0])
