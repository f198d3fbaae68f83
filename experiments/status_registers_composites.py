"""Populations that learn what needs comparisons: lists, pieces and paths."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from experiments.status_registers_population import (
  head_of,
  ramp_of,
  sharpening_of,
  train,
)
from experiments.status_registers_settings import SHARPENED, Config
from extrap.composition import CompositionProblem, mean_errors
from extrap.evaluation.results import Result, format_size
from extrap.kept import Kept
from extrap.models import folds
from extrap.models.comparators import Comparator
from extrap.models.composites import (
  Choice,
  Composite,
  Fold,
  Message,
  Relaxation,
)
from extrap.models.units import NALU, NAU, Unit
from extrap.relaxation import path_errors
from extrap.tasks.comparing_functions import Count, Minimum, Task, TwoPieces
from extrap.tasks.shortest_paths import ShortestPaths
from extrap.training import distributed

FOLDS: Mapping[str, tuple[Task, folds.Function]] = {
  'minimum': (Minimum(), folds.minimum),
  'count': (Count(), folds.count),
}
UNITS: Mapping[str, Unit] = {'nau': NAU(), 'nalu': NALU()}
# What makes the messages of a graph's nodes; published ones are linear.
MESSAGES: Mapping[str, Unit] = {'': Message(), ' and nau': NAU()}
CHOSEN_BY = ('gt', 'eq')
LENGTHS = (5, 10, 20, 35, 50)
LARGEST = tuple(10 * 2**n for n in range(1, 15))  # of the numbers of a list
NODES = BELOW = tuple(10 * 2**n for n in range(7))  # of graphs; their weights
BASES = tuple(2**n for n in range(3, 15))  # of the numbers that are compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """What one program trains.

  Attributes:
    part: of the study; name: of the case, unique.
    head: what compares.
    task: what is learned; asked: its name.
    model: makes the model of a head.
    sizes: of the tests, arguments of the task's.
    tests: examples of each size.
    errors: measures the mean error of every replica on a test.
  """

  part: str
  name: str
  head: str
  task: Task
  asked: str
  model: Callable[[Comparator], Composite]
  sizes: tuple[tuple[int, ...], ...]
  tests: int = 50
  errors: Callable[..., np.ndarray] = mean_errors


def _lists(config: Config) -> Iterator[Case]:
  """Two numbers are compared at a time: there is nothing to sharpen."""
  heads = [head for head in config.heads if head != SHARPENED]
  for (asked, (task, fold)), head in itertools.product(FOLDS.items(), heads):
    yield Case(
      part='lists',
      name=f'{head}, {asked}',
      head=head,
      task=task,
      asked=asked,
      model=functools.partial(Fold, fold=fold),
      sizes=tuple(itertools.product(LENGTHS, LARGEST)),
    )


def _pieces(config: Config) -> Iterator[Case]:
  kinds = itertools.product(CHOSEN_BY, UNITS.items(), config.heads)
  for comparison, (name, unit), head in kinds:
    yield Case(
      part='pieces',
      name=f'{head} and {name}, {comparison}',
      head=head,
      task=TwoPieces(comparison),
      asked=comparison,
      model=functools.partial(Choice, unit=unit),
      sizes=tuple((base,) for base in BASES),
    )


def _paths(config: Config) -> Iterator[Case]:
  """Two messages are compared at a time: there is nothing to sharpen."""
  heads = [head for head in config.heads if head != SHARPENED]
  for head, (made_by, unit) in itertools.product(heads, MESSAGES.items()):
    yield Case(
      part='paths',
      name=f'{head}{made_by}, paths',
      head=head,
      task=ShortestPaths(),
      asked='paths',
      model=functools.partial(Relaxation, unit=unit),
      sizes=tuple(itertools.product(NODES, BELOW)),
      tests=10,
      errors=path_errors,
    )


CASES = {'lists': _lists, 'pieces': _pieces, 'paths': _paths}


def make_problem(config: Config, case: Case) -> CompositionProblem:
  """What every replica of a case learns."""
  head = head_of(config, case.head, config.redundancy)
  return CompositionProblem(
    task=case.task,
    model=case.model(head),
    dtype=np.dtype(config.dtype),
    sharpening=sharpening_of(config, case.head),
    ramp=ramp_of(config),
  )


def config_of(config: Config, case: Case) -> Config:
  """The config by which a case is trained: the study's."""
  del case
  return config


def study_of(case: Case, config: Config, kept: Kept) -> list[Result]:
  """Trains a case; the errors of every run at every size."""
  problem = make_problem(config, case)
  trained = train(config, kept, case.name, problem, config.replicas)
  params = distributed.to_host(trained.fit.params)
  count = (4 if config.eval == 'full' else 1) * case.tests
  whole = slice(0, config.replicas)
  notes = {'redundancy': config.redundancy, 'dtype': config.dtype}
  source = trained.source(
    case.name, case.part, whole, case.task.rows, json.dumps(notes)
  )
  rows = []
  for size in case.sizes:
    test = case.task.test(*size, count)
    error_R = case.errors(problem, params, test)
    error_R = np.where(trained.fit.finite, error_R, np.inf)
    for replica, error in enumerate(error_R.tolist()):
      shown = format_size(size)
      rows.append(
        source.row(replica, case.asked, shown, 'error', error, len(test))
      )
  return rows
