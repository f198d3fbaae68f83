"""Arms of a comparison: tuned alike, and trained alike.

`run_arms` is the program of a study that compares them.

Suffix key: R replicas.
"""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from absl import flags

from extrap.config import option
from extrap.errors import ExtrapError, UsageError
from extrap.evaluation.results import (
  SO_FAR,
  Provenance,
  Result,
  read_csv,
  write_csv,
)
from extrap.kept import Kept
from extrap.models import ShiftAverage
from extrap.reporting.report import add_note
from extrap.sequence import SequenceProblem
from extrap.study import StudyConfig, open_run, terminated
from extrap.study_training import account, train_arm, tune
from extrap.training import distributed
from extrap.training.loop import Fit
from extrap.training.ramp import examples_until

# Learning rates to choose from with Muon.
MUON_RATES = (2.5e-3, 5e-3, 1e-2)

ConfigT = TypeVar('ConfigT', bound=StudyConfig)
Report = Callable[[ConfigT, Path, Sequence[Result]], str]


def run_arms(
  study: str,
  config: ConfigT,
  flag_values: flags.FlagValues,
  *,
  check: Callable[[ConfigT], ConfigT | None],
  names: Callable[[ConfigT], Sequence[str]],
  identity: Callable[[ConfigT], object],
  make: Callable[[ConfigT, Kept, str], list[Result]],
  report: Report[ConfigT],
) -> int:
  """Trains and tests each arm, keeps its rows, and reports; resumable.

  results.csv and report.md are there after each arm that was made, and say how
  many are done; only status.json says that a run is. What was there before is
  not given up for fewer rows.

  Args:
    study: its name.
    config: as given.
    flag_values: the flags that it came from.
    check: refuses what would only fail after training; may give another config.
    names: the arms to run.
    identity: what an arm's rows depend on, beside the run's config.
    make: the rows of an arm.
    report: writes report.md into the folder, of the arms that there are, in
      the first process; returns what is printed once all are done.

  Returns:
    The exit code.
  """
  distributed.initialize(config.cluster)
  with distributed.shared_fate():
    config = check(config) or config
  run, config = open_run(study, config, flag_values)
  with run, terminated() as stop:
    kept, of_arms = Kept(run, stop), identity(config)
    rows: dict[str, list[Result] | None] = dict.fromkeys(names(config))
    missing = [name for name in rows if not kept.has(_part(name), of_arms)]
    if missing:
      run.reopen()
    # What is kept comes first, so that no report in between lacks it.
    for name in sorted(rows, key=missing.__contains__):
      made = functools.partial(make, config, kept, name)
      rows[name] = kept.rows(_part(name), of_arms, made)
      if name in missing[:-1]:
        _report(config, kept, rows, report)
    _report(config, kept, rows, report)
    run.status('done', config.steps)
  return 0


def _part(name: str) -> str:
  """What the file of an arm is called."""
  return name.replace(' ', '_')


def _report(
  config: ConfigT,
  kept: Kept,
  rows: Mapping[str, list[Result] | None],
  report: Report[ConfigT],
) -> None:
  """Writes what there is, in the first process; prints it if it is all."""
  with distributed.shared_fate():
    if distributed.is_first():
      _write(config, kept, rows, report)


def _write(
  config: ConfigT,
  kept: Kept,
  rows: Mapping[str, list[Result] | None],
  report: Report[ConfigT],
) -> None:
  """Writes results.csv and report.md; arms without rows are to come."""
  done = [of_arm for of_arm in rows.values() if of_arm is not None]
  results = [row for of_arm in done for row in of_arm]
  folder, path = kept.run.path, kept.run.path / 'report.md'
  if len(done) == len(rows):
    write_csv(folder / 'results.csv', results, kept.comments)
    print(f'\n{report(config, folder, results)}\n\nreport: {path}')
    return
  count = f'{len(done)} of {len(rows)} done'
  if _rows_in(folder / 'results.csv') > len(results):
    print(count, file=sys.stderr, flush=True)
    return
  comments = [*kept.comments, f'{SO_FAR}{count}']
  write_csv(folder / 'results.csv', results, comments)
  report(config, folder, results)
  add_note(path, f'So far: {count}.')
  print(f'{count}, so far: {path}', file=sys.stderr, flush=True)


def _rows_in(path: Path) -> int:
  """How many rows a table has; 0 if there is none that can be read."""
  with contextlib.suppress(ExtrapError):
    return len(read_csv(path)[0])
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
  """Trains with the best of some learning rates, see `study_training.tune`.

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
  if hints := getattr(problem.task, 'hints', 0):
    return f'hint {hints - 1}'
  if stretch := getattr(position, 'stretch', 0):
    return f'position {stretch - 1}'
  if position.table in (None, 'position') and 'position' in position.reads:
    return f'position {problem.trained_tokens - 1 + position.largest_shift}'
  return largest_id(problem, problem.max_size, position.largest_shift)


def largest_id(problem: SequenceProblem, size: int, shift: int = 0) -> str:
  """The largest absolute id at a size, in words; 'none' of a relative one."""
  position = problem.model.config.position
  if getattr(problem.task, 'hints', 0):
    return f'hint {problem.task.longest(size) - 1}'
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
