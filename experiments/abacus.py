"""Abacus embeddings and looped transformers, small: who wins, and by how much.

Claimed elsewhere. "Transformers Can Do Arithmetic with the Right Embeddings"
(McLeish et al. 2024, arXiv 2405.17399): trained on additions of up to 20
digits, a standard transformer with Abacus embeddings gets 92.9 % of the other
cells of the 100 x 100 grid of length pairs right, with input injection and
looping 99.1 %; NoPE and FIRE stay far below. Means of three models of 12 to 122
million parameters, 8 exaFLOP each; no spread over seeds is published.

Here. The same matrix at 1 : 2 in length and 1 : 400,000 in compute: width 64,
four effective layers (ST: four blocks; II: the same with the input added before
each; LT: one block, looped four times, with the input and the progressive
loss), 2e13 FLOPs a seed at most. Sorting, bitwise OR and multiplication at the
same scale.

Protocol. Lengths uniform over pairs from 1..N. Arms have the same samples and
forward FLOPs; parameters are listed. Learning rate of three by loss in
distribution, in runs of a tenth of the budget, its cost listed. A seed stops
once all 1,024 held-out problems of N x N are right. Abacus shifts by up to 5 N,
one shift a batch, as published. Grid of 5 N x 5 N (multiplication 25/15 N,
sorting 3 N); in distribution: both sizes at most N; the rest is out of
distribution; extreme: equal lengths 5 N + 1 .. 8 N. The last checkpoint is
scored, teacher forced (equal to greedy decoding). Intervals: t over seeds;
differences: Welch.

Commands (two CPU cores of an AMD EPYC; 20 to 45 minutes an arm):
  python -m experiments.abacus --arms=abacus_st,abacus_lt
  python -m experiments.abacus --task=sorting
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from extrap import cli
from extrap.arms import Arm, lengths_up_to, score_lengths, train_tuned
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation.grid import Suite
from extrap.evaluation.regions import region_of, region_rows, square
from extrap.evaluation.results import Result, select, values, write_csv
from extrap.evaluation.statistics import difference, verdict
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import POSITIONS, Position
from extrap.models.positions.digits import Abacus
from extrap.reporting.reach import reach_table
from extrap.reporting.regions import region_table
from extrap.reporting.report import bullets, write_report
from extrap.reporting.tables import Table
from extrap.sequence import SequenceProblem
from extrap.study import (
  Kept,
  StudyConfig,
  count_right,
  open_run,
  provenance,
  terminated,
)
from extrap.tasks.addition import Addition
from extrap.tasks.bitwise_or import BitwiseOr
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.sorting import Sorting
from extrap.training import distributed
from extrap.training.config import TrainConfig
from extrap.training.flops import count_step_flops

STUDY = 'abacus'
CLAIM = 'Abacus embeddings and looped transformers, with error bars'
TIME = '20 to 45 minutes an arm on two CPU cores'

RATES = (5e-4, 1.5e-3, 5e-3)
BUDGET = 2e13  # FLOPs a seed.
# How the four effective layers are made.
FORMS = {
  'st': dict(depth=4),
  'ii': dict(depth=4, inject_every=1),
  'lt': dict(recurrences=4, inject_every=1),
}
POSITION_NAMES = {'nope': 'none'}
HEADLINE = ('abacus_st', 'abacus_ii', 'abacus_lt', 'abacus_fire_lt')


@dataclasses.dataclass(frozen=True)
class Setting:
  """A task, the training sizes and the tests.

  Attributes:
    task: what is learned.
    trained: N.
    grid: side of the grid of sizes.
    extreme: largest of the equal sizes beyond the grid (0: none).
    steps: optimizer steps by default.
    arms: those trained by default.
  """

  task: NumberTask
  trained: int
  grid: int
  extreme: int
  steps: int
  arms: tuple[str, ...]


MATRIX = (
  *(f'{p}_{f}' for p in ('nope', 'fire', 'abacus') for f in FORMS),
  'abacus_fire_lt',
  'abacus_rotary_lt',
)
THREE = ('fire_st', 'abacus_st', 'abacus_fire_st')
LOOPED = ('fire_lt', 'abacus_lt', 'abacus_fire_lt')
SETTINGS = {
  'addition': Setting(Addition(), 10, 50, 80, 7_600, MATRIX),
  'sorting': Setting(Sorting(tags=50), 5, 15, 0, 5_700, THREE),
  'bitwise_or': Setting(BitwiseOr(), 10, 50, 0, 7_900, THREE),
  'multiplication': Setting(Multiplication(), 7, 12, 0, 8_300, LOOPED),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  task: str = option('addition', f'the task, of {", ".join(SETTINGS)}')
  arms: tuple[str, ...] = option(
    (),
    'arms to train, <encoding>_<form> with the forms st, ii and lt; nope is no '
    "encoding (default: the task's)",
    identity=False,
  )
  model: TransformerConfig = option(
    TransformerConfig(), "the model; position, depth and loops are the arm's"
  )
  steps: int = option(
    0,
    "optimizer steps (0: the task's, all that the FLOPs allow)",
    unit='steps',
    minimum=0,
    identity=False,
  )
  train: TrainConfig = option(
    TrainConfig(enough=0.9999, evaluate_every=250), 'training'
  )
  batch_size: int = option(
    64, 'problems a step and replica', unit='problems', minimum=1
  )
  grid: int = option(
    0, "side of the grid of sizes (0: the task's)", minimum=0, identity=False
  )

  @property
  def setting(self) -> Setting:
    """The task's setting, with what the flags change."""
    setting = SETTINGS[self.task]
    return dataclasses.replace(
      setting,
      grid=self.grid or setting.grid,
      arms=self.arms or setting.arms,
      extreme=0 if self.grid else setting.extreme,
    )


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and evaluates each arm; returns the exit code."""
  distributed.initialize(config.cluster)
  with distributed.shared_fate():
    config = check(config)
  run, config = open_run(STUDY, config, flag_values)
  results: list[Result] = []
  with run, terminated() as stop:
    kept = Kept(run, stop)
    for name in config.setting.arms:
      results += kept.rows(
        name,
        (config.steps, config.grid, config.eval),
        lambda name=name: study_of(config, kept, name),
      )
    with distributed.shared_fate():
      if distributed.is_first():
        write_csv(run.path / 'results.csv', results, kept.comments)
        report = write_report_of(config, run.path, results)
        print(f'\n{region_table(results).text()}\n\nreport: {report}')
    run.status('done', config.steps)
  return 0


def check(config: Config) -> Config:
  """Refuses what would only fail after training; fixes the steps."""
  if config.task not in SETTINGS:
    raise UsageError(f'--task={config.task}: one of {", ".join(SETTINGS)}')
  if config.eval == 'none' or config.init_from:
    raise UsageError('this study trains from scratch and always evaluates')
  setting = config.setting
  config = dataclasses.replace(config, steps=config.steps or setting.steps)
  if 0 < config.grid <= setting.trained:
    raise UsageError(
      f'--grid={config.grid} does not go beyond the training size, '
      f'{setting.trained}'
    )
  for name in setting.arms:
    if setting.arms.count(name) > 1:
      raise UsageError(f'--arms={name}: name each once')
    problem = make_problem(config, name)
    flops = config.steps * step_flops(problem)
    if flops > BUDGET:
      raise UsageError(
        f'--steps={config.steps}: {name} would take {flops:.2g} FLOPs a seed, '
        f'and {BUDGET:.2g} are allowed'
      )
  return config


def step_flops(problem: SequenceProblem) -> float:
  """FLOPs of a training step of one replica."""
  key_1 = jax.random.split(jax.random.key(0), 1)
  params = jax.eval_shape(jax.vmap(problem.init), key_1)
  return count_step_flops(problem, params)


def problem(config: Config) -> SequenceProblem:
  """The first arm; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.setting.arms[0])


def position_of(name: str, trained: int) -> Position:
  """An arm's encoding; Abacus has the published multiple of shifts."""
  name = POSITION_NAMES.get(name, name)
  if name not in POSITIONS.names():
    raise UsageError(
      f'--arms: no encoding {name!r}; nope or one of '
      f'{", ".join(POSITIONS.names())}'
    )
  kind = POSITIONS.get(name)
  if issubclass(kind, Abacus):
    return kind(shift=5 * trained, max_size=16 * trained)
  return kind()


def make_problem(config: Config, name: str) -> SequenceProblem:
  """One arm."""
  setting = config.setting
  encoding, _, form = name.rpartition('_')
  if form not in FORMS:
    raise UsageError(f'--arms={name}: end it with _{", _".join(FORMS)}')
  model = dataclasses.replace(
    config.model,
    position=position_of(encoding, setting.trained),
    **FORMS[form],
  )
  return SequenceProblem(
    task=setting.task,
    model=Transformer(model, setting.task.vocab_size),
    max_size=setting.trained,
    batch_size=config.batch_size,
    validation_size=setting.trained,
    validation_examples=1024,
    progressive=float(form == 'lt'),
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Every cell, region and reach of every replica of an arm."""
  arm = train_tuned(
    STUDY,
    name,
    'L3 Abacus' if name.startswith('abacus') else 'L1 to L2',
    make_problem(config, name),
    config,
    kept,
    RATES,
    -(-config.steps // 10),
  )
  results = regions(config, kept, arm)
  if config.task == 'addition':
    rows = 1000 if config.eval == 'full' else 200
    lengths = lengths_up_to(config.setting.trained, 8)
    results += score_lengths(arm, lengths, rows, kept)
  return results


def regions(config: Config, kept: Kept, arm: Arm) -> list[Result]:
  """The mean exact match of each region, over its cells."""
  setting = config.setting
  rows = 20
  if config.eval == 'full' and arm.name in HEADLINE:
    rows = 100
  lengths = range(setting.grid + 1, setting.extreme + 1)
  suite = Suite(
    name='grid',
    cells=square(setting.grid) + tuple((m, m) for m in lengths),
    rows=rows,
    buckets=(setting.grid, setting.extreme),
  )
  counts = count_right(
    arm.problem.model,
    arm.trained.params,
    arm.problem.task,
    suite,
    f'test {arm.name}, grid',
    kept.check,
  )
  region = functools.partial(
    region_of, trained=setting.trained, grid=setting.grid
  )
  return region_rows(arm.source, counts, rows, setting.grid, region)


def claims(results: Sequence[Result]) -> Table:
  """The paper's orderings, with what this size says of each."""
  rows = []
  pairs = [('abacus_lt', 'abacus_st'), ('abacus_ii', 'abacus_st')]
  pairs += [('abacus_st', other) for other in ('nope_st', 'fire_st')]
  pairs += [('abacus_fire_st', 'fire_st')]
  for better, worse in pairs:
    region = {'split': 'region:out of distribution'}
    one = values(select(results, arm=better, **region))
    other = values(select(results, arm=worse, **region))
    if min(len(one), len(other)) < 2:
      continue
    gap = difference(one, other)
    limits = f'{100 * gap.low:+.1f}..{100 * gap.high:+.1f} points'
    rows.append(
      [
        f'{better} above {worse}',
        f'{100 * gap.mean:+.1f}',
        limits,
        verdict(gap),
      ]
    )
  headers = ['claim, out of distribution', 'difference', '95 %', 'verdict']
  return Table(headers, rows, 'Welch interval of the difference of means.')


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> Path:
  """report.md."""
  report = folder / 'report.md'
  sections = [('Regions of the grid', region_table(results).markdown())]
  compared = claims(results)
  if compared.rows:
    sections.append(('The orderings', compared.markdown()))
  lengths = [row for row in results if not row.split.startswith('region')]
  if lengths:
    sections.append(('Reach', reach_table(lengths).markdown()))
  sections.append(('How it was made', bullets([*provenance()])))
  write_report(report, f'Abacus embeddings: {config.task}', sections)
  return report


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
