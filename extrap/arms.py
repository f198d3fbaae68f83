"""Arms of a comparison: tuned alike, trained alike, tested at growing lengths.

`run_arms` is the program of a study that compares them.

Suffix key: R replicas.
"""

import dataclasses
import functools
import json
from collections.abc import (
  Callable,
  Collection,
  Iterator,
  Mapping,
  Sequence,
)
from pathlib import Path
from typing import TypeVar

import numpy as np
from absl import flags

from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation import certificate
from extrap.evaluation.certificate import Certificate
from extrap.evaluation.contexts import Contexts, Enumeration
from extrap.evaluation.grid import Suite, in_table
from extrap.evaluation.reach import is_over
from extrap.evaluation.results import (
  Provenance,
  Result,
  length_split,
  write_csv,
)
from extrap.evaluation.stress import Kind, stress_suites
from extrap.models import ShiftAverage
from extrap.reporting.progress import Progress
from extrap.sequence import SequenceProblem
from extrap.study import (
  Kept,
  StudyConfig,
  account,
  count_right,
  open_run,
  terminated,
  train_arm,
  tune,
)
from extrap.training import distributed
from extrap.training.loop import Fit
from extrap.training.ramp import examples_until

# Learning rates to choose from with Muon.
MUON_RATES = (2.5e-3, 5e-3, 1e-2)
# Lengths are tested at these or their own: a thousand long problems take longer
# to pad than a program to compile.
BUCKETS = (50, 100)

ConfigT = TypeVar('ConfigT', bound=StudyConfig)


def run_arms(
  study: str,
  config: ConfigT,
  flag_values: flags.FlagValues,
  *,
  check: Callable[[ConfigT], ConfigT | None],
  names: Callable[[ConfigT], Sequence[str]],
  identity: Callable[[ConfigT], object],
  make: Callable[[ConfigT, Kept, str], list[Result]],
  report: Callable[[ConfigT, Path, Sequence[Result]], str],
) -> int:
  """Trains and tests each arm, keeps its rows, and reports; resumable.

  Args:
    study: its name.
    config: as given.
    flag_values: the flags that it came from.
    check: refuses what would only fail after training; may give another config.
    names: the arms to run.
    identity: what an arm's rows depend on, beside the run's config.
    make: the rows of an arm.
    report: writes report.md into the folder, in the first process; returns what
      is printed.

  Returns:
    The exit code.
  """
  distributed.initialize(config.cluster)
  with distributed.shared_fate():
    config = check(config) or config
  run, config = open_run(study, config, flag_values)
  results: list[Result] = []
  with run, terminated() as stop:
    kept = Kept(run, stop)
    for name in names(config):
      results += kept.rows(
        name.replace(' ', '_'),
        identity(config),
        lambda name=name: make(config, kept, name),
      )
    with distributed.shared_fate():
      if distributed.is_first():
        write_csv(run.path / 'results.csv', results, kept.comments)
        shown = report(config, run.path, results)
        print(f'\n{shown}\n\nreport: {run.path / "report.md"}')
    run.status('done', config.steps)
  return 0


def check_scratch(config: StudyConfig) -> None:
  """Refuses a run that begins elsewhere or is not evaluated."""
  if config.eval == 'none' or config.init_from:
    raise UsageError('this study trains from scratch and always evaluates')


def check_names(
  flag: str, given: Sequence[str], known: Collection[str]
) -> None:
  """Refuses arms that are none, unknown or named twice."""
  if not given:
    raise UsageError(
      f'--{flag} needs at least one entry: name at least one of '
      f'{", ".join(known)}'
    )
  for name in given:
    if name not in known or given.count(name) > 1:
      raise UsageError(
        f'--{flag}={name}: name each once, of {", ".join(known)}'
      )


@dataclasses.dataclass(frozen=True)
class Arm:
  """A trained population and what it has cost."""

  name: str
  problem: SequenceProblem
  trained: Fit
  source: Provenance


def train_tuned(
  study: str,
  name: str,
  rung: str,
  problem: SequenceProblem,
  config: StudyConfig,
  kept: Kept,
  rates: Sequence[float],
  tuning_steps: int,
) -> Arm:
  """Trains with the best of some learning rates, see `study.tune`.

  A single one is taken without a trial.

  The rows' `hparams` hold the optimizer, the learning rate, the losses that
  chose it, the examples that this took and the largest id met in training.

  Args:
    study, name, rung: name the arm in its rows.
    problem: what is trained.
    config: the study's.
    kept: the run folder; files of this arm are in arms/<name>.
    rates: learning rates to choose from.
    tuning_steps: steps spent on each.
  """
  folder = kept.run.path / 'arms' / name
  of_run = (kept.run, name, kept.stop)
  tuning = (folder / 'rates', rates, tuning_steps)
  rate, losses, trials = rates[0], {}, 0
  if len(rates) > 1:
    rate, losses = tune(problem, config, *of_run, *tuning)
    short = dataclasses.replace(config.train, schedule_steps=tuning_steps)
    size = problem.batch_size
    trials = len(rates) * examples_until(short, tuning_steps, size)
  train = dataclasses.replace(config.train, learning_rate=rate)
  config = dataclasses.replace(config, train=train)
  trained = train_arm(problem, config, *of_run, folder)
  source = account(study, name, rung, config, problem, trained, folder)
  notes = {
    'optimizer': config.train.optimizer,
    'learning_rate': rate,
    'tuning_loss': losses,
    'tuning_samples': trials,
    'trained_id': largest_trained_id(problem),
  }
  source = dataclasses.replace(source, hparams=json.dumps(notes))
  return Arm(name, problem, trained, source)


def largest_trained_id(problem: SequenceProblem) -> str:
  """The largest id that training meets, in words: 'place 59'."""
  position = problem.model.config.position
  if stretch := getattr(position, 'stretch', 0):
    return f'position {stretch - 1}'
  return largest_id(problem, problem.max_size, position.largest_shift)


def largest_id(problem: SequenceProblem, size: int, shift: int = 0) -> str:
  """The largest absolute id at a size, in words; 'none' of a relative one."""
  position = problem.model.config.position
  if position.table is not None:
    largest = problem.task.largest_ids(size)[position.table]
    return f'{position.table} {largest + shift}'
  if 'position' in position.reads:
    return f'position {problem.task.token_length(size) - 1}'
  return 'none'


def shift_averaged(arm: Arm, shifts: int) -> Arm | None:
  """The arm asked at so many shifts of its places, see `ShiftAverage`.

  None if there is nothing to average: no table of places, or no shifts of it.
  The arm that is returned can be scored, not trained.

  Raises:
    UsageError: how long an answer may be does not follow from its longest
      number alone, as of products.
  """
  problem, source = arm.problem, arm.source
  position = problem.model.config.position
  if position.table != 'place' or not position.largest_shift or shifts < 2:
    return None
  most = problem.max_size
  spare = largest_place(problem, most) - (most - 1)
  if largest_place(problem, 2 * most) - (2 * most - 1) != spare:
    raise UsageError(
      f'--shifts={shifts}: the places of an answer do not follow from its '
      'longest number'
    )
  model = ShiftAverage(
    model=problem.model,
    largest=largest_place(problem, most) + position.largest_shift,
    spare=spare,
    shifts=shifts,
  )
  name = f'{arm.name}, {shifts} shifts'
  rung = f'{source.rung}, mean of {shifts} shifts'
  return dataclasses.replace(
    arm,
    name=name,
    problem=dataclasses.replace(problem, model=model),
    source=dataclasses.replace(source, arm=name, rung=rung),
  )


def shifts_option() -> int:
  """The flag of studies whose arms have a second reach, see `score_reaches`."""
  return option(
    32,
    'shifts of places whose predictions are averaged for a second reach '
    '(below 2: none)',
    minimum=0,
    identity=False,
  )


def largest_place(problem: SequenceProblem, size: int) -> int:
  """The largest place at a size, unshifted."""
  return problem.task.largest_ids(size)['place']


def tested_shift(problem: SequenceProblem, size: int) -> int:
  """The largest shift of places at which a size is tested."""
  model = problem.model
  if not isinstance(model, ShiftAverage):
    return 0
  return max(model.largest - largest_place(problem, size), 0)


def score_lengths(
  arm: Arm, lengths: Sequence[int], rows: int, kept: Kept
) -> list[Result]:
  """Exact match at equal sizes, until every replica is below 50 %.

  Args:
    arm: the arm.
    lengths: what to test, the training length among them.
    rows: problems a length and replica.
    kept: hears SIGTERM between lengths.
  """
  problem, source, results = arm.problem, arm.source, []
  scored: dict[int, list[float]] = {}
  for length in sorted(lengths):
    inside = length <= problem.max_size
    split = length_split(length, problem.max_size)
    right_R, n = None, 0
    if in_table(problem.model.config.position, problem.task, length):
      right_R, n = _score(arm, length, rows, kept), rows
      scored[length] = (right_R / rows).tolist()
    results += source.exact_match(split, str(length), right_R, n)
    if not inside and is_over(scored, problem.max_size):
      break
  notes = json.loads(source.hparams)
  most = max(scored)
  notes['tested_id'] = largest_id(problem, most, tested_shift(problem, most))
  hparams = json.dumps(notes)
  return [dataclasses.replace(row, hparams=hparams) for row in results]


def score_reaches(
  arm: Arm, lengths: Sequence[int], rows: int, shifts: int, kept: Kept
) -> list[Result]:
  """`score_lengths`, then again for predictions averaged over shifts.

  Once where there is nothing to average, see `shift_averaged`.
  """
  results = score_lengths(arm, lengths, rows, kept)
  if averaged := shift_averaged(arm, shifts):
    results += score_lengths(averaged, lengths, rows, kept)
  return results


def _score(arm: Arm, length: int, rows: int, kept: Kept) -> np.ndarray:
  """Right answers of each replica."""
  problem = arm.problem
  cell = (length,) * len(problem.task.axes)
  # Many passes over each problem: padding would cost more than it saves.
  buckets = () if isinstance(problem.model, ShiftAverage) else BUCKETS
  suite = Suite(name='equal', cells=(cell,), rows=rows, buckets=buckets)
  counts = count_right(
    problem.model,
    arm.trained.params,
    problem.task,
    suite,
    f'test {arm.name}, {length} digits',
    kept.check,
  )
  return np.asarray(counts[cell])


def stress_rows(
  arm: Arm,
  name: str,
  kinds: Mapping[str, Kind],
  scored: Sequence[Result],
  kept: Kept,
) -> list[Result]:
  """A stress suite at the training length and at the longest that was scored.

  Args:
    arm: the arm.
    name: of the suite; kinds: its problems, see `stress_suites`.
    scored: rows of `score_lengths`.
    kept: hears SIGTERM between cells.
  """
  problem, results = arm.problem, []
  tested = {int(row.size) for row in scored if row.value is not None}
  ends = sorted({problem.max_size, max(tested)})
  suites = stress_suites(name, kinds, problem.task, ends, rows=10, buckets=())
  for suite in suites.values():
    counts = count_right(
      problem.model,
      arm.trained.params,
      problem.task,
      suite,
      f'test {arm.name}, {suite.name}',
      kept.check,
    )
    for cell, right_R in counts.items():
      size = str(max(cell))
      results += arm.source.exact_match(suite.name, size, right_R, suite.rows)
  return results


def certified_rows(
  arm: Arm,
  check: Callable[[], None],
  of: Callable[..., list[Certificate]] | None = None,
) -> list[Result]:
  """The certificate of every replica, which is said, with progress.

  Args:
    arm: the arm.
    check: called between parts of the contexts, as `Kept.check`.
    of: called as of(model, params, task) in place of `certificate.certify`.
  """
  of = of or functools.partial(
    certificate.certify,
    watched=functools.partial(_watched, f'certify {arm.name}', check),
  )
  params = distributed.to_host(arm.trained.params)
  found = of(arm.problem.model, params, arm.problem.task)
  for seed, one in zip(arm.source.seeds, found, strict=True):
    distributed.say(f'{arm.name}, seed {seed}: {one}')
  return certificate.rows(arm.source, found)


def _watched(
  label: str, check: Callable[[], None], contexts: Enumeration
) -> Iterator[Contexts]:
  """The parts of an enumeration, with progress."""
  number, shown = len(contexts.parts), distributed.is_first()
  with Progress(number, label, unit='parts', shown=shown) as progress:
    for part in contexts:
      yield part
      check()
      progress.advance(1)


def lengths_up_to(trained: int, longest: int) -> list[int]:
  """Lengths to test, from half of the training length to `longest` times it.

  The factors are those at which published reaches differ; 1.5 is among them.
  """
  factors = (0.5, 1, 1.1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 20, 50, 100)
  return sorted({round(f * trained) for f in factors if f <= longest})
