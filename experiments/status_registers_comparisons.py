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

from experiments.status_registers_population import (
  Population,
  head_of,
  ramp_of,
  sharpening_of,
  train,
)
from experiments.status_registers_settings import SHARPENED, Config
from extrap.comparison import ComparisonProblem, Group, far_errors
from extrap.evaluation.results import Provenance, Result
from extrap.kept import Kept
from extrap.models.units.register import leak
from extrap.tasks.comparisons import COMPARISONS, Comparisons, most_held
from extrap.training import distributed

MAGNITUDES = tuple(range(1, 19))


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
  def runs(self) -> int:
    """Of each seed."""
    return len(self.comparisons) * len(self.settings)


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


CASES = {
  'comparisons': _compared,
  'scales': _scaled,
  'redundancy': _redundant,
}


def make_problem(config: Config, case: Case) -> ComparisonProblem:
  """What every replica of a case learns."""
  return ComparisonProblem(
    task=Comparisons(inputs=case.inputs),
    head=head_of(config, case.head, case.redundancy),
    dtype=np.dtype(config.dtype),
    sharpening=sharpening_of(config, case.head),
    ramp=ramp_of(config),
    fixed=config.partners == 'fixed',
  )


def config_of(config: Config, case: Case) -> Config:
  """The config by which a case is trained, with all its runs."""
  return dataclasses.replace(config, replicas=config.replicas * case.runs)


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
  return {
    'comparison': np.concatenate(learned),
    'unit': np.concatenate([those.unit_S for those in runs]),
    'scale': np.concatenate([those.scale_S for those in runs]),
  }


def study_of(case: Case, config: Config, kept: Kept) -> list[Result]:
  """Trains a case; the errors of every run at every magnitude, and leaks."""
  problem, runs = make_problem(config, case), runs_of(config, case)
  hparams = hparams_of(runs)
  replicas = len(hparams['comparison'])
  trained = train(config, kept, case.name, problem, replicas, hparams)
  params = distributed.to_host(trained.fit.params)
  bases = 100 if config.eval == 'full' else 20
  rows = []
  for those in runs:
    group = Group(
      params=jax.tree.map(lambda leaf, at=those.replicas: leaf[at], params),
      finite_S=trained.fit.finite[those.replicas],
      unit_S=those.unit_S,
      scale_S=those.scale_S,
    )
    found = errors_of(case, problem, those.comparison, group, bases)
    found += leaks_of(case, problem, group)
    sources = sources_of(config, case, those, trained)
    rows += [row for one in found for row in rows_of(one, those, sources)]
  return rows


def sources_of(
  config: Config, case: Case, runs: Runs, trained: Population
) -> list[Provenance]:
  """What the rows of each setting share."""
  task, sources = Comparisons(inputs=case.inputs), []
  for number, (unit, scale) in enumerate(runs.settings):
    first = runs.first + number * runs.seeds
    notes = {'redundancy': case.redundancy, 'unit': unit, 'scale': scale}
    notes |= {'dtype': config.dtype, 'partners': config.partners}
    notes['sharpness'] = sharpening_of(config, case.head).final
    notes['learning_rate'] = config.train.learning_rate
    sources.append(
      trained.source(
        case.name,
        case.part,
        slice(first, first + runs.seeds),
        task.trained_rows(runs.comparison),
        json.dumps(notes),
      )
    )
  return sources


class Measured(NamedTuple):
  """A metric of runs at one size, and how many examples it is of."""

  size: str
  metric: str
  value_S: np.ndarray
  n: int


def errors_of(
  case: Case,
  problem: ComparisonProblem,
  comparison: str,
  group: Group,
  bases: int,
) -> list[Measured]:
  """Errors by magnitude.

  A magnitude at which the type does not hold all numbers is 'void_error'.
  """
  found, most = [], most_held(problem.dtype)
  for magnitude in case.magnitudes:
    test = problem.task.test(comparison, magnitude, bases, most)
    largest = max(max(row.inputs) for row in test)
    metric = 'error' if largest <= most else 'void_error'
    error_S = far_errors(problem, group, test)
    found.append(Measured(str(10**magnitude), metric, error_S, len(test)))
  return found


def leaks_of(
  case: Case, problem: ComparisonProblem, group: Group
) -> list[Measured]:
  """What operands of registers take of other inputs; of other heads nothing."""
  if case.head not in ('nsr', SHARPENED):
    return []
  final = problem.sharpening.final
  leak_S = jax.vmap(lambda params: leak(params, final))(group.params)
  size = str(problem.task.largest)
  return [Measured(size, 'leak', np.asarray(leak_S), 1)]


def rows_of(
  found: Measured, runs: Runs, sources: Sequence[Provenance]
) -> list[Result]:
  """One row a run; replicas are counted anew in each setting."""
  rows = []
  for place in range(len(runs.unit_S)):
    setting, replica = divmod(place, runs.seeds)
    value = float(found.value_S[place])
    rows.append(
      sources[setting].row(
        replica, runs.comparison, found.size, found.metric, value, found.n
      )
    )
  return rows
