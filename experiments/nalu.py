"""Arithmetic units on the generalised arithmetic benchmark, with intervals.

Claimed elsewhere. "Measuring Arithmetic Extrapolation Performance" and "Neural
Arithmetic Units" (Madsen and Johansen 2019 and 2020, arXiv 1910.01888 and
2001.05016): of 100 inputs from U[1, 2] two overlapping subsets of 25 are
summed, and an operation is done on the sums; the test has inputs from U[2, 6].
With 100 seeds of 5,000,000 steps the NMU solves 98 % of products (in the
median after 1.43 million steps), NAC* 31 %, the NALU none; sums are solved by
NAU, NAC+ and a linear map always, differences by the linear map in 7 %.

Here. The same task, the same eleven models with their initial weights and
regularisers, optimizer, held-out sets and criterion (`extrap/regression.py`,
`extrap/models/units/`, `extrap/evaluation/arithmetic_criterion.py`); units that
came later train in the same way, without their own regularisers and rates. As
in the original, all models and operations of a seed share its inputs and its
subsets, so that one program draws them once; nothing is shared between seeds.

Protocol. Adam, 1e-3, 128 examples a step, two layers, hidden size 2. Every
1,000 steps the errors on 10,000 validation and 10,000 test examples are noted;
a run is solved if its test error, where its validation error is least, is below
the published threshold of its operation (--threshold=corrected: that of the
subsets that are trained on). Success: Wilson's interval over seeds, and the
difference from the published rate with Newcombe's. When it was solved: median,
and the mean of a gamma distribution by maximum likelihood with its profile
interval. Sparsity: the largest distance of a weight from -1, 0 or 1, mean of a
beta distribution, likewise (of a gamma distribution where it passes 0.5). Some
published means are not the most likely ones of their own runs
(`extrap/evaluation/likelihood.py`): where both are known both are shown.

--decay=none,cosine trains every model twice, in the same program, on the same
inputs and from the same weights: with the constant rate, and with one that
falls to 0 over --steps along half a cosine ('linear, cosine'). Only runs with
the constant rate are compared with published ones. --onset moves the steps
between which regularisers set in. --polish goes on from the last step with
Levenberg-Marquardt, in float64 (`extrap/polishing.py`); those runs are arms of
their own.

Measured (`results/nalu.csv`). 100 seeds of 5,000,000 steps. NMU
(`--units=nmu --block=100`, 12 minutes of one H100 shared with up to fourteen
other runs): 98 of 100 products solved (93.0 to 99.4 %; published 98), in the
median after 1,437,500 steps (published 1,434,500); 100 of 100 squares
(published 100), after 1,209,500 (1,219,500). Confirmed.
  NAU, NAC+, NAC* and the linear map (`--units=nau,nac_add,nac_mul,linear`, in
parts of ten seeds, 18 to 25 minutes of a core each): NAU sums and differences
in all (published: all), in the median after 18,000 and 5,000 steps (18,000 and
5,000); NAC+ likewise, after 263,500 and 9,000 (248,500 and 9,000); NAC*
products in 37 (31), after 2,616,000 (2,771,000); the linear map sums in all
(all), after 60,000 (61,000), and differences in 4 (7), after 2,818,000
(3,332,000). Confirmed: intervals of all differences of shares hold 0, and
medians are within 15 %, but that of the linear map's differences, four of them,
is 15.4 % less.
  NALU (`--units=nalu`, 30 seeds in parts of ten, 30 to 50 minutes of a core
each): sums in 5 of 30 and differences in 6 (published 14 of 100 each), in the
median after 2,318,000 steps (1,493,000) and 3,510,500 (1,877,500). Shares
agree; medians of five and six seeds are not resolved.
  A learning rate that falls (`--units=linear --ops=add,sub --decay=none,cosine
--steps=200000`, 100 seeds, 8 minutes of one core, `results/nalu_decay.csv`):
with the cosine the linear map solves sums and differences in all of 100 seeds,
with the constant rate sums in 86 and differences in none: confirmed for 200,000
steps. Published, at a constant rate after 5,000,000: 100 and 7 of 100.

Measured, least squares after Adam. Quotients, which no published model solves,
and square roots, which NAC* does in 7 of 100: an NRU from where 3,000 steps of
Adam have brought it (`--units=nru --ops=div,root --steps=3000 --polish=1000`,
100 seeds, nine minutes of a core that did other work, too,
`results/nalu_polished.csv`) solves quotients in 50 (40 to 60 %) and roots in 67
(57 to 75 %), where Adam's steps alone solve none; most of these have an error
below 1e-24. Unit and steps were chosen on other seeds, 1000 to 1007, but by
what was solved there, and so on the range of the test: after 3,000 steps of
Adam 5 and 6 of 8 were, with a RealNPU none and one, with an NPU none
(`results/nalu_polished_choice.csv`), after 20,000 steps 3 and 5
(`results/nalu_polished_choice_later.csv`). Without Adam (`--steps=1
--train.evaluate_every=1`, 30 seeds, `results/nalu_polished_only.csv`) 11 and 11
of 30. Exact weights have an error of 1e-31 in float64 and of 4e-14 in float32,
where 5e-12 is enough: it is not the type that solves them.
  With Adam alone quotients and roots were tried for longer (ten seeds each).
NRU with the cosine (`--units=nru --ops=root,div --decay=cosine`, 5,000,000
steps, `results/nalu_roots.csv`): roots in 4 of 10 (17 to 69 %), with two more
within a factor of three of the threshold, 9e-9, and four that end at a
constant; quotients in none, eight of which stop at an error of 1e-7. After
1,000,000 steps (`results/nalu_roots_million.csv`) roots in none with a constant
rate and in one with the cosine, quotients in none. With fewer steps
(`results/nalu_roots.csv`, both rates): NAC*,NMU roots in none and one
(300,000), NAC*,sigma and MulMCFC in none, RealNPU, NPU, NMRU and NAC* neither
(100,000). With three times the rate, after that had been seen
(`--train.learning_rate=3e-3`, 5,000,000 steps, `results/nalu_roots_rate.csv`),
NRU's roots in 2 of 10.

Measured, common parts of gradients (`--train.optimizer=rotated_adam
--train.epsilon=1e-12 --decay=cosine`, see `extrap/training/rotated_adam.py`;
no run is long enough for the NMU's regulariser to set in). Products of numbers
from U[1.1, 1.2], which no published run solves (`--units=nmu --ops=mul
--task.trained=1.1,1.2 --task.tested=1.2,6 --threshold=corrected
--steps=500000`, 30 seeds, four minutes of a core, likewise,
`results/nalu_narrow_rotated.csv`): all 30 solved (88.6 to 100 %), in the median
after 411,500 steps, as the rate falls. With Adam none of ten with either rate
after 5,000,000 steps (`--decay=none,cosine`, `results/nalu_narrow.csv`), nor in
trials of four seeds (1,000,000 to 5,000,000 steps, no CSV) with rates of 3e-5
to 3e-2, without the regulariser, with one that sets in at 60 % of the steps, or
with the sNMU: all seeds come to the mean of both sums, squared, which in
training is wrong by 6e-5, a mean square; outside, by 400. On U[1, 2]
(`--units=nmu --pinned --steps=150000`, 30 seeds, three minutes,
`results/nalu_rotated.csv`): products in all 30, in the median after 40,500
steps (published 1,434,500), squares in all 30, after 98,000 (1,219,500).
  Seen on the way (seeds 1000 and on, no CSV); --pinned and the number of steps
were chosen by what was solved there, too. Without --pinned no product of eight
is solved on U[1, 2] in 300,000 steps: weights that are cut off at their bounds
drag all others along. With it none of eight is on U[1.1, 1.2] in 300,000 steps,
without it 7. Rotated outputs alone solve none of four there. With ten hidden
outputs none of four is solved, pinned, in 100,000, 300,000, 500,000 and
1,500,000 steps, the second and the last with the regulariser; nor is one, by
least squares, after 20,000 steps of Adam.

Where it differs. Inputs come from a counter that is hashed, not from numpy's
generator; where the subsets lie and the held-out sets are numpy's. A run of
which anything is not finite has failed, and the others go on; in the original,
one of which a weight is not a number.

Commands (two CPU cores of an AMD EPYC):
  python -m experiments.nalu --replicas=10 --steps=200000
  python -m experiments.nalu --units=nmu --ops=mul
  python -m experiments.nalu --units=nmu --block=100     12 minutes on an H100
  python -m experiments.nalu --units=linear --decay=none,cosine
  python -m experiments.nalu --units=nru --ops=div,root --steps=3000 \\
    --polish=1000                                        a quarter of an hour
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from absl import flags

from experiments.nalu_settings import Pinning, two_layer_arm
from experiments.nalu_tables import success_table, time_table
from extrap import cli
from extrap.arithmetic_runs import (
  TRAIN,
  Runs,
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
from extrap.evaluation.arithmetic_criterion import (
  PUBLISHED,
  nearly_perfect_error,
)
from extrap.evaluation.results import Provenance, Result
from extrap.factors import Fading
from extrap.kept import Kept, provenance
from extrap.models.units import MODELS
from extrap.polishing import polish
from extrap.regression import ArithmeticProblem
from extrap.reporting.report import bullets, write_tables
from extrap.study import StudyConfig
from extrap.tasks.arithmetic import OPERATIONS, Arithmetic
from extrap.training.config import TrainConfig

STUDY = 'nalu'
CLAIM = 'arithmetic units on subsets of 100 inputs, 100 seeds, with intervals'
TIME = 'hours on two CPU cores, or 12 minutes a unit on an H100'

# The cells of the published table that are not all zero, and that tell most.
HEADLINE: Mapping[str, tuple[str, ...]] = {
  'nmu': ('mul', 'squared'),
  'nau': ('add', 'sub'),
  'nac_add': ('add', 'sub'),
  'nac_mul': ('mul',),
  'nalu': ('add', 'sub'),
  'linear': ('add', 'sub'),
}
DECAYS = ('none', 'cosine')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Pinning, StudyConfig):
  """Flags of this study."""

  units: tuple[str, ...] = option(
    tuple(HEADLINE), f'models to train, of {", ".join(MODELS)}'
  )
  ops: tuple[str, ...] = option(
    (),
    f'operations of every model, of {", ".join(OPERATIONS)} (default: those of '
    'the headline)',
  )
  decay: tuple[str, ...] = option(
    ('none',),
    f'how the learning rate falls, of {", ".join(DECAYS)}: every model is '
    'trained with each',
  )
  replicas: int = option(100, 'seeds', minimum=1)
  block: int = option(
    10,
    'seeds trained side by side; each block is kept when it is done',
    minimum=1,
  )
  steps: int = option(
    5_000_000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  train: TrainConfig = option(TRAIN, 'training')
  task: Arithmetic = option(Arithmetic(), 'the task')
  hidden: int = option(2, 'outputs of the first layer', minimum=1)
  onset: float = option(
    1.0,
    'factor of the steps between which regularisers set in: 1,000,000 and '
    '2,000,000 of the NMU',
    minimum=0.001,
    maximum=100.0,
  )
  polish: int = option(
    0,
    'steps of Levenberg-Marquardt, in float64, from where each run has come to '
    '(0: none)',
    unit='steps',
    minimum=0,
    identity=False,
  )
  batch_size: int = option(128, 'examples a step', minimum=1)
  threshold: Literal['published', 'corrected'] = option(
    'published',
    'of the test error: as published, for the default task alone, or that of '
    'the subsets that are trained on',
    identity=False,
  )

  def operations(self, unit: str) -> tuple[str, ...]:
    """What a model is trained on."""
    return self.ops or HEADLINE.get(unit, tuple(OPERATIONS))

  @property
  def arms(self) -> dict[str, tuple[str, str]]:
    """The model and the decay of each arm, by its name."""
    return {
      unit if decay == 'none' else f'{unit}, {decay}': (unit, decay)
      for unit in self.units
      for decay in self.decay
    }

  @property
  def trained_operations(self) -> set[str]:
    """All that some model is trained on."""
    return {op for unit in self.units for op in self.operations(unit)}

  @property
  def as_published(self) -> bool:
    """Whether success may be compared with what was published."""
    fields = ('steps', 'task', 'hidden', 'onset', 'pinned')
    fields = (*fields, 'batch_size', 'threshold')
    return trained_alike(self, Config(), fields)

  @property
  def blocks(self) -> dict[str, range]:
    """Replicas of each block, by its name."""
    return seed_blocks(self, self.block)


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and scores each block of seeds; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: tuple(config.blocks),
    identity=lambda config: (config.steps, config.threshold, config.polish),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  check_names('units', config.units, MODELS)
  if config.ops:
    check_names('ops', config.ops, OPERATIONS)
  check_names('decay', config.decay, DECAYS)
  if config.decay != ('none',) and config.train.schedule != 'constant':
    raise UsageError(
      f'--decay={",".join(config.decay)} is a factor of a constant rate, not '
      f'of --train.schedule={config.train.schedule}'
    )
  check_runs(config)
  if config.polish and config.train.ema:
    raise UsageError(
      f'--train.ema={config.train.ema:g}: a polish starts from the last '
      'weights, not from an average of them'
    )
  if 'root' in config.trained_operations and min(config.task.trained) < 0:
    raise UsageError(
      '--ops=root needs inputs that are not negative: another --task.trained'
    )
  if config.threshold == 'published' and config.task != Arithmetic():
    raise UsageError(
      'the published thresholds are those of the default task: give '
      '--threshold=corrected'
    )


def problem(config: Config) -> ArithmeticProblem:
  """What a block trains, all models and operations of each seed.

  Raises:
    UsageError: a learning rate has fallen to 0 before the last step.
  """
  length = config.train.schedule_steps or config.steps
  if 'cosine' in config.decay and config.steps > length:
    raise UsageError(
      f'--steps={config.steps} goes beyond {length}, where the learning rate '
      'of --decay=cosine has fallen to 0: choose another --workdir'
    )
  decays = {'none': None, 'cosine': Fading(1.0, 0.0, length)}
  return ArithmeticProblem(
    task=config.task,
    arms={
      name: two_layer_arm(
        unit,
        config.operations(unit),
        hidden=config.hidden,
        onset=config.onset,
        decay=decays[decay],
      )
      for name, (unit, decay) in config.arms.items()
    },
    batch_size=config.batch_size,
    pinned=config.pinned,
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Success, step, error and sparsity of every run of a block."""
  block = of_block(config, config.blocks[name])
  trained = problem(block)
  runs = train_runs(STUDY, trained, block, kept, name)
  rows, size = [], str(config.task.inputs)
  for arm, (unit, _) in config.arms.items():
    for operation in config.operations(unit):
      threshold = threshold_of(config, operation)
      found = runs.solved(arm, operation, threshold)
      source = source_of(config, runs, arm, operation)
      rows += rows_of(source, operation, size, found)
  if not config.polish:
    return rows
  given = trained, runs.params, runs.finite, block.seeds, config.polish
  polished = polish(*given, f'polish {name}', kept.check)
  for (arm, operation), of_cell in polished.items():
    threshold = threshold_of(config, operation)
    found = of_cell.solved(config.steps + config.polish, threshold)
    source = source_of(config, runs, arm, operation)
    source = of_cell.source(source, config.polish)
    rows += rows_of(source, operation, size, found)
  return rows


def source_of(
  config: Config, runs: Runs, arm: str, operation: str
) -> Provenance:
  """What a run has cost, and by what it is judged."""
  threshold = threshold_of(config, operation)
  return runs.source_of(
    arm, as_published=config.as_published, threshold=threshold
  )


def threshold_of(config: Config, operation: str) -> float:
  """Below which test error an operation counts as solved."""
  if config.threshold == 'published':
    return PUBLISHED[operation]
  return nearly_perfect_error(config.task, operation)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md; returns its tables."""
  del config
  shown = {
    'Solved': success_table(results),
    'When, and how sparsely': time_table(results),
  }
  made = ('How it was made', bullets([*provenance()]))
  return write_tables(folder / 'report.md', 'Arithmetic units', shown, [made])


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
