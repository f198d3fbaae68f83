"""Forecasting curves of a known prior: LC-PFN, retrained.

Claimed elsewhere. LC-PFN (Adriaensen et al. 2023, arXiv 2310.20447): a
transformer trained on curves of a prior, cut off somewhere, forecasts what
follows in one pass as well as MCMC does in a minute. Mean log density of an
unseen point of 10,000 curves, of which 10, 20, 40 or 80 of 100 points are seen:
3 layers of 128 reach 1.585, 1.989, 2.282 and 2.431 after 10 million curves, 12
layers of 512 1.758, 2.133, 2.403 and 2.519, the best MCMC 1.642, 1.956, 2.285
and 2.486. The package has neither weights nor benchmark.

Here. The same prior (`extrap/curves/prior.py`) and measure. Arms:
  causal     trains all cutoffs of a curve in one pass, several later times of
             each (`extrap/curves/causal_pfn.py`); a mixture of normals
  published  the published network and training (`extrap/curves/pfn.py`): one
             cutoff a batch, post-norm, dropout, 1000 bins

Protocol. Every training curve is fresh; the 10,000 test curves are the same for
all. Log density is of the noisy points, averaged over those that follow the
cutoff, then over curves; beside it how often a point lies within the central
50, 80 and 95 %. What differs in the published arm: its learning rate follows
steps here, not epochs of a hundred, the first of which was at a rate of 0.

Commands (two CPU cores of an AMD EPYC):
  python -m experiments.lcpfn                   the causal network
  python -m experiments.lcpfn --arms=published --batch_size=100 --steps=10000 \\
    --train.optimizer=adam --train.learning_rate=1e-4 --train.b2=0.999 \\
    --train.warmup_fraction=0.25                  a million curves
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from extrap import cli
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import option
from extrap.curves import prior, weights
from extrap.curves.bars import Bars
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig
from extrap.curves.pfn import PFN, PFNConfig
from extrap.curves.pfn_problem import CurveProblem, PublishedProblem
from extrap.curves.scores import Scores, score_bars, score_causal
from extrap.evaluation.results import Provenance, Result, select
from extrap.kept import Kept, provenance
from extrap.randomness import named
from extrap.reporting.report import bullets, write_tables
from extrap.reporting.tables import Table
from extrap.study import StudyConfig
from extrap.study_training import train_arm, training_seconds
from extrap.training import distributed
from extrap.training.config import TrainConfig
from extrap.training.flops import count_step_flops
from extrap.training.loop import Fit
from extrap.training.problem import Params

STUDY = 'lcpfn'
CLAIM = 'LC-PFN retrained: every cutoff of a curve in one pass'
TIME = '100 minutes on two CPU cores'

CUTOFFS = (10, 20, 40, 80)
LEVELS = (50, 80, 95)  # Percent, central.
BINS_FROM = 10_000  # Curves whose values make the bins.
# Mean log density at the cutoffs, as published.
ELSEWHERE = {
  'published, 3 x 128, 1M curves': (1.528, 1.894, 2.159, 2.279),
  'published, 12 x 128, 1M curves': (1.621, 1.982, 2.223, 2.326),
  'published, 3 x 128, 10M curves': (1.585, 1.989, 2.282, 2.431),
  'published, 12 x 128, 10M curves': (1.717, 2.094, 2.377, 2.498),
  'published, 12 x 512, 10M curves': (1.758, 2.133, 2.403, 2.519),
  'published, best MCMC': (1.642, 1.956, 2.285, 2.486),
}

Problem = CurveProblem | PublishedProblem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  arms: tuple[str, ...] = option(
    ('causal',), 'arms to train: causal, published', identity=False
  )
  replicas: int = option(1, 'seeds trained side by side', minimum=1)
  steps: int = option(
    8000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  batch_size: int = option(64, 'curves a step and replica', minimum=1)
  model: CausalPFNConfig = option(CausalPFNConfig(), 'the causal network')
  published: PFNConfig = option(PFNConfig(), 'the published network')
  curves: int = option(10_000, 'test curves', minimum=2, identity=False)
  train: TrainConfig = option(
    TrainConfig(
      optimizer='muon',
      learning_rate=2e-3,
      evaluate_every=0,
      steps_per_dispatch=50,
      save_every=500,
    ),
    'training',
  )


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and scores each arm; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: config.arms,
    identity=lambda config: (config.steps, config.curves),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  check_names('arms', config.arms, ('causal', 'published'))
  config.model.check()


def problem(config: Config) -> Problem:
  """The first arm; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.arms[0])


def make_problem(config: Config, name: str) -> Problem:
  """What an arm minimises."""
  if name == 'causal':
    model = CausalPFN(config.model)
    return CurveProblem(model=model, batch_size=config.batch_size)
  return PublishedProblem(
    model=PFN(config.published),
    bars=bins(config.published.bins),
    batch_size=config.batch_size,
  )


@functools.cache
def bins(count: int) -> Bars:
  """Bins that are equally likely under the prior."""
  key = named(jax.random.key(0), 'bins')
  curves = prior.sample(prior.PUBLISHED, key, BINS_FROM)
  return Bars.of_equal_mass(np.ravel(curves.noisy_NT), count)


def held_out_curves(count: int) -> np.ndarray:
  """Noisy curves [N, T] that no arm is trained on; the first are the same."""
  key = named(jax.random.key(0), 'test curves')
  parts = [
    prior.sample(prior.PUBLISHED, jax.random.fold_in(key, part), 1000).noisy_NT
    for part in range(-(-count // 1000))
  ]
  return np.concatenate(parts)[:count]


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Log density and coverage of every replica of an arm at every cutoff."""
  problem, folder = make_problem(config, name), kept.run.path / 'arms' / name
  trained = train_arm(problem, config, kept.run, name, kept.stop, folder)
  source = source_of(config, name, problem, trained, folder)
  value_NT, rows = held_out_curves(config.curves), []
  for replica in range(config.replicas):
    params = of_replica(trained.params, replica)
    if name == 'causal' and distributed.is_first():
      weights.save(folder / f'weights_{replica}.npz', config.model, params)
    for cutoff in CUTOFFS:
      kept.check()
      scores = scorer(problem, params)(value_NT, cutoff)
      rows += rows_of(source, replica, cutoff, scores)
  return rows


def of_replica(params: Params, replica: int) -> Params:
  """The parameters of one replica."""
  return jax.tree.map(lambda leaf: leaf[replica], distributed.to_host(params))


def scorer(
  problem: Problem, params: Params
) -> Callable[[np.ndarray, int], Scores]:
  """Scores of curves [N, T] behind a cutoff."""
  if isinstance(problem, CurveProblem):
    return functools.partial(score_causal, problem.model, params)
  return functools.partial(score_bars, problem.model, problem.bars, params)


def source_of(
  config: Config, name: str, problem: Problem, trained: Fit, folder: Path
) -> Provenance:
  """What an arm has cost."""
  steps = tuple(distributed.to_host(trained.state.step).tolist())
  each = count_step_flops(problem, trained.params)
  leaves = jax.tree.leaves(trained.params)
  notes = {
    'optimizer': config.train.optimizer,
    'learning_rate': config.train.learning_rate,
    'parameters': sum(leaf[0].size for leaf in leaves),
  }
  return Provenance(
    study=STUDY,
    arm=name,
    rung='exact prior',
    seeds=config.seeds,
    steps=steps,
    samples=tuple(step * config.batch_size for step in steps),
    flops=tuple(step * each for step in steps),
    seconds=training_seconds(folder) / config.replicas,
    hparams=json.dumps(notes),
  )


def rows_of(
  source: Provenance, replica: int, cutoff: int, scores: Scores
) -> list[Result]:
  """Of one replica and cutoff."""
  row = functools.partial(source.row, replica, 'prior', str(cutoff))
  log_density_N = scores.log_density_NQ.mean(1)
  n = len(log_density_N)
  error = float(log_density_N.std(ddof=1) / np.sqrt(n))
  rows = [
    row('log_density', float(log_density_N.mean()), n),
    row('log_density_error', error, n),
  ]
  for level in LEVELS:
    inside = np.abs(scores.cdf_NQ - 0.5) <= level / 200
    rows.append(row(f'coverage_{level}', float(inside.mean()), inside.size))
  return rows


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md; returns the tables."""
  tables = {
    'Log density': log_density_table(results),
    'Coverage': coverage_table(results),
  }
  made = ('How it was made', bullets(provenance()))
  return write_tables(folder / 'report.md', 'LC-PFN', tables, [made])


def log_density_table(results: Sequence[Result]) -> Table:
  """Every replica, with what is published."""
  rows = []
  for row in select(results, metric='log_density', size=str(CUTOFFS[0])):
    found = _cells(results, row, 'log_density')
    error = _cells(results, row, 'log_density_error')
    rows.append(
      [
        f'{row.arm}, seed {row.seed}',
        f'{json.loads(row.hparams)["parameters"]:,}',
        f'{row.samples:,}',
        f'{row.seconds:,.0f}',
        *(f'{found[at].value:.3f} ± {error[at].value:.3f}' for at in CUTOFFS),
      ]
    )
  for name, values in ELSEWHERE.items():
    rows.append([name, '', '', '', *(f'{value:.3f}' for value in values)])
  return Table(
    ['arm', 'parameters', 'curves', 'seconds', *map(str, CUTOFFS)],
    rows,
    'Mean log density of an unseen noisy point, in nats, by how many of 100 '
    'points are seen; with the standard error over test curves.',
  )


def coverage_table(results: Sequence[Result]) -> Table:
  """How often points lie within central intervals."""
  rows = []
  for row in select(results, metric='log_density', size=str(CUTOFFS[0])):
    for level in LEVELS:
      found = _cells(results, row, f'coverage_{level}')
      shares = (f'{100 * found[at].value:.1f} %' for at in CUTOFFS)
      rows.append([f'{row.arm}, seed {row.seed}', f'{level} %', *shares])
  return Table(
    ['arm', 'interval', *map(str, CUTOFFS)],
    rows,
    'Share of unseen points within the central interval, by how many of 100 '
    'points are seen.',
  )


def _cells(
  results: Sequence[Result], row: Result, metric: str
) -> Mapping[int, Result]:
  """Rows of the same replica by cutoff."""
  same = select(results, arm=row.arm, replica=row.replica, metric=metric)
  return {int(each.size): each for each in same}


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
