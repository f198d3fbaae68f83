"""Populations that learn comparisons, and their errors at every magnitude.

Shape key: S replicas of one comparison in one setting.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.status_registers_settings import SHARPENED, Config
from extrap.comparison import (
  FAILED,
  ComparisonProblem,
  Sharpening,
  far_errors,
)
from extrap.evaluation.results import Provenance, Result
from extrap.models.comparators import HEADS
from extrap.models.units.register import leak
from extrap.regression import Ramp
from extrap.study import Kept, train_arm, training_seconds
from extrap.tasks.comparisons import COMPARISONS, Comparisons
from extrap.training import distributed
from extrap.training.flops import count_step_flops
from extrap.training.loop import Fit

STUDY = 'status_registers'
MAGNITUDES = tuple(range(1, 19))
# The share of the steps after which the published NAU has its regulariser.
REGULARISED_FROM = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """What one program trains.

  Attributes:
    part: of the study; name: of the case, unique.
    head: what compares.
    inputs: of which two are compared.
    redundancy: pairs of operands.
    comparisons: of which each run learns one.
    settings: unit of the numbers and scale of the register, for each of which
      there are runs.
    magnitudes: numbers of zeros of the tests.
  """

  part: str
  name: str
  head: str
  inputs: int
  redundancy: int
  comparisons: tuple[str, ...] = tuple(COMPARISONS)
  settings: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
  magnitudes: tuple[int, ...] = MAGNITUDES

  @property
  def folder(self) -> str:
    """Its name for a file system."""
    return self.name.replace(', ', '_').replace(' ', '_')


@dataclasses.dataclass(frozen=True)
class Runs:
  """Replicas of a program that learn one comparison, setting by setting."""

  comparison: str
  settings: tuple[tuple[float, float], ...]
  first: int
  seeds: int

  @property
  def unit_S(self) -> np.ndarray:
    """What numbers are multiplied by."""
    return np.repeat([unit for unit, _ in self.settings], self.seeds)

  @property
  def scale_S(self) -> np.ndarray:
    """Each register's lambda."""
    return np.repeat([scale for _, scale in self.settings], self.seeds)

  @property
  def replicas(self) -> slice:
    """Their places in the population."""
    return slice(self.first, self.first + len(self.unit_S))


def cases(config: Config) -> list[Case]:
  """All cases of the parts that are asked for, in order."""
  makers = {
    'comparisons': _compared,
    'scales': _scaled,
    'redundancy': _redundant,
  }
  return [case for part in config.parts for case in makers[part](config)]


def _compared(config: Config) -> Iterator[Case]:
  for inputs, head in itertools.product(config.inputs, config.heads):
    yield Case(
      part='comparisons',
      name=f'{head}, {inputs} inputs',
      head=head,
      inputs=inputs,
      redundancy=config.redundancy,
    )


def _scaled(config: Config) -> Iterator[Case]:
  yield Case(
    part='scales',
    name='scales',
    head='nsr',
    inputs=2,
    redundancy=config.redundancy,
    comparisons=('gt', 'eq'),
    settings=tuple(itertools.product(config.units, config.scales)),
    magnitudes=MAGNITUDES[:1],
  )


def _redundant(config: Config) -> Iterator[Case]:
  for inputs, pairs in itertools.product(config.inputs, config.redundancies):
    yield Case(
      part='redundancy',
      name=f'{pairs} redundant, {inputs} inputs',
      head='nsr' if inputs == 2 else SHARPENED,
      inputs=inputs,
      redundancy=pairs,
    )


def make_problem(config: Config, case: Case) -> ComparisonProblem:
  """What every replica of a case learns."""
  steps = config.train.resolved_schedule_steps
  sharpened = case.head == SHARPENED
  late = round(REGULARISED_FROM * steps)
  regularised = case.head == 'nau'
  return ComparisonProblem(
    task=Comparisons(inputs=case.inputs),
    head=HEADS['nsr' if sharpened else case.head](
      case.redundancy, np.dtype(config.dtype)
    ),
    dtype=np.dtype(config.dtype),
    sharpening=Sharpening(
      final=config.sharpness if sharpened else 1.0, steps=steps
    ),
    ramp=Ramp(1.0, late, late + 1) if regularised else Ramp(),
    fixed=config.partners == 'fixed',
  )


def runs_of(config: Config, case: Case) -> list[Runs]:
  """The replicas of a case, comparison by comparison."""
  each = len(case.settings) * config.replicas
  return [
    Runs(comparison, case.settings, number * each, config.replicas)
    for number, comparison in enumerate(case.comparisons)
  ]


def hparams_of(runs: Sequence[Runs]) -> dict[str, np.ndarray]:
  """The traced numbers of every replica; see `ComparisonProblem`."""
  places = list(COMPARISONS)
  learned = [
    np.full(len(those.unit_S), places.index(those.comparison)) for those in runs
  ]
  hparams = {
    'comparison': np.concatenate(learned),
    'unit': np.concatenate([those.unit_S for those in runs]),
    'scale': np.concatenate([those.scale_S for those in runs]),
  }
  return hparams | {'draw': np.arange(len(hparams['unit']))}


def study_of(config: Config, kept: Kept, case: Case) -> list[Result]:
  """Trains a case; the errors of every run at every magnitude, and leaks."""
  problem, runs = make_problem(config, case), runs_of(config, case)
  hparams = hparams_of(runs)
  several = dataclasses.replace(config, replicas=len(hparams['draw']))
  folder = kept.run.path / 'arms' / case.folder
  trained = train_arm(
    problem, several, kept.run, case.name, kept.stop, folder, hparams
  )
  one = {name: values[0] for name, values in hparams.items()}
  cost = Cost(
    steps=distributed.to_host(trained.state.step),
    flops=count_step_flops(problem, trained.params, one),
    seconds=training_seconds(folder) / several.replicas,
  )
  bases = 100 if config.eval == 'full' else 20
  rows = []
  for those in runs:
    found = measured(case, problem, those, trained, bases)
    sources = accounts(config, case, those, cost)
    rows += [row for part in found for row in rows_of(part, those, sources)]
  return rows


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of a program: steps of each replica, FLOPs of a step, seconds a replica."""

  steps: np.ndarray
  flops: float
  seconds: float


def accounts(
  config: Config, case: Case, runs: Runs, cost: Cost
) -> list[Provenance]:
  """What the runs of each setting have cost."""
  each = Comparisons(inputs=case.inputs).trained_rows(runs.comparison)
  sources = []
  for number, (unit, scale) in enumerate(runs.settings):
    start = runs.first + number * runs.seeds
    replicas = range(start, start + runs.seeds)
    steps = cost.steps[start : replicas.stop].tolist()
    notes = {'redundancy': case.redundancy, 'unit': unit, 'scale': scale}
    notes |= {'dtype': config.dtype, 'partners': config.partners}
    sources.append(
      Provenance(
        study=STUDY,
        arm=case.name,
        rung=case.part,
        seeds=tuple(config.seed + replica for replica in replicas),
        steps=tuple(steps),
        samples=tuple(step * each for step in steps),
        flops=tuple(step * cost.flops for step in steps),
        seconds=cost.seconds,
        hparams=json.dumps(notes),
      )
    )
  return sources


class Measured(NamedTuple):
  """A metric of runs at one size, or None, and how many examples it is of."""

  comparison: str
  size: str
  metric: str
  value_S: np.ndarray | None
  n: int


def measured(
  case: Case, problem: ComparisonProblem, runs: Runs, trained: Fit, bases: int
) -> list[Measured]:
  """Errors by magnitude, and the leak of registers, of the same comparison.

  'error' is of all rows, 'exact_error' of those that the type holds exactly,
  where these are not all. A run that has failed errs as much as can be.
  """
  params = jax.tree.map(lambda leaf: leaf[runs.replicas], trained.params)
  finite_S, found = trained.finite[runs.replicas], []
  for magnitude in case.magnitudes:
    size = str(10**magnitude)
    test = problem.task.test(runs.comparison, magnitude, bases)
    of = far_errors(problem, params, test, runs.unit_S, runs.scale_S)
    every_S = np.where(finite_S, of.every_S, FAILED)
    found.append(Measured(runs.comparison, size, 'error', every_S, of.rows))
    if of.exact < of.rows:
      exact_S = of.exact_S
      if exact_S is not None:
        exact_S = np.where(finite_S, exact_S, FAILED)
      found.append(
        Measured(runs.comparison, size, 'exact_error', exact_S, of.exact)
      )
  if case.head in ('nsr', SHARPENED):
    final = problem.sharpening.final
    leak_S = np.asarray(jax.vmap(lambda params: leak(params, final))(params))
    size = str(problem.task.largest)
    found.append(Measured(runs.comparison, size, 'leak', leak_S, 1))
  return found


def rows_of(
  found: Measured, runs: Runs, sources: Sequence[Provenance]
) -> list[Result]:
  """One row a run; replicas are counted anew in each setting."""
  rows = []
  for place in range(len(runs.unit_S)):
    setting, replica = divmod(place, runs.seeds)
    value = None if found.value_S is None else float(found.value_S[place])
    rows.append(
      sources[setting].row(
        replica, found.comparison, found.size, found.metric, value, found.n
      )
    )
  return rows
