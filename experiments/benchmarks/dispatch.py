"""Speed of many steps in one dispatch, against one dispatch a step.

Small models are bound by the cost of starting a program. The loop runs
`--train.steps_per_dispatch` steps in one; the two must end in the same bits.

Command: python -m experiments.benchmarks.dispatch
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.addition import Config, make_problem
from experiments.benchmarks.table import publish
from extrap import cli
from extrap.config import option
from extrap.training import Context, Problem, TrainConfig
from extrap.training.problem import Metrics
from extrap.training.trainer import make_trainer

CLAIM = 'many steps a dispatch: the same bits, sooner'
TIME = 'a minute on two CPU cores'


@dataclasses.dataclass(frozen=True)
class TwoWeights:
  """y = w x + b from noisy samples: nothing but overhead."""

  batch_size: int = 32

  def init(self, key: jax.Array) -> dict[str, jax.Array]:
    w, b = jax.random.normal(key, (2,))
    return {'w': w, 'b': b}

  def sample(self, ctx: Context) -> tuple[jax.Array, jax.Array]:
    x_B, noise_B = jax.random.normal(ctx.key, (2, self.batch_size))
    return x_B, 2 * x_B - 1 + 0.1 * noise_B

  def loss(
    self,
    params: dict[str, jax.Array],
    batch: tuple[jax.Array, jax.Array],
    ctx: Context,
  ) -> tuple[jax.Array, Metrics]:
    del ctx
    x_B, y_B = batch
    return jnp.mean((params['w'] * x_B + params['b'] - y_B) ** 2), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Flags of this benchmark."""

  steps: int = option(
    200,
    'steps of the transformer; ten times as many for two weights',
    unit='steps',
    minimum=1,
  )
  csv: str | None = option(None, 'where to write the numbers')


def compare(problem: Problem, replicas: int, steps: int) -> tuple:
  """Seconds of both ways, and whether they end in the same bits."""
  config = TrainConfig(steps=steps, evaluate_every=0)
  trainer = make_trainer(problem, config, replicas=replicas)
  run = trainer.dispatch()
  seconds, ends = {}, {}
  for size in (1, config.steps_per_dispatch):
    for _ in range(2):  # The first pass compiles.
      state = trainer.create()
      jax.block_until_ready(state)
      began = time.perf_counter()
      for first in range(0, steps, size):
        state, _ = run(state, first, min(size, steps - first))
      jax.block_until_ready(state)
      seconds[size] = time.perf_counter() - began
    ends[size] = jax.tree.leaves(jax.device_get(state))
  one, many = ends.values()
  same = all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
  return (*seconds.values(), same)


HEADERS = [
  'model',
  'replicas',
  'one_a_dispatch_per_s',
  'scanned_per_s',
  'ratio',
  'same_bits',
]


def main(benchmark: Benchmark, flag_values: flags.FlagValues) -> int:
  """Prints a table; returns 1 if any bits differ."""
  del flag_values
  config = Config()
  addition = make_problem(config, config.model.position)
  rows = []
  for name, problem, replicas, steps in (
    ('two weights', TwoWeights(), 1, 10 * benchmark.steps),
    ('two weights', TwoWeights(), 100, 10 * benchmark.steps),
    ('addition, one layer', addition, 1, benchmark.steps),
    ('addition, one layer', addition, 4, benchmark.steps),
  ):
    one, many, same = compare(problem, replicas, steps)
    rows.append(
      [
        name,
        str(replicas),
        f'{steps / one:.4g}',
        f'{steps / many:.4g}',
        f'{one / many:.2f}',
        str(same),
      ]
    )
  return publish(HEADERS, rows, benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
