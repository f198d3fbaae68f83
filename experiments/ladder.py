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

Protocol. Operand lengths uniform over pairs from 1..N. Each rung's learning rate
is the best of three by training loss (every sum is fresh: that is the loss in
distribution) in runs of a fifth of the budget, seeds apart; their cost is
listed. Ids are met in training up to 6 N by random shifts (Abacus, coupling) and
by stretched positions (FIRE); place-relative rungs have neither shifts nor a
table. Exact match at equal lengths, the last checkpoint. Reach is the largest
tested length up to which every tested one is at least 99 % (90, 50 %) right; a
seed below that at N itself is "not learned". Tests stop beyond the length where
all seeds are below 50 %.

Commands (two CPU cores of an AMD EPYC; a rung takes up to an hour):
  python -m experiments.ladder --rungs=abacus     one rung
  python -m experiments.ladder --eval=full        all, 1,000 sums a length
  python -m experiments.ladder --digits=20 \\
    --rungs=abacus,coupling,place_bias,place_window
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from extrap import cli
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation.grid import Suite, in_table
from extrap.evaluation.reach import THRESHOLDS, is_over, reach
from extrap.evaluation.results import Result, select, write_csv
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
from extrap.reporting.report import bullets, picture, write_report
from extrap.reporting.tables import Table, format_percent
from extrap.sequence import SequenceProblem
from extrap.study import (
  Kept,
  StudyConfig,
  account,
  count_right,
  open_run,
  provenance,
  terminated,
  train_arm,
  tune,
)
from extrap.tasks.addition import Addition
from extrap.training import distributed
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
RATES = (5e-4, 1.5e-3, 5e-3)
# Of the training length.
FACTORS = (0.5, 1, 1.1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 20, 50, 100)


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
    TrainConfig(evaluate_every=0, save_every=1000), 'training'
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

  @property
  def lengths(self) -> list[int]:
    """Equal operand lengths to test, in order."""
    factors = [f for f in FACTORS if f <= self.longest]
    return sorted({round(f * self.digits) for f in factors})

  @property
  def tuning_steps(self) -> int:
    return -(-self.steps // 5)


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and evaluates each rung; returns the exit code."""
  distributed.initialize(config.cluster)
  with distributed.shared_fate():
    check(config)
  run, config = open_run(STUDY, config, flag_values)
  results: list[Result] = []
  with run, terminated() as stop:
    kept = Kept(run, stop)
    for rung in config.rungs:
      results += kept.rows(
        rung,
        (config.steps, config.longest, config.eval),
        lambda rung=rung: study_of(config, kept, rung),
      )
    with distributed.shared_fate():
      if distributed.is_first():
        write_csv(run.path / 'results.csv', results, kept.comments)
        report = write_report_of(config, run.path, results)
        print(f'\n{ladder_table(results).text()}\n\nreport: {report}')
    run.status('done', config.steps)
  return 0


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  if not config.rungs:
    raise UsageError('--rungs needs at least one entry')
  if config.eval == 'none' or config.init_from:
    raise UsageError('this study trains from scratch and always evaluates')
  for rung in config.rungs:
    if rung not in RUNGS or config.rungs.count(rung) > 1:
      raise UsageError(f'--rungs={rung}: name each once, of {", ".join(RUNGS)}')
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
  folder = kept.run.path / 'arms' / rung
  problem = make_problem(config, rung)
  rate, losses = tune(
    problem,
    config,
    kept.run,
    rung,
    kept.stop,
    folder / 'rates',
    RATES,
    config.tuning_steps,
  )
  train = dataclasses.replace(config.train, learning_rate=rate)
  tuned = dataclasses.replace(config, train=train)
  trained = train_arm(problem, tuned, kept.run, rung, kept.stop, folder)
  source = account(STUDY, rung, RUNGS[rung], tuned, problem, trained, folder)
  largest = largest_ids(config, problem)
  notes = {
    'learning_rate': rate,
    'tuning_loss': losses,
    'tuning_samples': len(RATES) * config.tuning_steps * config.batch_size,
    'trained_id': largest,
  }
  source = dataclasses.replace(source, hparams=json.dumps(notes))
  results: list[Result] = []
  scored: dict[int, list[float]] = {}
  rows = 1000 if config.eval == 'full' else 200
  for length in config.lengths:
    inside = length <= config.digits
    split = 'in_distribution' if inside else 'out_of_distribution'
    if not in_table(problem.model.config.position, problem.task, length):
      results += source.exact_match(split, str(length), None, 0)
      continue
    suite = Suite(name='equal', cells=((length, length),), rows=rows)
    label = f'test {rung}, {length} digits'
    counts = count_right(
      problem.model, trained.params, problem.task, suite, label, kept.check
    )
    right_R = counts[length, length]
    results += source.exact_match(split, str(length), right_R, rows)
    scored[length] = (np.asarray(right_R) / rows).tolist()
    if not inside and is_over(scored, config.digits):
      break
  return results


def largest_ids(config: Config, problem: SequenceProblem) -> str:
  """The largest id met in training, in words."""
  position = problem.model.config.position
  if isinstance(position, FIRE):
    return f'position {position.stretch - 1}'
  if position.table is None:
    return 'none'
  largest = problem.task.largest_ids(config.digits)[position.table]
  return f'place {largest + position.largest_shift}'


def by_length(rows: Sequence[Result]) -> dict[int, float]:
  """Exact match of one replica."""
  return {int(r.size): r.value for r in rows if r.value is not None}


def trained_length(results: Sequence[Result]) -> int:
  """N: the longest test inside the training region."""
  inside = select(results, split='in_distribution')
  return max(int(row.size) for row in inside)


def ladder_table(results: Sequence[Result]) -> Table:
  """One row a rung: what each seed learned and how far it goes."""
  trained = trained_length(results)
  rows = []
  for arm in dict.fromkeys(row.arm for row in results):
    chosen = select(results, arm=arm, metric='exact_match')
    replicas = [
      by_length(select(chosen, replica=replica))
      for replica in sorted({row.replica for row in chosen})
    ]
    inside = [format_percent(one[trained]) for one in replicas]
    notes = json.loads(chosen[0].hparams)
    longest = max(max(one) for one in replicas)
    rows.append(
      [
        chosen[0].rung,
        ', '.join(inside),
        *(_reaches(replicas, trained, level) for level in THRESHOLDS),
        notes['trained_id'],
        f'{longest}',
        f'{notes["learning_rate"]:g}',
        f'{chosen[0].samples:,} + {notes["tuning_samples"]:,}',
        f'{chosen[0].flops:.1e}',
        f'{chosen[0].seconds:.0f}',
      ]
    )
  headers = [
    *('rung', f'exact match at {trained}', 'reach at 99 %', 'at 90 %'),
    *('at 50 %', 'largest id trained', 'longest test', 'learning rate'),
    *('sums + tuning', 'FLOPs', 'seconds a seed'),
  ]
  caption = (
    f'Every seed, trained to {trained} digits. Reach: digits; - not learned: '
    'below that at the training length, which says nothing on extrapolation.'
  )
  return Table(headers, rows, caption)


def _reaches(
  replicas: Sequence[dict[int, float]], trained: int, level: float
) -> str:
  """The reach of every seed, in order."""
  found = [reach(one, trained, level) for one in replicas]
  if all(far is None for far in found):
    return 'not learned'
  return ', '.join('-' if far is None else str(far) for far in found)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> Path:
  """report.md, with the figure."""
  report = folder / 'report.md'
  (folder / 'plots').mkdir(exist_ok=True)
  path = folder / 'plots' / 'ladder.png'
  title = f'Addition, trained on up to {config.digits} digits'
  figure = plots.accuracy_vs_length(results, config.digits, path, title)
  sections = [
    ('Reach by rung', ladder_table(results).markdown()),
    ('Exact match by length', picture('by rung', figure, report)),
    ('How it was made', bullets([*provenance()])),
  ]
  write_report(report, 'The structure ladder', sections)
  return report


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
