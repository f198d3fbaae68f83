"""What every study has around its science: flags, run folder, SIGTERM."""

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import jax
from absl import flags

from extrap import config_flags, config_json
from extrap.config import option
from extrap.errors import UsageError
from extrap.training import distributed
from extrap.training.config import TrainConfig
from extrap.training.distributed import ClusterConfig
from extrap.training.optimizers import check_schedule
from extrap.training.run_folder import RunFolder, default_path
from extrap.training.sharding import MeshConfig, check_divides, make_mesh

ConfigT = TypeVar('ConfigT', bound='StudyConfig')
CACHE = Path('.cache/jax')
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
    text = config_flags.flags_text(type(config), flag_values, omit=OF_THE_PLACE)
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
    return config_json.from_json(config_type, there['config'])
  except (OSError, ValueError, KeyError) as error:
    raise UsageError(f'{path} is not a run of {study}: {error}') from error


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
