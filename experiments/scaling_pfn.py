"""A network that forecasts scaling curves, trained on laws alone.

Claimed elsewhere. Lee et al. (2025, arXiv 2505.23032): a transformer of 12
layers of 512, trained on 1.6 million curves of a prior over broken scaling
laws, forecasts real ones better than any parametric law is fitted; numbers in
`experiments/scaling_benchmark.py`.

Here. 4 layers of 96 that learn from every point of a curve as a cutoff
(`extrap/curves/causal_pfn.py`), on a prior of our own
(`extrap/curves/scaling_prior.py`) in log x and log y, so that neither a unit
nor how far the forecast will go has to be known.

Protocol. Every training curve is fresh. Beside the log density on other curves
of the prior there is the error on real ones: RMSLE on the last fifth of the
points that the benchmark gives to be fitted, forecast from the others; the
points that it scores are not used here.

Measured (`results/scaling_pfn.csv`, one seed; 28 minutes of a core). On the
prior 2.93 nats. On held-out points of real curves, RMSLE of images .0191,
language and nano .0166, double descent .0189, language models .0110, where
M4 has .0198, .0144, .0781 and .0176 and BNSL of one break .0182, .0121, .0461
and .0201. How it does on the points that are scored stands in
`experiments/scaling_benchmark.py`.

Command (a CPU core of an AMD EPYC):
  python -m experiments.scaling_pfn
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.scaling_benchmark import DOMAINS
from experiments.scaling_scores import network_held_out
from extrap import cli
from extrap.arms import check_scratch, run_arms
from extrap.config import option
from extrap.curves import weights
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig
from extrap.curves.scaling_pfn import ScalingPFN, ScalingProblem
from extrap.datasets.scaling_benchmark import load
from extrap.evaluation.results import Provenance, Result
from extrap.kept import Kept, provenance
from extrap.randomness import named
from extrap.reporting.report import bullets, write_tables
from extrap.reporting.tables import Table
from extrap.study import StudyConfig
from extrap.study_training import account, train_arm
from extrap.training import distributed
from extrap.training.config import TrainConfig
from extrap.training.problem import Context, Params

STUDY = 'scaling_pfn'
ARM = 'scaling laws'
RUNG = 'prior over laws'
CLAIM = 'a network trained on scaling laws alone forecasts real curves'
TIME = '30 minutes on a CPU core'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  replicas: int = option(1, 'seeds trained side by side', minimum=1)
  steps: int = option(
    12_000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  batch_size: int = option(48, 'curves a step and replica', minimum=1)
  model: CausalPFNConfig = option(CausalPFNConfig(), 'the network')
  curves: int = option(
    2000, 'test curves of the prior', minimum=2, identity=False
  )
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
  """Trains and scores the network; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: (ARM,),
    identity=lambda config: (config.steps, config.curves),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  config.model.check()


def problem(config: Config) -> ScalingProblem:
  """What is minimised."""
  model = CausalPFN(config.model)
  return ScalingProblem(model=model, batch_size=config.batch_size)


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Scores of every replica."""
  made, folder = problem(config), kept.run.path / 'arms' / 'network'
  fit = train_arm(made, config, kept.run, name, kept.stop, folder)
  source = account(STUDY, name, RUNG, config, made, fit, folder)
  rows = []
  for replica, params in enumerate(fit.each()):
    kept.check()
    if distributed.is_first():
      path = folder / f'weights_{replica}.npz'
      weights.save(path, config.model, params, weights.SCALING)
    rows += rows_of(config, source, replica, made, params)
  return rows


def rows_of(
  config: Config,
  source: Provenance,
  replica: int,
  made: ScalingProblem,
  params: Params,
) -> list[Result]:
  """Of one replica, on the prior and on real curves."""
  leaves = jax.tree.leaves(params)
  hparams = json.dumps({'parameters': sum(leaf.size for leaf in leaves)})
  source = dataclasses.replace(source, hparams=hparams)
  row = functools.partial(source.row, replica)
  density = float(-held_out_loss(made, config.curves, params))
  found = [row('prior', 'all', 'log_density', density, config.curves)]
  network = ScalingPFN(config.model, params)
  for title, domains in DOMAINS.items():
    errors = held_out_errors(network, domains)
    error = float(np.mean(errors))
    found.append(row('held_out', title, 'rmsle', error, len(errors)))
  return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def held_out_loss(
  made: ScalingProblem, count: int, params: Params
) -> jax.Array:
  """Mean negative log density on curves that are never trained on."""
  made = dataclasses.replace(made, batch_size=count)
  key = named(jax.random.key(0), 'test curves')
  ctx = Context(key=key, step=jnp.int32(0), hparams={})
  return made.loss(params, made.sample(ctx), ctx)[0]


def held_out_errors(network: ScalingPFN, domains: Sequence[str]) -> list[float]:
  """RMSLE of each curve of some domains, see the protocol."""
  curves = [curve for curve in load() if curve.domain in domains]
  return network_held_out(network, curves)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md; returns the tables."""
  tables = {'Held out': held_out_table(results)}
  made = ('How it was made', bullets(provenance()))
  return write_tables(folder / 'report.md', 'Scaling PFN', tables, [made])


def held_out_table(results: Sequence[Result]) -> Table:
  """A row a replica and metric."""
  rows = [
    [
      *(f'seed {row.seed}', f'{row.samples:,}', f'{row.seconds:,.0f}'),
      *(row.split, row.size, row.metric, f'{row.n:,}', f'{row.value:.4f}'),
    ]
    for row in results
  ]
  return Table(
    [
      *('network', 'curves', 'seconds', 'on', 'domain', 'metric', 'tested'),
      'mean',
    ],
    rows,
    'On other curves of the prior, and on the last fifth of the points of real '
    'curves that are given to be fitted.',
  )


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
