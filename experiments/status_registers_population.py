"""What all parts of the study share: jobs, heads, and trained populations."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np

from experiments.status_registers_settings import SHARPENED, Config
from extrap.evaluation.results import Provenance, Result
from extrap.factors import Ramp, Sharpening
from extrap.kept import Kept
from extrap.models.comparators import HEADS, Comparator
from extrap.study_training import train_arm, training_seconds
from extrap.training import distributed
from extrap.training.flops import count_step_flops
from extrap.training.loop import Fit
from extrap.training.problem import Problem

STUDY = 'status_registers'
# The share of the steps after which the published NAU has its regulariser.
REGULARISED_FROM = 0.8


@dataclasses.dataclass(frozen=True)
class Job:
  """What one program trains, and the rows that it is scored by.

  Attributes:
    name: of the job, unique.
    problem: what is trained.
    config: as it is trained, with the replicas and steps of this program.
    make: the rows.
    stored: shapes of the arrays that the problem reads.
  """

  name: str
  problem: Problem
  config: Config
  make: Callable[[Config, Kept], list[Result]]
  stored: Mapping[str, jax.ShapeDtypeStruct] | None = None


def head_of(config: Config, name: str, redundancy: int) -> Comparator:
  """A head; one that is sharpened is a register like another."""
  kind = 'nsr' if name == SHARPENED else name
  return HEADS[kind](redundancy, np.dtype(config.dtype))


def sharpening_of(config: Config, name: str) -> Sharpening:
  """How a head's operands sharpen over training."""
  final = config.sharpness if name == SHARPENED else 1.0
  return Sharpening(final=final, steps=config.train.resolved_schedule_steps)


def ramp_of(config: Config) -> Ramp:
  """The factor of the regulariser, which sets in late."""
  late = round(REGULARISED_FROM * config.train.resolved_schedule_steps)
  return Ramp(1.0, late, late + 1)


@dataclasses.dataclass(frozen=True)
class Population:
  """A trained program, and what it has cost.

  Attributes:
    fit: what training gave back.
    first_seed: that of the first replica.
    steps: of each replica; flops: of a step; seconds: of a replica.
  """

  fit: Fit
  first_seed: int
  steps: np.ndarray
  flops: float
  seconds: float

  def source(
    self,
    arm: str,
    rung: str,
    replicas: slice,
    rows_a_step: int,
    hparams: str,
  ) -> Provenance:
    """What the rows of some replicas share."""
    steps = self.steps[replicas].tolist()
    numbers = range(len(self.steps))[replicas]
    return Provenance(
      study=STUDY,
      arm=arm,
      rung=rung,
      seeds=tuple(self.first_seed + number for number in numbers),
      steps=tuple(steps),
      samples=tuple(step * rows_a_step for step in steps),
      flops=tuple(step * self.flops for step in steps),
      seconds=self.seconds,
      hparams=hparams,
    )


def train(
  config: Config,
  kept: Kept,
  name: str,
  problem: Problem,
  replicas: int,
  hparams: Mapping[str, np.ndarray] | None = None,
  data: dict[str, np.ndarray] | None = None,
) -> Population:
  """Trains replicas in one program, some of their numbers given.

  Args:
    config: the study's; kept: the run folder.
    name: of what is trained.
    problem: what it is.
    replicas: how many.
    hparams: numbers of each, in place of the problem's.
    data: stored arrays that the problem reads.
  """
  several = dataclasses.replace(config, replicas=replicas)
  folder = kept.run.path / 'arms' / name.replace(', ', '_').replace(' ', '_')
  fit = train_arm(
    *(problem, several, kept.run, name, kept.stop, folder, hparams, data),
    may_fail=True,
  )
  return Population(
    fit=fit,
    first_seed=config.seed,
    steps=distributed.to_host(fit.state.step),
    flops=count_step_flops(problem, fit.params, data),
    seconds=training_seconds(folder) / replicas,
  )
