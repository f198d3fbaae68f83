"""What an asynchronous save costs training: a 100M-parameter state.

The same steps are timed with and without a save that begins before the first
of them, in turn. All that the save adds counts: copying the state, writing and
summing it in the background, and slowing the steps meanwhile. The cost is
given as a share of a window of 100 steps, one save a window.

  python -m experiments.benchmarks.checkpoints
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from experiments.benchmarks.table import publish
from extrap import cli
from extrap.config import option
from extrap.models import Transformer, TransformerConfig
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.training import TrainConfig
from extrap.training.checkpoints import Checkpoints
from extrap.training.state import TrainState
from extrap.training.trainer import make_trainer

CLAIM = 'an asynchronous save costs less than 5 % of 100 steps'
TIME = '15 minutes on two CPU cores'
WINDOW = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this benchmark."""

  model: TransformerConfig = option(
    TransformerConfig(depth=8, width=1024, heads=16, ffn_width=4096),
    'what is trained',
  )
  batch_size: int = option(16, 'sums a step', unit='sums', minimum=1)
  steps: int = option(
    16, 'steps that are timed; the save must end before', minimum=1
  )
  rounds: int = option(2, 'measurements with and without', minimum=1)
  most: float = option(
    0.05, 'largest share that passes', minimum=0.0, maximum=1.0
  )
  csv: str | None = option(None, 'file to write the table to')


def main(config: Config, flag_values: object) -> int:
  """Prints the table; 1 if a save costs more than it may."""
  del flag_values
  task = Addition()
  problem = SequenceProblem(
    task=task,
    model=Transformer(config.model, task.vocab_size),
    max_size=20,
    batch_size=config.batch_size,
  )
  trainer = make_trainer(problem, TrainConfig(steps=1000, evaluate_every=0))
  state, run = trainer.create(), trainer.dispatch()
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  state, _ = timed(run, state, 1)  # Compiles.
  without, saving, blocked, after = [], [], [], []
  for number in range(config.rounds):
    state, seconds = timed(run, state, config.steps)
    without.append(seconds)
    with tempfile.TemporaryDirectory() as folder:
      with Checkpoints(folder, every=1) as checkpoints:
        began = time.perf_counter()
        checkpoints.save(number + 1, state)
        blocked.append(time.perf_counter() - began)
        state, _ = timed(run, state, config.steps)
        ended = time.perf_counter()
        checkpoints.wait()
        after.append(time.perf_counter() - ended)
        saving.append(time.perf_counter() - began)
    print(f'{without[-1]:.1f} s without, {saving[-1]:.1f} s with a save')
  step = np.mean(without) / config.steps
  extra = [b - a for a, b in zip(without, saving, strict=True)]
  shares = [e / (WINDOW * step) for e in extra]
  gigabytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e9
  row = [
    f'{count / 1e6:.0f}M, {gigabytes:.2f} GB',
    f'{step:.2f}',
    ' '.join(f'{e:.2f}' for e in extra),
    ' '.join(f'{100 * share:.2f} %' for share in shares),
    ' '.join(f'{b:.2f}' for b in blocked),
    ' '.join(f'{a:.2f}' for a in after),
    # Written at once it would hold up the steps; late, its cost is not all in.
    str(
      max(shares) < config.most and max(blocked) < step and max(after) < step
    ),
  ]
  headers = [
    'parameters, state',
    'seconds a step',
    'seconds a save adds',
    f'of {WINDOW} steps',
    'seconds save() blocks',
    'seconds left after the steps',
    'within limit',
  ]
  return publish(headers, [row], config.csv)


def timed(
  run: Callable, state: TrainState, steps: int
) -> tuple[TrainState, float]:
  """Runs steps one dispatch each; returns the state and the seconds."""
  began = time.perf_counter()
  for _ in range(steps):
    state, metrics = run(state, 0, 1)
    jax.block_until_ready(metrics)
  jax.block_until_ready(state)
  return state, time.perf_counter() - began


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
