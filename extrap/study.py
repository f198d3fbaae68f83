"""What every study does around its science: run folder, progress, resuming."""

import contextlib
import dataclasses
import gc
import hashlib
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import jax
import numpy as np
from absl import flags, logging

from extrap import config as config_lib
from extrap.config import option
from extrap.errors import Diverged, ExtrapError, Preempted, UsageError
from extrap.evaluation.grid import Cell, Suite, evaluate
from extrap.evaluation.results import (
  Provenance,
  Result,
  read_csv,
  write_csv,
)
from extrap.models.transformer import Params, Transformer
from extrap.reporting.environment import environment, git_state, hardware
from extrap.reporting.progress import Progress
from extrap.reporting.writers import (
  JsonLinesWriter,
  MultiWriter,
  TensorBoardWriter,
  read_jsonl,
)
from extrap.sequence import SequenceProblem
from extrap.tasks.task import Task
from extrap.training import distributed
from extrap.training.checkpoints import Checkpoints
from extrap.training.config import TrainConfig
from extrap.training.distributed import ClusterConfig
from extrap.training.flops import count_step_flops, count_update_flops
from extrap.training.loop import Fit, Record, fit
from extrap.training.optimizers import check_schedule
from extrap.training.problem import Problem
from extrap.training.ramp import examples_until
from extrap.training.run_folder import RunFolder, default_path
from extrap.training.sharding import MeshConfig, check_divides, make_mesh
from extrap.training.trainer import make_trainer

ConfigT = TypeVar('ConfigT', bound='StudyConfig')
CACHE = Path('.cache/jax')
TUNING_SEED = 1_000_000  # Far from the seeds that are scored.
# A flagfile repeats a run anywhere, on any number of processes.
OF_THE_PLACE = (
  'workdir',
  'cluster.coordinator',
  'cluster.processes',
  'cluster.rank',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
  """Flags that every study has."""

  workdir: str | None = option(
    None,
    'run folder; the same command on the same folder resumes (default: '
    'runs/<study>-<hash of the settings>)',
    identity=False,
  )
  seed: int = option(0, 'seed of the first replica', minimum=0)
  replicas: int = option(
    4, 'seeds trained side by side in one program', minimum=1
  )
  steps: int = option(
    1000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  init_from: str | None = option(
    None, "run folder whose last parameters are the main arm's start"
  )
  eval: Literal['none', 'quick', 'full'] = option(
    'quick', 'how much to evaluate after training', identity=False
  )
  train: TrainConfig = option(TrainConfig(), 'training')
  mesh: MeshConfig = option(MeshConfig(), 'devices', identity=False)
  cluster: ClusterConfig = option(
    ClusterConfig(), 'the processes of the job', identity=False
  )

  @property
  def seeds(self) -> tuple[int, ...]:
    return tuple(self.seed + replica for replica in range(self.replicas))


def open_run(
  study: str, config: ConfigT, flag_values: flags.FlagValues
) -> tuple[RunFolder, ConfigT]:
  """Opens the run folder, and fixes the length of the schedule.

  Returns:
    The folder, and the config with `train.schedule_steps` as the run began.
  """
  path = run_path(study, config)
  distributed.check_shared(path)
  with distributed.shared_fate():
    config = _fix_schedule(path, config)
    check_schedule(config.train)
    _check_places(config)
    _check_steps(path, config)
    text = config_lib.flags_text(type(config), flag_values, omit=OF_THE_PLACE)
  if config.train.schedule_steps != config.steps:  # A run that was made longer.
    text += f'--train.schedule_steps={config.train.schedule_steps}\n'
  distributed.check_same(text, 'flags')
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', str(CACHE.absolute()))
  return _open_folder(path, config, study, text), config


def _open_folder(
  path: Path, config: StudyConfig, study: str, text: str
) -> RunFolder:
  """The first process makes the folder, then the others find it."""
  given = {'study': study, 'flags': text, 'devices': jax.devices()}
  with contextlib.ExitStack() as stack:
    for first in (True, False):
      with distributed.shared_fate():
        if first == distributed.is_first():
          folder = RunFolder.open(path, config, primary=first, **given)
          stack.push(folder.__exit__)  # Its status tells if another refuses.
    stack.pop_all()
  distributed.at_end(folder.fail)
  return folder


def run_path(study: str, config: StudyConfig) -> Path:
  """Where a run is, or will be."""
  return Path(config.workdir or default_path(study, config))


def _check_places(config: StudyConfig) -> None:
  """Refuses devices and folders that are not there, before any is made."""
  check_divides(
    make_mesh(config.mesh), 'replica', config.replicas, '--replicas'
  )
  if config.init_from and not Path(config.init_from, 'checkpoints').is_dir():
    raise UsageError(f'--init_from={config.init_from} is not a run folder')


def _check_steps(path: Path, config: StudyConfig) -> None:
  """Refuses fewer steps than a run has made, before anything is written."""
  with contextlib.suppress(OSError, ValueError):
    status = json.loads((path / 'status.json').read_text(encoding='utf-8'))
    if status.get('step', 0) > config.steps:
      raise UsageError(
        f'--steps={config.steps}, but {path} has made {status["step"]} steps'
      )


def _fix_schedule(path: Path, config: ConfigT) -> ConfigT:
  """The schedule's length is asked for, or the run's, or --steps."""
  steps = config.train.schedule_steps
  if steps is None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
      there = json.loads((path / 'config.json').read_text(encoding='utf-8'))
      steps = there['config']['train']['schedule_steps']
  train = dataclasses.replace(
    config.train,
    steps=config.steps,
    schedule_steps=steps or config.steps,
  )
  return dataclasses.replace(config, train=train)


def read_config(path: Path, study: str, config_type: type[ConfigT]) -> ConfigT:
  """The configuration of a run.

  Raises:
    UsageError: the folder is no run of this study.
  """
  try:
    there = json.loads((path / 'config.json').read_text(encoding='utf-8'))
    if there['study'] != study:
      raise UsageError(f'{path} is a run of {there["study"]}, not of {study}')
    return config_lib.from_json(config_type, there['config'])
  except (OSError, ValueError, KeyError) as error:
    raise UsageError(f'{path} is not a run of {study}: {error}') from error


def train_arm(
  problem: Problem,
  config: StudyConfig,
  run: RunFolder,
  label: str,
  stop: Callable[[], bool],
  folder: Path | None = None,
  hparams: Mapping[str, Sequence[float]] | None = None,
  data: dict[str, np.ndarray] | None = None,
) -> Fit:
  """Trains with progress, metrics, checkpoints and resumption.

  Args:
    problem: what is minimised.
    config: the study's.
    run: the run folder; its status follows the main arm.
    label: names the arm in progress lines.
    stop: whether SIGTERM has come, as from `terminated`; one for the whole
      study, so that none is lost between two arms.
    folder: where a further arm keeps its files; None for the main arm.
    hparams: numbers of each replica, in place of the config's.
    data: stored arrays that all replicas read; arguments of the program, so
      that others of their shapes need no other program.

  Raises:
    Preempted: after SIGTERM, everything saved.
    Diverged: no replica is finite any more.
  """
  where = folder or run.path
  with contextlib.ExitStack() as stack:
    observer = _Observer(config, run if folder is None else None, where, label)
    stack.callback(observer.close)
    every = config.train.save_every or config.steps
    checkpoints = stack.enter_context(Checkpoints(where / 'checkpoints', every))
    other = None
    if config.init_from and folder is None:
      source = Path(config.init_from) / 'checkpoints'
      other = stack.enter_context(Checkpoints(source, None))
    trained = fit(
      problem,
      config.train,
      replicas=config.replicas,
      seed=config.seed,
      hparams=hparams,
      data=data,
      mesh=make_mesh(config.mesh),
      checkpoints=checkpoints,
      init_from=other,
      begin=observer.begin,
      log=observer.log,
      stop=stop,
    )
  # One that still sums its checkpoint is waited for here, not at the exit.
  distributed.on_all(True)
  # Compiled programs are large, and this one has done its work.
  jax.clear_caches()
  gc.collect()
  if folder is None:
    run.status('running', trained.steps)
  if trained.preempted:
    raise Preempted(
      f'stopped by SIGTERM at step {trained.steps}, which is saved in {where}; '
      'run the same command again to go on'
    )
  if trained.diverged:
    raise Diverged(
      f'{label}: every replica has a loss that is not finite; see {where}, and '
      'try a lower --train.learning_rate'
    )
  return trained


def tune(
  problem: Problem,
  config: ConfigT,
  run: RunFolder,
  label: str,
  stop: Callable[[], bool],
  folder: Path,
  rates: Sequence[float],
  steps: int,
) -> tuple[float, dict[str, float]]:
  """Chooses a learning rate by the training loss of a short run each.

  Every training example is fresh, so that this is the loss in distribution.
  It is the mean over the last tenth of the run; the seed is not one of the
  study's.

  Args:
    problem, run, label, stop: as for `train_arm`.
    config: the study's.
    folder: where the short runs are kept.
    rates: learning rates to try, side by side.
    steps: steps of each, with a schedule of that length.

  Returns:
    The best learning rate, and the loss of each.

  Raises:
    Diverged: all of them.
  """
  # A rate that has learned goes on: a replica that stops has no loss.
  train = dataclasses.replace(
    config.train, steps=steps, schedule_steps=steps, enough=0.0
  )
  short = dataclasses.replace(
    config,
    steps=steps,
    replicas=len(rates),
    seed=config.seed + TUNING_SEED,
    train=train,
  )
  rates = list(rates)
  hparams = {'learning_rate': rates}
  train_arm(problem, short, run, f'{label}, rates', stop, folder, hparams)
  records = read_jsonl(folder / 'metrics.jsonl')
  trained = [r for r in records if 'train/loss' in r]
  late = [r['train/loss'] for r in trained if r['step'] > 0.9 * steps]
  loss_R = np.nan_to_num(np.mean(late, axis=0), nan=np.inf)
  best = rates[int(np.argmin(loss_R))]
  return best, dict(zip(map(str, rates), loss_R.tolist(), strict=True))


def restore_arm(
  problem: Problem, config: StudyConfig, checkpoints: Path
) -> Fit:
  """The state that a run was left in, without training or writing."""
  trainer = make_trainer(
    problem, config.train, replicas=config.replicas, seed=config.seed
  )
  with Checkpoints(checkpoints, None) as source:
    found = source.restore(trainer.abstract)
  if found is None:
    raise UsageError(f'{checkpoints} holds no checkpoint')
  step, state = found
  finite = distributed.to_host(state.finite)
  return Fit(state, finite, history=[], steps=step, start=step, seconds=0.0)


class _Observer:
  """Follows one training: progress, metrics files, status."""

  def __init__(
    self,
    config: StudyConfig,
    run: RunFolder | None,
    folder: Path,
    label: str,
  ) -> None:
    self._config, self._run, self._folder = config, run, folder
    self._label, self._stack = label, contextlib.ExitStack()

  def begin(self, start: int) -> None:
    """Opens what is written to, without what lies after `start`."""
    with distributed.shared_fate():
      self._open(start)

  def _open(self, start: int) -> None:
    resumed = start or None
    first = distributed.is_first()
    writers = ()
    if first:
      writers = (
        JsonLinesWriter(self._folder / 'metrics.jsonl', resumed),
        TensorBoardWriter(self._folder / 'tensorboard', resumed),
      )
    self._writer = MultiWriter(*writers)
    self._stack.callback(self._writer.close)
    if start and first:
      logging.info('%s: resumed at step %d', self._label, start)
    total = self._config.steps
    if start < total:
      if first:
        print(f'{self._label}: compiling', file=sys.stderr)
      label = f'train {self._label}'
      progress = Progress(total, label, start=start, shown=first)
      self._progress = self._stack.enter_context(progress)
    self._time = time.perf_counter()

  def log(self, step: int, record: Record) -> None:
    now = time.perf_counter()
    scalars = {
      name: value.tolist() for name, value in record.items() if name != 'step'
    }
    self._writer.write(step, scalars | {'seconds': now - self._time})
    self._time = now
    # Held-out values may have a record of their own, between two dispatches.
    loss_R = record.get('train/loss', np.nan)
    if np.isfinite(loss_R).any():  # Some replica still learns.
      self._progress.update(step, loss=np.nanmean(loss_R))
    if self._run is not None:
      self._run.status('running', step)

  def close(self) -> None:
    self._stack.close()


@contextlib.contextmanager
def terminated() -> Iterator[Callable[[], bool]]:
  """A function that tells whether SIGTERM has come; it no longer kills.

  Of several processes it is enough that one was told; all must ask equally
  often. Where such blocks are nested all of them are told.
  """
  came = []
  before = signal.getsignal(signal.SIGTERM)

  def note(*arguments: object) -> None:
    came.append(True)
    if callable(before):
      before(*arguments)

  signal.signal(signal.SIGTERM, note)
  here = lambda: bool(came)  # noqa: E731
  try:
    yield here if distributed.is_alone() else distributed.Agreed(here)
  finally:
    signal.signal(signal.SIGTERM, before)


def training_seconds(folder: Path) -> float:
  """Time spent on the recorded steps, over all starts of a run.

  Known to the first process, which reports it.
  """
  if not distributed.is_first():
    return 0.0
  return sum(
    record['seconds'] for record in read_jsonl(folder / 'metrics.jsonl')
  )


def account(
  study: str,
  arm: str,
  rung: str,
  config: StudyConfig,
  problem: SequenceProblem,
  trained: Fit,
  folder: Path,
) -> Provenance:
  """What a trained arm has cost, for its rows.

  Args:
    study: its name.
    arm: the arm's name.
    rung: how much alignment its encoding gives away.
    config: the study's.
    problem: what was trained.
    trained: the outcome.
    folder: where its metrics are.
  """
  steps = tuple(distributed.to_host(trained.state.step).tolist())
  samples = tuple(
    examples_until(config.train, step, problem.batch_size) for step in steps
  )
  each = count_step_flops(problem, trained.params) / problem.batch_size
  update = count_update_flops(config.train, trained.params)
  return Provenance(
    study=study,
    arm=arm,
    rung=rung,
    seeds=config.seeds,
    steps=steps,
    samples=samples,
    flops=tuple(
      n * each + step * update for n, step in zip(samples, steps, strict=True)
    ),
    seconds=training_seconds(folder) / config.replicas,
  )


def count_right(
  model: Transformer,
  params: Params,
  task: Task,
  suite: Suite,
  label: str,
  check: Callable[[], None],
) -> dict[Cell, np.ndarray]:
  """Right answers by cell and replica, with progress; see `grid.evaluate`.

  Args:
    model: the model; params: of a population, leading replica axis.
    task: what was learned.
    suite: the cells.
    label: names the suite in progress lines.
    check: called between cells, as `Kept.check`.
  """
  first = distributed.is_first()
  with Progress(len(suite.cells), label, unit='cells', shown=first) as progress:

    def advance(cells: int) -> None:
      check()
      progress.advance(cells)

    return evaluate(model, params, task, suite, progress=advance)


@dataclasses.dataclass
class Kept:
  """Rows that are made once and kept in the run folder.

  Attributes:
    run: the run folder.
    stop: asked before each part; true ends the run, to go on later.
    comments: where the parts come from; more than one set after an
      interruption.
  """

  run: RunFolder
  stop: Callable[[], bool]
  comments: list[str] = dataclasses.field(default_factory=list)

  def rows(
    self, name: str, identity: object, make: Callable[[], list[Result]]
  ) -> list[Result]:
    """The rows of a part, made if they are not there.

    Args:
      name: of the file, for people.
      identity: all that they depend on, beside the run's config.
      make: makes them.
    """
    self.check()
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:8]
    path = self.run.path / 'parts' / f'{name}-{digest}.csv'
    results, comments = None, []
    with distributed.shared_fate():
      if distributed.is_first():
        results, comments = self._read(path)
    if distributed.from_first(results is None):
      results = make()
      with distributed.shared_fate():
        if distributed.is_first():
          write_csv(path, results, comments)
    results = results or []  # The first process alone needs them.
    self.comments += [c for c in comments if c not in self.comments]
    return results

  def _read(self, path: Path) -> tuple[list[Result] | None, list[str]]:
    """A part's rows, none if it is to be made, and where they come from."""
    with contextlib.suppress(ExtrapError):
      return read_csv(path)
    return None, provenance() + self._begun_elsewhere()

  def _begun_elsewhere(self) -> list[str]:
    """Hardware and commit of the run's first start, if on other hardware.

    Starts in between leave no trace here.
    """
    path = self.run.path / 'environment.json'
    first = json.loads(path.read_text(encoding='utf-8'))
    if hardware(first) == hardware(environment(jax.devices())):
      return []
    commit = (first['git'] or {}).get('commit', 'unknown')
    return [f'begun on: {hardware(first)}; commit: {commit}']

  def check(self) -> None:
    """Ends the run where SIGTERM has come."""
    if self.stop():
      raise Preempted(
        f'stopped by SIGTERM, what was done is kept in {self.run.path}; run '
        'the same command again to go on'
      )


def provenance() -> list[str]:
  """Command, commit and hardware, the comments of a results file."""
  program = 'python -m ' + _module()
  git = git_state(Path(__file__)) or {'commit': 'unknown', 'dirty': False}
  dirty = ' with uncommitted changes' if git['dirty'] else ''
  return [
    f'command: {shlex.join([*program.split(), *sys.argv[1:]])}',
    f'commit: {git["commit"]}{dirty}',
    f'hardware: {hardware(environment(jax.devices()))}',
  ]


def _module() -> str:
  """The name of the program, as after `python -m`."""
  spec = getattr(sys.modules['__main__'], '__spec__', None)
  return spec.name if spec is not None else Path(sys.argv[0]).stem
