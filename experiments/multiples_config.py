"""What studies share that test multiples of a training length.

Their flags, what they refuse, and how they tune and train their arms.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import TypeVar

from absl import flags

from extrap.arms import (
  MUON_RATES,
  Arm,
  Report,
  check_names,
  check_scratch,
  run_arms,
  train_tuned,
)
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation.results import Result
from extrap.kept import Kept
from extrap.sequence import SequenceProblem
from extrap.study import StudyConfig
from extrap.training.config import TrainConfig

ConfigT = TypeVar('ConfigT', bound='MultiplesConfig')


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiplesConfig(StudyConfig):
  """Flags of every such study, which has arms, and `rows`, of its own."""

  arms: tuple[str, ...] = option((), 'arms to train', identity=False)
  rates: tuple[float, ...] = option(
    MUON_RATES, 'learning rates to choose from', minimum=0.0
  )
  replicas: int = option(3, 'seeds of each arm', minimum=1)
  train: TrainConfig = option(
    TrainConfig(optimizer='muon', evaluate_every=0), 'training'
  )
  length: int = option(
    64, 'L, longest context that is trained on', unit='tokens', minimum=1
  )
  batch_size: int = option(
    64, 'rows a step and replica', unit='rows', minimum=1
  )
  multiples: tuple[int, ...] = option(
    (1, 2, 4, 8, 16),
    'contexts that are tested, 1 among them',
    unit='training lengths',
    minimum=1,
    identity=False,
  )

  @property
  def lengths(self) -> list[int]:
    """Lengths that are tested."""
    return sorted({multiple * self.length for multiple in self.multiples})

  @property
  def rows(self) -> int:
    """Tests of a length, and depth if it has any; see `enlarged`."""
    raise NotImplementedError

  def enlarged(self, tests: int) -> int:
    """So many tests, or five times as many with --eval=full."""
    return tests * (5 if self.eval == 'full' else 1)


def run_multiples(
  study: str,
  config: ConfigT,
  flag_values: flags.FlagValues,
  *,
  check: Callable[[ConfigT], None],
  make: Callable[[ConfigT, Kept, str], list[Result]],
  report: Report[ConfigT],
) -> int:
  """Trains and tests each arm, see `run_arms`; returns the exit code."""
  return run_arms(
    study,
    config,
    flag_values,
    check=check,
    names=lambda config: config.arms,
    identity=lambda config: (config.steps, config.multiples, config.rows),
    make=make,
    report=report,
  )


def check_multiples(config: MultiplesConfig, known: Collection[str]) -> None:
  """Refuses arms, tests and learning rates that are missing or unknown.

  Args:
    config: the study's.
    known: its arms.

  Raises:
    UsageError: saying which.
  """
  check_names('arms', config.arms, known)
  check_scratch(config)
  if 1 not in config.multiples:
    raise UsageError('--multiples: 1, the training length, is not among them')
  if not config.rates:
    raise UsageError('--rates needs at least one learning rate')


def train_multiples(
  study: str,
  config: MultiplesConfig,
  kept: Kept,
  name: str,
  problem: SequenceProblem,
) -> Arm:
  """Trains an arm, its learning rate chosen with a fifth of the budget each."""
  return train_tuned(
    study,
    name,
    problem.model.config.position.rung,
    problem,
    config,
    kept,
    config.rates,
    -(-config.steps // 5),
  )
