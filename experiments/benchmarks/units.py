"""Speed of many arithmetic runs in one program, against one run a process.

The published runs (AndreasMadsen/stable-nalu) are trained one by one, in
PyTorch. Here a program trains some seeds side by side, and all runs of a seed
on one stream of inputs, as they have it in the original, too
(`experiments/nalu.py`). What counts is run-steps a second of CPU time: steps of
one run, batches of 128, each thousandth followed by 10,000 validation and
10,000 test examples, on one core, both sides in one call. The PyTorch side
(`experiments/benchmarks/units_in_torch.py`) is the original's layout without
its logs, a run by itself (ours notes what is scored, without files), for every
unit of the comparison; where several units share a stream, the ratio is to the
time of doing each of their runs by itself.

Both sides must have the same held-out errors and sparsity for the same weights,
to a thousandth. CPU time is that of all threads: waiting for other work of the
machine does not count, though sharing its caches does. Compilation is left out.

Measured (`results/units.csv`, PyTorch 2.13, one core of a machine that did
nothing else). One run a stream: 20 to 63 times as many run-steps as PyTorch,
the NMU 63; six operations that share a stream 120 to 211 times, the headline's
eleven runs, two of them NALUs, with logarithms of all inputs, 73, eighteen
others 221: 600,000 run-steps a second. In PyTorch a core makes 1,820 to 3,770
iterations a second, where the published runs, which logged, made 470 to 860.
Where another core did other work, both sides were slower, PyTorch to a half and
a third, and ratios up to a quarter higher: they are uncertain by as much.
  More seeds side by side (5 to 40), wider vectors, Eigen's products or inputs
with examples last change nothing or are slower, as does one vector of all
parameters. What did help: sums over examples in gradients run along them (NMU,
six operations: 155 to 238 thousand run-steps a second in one comparison), and
targets have no gradient (250 to 280; neither has a CSV). Of 13 microseconds of
a seed's step with six NMUs 8 are its inputs and both products with them.

The aim: one run a stream, 60 times as many; six operations, 250; eleven runs
and more, 400. The first is met by the NMU alone, the others are not.
PyTorch is no requirement of this project: install it beside
(`pip install torch --index-url https://download.pytorch.org/whl/cpu`).

Command: python -m experiments.benchmarks.units
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks.table import publish
from experiments.benchmarks.timing import median_seconds, one_core
from experiments.nalu import HEADLINE
from experiments.nalu_settings import two_layer_arm
from extrap import cli
from extrap.arithmetic_runs import TRAIN
from extrap.config import option
from extrap.errors import ExtrapError, UsageError
from extrap.regression import ArithmeticProblem
from extrap.tasks.arithmetic import OPERATIONS, Arithmetic
from extrap.training.problem import Context
from extrap.training.trainer import Trainer, make_trainer

CLAIM = 'many runs on one stream: hundreds of times as many steps as one by one'
TIME = 'six minutes on a CPU core'

Cells = Mapping[str, tuple[str, ...]]
SIX = tuple(OPERATIONS)
# The operations of each unit that share a seed's stream.
LAYOUTS: Mapping[str, Cells] = {
  **{f'{unit}, one run': {unit: ops[:1]} for unit, ops in HEADLINE.items()},
  'nmu, six operations': {'nmu': SIX},
  'nau, six operations': {'nau': SIX},
  'linear, six operations': {'linear': SIX},
  'the headline': HEADLINE,
  'nmu, nau, linear, six operations each': {
    'nmu': SIX,
    'nau': SIX,
    'linear': SIX,
  },
}
EVERY = TRAIN.evaluate_every


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Flags of this benchmark."""

  seeds: int = option(10, 'seeds side by side', minimum=1)
  steps: int = option(
    5_000, 'steps of every run that are timed', unit='steps', minimum=1
  )
  iterations: int = option(
    2_000, 'likewise, in PyTorch', unit='steps', minimum=1
  )
  repeats: int = option(
    3, 'times that each is timed; the median counts', minimum=1
  )
  csv: str | None = option(None, 'where to write the numbers')


class Peer(Protocol):
  """A run of the PyTorch side."""

  def evaluate(self) -> dict[str, float]:
    """Held-out errors, and the sparsity error."""

  def train(self, steps: int, batch_size: int, every: int) -> None:
    """Iterations, with their evaluations."""


def peer_type() -> Callable[..., Peer]:
  """A run of the PyTorch side, to be made.

  Raises:
    ExtrapError: PyTorch is not installed.
  """
  try:
    from experiments.benchmarks.units_in_torch import Run
  except ModuleNotFoundError as error:
    if error.name != 'torch':
      raise
    raise ExtrapError(
      'PyTorch is not installed, and there is nothing to compare with: pip '
      'install torch --index-url https://download.pytorch.org/whl/cpu'
    ) from error
  return Run


def make(cells: Cells, seeds: int) -> Trainer:
  """The training of a layout."""
  arms = {unit: two_layer_arm(unit, ops) for unit, ops in cells.items()}
  problem = ArithmeticProblem(task=Arithmetic(), arms=arms)
  return make_trainer(problem, TRAIN, replicas=seeds)


def our_rate(trainer: Trainer, benchmark: Benchmark) -> float:
  """Run-steps a CPU second; what is noted comes back to the host, too."""
  run, state = trainer.dispatch(), trainer.create()

  def train(steps: int) -> None:
    nonlocal state
    for first in range(0, steps, EVERY):
      state, metrics = run(state, first, EVERY)
      jax.device_get(metrics)

  train(EVERY)  # Compiles.
  seconds = median_seconds(lambda: train(benchmark.steps), benchmark.repeats)
  arms = trainer.problem.arms.values()
  runs = trainer.replicas * sum(len(arm.operations) for arm in arms)
  return runs * benchmark.steps / seconds


def compare_unit(
  peer: Callable[..., Peer], unit: str, benchmark: Benchmark
) -> tuple[float, bool]:
  """Iterations a CPU second in PyTorch, and whether both sides agree."""
  operation = HEADLINE[unit][0]
  arm = two_layer_arm(unit, (operation,))
  problem = ArithmeticProblem(task=Arithmetic(), arms={unit: arm})
  params = jax.jit(problem.init)(jax.random.key(0))
  weights = jax.tree.map(lambda leaf: np.asarray(leaf[0]), params[unit])
  run = peer(unit, operation, weights['weights'], problem.task, arm.ramp)
  agrees = same_errors(problem, params, run.evaluate())
  size = problem.batch_size
  run.train(benchmark.iterations // 10, size, EVERY)  # Warms up.
  seconds = median_seconds(
    lambda: run.train(benchmark.iterations, size, EVERY), benchmark.repeats
  )
  return benchmark.iterations / seconds, agrees


def same_errors(
  problem: ArithmeticProblem, params: object, theirs: Mapping[str, float]
) -> bool:
  """Whether the only run of a problem has these errors, seed 0."""
  offset = jnp.float32(problem.task.offset(0))
  ctx = Context(jax.random.key(0), jnp.int32(0), {'offset': offset})
  metrics = jax.jit(problem.evaluate)(params, ctx)
  ours = {name.split('/')[0]: float(value) for name, value in metrics.items()}
  return all(
    bool(np.isclose(ours[what], value, rtol=1e-3))
    for what, value in theirs.items()
  )


def measure(benchmark: Benchmark) -> list[list[str]]:
  """One row a layout."""
  peer, theirs = peer_type(), {}
  for unit in dict.fromkeys(itertools.chain(*LAYOUTS.values())):
    theirs[unit] = compare_unit(peer, unit, benchmark)
    print(f'{unit}, PyTorch: {theirs[unit][0]:.4g} steps/s', file=sys.stderr)
  rows = []
  for name, cells in LAYOUTS.items():
    ours = our_rate(make(cells, benchmark.seeds), benchmark)
    jax.clear_caches()
    print(f'{name}: {ours:.4g} run-steps/s', file=sys.stderr)
    runs = sum(map(len, cells.values()))
    # Each run by itself, one after the other.
    alone = runs / sum(
      len(ops) / theirs[unit][0] for unit, ops in cells.items()
    )
    numbers = f'{ours:.4g}', f'{alone:.4g}', f'{ours / alone:.3g}'
    agrees = all(theirs[unit][1] for unit in cells)
    rows.append([name, str(runs), str(benchmark.seeds), *numbers, str(agrees)])
  return rows


HEADERS = [
  *('layout', 'runs_a_stream', 'seeds', 'run_steps_per_cpu_s'),
  *('pytorch_per_cpu_s', 'ratio', 'same_errors'),
]


def main(benchmark: Benchmark, flag_values: flags.FlagValues) -> int:
  """Prints a table; returns 1 if the sides disagree on any error."""
  del flag_values
  for name in ('steps', 'iterations'):
    if (given := getattr(benchmark, name)) % EVERY:
      raise UsageError(
        f'--{name}={given}: a multiple of {EVERY}, so that evaluations have '
        'their share'
      )
  with one_core():
    rows = measure(benchmark)
  return publish(HEADERS, rows, benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
