"""What the sweeps of arithmetic units vary, and what was published of each.

Madsen and Johansen 2020, arXiv 2001.05016, with the jobs and the vector figures
of AndreasMadsen/stable-nalu (`lfs_batch_jobs/function_task_static_mul_*.sh`,
`paper/results/simple_function_static_mul_*.pdf`).
"""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.nalu_settings import NMU_RAMP, RANGES
from extrap.evaluation.arithmetic_criterion import PUBLISHED as THRESHOLDS
from extrap.tasks.arithmetic import Arithmetic

OPERATION = 'mul'
DEFAULT = 'default'
MILLION = 1_000_000
TASK = Arithmetic()


@dataclasses.dataclass(frozen=True)
class Setting:
  """What is trained at one value of a sweep; the defaults are in each sweep.

  Attributes:
    task: the task.
    hidden: outputs of the first layer.
    factor: of the regulariser.
    steps: optimizer steps, as published.
  """

  task: Arithmetic = TASK
  hidden: int = 2
  factor: float = NMU_RAMP.factor
  steps: int = 5 * MILLION


def _inputs(number: int) -> Setting:
  """Larger inputs are trained for longer."""
  millions = 5 if number <= 100 else 10 if number <= 200 else 15
  return Setting(task=Arithmetic(inputs=number), steps=millions * MILLION)


def _range(name: str) -> Setting:
  trained, tested = RANGES[name]
  return Setting(task=Arithmetic(trained=trained, tested=tested))


INPUTS = (4, 10, 25, 50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300)
INTERVALS = (
  *('-2..-1', '-2..2', '0..1', '0.1..0.2'),
  *('1..2', '1.1..1.2', '10..20'),
)
SWEEPS: Mapping[str, Mapping[str, Setting]] = {
  'inputs': {str(number): _inputs(number) for number in INPUTS},
  'hidden': {str(width): Setting(hidden=width) for width in range(2, 11)},
  'range': {name: _range(name) for name in INTERVALS},
  'overlap': {
    f'{share:g}': Setting(task=Arithmetic(overlap=share))
    for share in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
  },
  'subset': {
    f'{share:g}': Setting(task=Arithmetic(subset=share))
    for share in (0.05, 0.1, 0.25, 0.5)
  },
  'factor': {
    f'{factor:g}': Setting(factor=factor)
    for factor in (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
  },
}
WORDS: Mapping[str, str] = {
  'inputs': 'inputs',
  'hidden': 'outputs of the first layer',
  'range': 'range of training',
  'overlap': 'share of a subset that is in the other, too',
  'subset': 'size of a subset, a share of the inputs',
  'factor': 'factor of the regulariser',
}


def setting_name(sweep: str, value: str) -> str:
  """Names a setting in rows: 'hidden=3', or 'default' in every sweep."""
  if SWEEPS[sweep][value] == Setting():
    return DEFAULT
  return f'{sweep}={value}'


SEEDS = 50  # of every published value; of some, a few more.


def _published(
  sweep: str, **shares: Sequence[float]
) -> Mapping[str, Mapping[str, float]]:
  """Share of solved seeds, by unit and value."""
  values = SWEEPS[sweep]
  return {
    unit: dict(zip(values, of_unit, strict=True))
    for unit, of_unit in shares.items()
  }


# Read off the figures, to a hundredth.
SHARES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
  'inputs': _published(
    'inputs',
    nmu=(
      *(0.96, 0.98, 0.94, 1, 0.96, 0.98, 1),
      *(0.98, 0.96, 0.90, 1, 0.98, 0.92, 0.78),
    ),
    nac_mul_nmu=(
      *(1, 0.98, 0.94, 0.98, 0.98, 0.90, 0.98),
      *(0.43, 0.10, 0.02, 0, 0, 0, 0),
    ),
    nac_mul_sigma=(
      *(0.88, 0.98, 0.98, 1, 1, 1, 1),
      *(0.96, 1, 0.96, 0.98, 1, 0.98, 1),
    ),
    nac_mul=(
      *(0.25, 0.47, 0.67, 0.58, 0.44, 0.24, 0.58),
      *(0.46, 0.51, 0.29, 0.55, 0.57, 0.57, 0.39),
    ),
    nalu=(0.57, 0.08, 0.10, 0.02, 0.02, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  ),
  'hidden': _published(
    'hidden',
    nmu=(1, 0.88, 0.92, 0.97, 0.72, 0.77, 0.74, 0.59, 0.63),
    nac_mul_nmu=(0.89, 0.55, 0.31, 0.06, 0, 0, 0, 0, 0),
    nac_mul_sigma=(1, 0, 0, 0, 0, 0, 0, 0, 0),
    nac_mul=(0.23, 0.22, 0.10, 0, 0, 0, 0, 0, 0),
    nalu=(0, 0, 0, 0, 0, 0, 0, 0, 0),
  ),
  'range': _published(
    'range',
    nmu=(1, 0.78, 1, 0.84, 1, 0, 1),
    nac_mul_nmu=(0.92, 0, 1, 0.58, 0.90, 0, 0.54),
    nac_mul_sigma=(1, 0, 1, 1, 1, 0, 1),
    nac_mul=(0.26, 0, 0.64, 0.08, 0.24, 0, 0.42),
    nalu=(0, 0, 0.02, 0, 0, 0, 0.02),
  ),
  'overlap': _published(
    'overlap',
    nmu=(1, 1, 1, 1, 0.72, 1),
    nac_mul_nmu=(1, 1, 1, 0.90, 0.44, 1),
    nac_mul_sigma=(1, 1, 1, 1, 1, 1),
    nac_mul=(0.24, 0.22, 0.26, 0.24, 0.36, 0.72),
    nalu=(0, 0, 0, 0, 0, 0),
  ),
  'subset': _published(
    'subset',
    nmu=(1, 1, 1, 0.84),
    nac_mul_nmu=(1, 1, 0.90, 0),
    nac_mul_sigma=(1, 1, 1, 0),
    nac_mul=(0.60, 0.60, 0.24, 0),
    nalu=(0.08, 0.04, 0, 0),
  ),
  'factor': _published('factor', nmu=(0.93, 1, 1, 1, 1, 0.78)),
}

# Thresholds of other tasks, with subsets and overlaps of one input too many
# (bmistry4/nalm-division, function_task_static_mse_expectation.csv).
PUBLISHED_THRESHOLDS: Mapping[str, float] = {
  **dict(
    zip(
      (setting_name('inputs', value) for value in SWEEPS['inputs']),
      (
        *(7.10e-8, 1.51e-5, 6.14e-4, 1.003e-2, 5.08e-2),
        THRESHOLDS[OPERATION],
        *(0.391, 0.812, 1.503, 2.562, 4.105, 6.258, 9.162, 12.97),
      ),
      strict=True,
    )
  ),
  'subset=0.05': 0.02885,
  'subset=0.1': 0.0758,
  'subset=0.5': 0.00222,
  'range=-2..-1': 0.160,
  'range=-2..2': 2.308e-4,
  'range=0..1': 0.05076,
  'range=0.1..0.2': 9.204e-4,
  'range=1.1..1.2': 0.10528,
  'range=10..20': 505.5,
}


def published_threshold(name: str) -> float | None:
  """The published threshold of a setting, by its name; None if unknown."""
  sweep, _, value = name.partition('=')
  same_task = name != DEFAULT and SWEEPS[sweep][value].task == TASK
  return PUBLISHED_THRESHOLDS.get(DEFAULT if same_task else name)
