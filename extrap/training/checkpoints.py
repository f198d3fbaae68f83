"""Checkpoints: asynchronous, verified, the newest few kept.

The only file that knows Orbax, which is slow to import and therefore imported
when it is used. Orbax notices a truncated file but restores flipped bits
without a word, so a list of SHA-256 sums is put into every checkpoint; check
one by hand with `sha256sum -c files.sha256`.
"""

import concurrent.futures
import contextlib
import errno
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

import jax
from absl import logging as absl_logging

from extrap.compilation import copied
from extrap.errors import ExtrapError
from extrap.training.distributed import (
  is_alone,
  is_first,
  on_all,
  shared_fate,
)

# Any pytree of `jax.Array`, and the same with `jax.ShapeDtypeStruct` leaves.
State = object
AbstractState = object

SUMS = 'files.sha256'
UNREADABLE = '.unreadable'
_hooks: list[Callable] = []
_failed_saves: list[BaseException] = []


class Checkpoints:
  """The checkpoints of one run.

  Every process of a job makes one, on a folder that all of them see, and
  calls every method at the same steps. Use it as a context manager, or close
  it, so that the last save is finished.
  """

  def __init__(
    self, folder: str | os.PathLike[str], every: int | None, keep: int = 2
  ):
    """Opens a folder, which is made if need be.

    Args:
      folder: where the checkpoints are, one subfolder a step.
      every: the least number of steps between two checkpoints. None only
        reads, as from another run: nothing is made, moved or deleted.
      keep: how many checkpoints to keep, the newest.

    Raises:
      ExtrapError: the folder cannot be made, or, when only reading, is absent.
    """
    self.folder = Path(folder).absolute()
    self._every = every
    self._unsealed: list[int] = []
    # Sums of gigabytes take seconds, which training need not wait for.
    self._sealer = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    self._waiter = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    self._sealing: list[concurrent.futures.Future[None]] = []
    ocp = _orbax()
    if every is None and not self.folder.is_dir():
      raise ExtrapError(f'{self.folder}: there is no such folder')
    with self._one_line('cannot be used for checkpoints'):
      if every is not None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):
          raise PermissionError('it is not writable')
      self._manager = ocp.CheckpointManager(
        self.folder,
        options=ocp.CheckpointManagerOptions(
          max_to_keep=keep,
          create=False,
          save_root_metadata=False,
          # Otherwise, when a folder cannot be made, threads wait for it that
          # keep the process from ending for five minutes.
          async_options=ocp.AsyncOptions(
            create_directories_asynchronously=False
          ),
        ),
      )

  def latest(self) -> int | None:
    """Returns the newest step, a save in progress included, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state: State, force: bool = False) -> bool:
    """Starts to save in the background, if a checkpoint is due.

    Meant to be called after every dispatch: each call also finishes what the
    last save has left to do.

    Args:
      step: how many steps the state has made.
      state: the state. It may be donated as soon as this returns.
      force: save even if `every` steps have not passed.

    Returns:
      Whether a save was started; never for a step that is not a new one.

    Raises:
      ExtrapError: this save, or the one before it, could not be written.
    """
    if not self._manager.is_saving_in_progress():
      self._seal()
    latest = self.latest()
    new = latest is None or step > latest
    due = force or step - (latest or 0) >= (self._every or 0)
    if self._every is None or not (new and due):
      return False
    self.wait()
    ocp = _orbax()
    # The caller donates its buffers to the next dispatch while the save goes
    # on, and on CPU the host's view of an array may be the very same memory.
    if not is_alone():
      # Whatever waits for the step that makes it takes threads from that step,
      # without which the other processes' exchange with it never ends.
      jax.block_until_ready(state)
    state = copied(state)
    _failed_saves.clear()
    with self._one_line(f'checkpoint {step} could not be written'):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          leaves=ocp.args.JsonSave(_describe(state)),
        ),
        force=True,
      )
    self._unsealed.append(step)
    return True

  def restore(
    self, abstract_state: AbstractState, step: int | None = None
  ) -> tuple[int, State] | None:
    """Restores the newest readable checkpoint.

    A damaged one is renamed to `<step>.unreadable`, with a warning, and the
    one before it is taken.

    Args:
      abstract_state: what to expect: `jax.ShapeDtypeStruct` leaves, each put
        where its sharding says, or on this process's first device.
      step: this one and no other.

    Returns:
      The step and the state; None if nothing has ever been saved.

    Raises:
      ExtrapError: there are checkpoints but none is readable, the one asked
        for is absent or damaged, or it belongs to another configuration.
    """
    self.wait()
    found = sorted(self._manager.all_steps(), reverse=True)
    if step is not None and step not in found:
      raise ExtrapError(f'{self.folder}: there is no checkpoint {step}')
    for candidate in found if step is None else [step]:
      problem, state = self._read(candidate, abstract_state)
      if problem is None:
        return candidate, state
      if step is not None:
        raise ExtrapError(f'{self.folder}: checkpoint {step}: {problem}')
      self._set_aside(candidate, problem)
    # Also on the next attempt: a run must not quietly start from scratch.
    if found or any(self.folder.glob(f'*{UNREADABLE}*')):
      raise ExtrapError(
        f'{self.folder}: no checkpoint is readable; delete the folder to '
        'start again from step 0'
      )
    return None

  def wait(self) -> None:
    """Waits until everything is on disk.

    Raises:
      ExtrapError: it could not be written.
    """
    with self._one_line('a checkpoint could not be written'):
      self._finish()
    self._seal()
    sealing, self._sealing = self._sealing, []
    with self._one_line('a checkpoint could not be written'):
      for future in sealing:
        future.result()

  def close(self) -> None:
    """Waits, then ends Orbax's threads and its own."""
    try:
      self.wait()
    finally:
      self._sealer.shutdown()
      self._waiter.shutdown()
      with contextlib.suppress(Exception):  # `wait` has said it already.
        self._manager.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    # Of several processes one that fails alone would wait here for the others,
    # who wait for it. What it was saving is not yet a checkpoint, and stays so.
    fails_alone = error is not None and not getattr(error, 'shared', False)
    if is_alone() or not fails_alone:
      self.close()

  def _read(
    self, step: int, abstract_state: AbstractState
  ) -> tuple[str | None, State]:
    """Returns what is wrong with a checkpoint, or None and its state."""
    path = self.folder / str(step)
    problem = _damage(path) if is_first() else None
    if not on_all(problem is None):
      return problem or 'it is damaged', None
    sealed = (path / SUMS).exists()
    state = cause = None
    try:
      self._check_fit(step, abstract_state)
      state = self._restore(step, abstract_state)
    except ExtrapError:
      raise
    except Exception as error:
      problem, cause = _first_line(error), error
    if on_all(problem is None):
      return None, state
    # With its files as written, the checkpoint is not what is at fault.
    if sealed:
      raise ExtrapError(
        f'{path} cannot be restored here: {problem or "see another process"}'
      ) from cause
    return problem or 'it is damaged', None

  def _check_fit(self, step: int, abstract_state: AbstractState) -> None:
    """Compares leaf by leaf: Orbax would cast types without a word."""
    args = _orbax().args.Composite(leaves=_orbax().args.JsonRestore())
    there = self._manager.restore(step, args=args)['leaves']
    here = _describe(abstract_state)
    wrong = [
      f'{name} is {there.get(name, "absent")} there, '
      f'{here.get(name, "absent")} here'
      for name in here | there
      if here.get(name) != there.get(name)
    ]
    if wrong:
      more = f' and {len(wrong) - 1} more' * (len(wrong) > 1)
      raise ExtrapError(
        f'{self.folder}: checkpoint {step} is of another configuration: '
        f'{wrong[0]}{more}'
      )

  def _restore(self, step: int, abstract_state: AbstractState) -> State:
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=leaf.sharding or here
      ),
      abstract_state,
    )
    ocp = _orbax()
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    return self._manager.restore(step, args=args)['state']

  def _set_aside(self, step: int, problem: str) -> None:
    path = self.folder / str(step)
    aside = _free_name(path.with_name(f'{step}{UNREADABLE}'))
    only_reads = self._every is None
    if is_first():
      absl_logging.warning(
        '%s is unreadable (%s): %s',
        path,
        problem,
        'skipped' if only_reads else f'renamed to {aside.name}',
      )
    if only_reads:
      return
    with shared_fate():
      if is_first():
        with self._one_line(f'checkpoint {step} cannot be renamed'):
          path.rename(aside)
    self._manager.reload()

  def _finish(self) -> None:
    """Waits for Orbax; of several processes no longer than till this one fails.

    Its threads would then wait for those of the other processes, and those,
    which have not failed, for these.
    """
    if is_alone():
      self._manager.wait_until_finished()
      return
    finished = self._waiter.submit(self._manager.wait_until_finished)
    while not finished.done():
      if _failed_saves:
        raise _failed_saves[0]
      concurrent.futures.wait([finished], timeout=0.1)
    finished.result()

  def _seal(self) -> None:
    """Starts to sum what has been committed since the last time."""
    for step in self._unsealed:
      path = self.folder / str(step)
      # A save that failed has left nothing; `wait` is about to say so.
      if is_first() and path.is_dir():
        self._sealing.append(self._sealer.submit(_write_sums, path))
    self._unsealed.clear()

  @contextlib.contextmanager
  def _one_line(self, what: str) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      reason = _first_line(error)
      raise ExtrapError(f'{self.folder}: {what}: {reason}') from error


def _orbax() -> ModuleType:
  import orbax.checkpoint as ocp

  # Adding a filter twice does nothing.
  logging.getLogger('absl').addFilter(_quiet)
  logging.getLogger('asyncio').addFilter(_not_retrieved)
  if sys.unraisablehook is not _told_otherwise:
    _hooks.append(sys.unraisablehook)
    sys.unraisablehook = _told_otherwise
  return ocp


def _told_otherwise(unraisable: 'sys.UnraisableHookArgs') -> None:
  """Leaves out what threads of a failed save print, one traceback a file.

  They come back to an event loop that ended with the first error, which is
  the one that is raised; so do the coroutines that read a damaged one.
  """
  code = getattr(unraisable.object, 'cr_code', None)
  of_orbax = code is not None and f'{os.sep}orbax{os.sep}' in code.co_filename
  if not of_orbax and str(unraisable.exc_value) != 'Event loop is closed':
    _hooks[-1](unraisable)


def _not_retrieved(record: logging.LogRecord) -> bool:
  """Leaves out a failed save's further errors; the first is raised."""
  return 'exception was never retrieved' not in record.getMessage()


def _quiet(record: logging.LogRecord) -> bool:
  """Leaves Orbax's warnings; its errors arrive as exceptions, too.

  Those of a save in the background, of which it logs the whole, come too late
  where there are other processes; see `Checkpoints._finish`.
  """
  if f'{os.sep}orbax{os.sep}' not in record.pathname:
    return True
  if record.threadName == 'async_save' and record.exc_info:
    _failed_saves.append(record.exc_info[1])
  return record.levelno == logging.WARNING


def _describe(tree: State | AbstractState) -> dict[str, str]:
  """Names every leaf: {'params.w': 'float32[3,4]'}."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): (
      f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
    )
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


def _write_sums(checkpoint: Path) -> None:
  files = sorted(path for path in checkpoint.rglob('*') if path.is_file())
  lines = [
    f'{_sha256(path)}  {path.relative_to(checkpoint).as_posix()}\n'
    for path in files
  ]
  partial = checkpoint / f'{SUMS}.partial'
  partial.write_text(''.join(lines), encoding='utf-8')
  partial.replace(checkpoint / SUMS)


def _damage(checkpoint: Path) -> str | None:
  """Names the first file that is not as it was written.

  Without sums (the run was killed before they were written) only Orbax can
  say.
  """
  try:
    lines = (checkpoint / SUMS).read_text(encoding='utf-8').splitlines()
    wrong = [
      name
      for wanted, name in (line.split('  ', 1) for line in lines)
      if _sha256(checkpoint / name) != wanted
    ]
  except FileNotFoundError as error:
    missing = Path(error.filename)
    return None if missing.name == SUMS else f'{missing.name} is missing'
  except (OSError, ValueError) as error:
    return f'{SUMS}: {_first_line(error)}'
  return f'{wrong[0]} is damaged' if wrong else None


def _sha256(path: Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _free_name(path: Path) -> Path:
  """Returns the path, or the first of path-2, path-3, ... that is free."""
  free, number = path, 1
  while free.exists():
    number += 1
    free = path.with_name(f'{path.name}-{number}')
  return free


def _first_line(error: Exception) -> str:
  text = str(error)
  full = os.strerror(errno.ENOSPC)
  if full in text:  # Orbax tells a page around it.
    return full
  return next(iter(text.splitlines()), '')[:300] or type(error).__name__
