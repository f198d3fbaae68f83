"""Our own learning curves: addition runs, forecast from their first parts.

Claimed elsewhere. Abilities that seem to emerge may be an effect of the metric:
an answer of n tokens is right as a whole about as often as p^n, so that exact
match is sharp where the likelihood of a token is smooth (Schaeffer et al. 2023,
arXiv 2304.15004, on arithmetic of language models). Of LC-PFN (Adriaensen et
al. 2023, arXiv 2310.20447) and its stopping rule see `experiments/lcpfn.py` and
`experiments/early_stopping.py`.

Here. Sums of up to N = 10 digits, least significant digit first, one layer,
places relative to each other (rung L5 of the structure ladder), AdamW. Six
widths, 8 to 48, each of them a population of four learning rates, 5e-4 to
1.5e-2, and three seeds each: 72 runs of 3,000 steps of 32 sums. The rates reach
from one that hardly learns in this time to a fast one; a trial of one seed at
width 16 told where that is (no CSV). Every 50 steps 256 held-out sums each of N
and of 1.5 N digits, a run's own and the same each time: loss of a token, share
of tokens that are right, exact match. After a short warm-up the learning rate
is constant, so that the first part of a run *is* a shorter run, and loss by
data needs no further runs.

Protocol. The questions; no forecast is chosen by how it came out:
  forecasts  loss and exact match at N after 10, 20, 40 and 80 % of a run, by
             the network that comes along and by families with a residual
             bootstrap, fitted in log y to losses and in y to the share of sums
             that are wrong. Error at the end, in nats or as a share; RMSE, MASE
             and log density of normalised values (a loss by that of a uniform
             guess), as in `experiments/real_curves.py`; forecasts outside the
             metric's bounds count as at them. The network's time is the number
             of the look
  routes     exact match at the end once more, as p^n of the likelihood of a
             token, or of the share that is right, that are forecast. n is the
             mean number of tokens of an answer; nothing is fitted in between
  scaling    loss by data: at each budget that of the best learning rate for
             it, for each width and repeat; laws fitted to budgets up to an
             eighth, a quarter and a half tell the loss with all. Loss by size:
             likewise with all data, the two largest from the four smaller ones.
             The best is so by the loss that is scored, of budgets that are seen
             and of what is forecast alike: all are the least of four, a little
             too good
  emergence  of runs that come to 90 % exact match: the share of training over
             which a metric rises from 10 to 90 % of its range, what tokens have
             made of theirs when exact match begins, and how well p^n tells it;
             at N and at 1.5 N
  stopping   rules of `extrap/curves/replay.py` on the sweep in 40 random
             orders, by loss or by exact match at N: epochs saved, and regret
             of the winner. A look counts as an epoch
The run is the unit of inference: bootstrap intervals over runs, of stopping
over orders. Runs that fail before their end are left out, but for stopping.

Measured (`results/own_curves.csv`; 72 runs of 96,000 sums, ten minutes of one
core). 54 runs come to 90 % exact match at N. From the first fifth of a run the
end of its loss is missed by 0.82 nats by the network, 0.90 by the last value,
0.58 (0.40 to 0.77) by pow4; from four fifths by 0.094, 0.103 and, mmf4, 0.054.
Exact match: 0.54, 0.48 and, BNSL, 0.36 from a fifth, 0.094, 0.067 and 0.033
from four. The network's prior has no curve that is flat for long and then rises
at once: it is no better here than the last value, or hardly.
  Emergence as an effect of the metric is confirmed on this sweep: p^n of the
share of tokens that are right tells exact match within 0.003 at every look. It
begins when that share has made 77 % of its range, and rises over 14 % of
training, the share over 17 %, the log likelihood over 22 %. p^n of the
likelihood is 0.09 off, as tokens are right before the model is sure. To
forecast by tokens helps families that cannot bend twice (pow4 after a fifth:
0.25 for 0.39; M4 at the end: 0.08 for 0.54), not BNSL, the network and the last
value.
  Loss by data: from half of the data M1 and M2 miss the end by 0.0025 nats, the
last value by 0.0072; from an eighth by 0.23 and 0.71, pow4 by 2.2. By size
there is nothing to tell: with all data the larger models are at the floor of
1e-6 nats. Stopping: the forecast after 10, 20, 40 and 80 % saves 86 % of all
looks by loss and 89 % by exact match, and finds the best run in all 40 orders;
after every look it saves 95 % and finds it in 20 and 68 % of them. Patience 1
by exact match saves 94 % without a loss, by loss 70 % for a regret of 3e-10.

Where it differs. One task, one encoding that gives alignment away, small
models: how sharply exact match rises elsewhere does not follow. Seeds of one
width and rate are alike, so that intervals over runs are of this sweep. Losses
at a constant learning rate are noisy, and no forecast can know the noise of the
last look.

Commands (one CPU core):
  python -m experiments.own_curves
  python -m experiments.own_curves --runs=FILE   minutes, without training
where FILE is experiments/results/own_curves_runs.csv, or runs.csv of a run.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments.own_curves_forecasts import NAIVE, network_of
from experiments.own_curves_parts import PARTS
from experiments.own_curves_pictures import pictures
from experiments.own_curves_runs import (
  STUDY,
  Run,
  arm_of,
  read_runs,
  write_runs,
)
from experiments.own_curves_tables import all_tables
from experiments.own_curves_training import (
  make_problem,
  population,
  runs_file,
  train_width,
)
from extrap import cli
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import option
from extrap.curves.families import FAMILIES
from extrap.curves.lcpfn import MOST
from extrap.errors import UsageError
from extrap.evaluation.results import Result
from extrap.kept import Kept, provenance
from extrap.models import TransformerConfig
from extrap.models.positions import PlaceBias
from extrap.reporting.report import bullets, write_tables
from extrap.sequence import SequenceProblem
from extrap.study import StudyConfig
from extrap.training.config import TrainConfig

CLAIM = 'own addition runs: forecasts, emergence as a metric effect, stopping'
TIME = 'a quarter of an hour on a CPU core'

FEWEST = 10  # Looks at a run.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  widths: tuple[int, ...] = option(
    (8, 12, 16, 24, 32, 48), 'widths of the model, an arm each', minimum=1
  )
  rates: tuple[float, ...] = option(
    (5e-4, 1.5e-3, 5e-3, 1.5e-2), 'learning rates, side by side', minimum=0.0
  )
  replicas: int = option(3, 'seeds of each width and rate', minimum=1)
  model: TransformerConfig = option(
    TransformerConfig(position=PlaceBias()),
    'the model; its width is the arm, its feed-forward four times that',
  )
  steps: int = option(
    3000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  train: TrainConfig = option(
    TrainConfig(
      schedule='constant',
      evaluate_every=50,
      steps_per_dispatch=100,
      save_every=500,
    ),
    'training',
  )
  digits: int = option(10, 'longest training operand', unit='digits', minimum=2)
  batch_size: int = option(
    32, 'sums a step and replica', unit='sums', minimum=1
  )
  held_out: int = option(
    256, 'held-out sums of each length', unit='sums', minimum=1
  )
  runs: str = option('', 'file of runs that were made, in place of new ones')
  weights: str = option(
    '', 'file of the network that forecasts (default: that which comes along)'
  )
  families: tuple[str, ...] = option(
    ('last_value', 'pow4', 'mmf4', 'm4', 'bnsl1'),
    'families to fit to first parts, last_value among them',
  )
  chance: float = option(
    0.05, 'of a new best, that keeps a run going', minimum=0.0, maximum=1.0
  )
  orders: int = option(
    40, 'of the runs, in which rules are replayed', minimum=1
  )


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains the sweep and asks it; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: [*arms_of(config), *PARTS],
    identity=identity,
    make=study_of,
    report=write_report_of,
  )


def arms_of(config: Config) -> list[str]:
  """What is trained."""
  return [] if config.runs else [arm_of(width) for width in config.widths]


def identity(config: Config) -> tuple[object, ...]:
  """What rows depend on beside the flags: steps, and what is in the file."""
  if not config.runs:
    return (config.steps,)
  return config.steps, hashlib.sha256(Path(config.runs).read_bytes()).digest()


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  check_names('families', config.families, FAMILIES)
  if NAIVE not in config.families:
    raise UsageError(
      f'--families={",".join(config.families)}: {NAIVE} must be among them, '
      'MASE is over its errors'
    )
  network_of(config)
  (_check_file if config.runs else _check_training)(config)


def _check_file(config: Config) -> None:
  looks = len(read_runs(config.runs)[0].step_T)
  if not FEWEST <= looks <= MOST:
    raise UsageError(
      f'--runs={config.runs}: {looks} looks at a run; {FEWEST} to {MOST} are '
      'needed'
    )


def _check_training(config: Config) -> None:
  train, every = config.train, config.train.evaluate_every
  if train.schedule != 'constant' or train.enough or train.ema:
    raise UsageError(
      f'--train.schedule={train.schedule} --train.enough={train.enough:g} '
      f'--train.ema={train.ema:g}: the first part of a run is a shorter run '
      'only with a constant schedule, and 0 of both others'
    )
  looks = config.steps // every if every else 0
  if not FEWEST <= looks <= MOST or config.steps % every:
    raise UsageError(
      f'--steps={config.steps} --train.evaluate_every={every}: a multiple, '
      f'{FEWEST} to {MOST} times'
    )
  for flag, given in (('widths', config.widths), ('rates', config.rates)):
    if not given or len(set(given)) < len(given):
      raise UsageError(f'--{flag} needs at least one entry, each once')
  for width in config.widths:
    make_problem(config, width)


def problem(config: Config) -> SequenceProblem:
  """The largest width; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, max(config.widths))


def resolved(config: Config) -> Config:
  """With a replica for each rate and seed, for `launch.plan`."""
  return population(config)


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Rows of a width that is trained, or of a part."""
  if name in PARTS:
    return PARTS[name](config, kept, runs_of(config, kept.run.path))
  width = config.widths[arms_of(config).index(name)]
  return [row for run in train_width(config, kept, width) for row in run.ends()]


def runs_of(config: Config, folder: Path) -> list[Run]:
  """The sweep: of a file, or of all widths that are there."""
  if config.runs:
    return read_runs(config.runs)
  paths = [runs_file(folder, width) for width in config.widths]
  return [run for path in paths if path.exists() for run in read_runs(path)]


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md with pictures, and runs.csv; returns the tables."""
  runs = runs_of(config, folder)
  if not config.runs:
    write_runs(folder / 'runs.csv', runs)
  sections = pictures(config, runs, folder)
  made = ('How it was made', bullets(provenance()))
  return write_tables(
    folder / 'report.md',
    'Our own learning curves',
    all_tables(results),
    [*sections, made],
  )


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
