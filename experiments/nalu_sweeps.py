"""Products of arithmetic units as inputs, hidden size and ranges vary.

Claimed elsewhere. "Neural Arithmetic Units" (Madsen and Johansen 2020, arXiv
2001.05016): products of the sums of two subsets, one parameter varied at a
time, 50 seeds. The NMU solves them in 78 % of seeds or more up to 300 inputs,
with all subsets, with every overlap but 0.75 (72 %) and on every range but
U[1.1, 1.2] (none); with ten hidden outputs in place of two, in 63 %. NAC*,NMU
solves 10 % or less from 175 inputs on, NAC*,sigma none with three hidden
outputs or more, the NALU hardly any but with four inputs.

Here. The same task, models, training and criterion as in `experiments/nalu.py`.
Six sweeps (--sweeps): inputs 4 to 300, hidden 2 to 10, seven ranges, overlap 0
to 1, subset 0.05 to 0.5, factor of the regulariser 0 to 100 (of units that have
one). What all of them have in common, the defaults, is trained once. All units
of a seed share its inputs and its subsets; nothing is shared between seeds, but
seed 7, say, has the same initial weights and uniform numbers at all values that
have as many weights and inputs: seeds, not values, are what is counted.

Protocol. As published: Adam, 1e-3, 128 examples a step, 5,000,000 steps;
10,000,000 from 125 inputs on, 15,000,000 from 225 on. --steps, if it is another
number, is that of all values. --pace makes all of it shorter, the steps between
which the regulariser sets in among it. A run is solved if its test error, where
its validation error is least, is below that of a nearly perfect first layer on
the subsets that are trained on. The published thresholds, of subsets and
overlaps of one input more, are shown beside; --threshold=published scores by
them where they are known. That of 4 inputs is a seventh of the one here, those
of other subsets are 1.1 to 2.1 times as large, the rest are within 6 %.
Success: Wilson's interval over seeds; the difference from the published share,
which is read off a figure, with Newcombe's, where the threshold is the
published one to a tenth. Each block of seeds of each value is kept when it is
done.

Measured (`results/nalu_sweeps_rotated.csv`), not as published: Adam in rotated
coordinates with a rate that falls (`--units=nmu --replicas=10 --steps=150000
--train.optimizer=rotated_adam --train.epsilon=1e-12 --train.schedule=cosine
--sweeps=range,overlap,subset,inputs --pinned`, a thirtieth to a hundredth of
the published steps, which end before the regulariser sets in; 25 minutes of a
core that did other work, too). All ten seeds on every range but U[1.1, 1.2],
where none is (with more steps, and not pinned, all are: `experiments/nalu.py`);
published are 78 % on U[-2, 2] and 84 % on U[0.1, 0.2]. All ten with every
overlap and every subset; published are 72 % with an overlap of 0.75 and 84 %
with a subset of 0.5. All ten with 4 to 175 inputs; with 200, 225, 250, 275 and
300 in 8, 4, 3, 2 and 2 of ten, fewer than are published (90, 100, 98, 92 and 78
%, of 10,000,000 and 15,000,000 steps).
  With a regulariser that sets in early (the same with `--pace=0.03` in place of
--steps, `--sweeps=factor`, `results/nalu_sweeps_regulariser.csv`): all ten
seeds with factors of 0 to 1, nine with 10 and eight with 100 (published: 93,
100, 100, 100, 100 and 78 %). Along hidden outputs
(`results/nalu_sweeps_hidden_rotated.csv`) it solves nine and four of ten with
two and three, none with more, where 59 to 97 % are published of 5,000,000 steps
of Adam.
  As published: ten hidden outputs alone (`--sweeps=hidden --values=10
--units=nmu --replicas=10`, `results/nalu_sweeps_hidden.csv`, 17 minutes of a
core): five of ten seeds, in the median after 3,548,000 steps; published are 63
%, and the interval of the difference holds 0. More than that was looked for and
not found: one of ten with a cosine (`results/nalu_sweeps_hidden_cosine.csv`),
which is too cold before the regulariser has done its work; none of eight other
seeds with five times the rate and a fifth of the steps (--pace=0.2,
`results/nalu_sweeps_hidden_fast.csv`), or with a tenth of the steps and either
rate; none of four in rotated coordinates, with the regulariser and without, and
none by least squares (no CSV of the last three).
  The other cells: not yet. The defaults are 62.5 billion steps of a run. A
second of a core that did other work beside made 190,000 of them with 4 inputs,
53,000 with 100 and 21,000 with 300, evaluation included: 450 hours of one core
in all, of which 270 are those of more than 100 inputs. --pace=0.1 is a tenth of
that.

Where it differs. As `experiments/nalu.py`. On ranges around 0 the NAC* and the
NALU see no sign, as in the original: they take logarithms of magnitudes.

Commands (CPU cores of an AMD EPYC; estimated):
  python -m experiments.nalu_sweeps                 10 days of two cores
  python -m experiments.nalu_sweeps --sweeps=inputs --values=4,10,25
                                                    7 hours of one core
  python -m experiments.nalu_sweeps --sweeps=range --values=1..2,1.1..1.2
                                                    13 hours of one core
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from absl import flags

from experiments.nalu_settings import RAMPS, Pinning, two_layer_arm
from experiments.nalu_sweeps_settings import (
  OPERATION,
  SWEEPS,
  Setting,
  published_threshold,
  setting_name,
)
from experiments.nalu_sweeps_tables import (
  sweep_table,
  threshold_table,
  write_picture,
)
from extrap import cli
from extrap.arithmetic_runs import (
  TRAIN,
  check_runs,
  of_block,
  rows_of,
  seed_blocks,
  train_runs,
  trained_alike,
)
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation.arithmetic_criterion import nearly_perfect_error
from extrap.evaluation.results import Result
from extrap.kept import Kept, provenance
from extrap.models.units import MODELS, UNITS
from extrap.regression import ArithmeticProblem
from extrap.reporting.report import bullets, picture, write_tables
from extrap.study import StudyConfig
from extrap.training.config import TrainConfig

STUDY = 'nalu_sweeps'
CLAIM = 'products of arithmetic units as one parameter varies, 50 seeds'
TIME = '10 days on two CPU cores (estimated)'

# Whose second layer multiplies.
MULTIPLY = tuple(
  name
  for name, (_, second) in MODELS.items()
  if OPERATION in UNITS.get(second).operations
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Pinning, StudyConfig):
  """Flags of this study."""

  sweeps: tuple[str, ...] = option(
    tuple(SWEEPS),
    f'sweeps, of {", ".join(SWEEPS)}; a run folder keeps those that are done',
    identity=False,
  )
  values: tuple[str, ...] = option(
    (), 'values of these sweeps (default: all)', identity=False
  )
  units: tuple[str, ...] = option(
    ('nmu', 'nac_mul_nmu', 'nac_mul_sigma', 'nac_mul', 'nalu'),
    f'models to train, of {", ".join(MULTIPLY)}',
  )
  replicas: int = option(50, 'seeds', minimum=1)
  block: int = option(
    10,
    'seeds trained side by side; each block is kept when it is done',
    minimum=1,
  )
  steps: int = option(
    Setting().steps,
    'optimizer steps of all values; larger inputs have more at the default, '
    'given or not',
    unit='steps',
    minimum=1,
    identity=False,
  )
  pace: float = option(
    1.0,
    'factor of the published steps, those between which regularisers set in '
    'among them: 0.1 is a tenth of the work',
    minimum=0.001,
    maximum=1.0,
  )
  train: TrainConfig = option(TRAIN, 'training')
  batch_size: int = option(128, 'examples a step', minimum=1)
  threshold: Literal['corrected', 'published'] = option(
    'corrected',
    'of the test error: that of the subsets that are trained on, or as '
    'published where that is known',
    identity=False,
  )

  @property
  def chosen(self) -> dict[str, tuple[str, ...]]:
    """The values of each sweep."""
    return {
      sweep: tuple(
        value
        for value in SWEEPS[sweep]
        if not self.values or value in self.values
      )
      for sweep in self.sweeps
    }

  @property
  def settings(self) -> dict[str, Setting]:
    """What is trained, each setting once, by its name."""
    settings = {
      setting_name(sweep, value): SWEEPS[sweep][value]
      for sweep, values in self.chosen.items()
      for value in values
    }
    return {name: of for name, of in settings.items() if self.units_at(of)}

  @property
  def parts(self) -> dict[str, tuple[str, range]]:
    """The setting and the replicas of each part, by its name."""
    blocks = seed_blocks(self, self.block)
    return {
      f'{name}, {block}': (name, replicas)
      for name in self.settings
      for block, replicas in blocks.items()
    }

  @property
  def as_published(self) -> bool:
    """Whether runs are trained as the published ones."""
    return trained_alike(self, Config(), ('steps', 'pace', 'batch_size'))

  def units_at(self, setting: Setting) -> tuple[str, ...]:
    """Those that a setting makes a difference to."""
    if setting.factor == Setting().factor:
      return self.units
    return tuple(unit for unit in self.units if unit in RAMPS)

  def steps_at(self, setting: Setting) -> int:
    """As published, at the pace, or as given; whole evaluations."""
    published = self.steps == Setting().steps
    steps = round(self.pace * setting.steps) if published else self.steps
    every = self.train.evaluate_every
    return max(steps - steps % every, every)


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and scores each value; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: tuple(config.parts),
    identity=lambda config: (config.steps, config.threshold),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  check_names('sweeps', config.sweeps, SWEEPS)
  if config.values:
    known = {value: 0 for sweep in config.sweeps for value in SWEEPS[sweep]}
    check_names('values', config.values, known)
  for sweep, values in config.chosen.items():
    if not values:
      raise UsageError(
        f'--values={",".join(config.values)} has nothing of {sweep}: '
        f'{", ".join(SWEEPS[sweep])}'
      )
  check_names('units', config.units, MULTIPLY)
  check_runs(config)
  for sweep, values in config.chosen.items():
    if not any(config.units_at(SWEEPS[sweep][value]) for value in values):
      raise UsageError(
        f'--units={",".join(config.units)} has nothing that {sweep} varies at '
        f'{", ".join(values)}'
      )


def problem(config: Config, setting: Setting) -> ArithmeticProblem:
  """What is trained at a setting, all units of each seed."""
  return ArithmeticProblem(
    task=setting.task,
    arms={
      unit: two_layer_arm(
        unit,
        (OPERATION,),
        hidden=setting.hidden,
        factor=setting.factor,
        onset=config.pace,
      )
      for unit in config.units_at(setting)
    },
    batch_size=config.batch_size,
    pinned=config.pinned,
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Success, step, error and sparsity of every run of a part."""
  of, replicas = config.parts[name]
  setting = config.settings[of]
  steps = config.steps_at(setting)
  train = dataclasses.replace(config.train, steps=steps, schedule_steps=steps)
  block = dataclasses.replace(
    of_block(config, replicas), steps=steps, train=train
  )
  place = f'{list(config.parts).index(name) + 1} of {len(config.parts)}'
  label = f'{name}, {place}'
  runs = train_runs(STUDY, problem(config, setting), block, kept, name, label)
  threshold = threshold_of(config, of)
  alike = config.as_published and same_threshold(of, threshold)
  rows = []
  for unit in config.units_at(setting):
    source = runs.source_of(unit, as_published=alike, threshold=threshold)
    found = runs.solved(unit, OPERATION, threshold)
    rows += rows_of(source, of, str(setting.task.inputs), found)
  return rows


def same_threshold(name: str, threshold: float) -> bool:
  """Whether it is, to a tenth, the published one of a setting."""
  known = published_threshold(name)
  return known is not None and math.isclose(threshold, known, rel_tol=0.1)


def threshold_of(config: Config, name: str) -> float:
  """Below which test error a run at a setting counts as solved."""
  known = published_threshold(name)
  if config.threshold == 'published' and known is not None:
    return known
  return nearly_perfect_error(config.settings[name].task, OPERATION)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md and a picture a sweep that has rows; returns the tables."""
  report = folder / 'report.md'
  shown, sections = {}, []
  for sweep, values in config.chosen.items():
    table = sweep_table(results, sweep, values)
    if not table.rows:
      continue
    shown[f'Solved, by {sweep}'] = table
    path = folder / 'plots' / f'{sweep}.png'
    drawn = picture(sweep, write_picture(results, sweep, values, path), report)
    sections.append((f'By {sweep}, as a picture', drawn))
  shown['Thresholds'] = threshold_table(results)
  sections.append(('How it was made', bullets([*provenance()])))
  return write_tables(report, 'Sweeps of products', shown, sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
