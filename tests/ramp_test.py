"""Batches that grow part by part: when, how much, and what a step is then.

Shape key: B examples, F features, P parts, S steps.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.randomness import named
from extrap.training import TrainConfig, fit
from extrap.training.optimizers import schedule
from extrap.training.problem import Context
from extrap.training.ramp import (
  elapsed,
  examples_until,
  joins,
  parts_at,
  parts_until,
  whole_batches,
)

RAMPED = TrainConfig(
  steps=1000, accumulate=4, ramp=0.6, warmup_steps=0, schedule='constant'
)


def taken_S(config):
  """Parts of each step, in whole numbers, by a loop."""
  return [1 + sum(step >= joins(config)) for step in range(config.steps)]


def test_a_batch_grows_in_proportion_to_the_examples_seen():
  taken = np.array(taken_S(RAMPED))
  before = np.cumsum(taken) - taken
  share = before / taken.sum()
  # The published rule, with what is spent measured in examples.
  published = np.minimum(np.floor(share / 0.6 * 4) + 1, 4)
  assert np.mean(taken != published) < 0.01
  assert taken[0] == 1 and taken[-1] == 4
  assert share[taken == 4][0] == pytest.approx(0.45, abs=0.005)


def test_counts_are_those_of_a_loop():
  taken = taken_S(RAMPED)
  found = jax.vmap(lambda step: parts_at(RAMPED, step))(jnp.arange(1000))
  np.testing.assert_array_equal(found, taken)
  for step in (0, 1, 300, 999, 1000):
    assert parts_until(RAMPED, step) == sum(taken[:step])
    assert examples_until(RAMPED, step, 8) == 2 * sum(taken[:step])
  assert whole_batches(RAMPED) == sum(taken) / 4
  # Beyond the schedule a batch is whole.
  assert parts_until(RAMPED, 1010) == sum(taken) + 40


def test_without_a_ramp_every_step_is_whole():
  config = dataclasses.replace(RAMPED, ramp=0.0)
  assert not joins(config).any()
  assert parts_until(config, 7) == 28 and whole_batches(config) == 1000
  assert elapsed(config, 7) == 7


def test_the_schedule_follows_what_is_spent():
  config = dataclasses.replace(
    RAMPED, schedule='trapezoid', warmup_fraction=0.1, cooldown_fraction=0.1
  )
  taken = np.array(taken_S(config))
  spent = (np.cumsum(taken) - taken) / taken.sum()
  factor_S = np.asarray(jax.vmap(schedule(config))(jnp.arange(1000)))
  risen, falling = factor_S > 0.995, np.flatnonzero(factor_S < 0.995)
  assert spent[np.argmax(risen)] == pytest.approx(0.1, abs=0.005)
  assert spent[falling[falling > 500][0]] == pytest.approx(0.9, abs=0.005)
  # Early steps are small: the warm-up takes more than a tenth of them.
  assert np.argmax(risen) > 180


def test_the_warm_up_is_the_longer_of_both():
  config = TrainConfig(steps=1000, warmup_steps=30, warmup_fraction=0.1)
  assert config.resolved_warmup_steps == 100
  assert TrainConfig(steps=1000, warmup_steps=30).resolved_warmup_steps == 30


@dataclasses.dataclass(frozen=True)
class Mean:
  """The mean square distance to eight points; two numbers each."""

  def init(self, key: jax.Array) -> dict[str, jax.Array]:
    return {'w': jnp.ones(2)}

  def sample(self, ctx: Context) -> jax.Array:
    return jax.random.normal(ctx.key, (8, 2))

  def loss(
    self, params: dict[str, jax.Array], x_BF: jax.Array, ctx: Context
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    loss = jnp.mean((x_BF - params['w'][None]) ** 2)
    return loss, {'first': jnp.mean(x_BF[:, 0])}


def test_a_step_is_that_of_the_parts_it_takes():
  """Against the gradient by hand; the whole run is one program."""
  config = TrainConfig(
    steps=12, accumulate=4, ramp=0.6, optimizer='sgd', learning_rate=0.1,
    b1=0.0, schedule='constant', warmup_steps=0, clip=0.0, evaluate_every=0,
    steps_per_dispatch=1,
  )  # fmt: skip
  run = fit(Mean(), config, replicas=2)
  whole = fit(Mean(), dataclasses.replace(config, ramp=0.0), replicas=2)
  w_RF, taken = np.ones((2, 2)), taken_S(config)
  assert set(taken) == {1, 2, 3, 4}
  for step, parts in enumerate(taken):
    x_RPF = drawn(step, parts)
    mean_RF = x_RPF.mean(axis=1)
    np.testing.assert_allclose(
      run.history[step]['train/first'], mean_RF[:, 0], atol=1e-5
    )
    loss_R = ((x_RPF - w_RF[:, None]) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(
      run.history[step]['train/loss'], loss_R, atol=1e-5
    )
    w_RF = w_RF + 0.1 * (mean_RF - w_RF)
  np.testing.assert_allclose(run.params['w'], w_RF, atol=1e-5)
  assert abs(np.asarray(whole.params['w']) - w_RF).max() > 1e-3


def drawn(step, parts):
  """Points of the first parts of a step, for both replicas."""
  keys = [
    named(jax.random.key(seed), 'sample', jnp.int32(step)) for seed in (0, 1)
  ]
  x_RBF = np.stack([jax.random.normal(key, (8, 2)) for key in keys])
  # Part p of four has rows p and 4 + p.
  return x_RBF[:, [r for r in range(8) if r % 4 < parts]]


def test_a_ramp_needs_parts():
  with pytest.raises(UsageError, match=r'--train.ramp=0.5 .* --train.accumul'):
    TrainConfig(ramp=0.5)
