"""Batches that grow: one accumulated part after the other joins.

McLeish et al. 2024 (arXiv 2405.17399) let the batch grow over the first 60 % of
their budget, linearly in what is spent of it, by one micro-batch at a time. So
here: of P parts (`--train.accumulate`) and with a ramp r (`--train.ramp`), a
step takes k parts while the share of all examples seen is between (k-1) r/P and
k r/P, and all P later on. Parts have one shape, so there is one compiled
program; the gradient of a step is exactly that of the parts it takes.

Stage k costs r/P of the examples, at k parts a step: its steps are proportional
to 1/k. Of S steps of the schedule it takes S r/k / (r H + 1 - r), where
H = 1 + 1/2 + .. + 1/P, rounded to whole steps.

Shape key: P parts.
"""

import jax
import jax.numpy as jnp
import numpy as np

from extrap.training.config import TrainConfig


def joins(config: TrainConfig) -> np.ndarray:
  """Steps at which parts 2, 3, .. P join, int [P - 1]."""
  parts, share = config.accumulate, config.ramp
  harmonic_P = np.cumsum(1 / np.arange(1, parts + 1))
  length = share * harmonic_P[-1] + 1 - share
  first = config.resolved_schedule_steps * share / length
  return np.round(first * harmonic_P[:-1]).astype(np.int32)


def parts_at(config: TrainConfig, step: jax.Array) -> jax.Array:
  """How many parts a step takes, int32."""
  return 1 + jnp.sum(step >= jnp.asarray(joins(config)), dtype=jnp.int32)


def parts_until(config: TrainConfig, step: int) -> int:
  """How many parts all steps before this one have taken."""
  return step + int(np.maximum(step - joins(config), 0).sum())


def examples_until(config: TrainConfig, step: int, batch_size: int) -> int:
  """Examples of all steps before this one, with batches that grow to a size."""
  return parts_until(config, step) * batch_size // config.accumulate


def whole_batches(config: TrainConfig) -> float:
  """The cost of a run, in steps of a whole batch."""
  return parts_until(config, config.steps) / config.accumulate


def elapsed(config: TrainConfig, step: jax.Array) -> jax.Array:
  """What is spent of the schedule, in steps of its mean cost."""
  if not config.ramp:
    return step
  total = config.resolved_schedule_steps
  later_P = jnp.maximum(step - jnp.asarray(joins(config)), 0)
  spent = (step + jnp.sum(later_P)).astype(jnp.float32)
  return spent * (total / parts_until(config, total))
