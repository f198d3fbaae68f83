"""The structure ladder: how far addition goes, by how much is given away.

Claimed elsewhere. Standard encodings fail soon beyond the training length;
randomised positions and FIRE reach 2.5 times (Zhou et al. 2024, arXiv
2402.09371), Abacus six times (McLeish et al. 2024, arXiv 2405.17399), position
coupling 6.7 times (Cho et al. 2024, arXiv 2405.20671). Models, samples and
compute differ by orders of magnitude between these, so they do not say what the
encoding alone does.

Here. One model (two layers, width 64), one budget (500,000 sums a seed), one
rung of structure after the other: plain digits; reversed; randomised FIRE;
Abacus; coupling; place-relative biases without a window; with a hard window.

Protocol. Operand lengths uniform over pairs from 1..N. Each rung's learning
rate is the best of three by training loss (every sum is fresh: that is the loss
in distribution) in runs of a fifth of the budget, seeds apart; their cost is
listed. Ids are met in training up to 6 N by random shifts (Abacus, coupling)
and by stretched positions (FIRE); place-relative rungs have neither shifts nor
a table. Rungs with shifts have a second reach, of predictions averaged over 32
of them (`extrap/models/shift_average.py`). Exact match at equal lengths, the
last checkpoint. Reach is the largest tested length up to which every tested one
is at least 99 % (90, 50 %) right; a seed below that at N itself is "not
learned". Tests stop beyond the length where all seeds are below 50 %.

Measured (seeds 0..4, N = 10; Muon, rates of 2.5e-3, 5e-3 and 1e-2; 500,032 sums
and 9.2e12 to 9.8e12 FLOPs a seed, Muon's own products included, 1,000 sums a
length and seed; one H100 for up to thirteen runs at a time, plain and reversed
digits, randomised FIRE (begun on an H200) and place-relative on a CPU core;
`results/ladder.csv`). Plain digits, reversed digits and randomised FIRE: not
learned, 0 % at 10 digits. Abacus and coupling: all seeds learn; at one shift
they reach 10 to 12 digits at 99 %, averaged over 32 shifts 12 to 25 and 10 to
20. Place-relative, with and without a window: all sums right in all seeds at
every length up to 1,000, the longest tested.

With AdamW (`--train.optimizer=adamw`, one shift, rates of 5e-4, 1.5e-3 and
5e-3, the same sums, 8.0e12 to 8.6e12 FLOPs a seed; `results/ladder_adamw.csv`)
Abacus learns in two of five seeds, reach 11 and 12; coupling in all, reach 11
to 12 at 99 %, 15 to 20 at 50 %; what is not learned above is not learned here,
and place-relative is right everywhere, too. Muon became the default when it was
seen to learn Abacus several times as fast (`experiments/abacus.py`).

N = 20 (Muon, `--digits=20 --longest=50`, 1.7e13 FLOPs a seed,
`results/ladder_20.csv`): Abacus learns in three of five seeds, coupling in
four, and reach 20 to 24 digits at one shift; averaged over 32 shifts all are
learned and reach 24 to 40. In two seeds of Abacus, and one of coupling, 8 to 88
% of sums of 20 digits are right at shift 0: which ids are met together differs
by shift, and some shifts are presumably not learned. Place-relative, with and
without a window: all sums right in all seeds to 1,000 digits, 50 N, the longest
tested.

Where it differs. Abacus and coupling reach 6 and 6.7 times in their papers, at
about a million and ten thousand times the compute: what is short here is the
budget, not shown to be the encoding. With AdamW all rungs chose the largest
learning rate of the three, and with Muon all but Abacus and reversed digits
did: a larger one might help those that did not learn.

Commands (two CPU cores of an AMD EPYC; a rung takes up to an hour):
  python -m experiments.ladder --rungs=abacus     one rung
  python -m experiments.ladder --eval=full        all, 1,000 sums a length
  python -m experiments.ladder --digits=20 --rungs=abacus,coupling,...
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from extrap import cli
from extrap.arms import (
  MUON_RATES,
  check_names,
  check_scratch,
  run_arms,
  shifts_option,
  train_tuned,
)
from extrap.config import option
from extrap.evaluation.results import Result
from extrap.kept import Kept, provenance
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import (
  FIRE,
  Abacus,
  Coupling,
  NoPosition,
  PlaceBias,
  PlaceWindow,
  Position,
)
from extrap.reporting import plots
from extrap.reporting.reach import reach_table
from extrap.reporting.report import bullets, picture, write_report
from extrap.scoring import lengths_up_to, score_reaches
from extrap.sequence import SequenceProblem
from extrap.study import StudyConfig
from extrap.tasks.addition import Addition
from extrap.training.config import TrainConfig

STUDY = 'ladder'
CLAIM = 'how far addition extrapolates, by how much structure is given away'
TIME = 'up to an hour a rung on two CPU cores'

RUNGS = {
  'plain': 'L0 plain',
  'reversed': 'L1 reversed',
  'randomised_fire': 'L2 randomised FIRE',
  'abacus': 'L3 Abacus',
  'coupling': 'L4 coupling',
  'place_bias': 'L5 place-relative',
  'place_window': 'L6 hard window',
}
MULTIPLE = 6  # Ids are trained up to so many times the training length.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  rungs: tuple[str, ...] = option(
    tuple(RUNGS), f'rungs to train, of {", ".join(RUNGS)}', identity=False
  )
  model: TransformerConfig = option(
    TransformerConfig(depth=2), "the model; its position is the rung's"
  )
  replicas: int = option(5, 'seeds of each rung', minimum=1)
  steps: int = option(
    7_813, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  train: TrainConfig = option(
    TrainConfig(optimizer='muon', evaluate_every=0, save_every=1000), 'training'
  )
  digits: int = option(10, 'longest training operand', unit='digits', minimum=2)
  batch_size: int = option(
    64, 'sums a step and replica', unit='sums', minimum=1
  )
  longest: int = option(
    100,
    'longest test, in training lengths',
    minimum=2,
    identity=False,
  )
  shifts: int = shifts_option()


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and evaluates each rung; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: config.rungs,
    identity=lambda config: (
      config.steps,
      config.longest,
      config.eval,
      config.shifts,
    ),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_names('rungs', config.rungs, RUNGS)
  check_scratch(config)
  for rung in config.rungs:
    make_problem(config, rung)


def problem(config: Config) -> SequenceProblem:
  """The first rung; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.rungs[0])


def position_of(rung: str, digits: int) -> Position:
  """The encoding of a rung; shifts and tables follow one multiple of N."""
  largest = MULTIPLE * digits
  shifted = dict(shift=largest - digits - 1, max_size=largest + 3)
  return {
    'plain': NoPosition(),
    'reversed': NoPosition(),
    'randomised_fire': FIRE(stretch=Addition().token_length(largest)),
    'abacus': Abacus(**shifted),
    'coupling': Coupling(**shifted),
    'place_bias': PlaceBias(),
    'place_window': PlaceWindow(),
  }[rung]


def make_problem(config: Config, rung: str) -> SequenceProblem:
  """The model and the format of a rung."""
  task = Addition(order='msb' if rung == 'plain' else 'lsb')
  position = position_of(rung, config.digits)
  model = dataclasses.replace(config.model, position=position)
  return SequenceProblem(
    task=task,
    model=Transformer(model, task.vocab_size),
    max_size=config.digits,
    batch_size=config.batch_size,
  )


def study_of(config: Config, kept: Kept, rung: str) -> list[Result]:
  """Exact match by length of every replica of a rung."""
  arm = train_tuned(
    STUDY,
    rung,
    RUNGS[rung],
    make_problem(config, rung),
    config,
    kept,
    MUON_RATES,
    -(-config.steps // 5),
  )
  lengths = lengths_up_to(config.digits, config.longest)
  rows = 1000 if config.eval == 'full' else 200
  return score_reaches(arm, lengths, rows, config.shifts, kept)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md, with the figure; returns the table."""
  report = folder / 'report.md'
  (folder / 'plots').mkdir(exist_ok=True)
  path = folder / 'plots' / 'ladder.png'
  title = f'Addition, trained on up to {config.digits} digits'
  figure = plots.accuracy_vs_length(results, config.digits, path, title)
  reach = reach_table(results)
  sections = [
    ('Reach by rung', reach.markdown()),
    ('Exact match by length', picture('by rung', figure, report)),
    ('How it was made', bullets([*provenance()])),
  ]
  write_report(report, 'The structure ladder', sections)
  return reach.text()


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
