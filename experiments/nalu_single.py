"""Single arithmetic modules: two inputs, one output, nine ranges, 25 seeds.

Claimed elsewhere. "A Primer for Neural Arithmetic Logic Modules" (Mistry,
Farrahi and Hare, JMLR 23(185), 2022, arXiv 2101.09530): one module alone
learns a + b, a - b, a b or a / b from one range of inputs and is tested beyond
it. Which ranges a module fails on is what tells it from others: the NAU adds
in all nine of them in all of 25 seeds, the NMU multiplies in all seeds but for
17 of 25 on U[-1.2, -1.1] and 20 of 25 on U[-2, -1].

Here. The same task, modules, ranges, regularisers, learning rates and criterion
(`extrap/regression.py`, `extrap/models/units/`,
`extrap/evaluation/arithmetic_criterion.py`). As in the original, all units and
operations of a seed and a range share their inputs; nothing is shared between
seeds, but the ranges of a seed have its initial weights and uniform numbers in
common, so that seeds, not ranges, are what is counted. One program trains all
of them for all seeds, and serves every range.

Protocol. Adam, 1e-3, 128 examples a step, 50,000 steps. Every 1,000 steps the
errors on 10,000 validation and 10,000 test examples are noted; a run is solved
if its test error, where its validation error is least, is below that of a
module whose weights are wrong by epsilon. The benchmark's list of settings has
epsilon 1e-5, its program of thresholds 1e-4, which allows errors a hundred
times as large: both are counted, from the same runs. Success has Wilson's
interval over seeds. Of solved runs: the median of the first step with a small
enough test error.

Settings. The Primer's: NMU, a regulariser of 10 that grows from step 20,000 to
35,000; NAU, one of 0.01, likewise; NPU and RealNPU, learning rate 5e-3, the L1
norm times 1e-7 in products and 1e-9 in ratios, tenfold after every 10,000 steps
up to 1e-5 and 1e-7; iNALU, elements of the gradient up to 0.1, a regulariser of
0.05 after step 10,000 while the error of a batch is below 1. Of the benchmark's
repository: both MCFC, the NMU's regulariser, and no trash cells. Of arXiv
2110.05177: NRU, learning rate 1, and NMRU, 1e-2 with gradients of norm 1 at
most; both with the NMU's regulariser. Ours: sNMU, NAC*,NMU and gated NAU/NMU,
the NMU's regulariser; the DMU (arXiv 2509.08180), nothing of its own, and it
learns which inputs it combines, which its published results give it.

--units=primer is the Primer's 23 pairs of unit and operation: 5,175 runs.
--units=all is every unit on every operation. What a unit represents for no
weights is not trained, and is a row of its own: "cannot represent".

Measured (`results/nalu_single.csv`): the Primer's 5,175 runs, 50,000 steps
each, in 19 minutes of one core, evaluation and pictures included. What was
published as numbers agrees: the NAU adds in all of 25 seeds on all ranges,
after 4,000 to 5,000 steps in the median (published 4,200 to 5,000); the NMU
multiplies in all seeds but for 19 on U[-1.2, -1.1] (17) and 22 on U[-2, -1]
(20), after 2,000 to 5,000 steps and 21,000 on U[-0.2, -0.1] (2,000 to 5,500,
and 21,000). Of the others, without numbers to compare with: the NAU subtracts
in all seeds of all ranges; the iNALU adds in all, subtracts in seven ranges of
nine, multiplies in five, divides in three; RealNPU and NPU learn U[1, 2] in 21
to 25 seeds and few other ranges; NAC*, NALU and G-NALU divide in 0 to 4 runs of
225, of which 37 to 80 pass at epsilon 1e-4: by which convention they are
counted decides what is said of the units whose weights only tend to integers,
and hardly matters to the others. A second of one core makes 230,000 steps of a
run of the Primer's set, with evaluation.
  Every unit on every operation that it represents (`--units=all`; a range takes
a minute of an H100 that other runs share, or ten of a core; six of the nine
were trained there, the NRU on a core). Of the Primer's 207 cells, trained alone
before, 204 have as many solved seeds, the rest differ by one to three. Three
units multiply in all of 225 runs, the sNMU, the NRU and the NMRU; NAC*,NMU and
MulMCFC in all but those of U[-2, 2], of which they see no sign. The NRU divides
in 217 runs and the NMRU in 208, in all of eight ranges and in 17 and 8 of 25
seeds on U[-2, 2]; of the others none does in half of its runs. The linear map
adds and subtracts in all runs, as the NAU does; the gated NAU/NMU, which has to
choose, in 194 and 118, and multiplies in 161.

Where it differs. The iNALU is not initialised again where it is stuck, and the
error that lets its regulariser set in is that of a batch, not the validation
error; its success may be lower than in the original. Inputs of training come
from a counter that is hashed, not from numpy's generator. The held-out sets are
numpy's, but that of the two ranges U[-6, -2] and U[2, 6] has another coin. The
MulMCFC has logarithms of magnitudes; in the original those of negative inputs
are not numbers. In the original an NRU's inputs count by the magnitude of their
weights where it is scored, not by its steep approximation. The last evaluation
is that of step 50,000, the first that of step 1,000, not of none. A run of
which anything is not finite has failed, and the others go on.

Commands (CPU cores of an AMD EPYC):
  python -m experiments.nalu_single                19 minutes of one core
  python -m experiments.nalu_single --units=all    90 minutes of a core,
                                                   10 of an H100 (estimated)
  python -m experiments.nalu_single --units=nmu,snmu --ops=mul --ranges=1..2
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments.nalu_settings import RANGES as ALL_RANGES
from experiments.nalu_single_tables import (
  LOOSE,
  detail_table,
  overview_table,
  write_picture,
)
from extrap import cli
from extrap.arithmetic_runs import (
  TRAIN,
  Runs,
  check_runs,
  rows_of,
  train_runs,
  trained_alike,
)
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation.arithmetic_criterion import single_module_error
from extrap.evaluation.results import Result
from extrap.factors import Growth, Ramp
from extrap.guarded_gradients import Limits
from extrap.kept import Kept, provenance
from extrap.models.units import UNITS, MulMCFC, Unit, UnitLayer
from extrap.regression import ArithmeticArm, ArithmeticProblem
from extrap.reporting.report import bullets, picture, write_tables
from extrap.study import StudyConfig
from extrap.tasks.arithmetic import Arithmetic, halves
from extrap.training.config import TrainConfig

STUDY = 'nalu_single'
CLAIM = 'single arithmetic modules on nine ranges, 25 seeds, two thresholds'
TIME = '20 minutes on a CPU core'

OPS = ('add', 'sub', 'mul', 'div')
NOT_HERE = '0..1'  # A range of the two-layer benchmark alone.
RANGES = {name: of for name, of in ALL_RANGES.items() if name != NOT_HERE}
TASK = Arithmetic(inputs=2, subset=0.5, overlap=0.0)
PRIMER: Mapping[str, tuple[str, ...]] = {
  'nac_add': ('add', 'sub'),
  'nac_mul': ('mul', 'div'),
  'nalu': OPS,
  'g_nalu': OPS,
  'inalu': OPS,
  'nau': ('add', 'sub'),
  'nmu': ('mul',),
  'npu': ('mul', 'div'),
  'real_npu': ('mul', 'div'),
}
SETS = ('primer', 'all')

PRODUCT = {'ramp': Ramp(10.0, 20_000, 35_000)}
POWER = {
  'ramps': {'mul': Growth(1e-7, 1e-5), 'div': Growth(1e-9, 1e-7)},
  'rate': 5.0,
}
# Fields of `ArithmeticArm`.
SETTINGS: Mapping[str, Mapping[str, object]] = {
  'nau': {'ramp': Ramp(0.01, 20_000, 35_000)},
  'nmu': PRODUCT,
  'snmu': PRODUCT,
  'nac_mul_nmu': PRODUCT,
  'gated_nau_nmu': PRODUCT,
  'mcfc': PRODUCT,
  'mul_mcfc': PRODUCT,
  'npu': POWER,
  'real_npu': POWER,
  'inalu': {
    'ramp': Ramp(0.05, 10_000, 10_001),
    'below': 1.0,
    'limits': Limits(element=0.1),
  },
  'nru': {**PRODUCT, 'rate': 1_000.0},
  'nmru': {**PRODUCT, 'rate': 10.0, 'limits': Limits(norm=1.0)},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  units: tuple[str, ...] = option(
    ('primer',),
    "units to train: primer, the Primer's with the operations it has of each; "
    f'all; or of {", ".join(UNITS.names())}',
  )
  ops: tuple[str, ...] = option(
    OPS, f'operations to train, of {", ".join(OPS)}'
  )
  ranges: tuple[str, ...] = option(
    tuple(RANGES),
    f'ranges of training, of {", ".join(RANGES)}; a run folder keeps those '
    'that are done',
    identity=False,
  )
  replicas: int = option(25, 'seeds', minimum=1)
  steps: int = option(
    50_000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  train: TrainConfig = option(
    dataclasses.replace(TRAIN, save_every=10_000), 'training'
  )
  batch_size: int = option(128, 'examples a step', minimum=1)

  @property
  def cells(self) -> dict[str, tuple[str, ...]]:
    """The operations of each unit, also those that it cannot represent."""
    known = {unit: OPS for unit in self.units}
    if self.units == ('primer',):
      known = PRIMER
    elif self.units == ('all',):
      known = dict.fromkeys(UNITS.names(), OPS)
    chosen = {
      unit: tuple(op for op in ops if op in self.ops)
      for unit, ops in known.items()
    }
    return {unit: ops for unit, ops in chosen.items() if ops}

  @property
  def trained(self) -> dict[str, tuple[str, ...]]:
    """The operations that each unit can represent."""
    able = {
      unit: tuple(op for op in ops if op in unit_of(unit).operations)
      for unit, ops in self.cells.items()
    }
    return {unit: ops for unit, ops in able.items() if ops}

  @property
  def as_published(self) -> bool:
    """Whether success may be compared with what was published."""
    return trained_alike(self, Config(), ('steps', 'batch_size'))


def unit_of(name: str) -> Unit:
  """A unit as it stands alone."""
  return MulMCFC(trash_cells=0) if name == 'mul_mcfc' else UNITS.get(name)()


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and scores each range; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: config.ranges,
    identity=lambda config: config.steps,
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  single = len(config.units) == 1
  check_names(
    'units', config.units, (*(SETS if single else ()), *UNITS.names())
  )
  check_names('ops', config.ops, OPS)
  check_names('ranges', config.ranges, RANGES)
  check_runs(config)
  if not config.trained:
    raise UsageError(
      f'--units={",".join(config.units)} represents nothing of '
      f'--ops={",".join(config.ops)}'
    )


def problem(config: Config) -> ArithmeticProblem:
  """What is trained, all units and operations of each seed, on any range."""
  return ArithmeticProblem(
    task=TASK,
    arms={
      unit: ArithmeticArm(
        UnitLayer(unit_of(unit), 1), ops, **SETTINGS.get(unit, {})
      )
      for unit, ops in config.trained.items()
    },
    batch_size=config.batch_size,
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Success, step, error and sparsity of every run on a range."""
  limits = [np.array(halves(interval), np.float32) for interval in RANGES[name]]
  data = dict(zip(('trained', 'tested'), limits, strict=True))
  place = f'{config.ranges.index(name) + 1} of {len(config.ranges)}'
  label = f'range {name}, {place}'
  runs = train_runs(STUDY, problem(config), config, kept, name, label, data)
  return [
    row
    for unit, ops in config.cells.items()
    for op in ops
    for row in rows_of_cell(config, runs, unit, op, name)
  ]


def rows_of_cell(
  config: Config, runs: Runs, unit: str, op: str, name: str
) -> list[Result]:
  """Rows of a unit, an operation and a range, without value if untrained."""
  split, size = f'{op}:{name}', str(TASK.inputs)
  if op not in config.trained.get(unit, ()):
    source = runs.source_of(unit, reason='cannot represent')
    nothing = (0,) * config.replicas
    source = dataclasses.replace(
      source, steps=nothing, samples=nothing, flops=nothing, seconds=0.0
    )
    seeds = range(config.replicas)
    return [source.row(r, split, size, 'solved', None, 0) for r in seeds]
  strict, loose = (
    single_module_error(op, RANGES[name][1], epsilon)
    for epsilon in (1e-5, 1e-4)
  )
  source = runs.source_of(
    unit, as_published=config.as_published, threshold=strict, loose=loose
  )
  found = runs.solved(unit, op, strict)
  rows = rows_of(source, split, size, found)
  found = runs.solved(unit, op, loose)
  return rows + rows_of(source, split, size, found, ('step',), LOOSE)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md and its picture; returns what was solved of all ranges."""
  del config
  overview = overview_table(results)
  shown = {
    'Solved, all ranges': overview,
    'Solved, by range': detail_table(results),
  }
  report = folder / 'report.md'
  path = write_picture(results, folder / 'plots' / 'solved.png')
  sections = [
    ('Solved, as a picture', picture('share of seeds', path, report)),
    ('How it was made', bullets([*provenance()])),
  ]
  write_tables(report, 'Single arithmetic modules', shown, sections)
  return overview.text()


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
