"""Abacus embeddings and looped transformers: who wins, and by how much.

Claimed elsewhere. "Transformers Can Do Arithmetic with the Right Embeddings"
(McLeish et al. 2024, arXiv 2405.17399): trained on additions of up to 20
digits, a standard transformer with Abacus embeddings gets 92.9 % of the other
cells of the 100 x 100 grid of length pairs right, with input injection and
looping 99.1 %; NoPE and FIRE stay far below. Means of three models of 12 to 122
million parameters, 8 exaFLOP each; no spread over seeds is published.

Here. The same matrix in two sizes, see experiments/abacus_settings.py. mini, at
1 : 2 in length and 1 : 400,000 in compute: width 64, four effective layers (ST:
four blocks; II: the same with the input added before each; LT: one block,
looped four times, with the input and the progressive loss), 2e13 FLOPs a seed
at most. paper: the published recipe, trained to 20 digits, 8e18 FLOPs a seed
(multiplication 6.4e19), for a GPU or a pod. Sorting, bitwise OR and
multiplication in both. Every row says which share of its budget it had. Arms
with randomised positions and with index hints are there to be trained, too
(experiments/abacus_arms.py), and have not been.

Protocol. Lengths uniform over pairs from 1..N. Arms have the same forward FLOPs
and at most the same samples; parameters are listed. mini trains with Muon,
paper with AdamW, as published. Learning rate of three by loss in distribution,
in runs of a fifth of the budget, its cost listed. A seed stops once all 1,024
held-out problems of N x N are right. Abacus shifts by up to 5 N, one shift a
batch, as published. Grid of 5 N x 5 N (multiplication 25/15 N, sorting 3 N,
also by the least number alone); in distribution: both sizes at most N; the rest
is out of distribution; extreme: equal lengths 5 N + 1 .. 8 N. The last
checkpoint is scored, teacher forced (equal to greedy decoding). Arms with
shifts have a second reach, of predictions averaged over 32 shifts
(`extrap/models/shift_average.py`): 32 forward passes, the same parameters.
Intervals: t over seeds; differences: Welch, over the seeds right on 99 %
in distribution (the others have not learned, which is no failure to
extrapolate), and over all of them. At the size paper, as published, there is
one learning rate, no seed stops early, and cells have 100 problems.

What was looked at before: Muon, its rates and the mean over shifts follow
trials of `abacus_st` and `abacus_lt` with one other seed, whose exact match at
10 to 50 digits was seen. A first run of `abacus_st`, with rates tried for a
tenth of the budget, chose 1e-2, which another trial of the same seed had shown
to be worse than 5e-3 at a fifth: hence a fifth. 32 shifts in place of 16, and
training to the end of the FLOPs, follow the reach of seeds 0..3 (25 to 30
digits at 16); ids up to 120 in place of 60 (`--shift=110`, the only one tried)
follow it, too, by the guess that longer sums find more shifts that way. Bitwise
OR was trained until 10 x 10 were right, first: after 250 to 2,250 of 7,400
steps nine seeds of twelve were below 99 % on shorter problems, and beyond they
had 1 to 4, 13 to 28 and 7 to 12 % (`fire_st`, `abacus_st`, `abacus_fire_st`; no
CSV); hence `--train.enough=0` for it.

Measured, mini, addition (seeds 0..3; at most 448,000 sums and 1.9e13 FLOPs a
seed, another 268,800 sums for the choice of a rate; `results/abacus.csv`).
Parameters: 199,000 (`nope_st`, `nope_ii`), 200,000 (`fire_st`, `fire_ii`),
209,000 (`abacus_st`, `abacus_ii`), 51,000 (`nope_lt`, `fire_lt`) and 61,000
(the other looped ones); forward FLOPs are within 1 % of each other. The
progressive loss is the only one of looped models, and takes as many. Ten to
thirteen runs at a time share one H100, at 27 to 63 steps a second each, and
some end on a core of a CPU; `nope_st`, `nope_ii`, the three with FIRE alone and
`abacus_rotary_lt` ran on one from start to end. 100 sums a cell for
`abacus_st`, `abacus_ii`, `abacus_lt` and `abacus_fire_lt`, 20 for the others;
1,000 sums a length for reach (`--eval=full`).
  All seeds of the arms that are not looped learn, and one of the looped ones:
in distribution `nope_lt` has 4 to 8 %, `fire_lt` 5 to 18, `abacus_rotary_lt` 10
to 18, `abacus_lt` 11, 96, 97 and 14, `abacus_fire_lt` 11, 99.2, 2 and 36. Which
ones come near is chance: the same seeds, trained before beside other runs, had
12, 97, 13 and 95 and 35, 28, 12 and 98. That is at shift 0, which is what tests
use; averaged over 32 shifts `abacus_fire_lt` is right on 97.8 to 99.7 % of sums
of 10 digits, `abacus_lt` on 97.4 to 99.1, `abacus_rotary_lt` on 98.0 to 99.8
(72 to 98.5 on an H100, `results/abacus_rotary_h100.csv`): '=' has no id, and
which of the ids in sight comes first is learned shift by shift.
  Reach at 99 % of the arms that learn, at one shift: 10 to 12 digits; averaged
over 32 shifts: 12, 12, 12, 20 (`abacus_st`) and 25, 25, 15, 25 (`abacus_ii`).
  Out of distribution `nope_st` and `nope_ii` have 1.9 to 2.3 %, `fire_st` and
`fire_ii` 0.8 to 1.8, `abacus_st` 2.5 to 10.4, `abacus_ii` 3.0 to 17.7. Abacus
has the larger means, but no difference is resolved: `abacus_ii` is above
`nope_st` by 9.7 points (-0.5 to 19.9). Its seeds have been trained three times,
as sums round differently on another machine or beside other runs: on a CPU
alone (`results/abacus_cpu.csv`) it was 8.8 (0.3 to 17.2), on an H100 before
(16.8, 5.2, 4.0 and 9.9 %, reach averaged 25, 15, 15 and 30; no CSV) 6.9 (-2.3
to 16.1), and with the mean of the three for each seed 8.4 (-0.3 to 17.1).
  To the end of the FLOPs (`--arms=abacus_ii --rates=0.005 --train.enough=0`,
the rate chosen above; 448,000 sums a seed), 1,000 sums a length, 32 shifts:
reach 30, 25, 20 and 25 (H100, `results/abacus_whole.csv`); the same seeds on a
CPU, 200 sums and 16 shifts, 30, 30, 25 and 30 (`results/abacus_whole_cpu.csv`).
With ids up to 120 (`--shift=110`, `results/abacus_wide.csv`; grid of 11 x 11
alone): 30, 30, 40 and 25, of sums of 30 digits 99.0, 100, 100 and 97.5 %, of 40
digits 93.7, 97.8, 99.8 and 66.7 %, of 60 digits 45, 56, 69 and 2 %. Three times
the training length in the median seed, by one sum of a thousand; not six. More
shifts would not help: of 100 sums of 40 digits these seeds get 90, 92, 94 and
61 with 8 shifts, 93, 99, 96 and 65 with 16, 95, 98, 100 and 60 with 32, and 96,
98, 100 and 62 with 64 (no CSV).
  Other tasks (20 problems a cell, 100 of OR's `abacus_st`; one H100, as above).
Sorting (`results/abacus_sorting.csv`; 358,400 lists and 2.0e13 FLOPs a seed,
215,040 lists for the choice of a rate): in distribution `fire_st` and
`abacus_fire_st` are right on 97 to 99 % of lists and `abacus_st` on 80 to 91,
so that no seed of twelve is learned at 99 %; beyond, on 20 to 21, 19 to 23 and
13 to 18 %, where 5 % of the cells have one number alone. It is more digits that
are learned: `fire_st` sorts 5 numbers of 8 digits in half of all lists, and 8
numbers of 5 digits in 5 % (no CSV).
  Bitwise OR (`--train.enough=0 --eval=full`, `results/abacus_bitwise_or.csv`;
473,600 problems a seed, 284,160 for the choice of a rate; a seed that stops
once problems of 10 x 10 are right is not right on shorter ones): all twelve
seeds are right on all in distribution; beyond `fire_st` on 5 to 7 %,
`abacus_fire_st` on 11 to 27, `abacus_st` on 9 to 44. Abacus with FIRE above
FIRE is confirmed (+12.5 points, 0.7 to 24.3), though not if it is corrected for
all nine claims of this study (-13.6 to 38.7); Abacus alone above it is not
resolved (+18.8, -8.1 to 45.6). Rates were chosen among losses below 6e-4.
  Multiplication (`results/abacus_multiplication.csv`; 531,200 products and 2e13
FLOPs a seed, 318,720 for the choice of a rate): no seed of `fire_lt`,
`abacus_lt` and `abacus_fire_lt` learns; in distribution they have 7, 3 to 4 and
3 to 6 %.
  The recipe of the size paper, `abacus_st`, on one H100 for 24 of its 52,900
steps, its schedule as short, one seed: 80,896 sums, 0.045 % of its FLOPs, 62
seconds, not learned (`results/abacus_paper.csv`). Its last whole steps of 8,192
sums took 1.1 seconds each beside another job, 340 TFLOP/s (no CSV); the plan's
bound is 0.4 seconds.
  With AdamW (7,600 steps, rates 3e-3 to 3e-2 tried for a tenth;
`results/abacus_adamw.csv`): `abacus_st` learns in three of four seeds, reach 11
to 12 digits at one shift, `abacus_lt` in none: with ids shifted by 5 it is
right on 99, 96, 9 and 95 % of sums of 10 digits, and at shift 0, which is what
tests use, on about a tenth. Tried there for more, `abacus_st` with one
other seed, by exact match at N and at 1.5 N: as it is 100 and 91 %; logits
times log length 100 and 92; eight heads 100 and 55; a shift for each sample 100
and 53; half of the batches unshifted 100 and 5; one head 11 and 0. With Muon,
3,000 steps at 5e-3, one other seed, at 10, 15, 20 and 30 digits: as it is 100,
95, 59 and 17 %; averaged over shifts 100, 100, 100 and 96; rate 1e-2 100, 94,
25 and 5; logits times log length 100, 99, 76 and 0; a shift for each sample
100, 98, 5 and 3; two heads 100, 98, 20 and 5; sinusoids of the id in place of a
table 100, 87 and 66 (30 not seen), and with log length, averaged, 100, 100, 100
and 61.

Where it differs. The paper's models are 60 to 600 times as large and have
400,000 times the compute; its optimizer is AdamW, and it asks at one shift.

Commands (two CPU cores of an AMD EPYC; 20 to 45 minutes an arm):
  python -m experiments.abacus --arms=abacus_st,abacus_lt
  python -m experiments.abacus --arms=abacus_ii --rates=0.005 --train.enough=0
  python -m experiments.abacus --arms=abacus_ii --rates=0.005 \\
    --train.enough=0 --shift=110 --eval=full
  python -m experiments.abacus --task=sorting
On eight H100 two hours an arm of three seeds, by the plan:
  python -m launch.plan --devices=8 -- python -m experiments.abacus \\
    --size=paper --arms=abacus_st --mesh.data=-1
  python -m experiments.abacus --size=paper --arms=abacus_st --mesh.data=-1
"""

import dataclasses
import functools
import json
import sys
from typing import Literal

import jax
from absl import flags

from experiments.abacus_arms import ArmName
from experiments.abacus_report import keep_cells, write_report_of
from experiments.abacus_settings import FORMS, PRESETS, SETTINGS, Setting
from extrap import cli
from extrap.arms import Arm, check_scratch, run_arms, shifts_option, train_tuned
from extrap.config import option, preset
from extrap.errors import UsageError
from extrap.evaluation.exact_match import exact_match, first_match
from extrap.evaluation.grid import Match, Suite
from extrap.evaluation.regions import cell_rows, region_of, region_rows, square
from extrap.evaluation.results import Result
from extrap.kept import Kept
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import Abacus, Coupling
from extrap.scoring import (
  check_testable,
  count_right,
  lengths_up_to,
  score_reaches,
)
from extrap.sequence import SequenceProblem
from extrap.study import StudyConfig
from extrap.training import distributed
from extrap.training.config import TrainConfig
from extrap.training.flops import count_step_flops, count_update_flops
from extrap.training.ramp import whole_batches

STUDY = 'abacus'
CLAIM = 'Abacus embeddings and looped transformers, with error bars'
TIME = '20 to 45 minutes an arm on two CPU cores'

HEADLINE = ('abacus_st', 'abacus_ii', 'abacus_lt', 'abacus_fire_lt')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  size: Literal['mini', 'paper'] = preset(
    'mini',
    PRESETS,
    'mini: for two cores; paper: the published recipe, for a GPU or a pod, '
    'which gives other flags its own defaults',
  )
  task: str = option('addition', f'the task, of {", ".join(SETTINGS["mini"])}')
  arms: tuple[str, ...] = option(
    (),
    f'arms to train, <encoding>_<form> with the forms {", ".join(FORMS)}; nope '
    'is no encoding, randomised_fire_st spreads positions at random in '
    "training, hints_nope_st has index hints (default: the task's)",
    identity=False,
  )
  rates: tuple[float, ...] = option(
    (), "learning rates to choose from (default: the task's)", minimum=0.0
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
    TrainConfig(optimizer='muon', enough=0.9999, evaluate_every=250),
    'training',
  )
  batch_size: int = option(
    64, 'problems a step and replica', unit='problems', minimum=1
  )
  shift: int | None = option(
    None,
    "largest random shift of places in training (default: the task's)",
    minimum=0,
  )
  shifts: int = shifts_option()
  grid: int = option(
    0, "side of the grid of sizes (0: the task's)", minimum=0, identity=False
  )

  @property
  def setting(self) -> Setting:
    """The task's setting, with what the flags change."""
    setting = SETTINGS[self.size][self.task]
    return dataclasses.replace(
      setting,
      grid=self.grid or setting.grid,
      arms=self.arms or setting.arms,
      shift=setting.shift if self.shift is None else self.shift,
      extreme=0 if self.grid else setting.extreme,
      longest=setting.largest,
      rates=self.rates or setting.rates,
      fire_rates=self.rates or setting.fire_rates,
    )


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and evaluates each arm; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: config.setting.arms,
    identity=lambda config: (
      config.steps,
      config.grid,
      config.eval,
      config.shifts,
    ),
    make=study_of,
    report=write_report_of,
  )


def resolved(config: Config) -> Config:
  """The configuration with steps where none are asked for.

  As many as the task has, or as the FLOPs allow to all arms.
  """
  if config.task not in SETTINGS[config.size]:
    known = ', '.join(SETTINGS[config.size])
    raise UsageError(f'--task={config.task}: one of {known}')
  check_arms(config)
  if config.steps:
    return config
  config = dataclasses.replace(config, steps=config.setting.steps)
  steps = [
    most_steps(config, make_problem(config, name))
    for name in config.setting.arms
  ]
  return dataclasses.replace(config, steps=max(1, min(steps)))


def check_arms(config: Config) -> None:
  """Refuses arms that are none, named twice, or cannot shift places so far."""
  names = config.setting.arms
  for name in names:
    if names.count(name) > 1:
      raise UsageError(f'--arms={name}: name each once')
    if config.shift is not None:
      check_shift(config, name)


def check(config: Config) -> Config:
  """Refuses what would only fail after training; fixes the steps."""
  config = resolved(config)
  check_scratch(config)
  setting = config.setting
  if 0 < config.grid <= setting.trained:
    raise UsageError(
      f'--grid={config.grid} does not go beyond the training size, '
      f'{setting.trained}'
    )
  for name in setting.arms:
    problem = make_problem(config, name)
    check_testable('--grid', name, problem, setting.largest)
    if (most := most_steps(config, problem)) < config.steps:
      raise UsageError(
        f'--steps={config.steps}: {name} would take more than '
        f'{setting.budget:.2g} FLOPs a seed; at most --steps={most}'
      )
  return config


def check_shift(config: Config, name: str) -> None:
  """Refuses a shift of places that an arm's table does not hold."""
  setting, arm = config.setting, ArmName.of(name)
  position = arm.position(setting)
  if arm.randomised:
    return
  if not isinstance(position, Abacus | Coupling):
    raise UsageError(f'--shift={config.shift}: {name} has no places to shift')
  largest = setting.task.largest_ids(setting.trained)[position.table]
  if config.shift > (most := position.max_id - largest):
    raise UsageError(f'--shift={config.shift}: at most {most} fit the table')


def most_steps(config: Config, problem: SequenceProblem) -> int:
  """As many steps as are asked for, or as the FLOPs allow."""
  budget, steps = config.setting.budget, config.steps
  while (flops := training_flops(config, problem)) > budget:
    steps = min(steps - 1, int(steps * budget / flops))
    config = dataclasses.replace(config, steps=steps)
  return steps


def training_flops(config: Config, problem: SequenceProblem) -> float:
  """FLOPs of the training of one replica."""
  train = dataclasses.replace(config.train, steps=config.steps)
  batch, update = step_costs(problem, train)
  return whole_batches(train) * batch + config.steps * update


@functools.cache
def step_costs(
  problem: SequenceProblem, train: TrainConfig
) -> tuple[float, float]:
  """FLOPs of a batch and of an update; tracing both takes part of a second."""
  key_1 = jax.random.split(jax.random.key(0), 1)
  params = jax.eval_shape(jax.vmap(problem.init), key_1)
  return count_step_flops(problem, params), count_update_flops(train, params)


def problem(config: Config) -> SequenceProblem:
  """The first arm; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.setting.arms[0])


def make_problem(config: Config, name: str) -> SequenceProblem:
  """One arm."""
  setting = config.setting
  arm = ArmName.of(name)
  layers = setting.form(arm.form)
  model = dataclasses.replace(
    config.model, position=arm.position(setting), **layers
  )
  task = arm.task(setting)
  return SequenceProblem(
    task=task,
    model=Transformer(model, task.vocab_size),
    max_size=setting.trained,
    batch_size=config.batch_size,
    validation_size=setting.trained,
    validation_examples=1024,
    progressive=float(model.recurrences > 1),
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Every cell, region and reach of every replica of an arm."""
  setting = config.setting
  arm = train_tuned(
    STUDY,
    name,
    ArmName.of(name).rung,
    make_problem(config, name),
    config,
    kept,
    setting.rates_of(name),
    -(-config.steps // 5),
  )
  results = regions(config, kept, arm, exact_match)
  if config.task == 'sorting':
    results += regions(config, kept, arm, first_match)
  if config.task == 'addition':
    rows = 1000 if config.eval == 'full' else 200
    lengths = lengths_up_to(setting.trained, 8)
    results += score_reaches(arm, lengths, rows, config.shifts, kept)
  return [with_share(row, setting.budget) for row in results]


def with_share(row: Result, budget: float) -> Result:
  """The row with the share of the FLOPs allowed that it was trained for.

  A run that was stopped early, or whose seed had learned, has a small one.
  """
  share = {'budget_share': float(f'{row.flops / budget:.3g}')}
  hparams = json.dumps(json.loads(row.hparams) | share)
  return dataclasses.replace(row, hparams=hparams)


def regions(config: Config, kept: Kept, arm: Arm, match: Match) -> list[Result]:
  """The mean share of right answers in each region, over its cells."""
  setting, rows = config.setting, config.setting.rows
  if config.eval == 'full' and arm.name in HEADLINE:
    rows = 100
  lengths = range(setting.grid + 1, setting.extreme + 1)
  suite = Suite(
    name='grid',
    cells=square(setting.grid) + tuple((m, m) for m in lengths),
    rows=rows,
    buckets=(*range(10, setting.grid, 10), setting.grid, setting.extreme),
    match=match,
  )
  label = f'test {arm.name}, grid, {match.__name__}'
  counts = count_right(
    arm.problem.model,
    arm.trained.params,
    arm.problem.task,
    suite,
    label,
    kept.check,
  )
  cells = cell_rows(arm.source, counts, rows, setting.trained, match.__name__)
  with distributed.shared_fate():
    if distributed.is_first():
      keep_cells(kept.run.path / 'arms' / arm.name, config, cells)
  region = functools.partial(
    region_of, trained=setting.trained, grid=setting.grid
  )
  return region_rows(
    arm.source, counts, rows, setting.grid, region, match.__name__
  )


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
