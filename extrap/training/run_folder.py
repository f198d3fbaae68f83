"""The folder of one run: what it was, how far it is, what came of it.

  config.json       the study and its configuration
  flags.txt         the same as a flagfile
  environment.json  versions and machine of the first start
  status.json       state and step
  metrics.jsonl, checkpoints/, plots/, written by others
  lock              held by the process that is at work

Every file here is written aside and renamed, so that none is ever half there.
`extrap.reporting.run_state` reads from outside how far a run is.
"""

import datetime
import fcntl
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from extrap.config import Config
from extrap.config_json import differences, fingerprint, from_json, to_json
from extrap.errors import Diverged, ExtrapError, Preempted, UsageError
from extrap.reporting.environment import environment, version_differences
from extrap.reporting.run_state import LOCK, STATUS, State, read_status

if TYPE_CHECKING:
  import jax

Json = Mapping[str, object]

ANOTHER = 'choose another --workdir'


class RunFolder:
  """The folder of one run, locked while it is open.

  As a context manager it records what an exception that leaves the block says
  about the run: 'preempted', 'diverged' or 'failed'. Success is for the caller
  to record, with `status('done', step)`.
  """

  def __init__(
    self, path: Path, steps: int | None, lock: TextIO | None
  ) -> None:
    """For `open`, which checks before it makes one."""
    self.path = path
    self._steps = steps
    self._lock = lock
    status = read_status(path)
    self._state: str | None = status.get('state')
    self._step: int = status.get('step', 0)

  @classmethod
  def open(
    cls,
    path: str | os.PathLike[str],
    config: Config,
    *,
    study: str,
    flags: str = '',
    devices: Sequence['jax.Device'] | None = None,
    primary: bool = True,
  ) -> Self:
    """Makes a run folder, or goes on with one of the same configuration.

    Args:
      path: where.
      config: the configuration; its `steps`, if any, is the goal.
      study: name of the study.
      flags: what flags.txt is to say.
      devices: `jax.devices()`, for environment.json.
      primary: False in every process of a job but its first, which alone
        locks and writes.

    Raises:
      UsageError: the folder is something else, or another configuration's.
      ExtrapError: the folder is in use, or cannot be read or written.
    """
    if '://' in os.fspath(path):
      raise UsageError(f'--workdir={path}: a bucket is not a folder; mount it')
    path = Path(path).absolute()
    steps = getattr(config, 'steps', None)
    _check(path, config, study, primary)
    if not primary:
      return cls(path, steps, None)
    lock = _lock(path)
    try:
      # Again: another process may have been here in between.
      _check(path, config, study, primary)
      _write_json(
        path / 'config.json', {'study': study, 'config': to_json(config)}
      )
      _write(path / 'flags.txt', flags)
      _note_environment(path / 'environment.json', devices)
      folder = cls(path, steps, lock)
      if not folder.is_done:
        folder.status('running', folder._step)
    except BaseException:
      lock.close()
      raise
    return folder

  @property
  def metrics(self) -> Path:
    """metrics.jsonl, one line a record."""
    return self.path / 'metrics.jsonl'

  @property
  def checkpoints(self) -> Path:
    """The folder for `Checkpoints`."""
    return self.path / 'checkpoints'

  @property
  def plots(self) -> Path:
    """The folder for figures."""
    return self.path / 'plots'

  @property
  def is_done(self) -> bool:
    """Whether the run has come to its end, and to as many steps as asked."""
    return self._state == 'done' and self._step >= (self._steps or 0)

  def status(self, state: State, step: int) -> None:
    """Records how far the run is.

    Args:
      state: what it is doing, or how it ended.
      step: how many steps it has made.

    Raises:
      ExtrapError: the folder cannot be written.
    """
    self._state, self._step = state, step
    if self._lock is None:
      return
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    _write_json(
      self.path / STATUS,
      {'state': state, 'step': step, 'steps': self._steps, 'updated': now},
    )

  def reopen(self) -> None:
    """Records that there is more to do than when the run was done."""
    if self._state == 'done':
      self.status('running', self._step)

  def fail(self) -> None:
    """Records that the run ends here, unless it has ended already."""
    if self._state == 'running':
      self.status('failed', self._step)

  def close(self) -> None:
    """Gives the lock back; the folder is not written any more."""
    if self._lock is not None:
      self._lock.close()
      self._lock = None

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    try:
      if error is not None:
        self.status(_state_after(error), self._step)
    except ExtrapError as secondary:
      # The first error is the one to see.
      print(secondary, file=sys.stderr)
    finally:
      self.close()


def default_path(study: str, config: Config) -> Path:
  """Returns runs/<study>-<8 hex digits of the configuration>."""
  return Path('runs') / f'{study}-{fingerprint(config)}'


def _state_after(error: BaseException) -> State:
  if isinstance(error, Preempted):
    return 'preempted'
  return 'diverged' if isinstance(error, Diverged) else 'failed'


def _check(path: Path, config: Config, study: str, primary: bool) -> None:
  """Raises unless the folder is absent, empty, or this very run's."""
  try:
    # What a process leaves that is killed at its very start is no run yet.
    names = {
      name
      for name in os.listdir(path)
      if name != LOCK and not name.endswith('.partial')
    }
  except FileNotFoundError:
    return
  except NotADirectoryError as error:
    if path.is_file():
      raise UsageError(f'{path} is a file; {ANOTHER}') from error
    raise ExtrapError(f'{path}: {error.strerror}; {ANOTHER}') from error
  except OSError as error:
    raise ExtrapError(f'{path}: {error.strerror}; {ANOTHER}') from error
  if 'config.json' in names:
    _check_config(path, config, study)
  elif names and primary:
    raise UsageError(f'{path} is not empty and not a run; {ANOTHER}')


def _check_config(path: Path, config: Config, study: str) -> None:
  there = _read_json(path / 'config.json')
  if there.get('study') != study:
    raise UsageError(
      f'{path} is a run of {there.get("study")}, not of {study}; {ANOTHER}'
    )
  try:
    changes = differences(from_json(type(config), there['config']), config)
  except (ExtrapError, KeyError) as error:
    raise UsageError(
      f'{path}/config.json is from another version ({error}); {ANOTHER}'
    ) from error
  if changes:
    raise UsageError(
      f'{path} is a run with another configuration '
      f'({"; ".join(changes)}); {ANOTHER}'
    )


def _lock(path: Path) -> TextIO:
  """Makes the folder and locks it until the file, or the process, ends."""
  try:
    path.mkdir(parents=True, exist_ok=True)
    file = (path / LOCK).open('a+', encoding='utf-8')
  except OSError as error:
    raise ExtrapError(f'{path}: {error.strerror}; {ANOTHER}') from error
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.seek(0)
    owner = file.read().strip() or 'another process'
    file.close()
    raise ExtrapError(f'{path} is in use by {owner}; {ANOTHER}') from error
  except OSError as error:
    # Some network file systems have no locks; that is no reason to stop.
    print(f'{path} cannot be locked: {error.strerror}', file=sys.stderr)
  file.truncate(0)
  file.write(f'pid {os.getpid()} on {socket.gethostname()}\n')
  file.flush()
  return file


def _note_environment(
  path: Path, devices: Sequence['jax.Device'] | None
) -> None:
  """Writes the environment at the first start, then prints what changed."""
  new = environment(devices)
  if not path.exists():
    _write_json(path, new)
    return
  for line in version_differences(_read_json(path), new):
    print(f'since the start of this run: {line}', file=sys.stderr)


def _read_json(path: Path) -> dict[str, object]:
  """Reads an object; an absent file is an empty one."""
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    raise ExtrapError(f'{path} is unreadable: {error}') from error


def _write_json(path: Path, data: Json) -> None:
  _write(path, json.dumps(data, indent=2) + '\n')


def _write(path: Path, text: str) -> None:
  partial = path.with_name(f'{path.name}.partial')
  try:
    partial.write_text(text, encoding='utf-8')
    os.replace(partial, path)
  except OSError as error:
    raise ExtrapError(f'{path} cannot be written: {error.strerror}') from error
