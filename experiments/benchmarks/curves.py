"""Speed of forecasting curves: the prior, training, forecasts, MCMC.

Claimed elsewhere (notes on LC-PFN, Adriaensen et al. 2023, arXiv 2310.20447, of
another machine, CPU time): the package draws 3,255 curves of the prior a second
and trains on 95, 3 layers of 128; a forecast takes 4 milliseconds, 54 seconds
by MCMC with 100 walkers of 2,000 steps.

Everything on one core, CPU time, compilation left out; the networks have fresh
weights, which their speed does not depend on. A training step of the published
network is one cutoff of 100 curves; one of the causal network is all cutoffs of
32.

Measured (`results/curves.csv`): 363,000 curves of the prior a second, training
on 217 curves of the published network and on 266 of the causal one, all cutoffs
of each; a forecast in 0.65 milliseconds, 0.41 in batches at 8 steps, one more
step in 0.24, where 0.3 is the aim; MCMC of 100 x 2000 in 0.06 seconds a curve.
Where another core did more beside, all of it took up to 1.8 times as long.

Command: python -m experiments.benchmarks.curves
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks.table import publish
from experiments.benchmarks.timing import median_seconds, one_core
from experiments.lcpfn import bins
from extrap import cli
from extrap.config import option
from extrap.curves import ensemble, prior
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig
from extrap.curves.follower import Follower
from extrap.curves.lcpfn import LCPFN
from extrap.curves.pfn import PFN, PFNConfig
from extrap.curves.pfn_problem import CurveProblem, PublishedProblem
from extrap.curves.prior import PUBLISHED
from extrap.training.config import TrainConfig
from extrap.training.problem import Problem
from extrap.training.trainer import make_trainer

CLAIM = 'forecasts of curves in milliseconds, and what they are trained on'
TIME = 'two minutes on a CPU core'

STEPS = 20  # Of a dispatch of training.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Flags of this benchmark."""

  model: CausalPFNConfig = option(CausalPFNConfig(), 'the causal network')
  published: PFNConfig = option(PFNConfig(), 'the published network')
  repeats: int = option(
    5, 'times that each is timed; the median counts', minimum=1
  )
  csv: str | None = option(None, 'where to write the numbers')


@dataclasses.dataclass(frozen=True)
class Aim:
  """What a number is to be: at least or, of times, at most."""

  value: float
  most: bool

  def met(self, found: float) -> bool:
    return found <= self.value if self.most else found >= self.value


AIMS: Mapping[str, Aim | None] = {
  'prior, curves a second': Aim(100_000, most=False),
  'published training, curves a second': Aim(95, most=False),
  'causal training, curves a second': None,
  'one forecast, ms': Aim(5, most=True),
  '100 curves at 8 steps, ms a curve': Aim(2, most=True),
  'one more step of a curve, at 8 steps, ms': Aim(0.3, most=True),
  'MCMC of 100 x 2000, s a curve': Aim(0.5, most=True),
}


def training_rate(problem: Problem, repeats: int) -> float:
  """Curves a CPU second."""
  config = TrainConfig(steps=1000, optimizer='adamw')
  trainer = make_trainer(problem, config, replicas=1)
  run, state = trainer.dispatch(), trainer.create()

  def train() -> None:
    nonlocal state
    state, metrics = run(state, 0, STEPS)
    jax.block_until_ready(metrics)

  train()  # Compiles.
  return STEPS * problem.batch_size / median_seconds(train, repeats)


def milliseconds(call: Callable[[], object], repeats: int) -> float:
  """Median CPU time of what a call computes, compilation left out."""

  def wait() -> None:
    jax.block_until_ready(call())

  wait()
  return 1e3 * median_seconds(wait, repeats)


def forecast_times(model: LCPFN, repeats: int) -> list[float]:
  """Milliseconds: one forecast, one of a hundred at 8 steps, one more step."""
  value_NT = np.asarray(prior.sample(PUBLISHED, jax.random.key(1), 100)[2])
  seen_NT, at_Q = value_NT[:, :50], np.linspace(60, 100, 8)
  follower = Follower(model, value_NT[:1, :10], 100, most=8)
  step = itertools.count(10)
  return [
    milliseconds(lambda: model.predict(seen_NT[:1], 100).mixture, repeats),
    milliseconds(lambda: model.predict(seen_NT, 100, at_Q).mixture, repeats)
    / len(seen_NT),
    milliseconds(
      lambda: follower.add(value_NT[:1, next(step)]).mixture, repeats
    ),
  ]


def measure(benchmark: Benchmark) -> list[float]:
  """The numbers, in the order of `AIMS`."""
  repeats, key, count, chains = benchmark.repeats, jax.random.key(0), 20_000, 4
  draw = jax.jit(PUBLISHED.sample, static_argnums=1)
  sampling = milliseconds(lambda: draw(key, count), repeats)
  old = PublishedProblem(
    model=PFN(benchmark.published), bars=bins(benchmark.published.bins)
  )
  new = CurveProblem(model=CausalPFN(benchmark.model), batch_size=32)
  value_NT, seen_N = draw(key, chains).noisy_NT, jnp.full(chains, 20)
  walking = milliseconds(
    lambda: ensemble.posterior_ensemble(PUBLISHED, key, value_NT, seen_N),
    repeats,
  )
  return [
    1e3 * count / sampling,
    *(training_rate(problem, repeats) for problem in (old, new)),
    *forecast_times(LCPFN(benchmark.model, new.init(key)), repeats),
    walking / 1e3 / chains,
  ]


def main(benchmark: Benchmark, flag_values: flags.FlagValues) -> int:
  """Prints a table; returns 1 if an aim is not met."""
  del flag_values
  with one_core():
    found = measure(benchmark)
  rows = []
  for (name, aim), value in zip(AIMS.items(), found, strict=True):
    bound = f'{"<=" if aim.most else ">="} {aim.value:g}' if aim else ''
    met = str(aim is None or aim.met(value))
    rows.append([name, f'{value:.4g}', bound, met])
  return publish(['what', 'found', 'aim', 'met'], rows, benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
