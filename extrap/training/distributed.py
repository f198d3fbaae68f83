"""The processes of one job: how they find each other, and agree.

A plain machine is a cluster of one, and everything here is then free. Of
several processes the first alone writes what they share; the others follow.
"""

import atexit
import contextlib
import dataclasses
import functools
import itertools
import os
import secrets
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from extrap.config import option
from extrap.errors import ExtrapError, UsageError, from_another_process

if TYPE_CHECKING:
  from jax._src.lib import DistributedRuntimeClient

PyTree = TypeVar('PyTree')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig:
  """Where the other processes are.

  Left out, Cloud TPU, Slurm (srun), Open MPI and Kubernetes (with jax[k8s])
  are asked; anywhere else this process is the only one.
  """

  coordinator: str | None = option(
    None,
    'host:port where the process of rank 0 listens; needs --cluster.processes '
    'and --cluster.rank (default: what Cloud TPU, Slurm, Open MPI or '
    'Kubernetes says, else a single process)',
    identity=False,
  )
  processes: int | None = option(
    None, 'processes of the job', minimum=1, identity=False
  )
  rank: int | None = option(
    None, 'number of this process, from 0', minimum=0, identity=False
  )
  timeout: int = option(
    300,
    'longest wait for the other processes to come',
    unit='seconds',
    minimum=1,
    identity=False,
  )


def initialize(config: ClusterConfig) -> None:
  """Joins the other processes; to be called before any device is used.

  Where devices are in use already, as in a notebook, there is nothing to find:
  this process stays as it is.

  Raises:
    UsageError: the settings are half given, or contradict each other.
    ExtrapError: the coordinator cannot listen. Where the others do not come in
      time the process says so and ends with 1: nothing has been made yet.
  """
  _check(config)
  if config.processes == 1 or jax.distributed.is_initialized():
    return
  # SIGTERM is the study's to handle, in one process as in many.
  jax.config.update('jax_enable_preemption_service', False)
  given = config.coordinator is not None
  where = config.coordinator or 'the address that the cluster gives'
  with _at_most(config.timeout, f'not all processes came to {where}'):
    try:
      jax.distributed.initialize(
        config.coordinator,
        config.processes,
        config.rank,
        # Past its own limit JAX aborts with a page of addresses.
        initialization_timeout=config.timeout + 60,
        # One that fails would wait for the others, who wait for it.
        shutdown_timeout_seconds=30,
      )
    except ValueError as error:
      if given or 'should be defined' not in str(error):
        raise UsageError(f'the cluster cannot be joined: {error}') from error
    except RuntimeError as error:
      reason = str(error).splitlines()[0]
      if 'must be called before' in reason and not given:
        return
      raise ExtrapError(f'{where}: {reason}') from error
  _meet()


def _meet() -> None:
  """The first exchange has a short limit; here all have just arrived."""
  if not is_alone():
    on_all(True)
    threading.Thread(target=_watch, daemon=True).start()


def acquaint(mesh: Mesh) -> None:
  """Makes each group of devices that can exchange something do so once.

  Between processes a group's first exchange has a limit of 30 seconds, which
  compiling a large program takes longer than where one finds it in its cache.
  """
  if is_alone():
    return
  axes = [axis for axis, size in mesh.shape.items() if size > 1]
  ones = jax.jit(jnp.ones, static_argnums=0, out_shardings=_along(mesh, axes))
  one_each = ones(tuple(mesh.shape[axis] for axis in axes))
  for count in range(1, len(axes) + 1):
    for group in itertools.combinations(range(len(axes)), count):
      kept = [axes[i] for i in range(len(axes)) if i not in group]
      total = jax.jit(
        jnp.sum, static_argnums=1, out_shardings=_along(mesh, kept)
      )
      total(one_each, group).block_until_ready()


def _along(mesh: Mesh, axes: Sequence[str]) -> NamedSharding:
  return NamedSharding(mesh, P(*axes))


def _check(config: ClusterConfig) -> None:
  """Refuses half a description of a cluster."""
  parts = {
    '--cluster.coordinator': config.coordinator,
    '--cluster.processes': config.processes,
    '--cluster.rank': config.rank,
  }
  missing = [name for name, value in parts.items() if value is None]
  given = [name for name in parts if name not in missing]
  if missing and given:
    raise UsageError(
      f'{given[0]} without {missing[0]}: give coordinator, processes and rank '
      'together, or none of them where the cluster can be asked'
    )
  if missing:
    return
  host, _, port = config.coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise UsageError(
      f'--cluster.coordinator={config.coordinator} is not host:port'
    )
  if config.rank >= config.processes:
    raise UsageError(
      f'--cluster.rank={config.rank}, but ranks of '
      f'--cluster.processes={config.processes} end at {config.processes - 1}'
    )


@contextlib.contextmanager
def _at_most(seconds: int, what: str) -> Iterator[None]:
  """Ends the process with one line if the block takes longer.

  The block waits inside a library that would abort; it cannot be interrupted.
  """

  def give_up() -> None:
    print(
      f'error: {what} within --cluster.timeout={seconds} seconds',
      file=sys.stderr,
      flush=True,
    )
    os._exit(ExtrapError.exit_code)

  timer = threading.Timer(seconds, give_up)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def is_first() -> bool:
  """Whether this process writes what all share."""
  return jax.process_index() == 0


def say(text: str) -> None:
  """Prints, once a job."""
  if is_first():
    print(text)


def is_alone() -> bool:
  """Whether there is no other process."""
  return jax.process_count() == 1


@contextlib.contextmanager
def shared_fate() -> Iterator[None]:
  """What ends one process in this block ends all, with the same exit code.

  Every process must come here, and waits at the end for the others. One of
  those whose error it was, and no other, says what it was.
  """
  if is_alone():
    yield
    return
  own = None
  try:
    yield
  except Exception as error:
    own = error
  codes = _gather(getattr(own, 'exit_code', 1) if own else 0)
  if not codes.any():
    return
  rank = int(np.flatnonzero(codes)[0])
  if rank == jax.process_index():
    own.shared = True
    raise own
  raise from_another_process(int(codes[rank]), f'see process {rank}')


def from_first(value: bool) -> bool:
  """What the first process says, in all."""
  return value if is_alone() else bool(_gather(value)[0])


def on_all(value: bool) -> bool:
  """Whether the value is true in every process."""
  return value if is_alone() else bool(_gather(value).all())


def check_same(text: str, what: str) -> None:
  """Refuses processes that were started differently.

  Raises:
    UsageError: in all of them.
  """
  if is_alone():
    return
  digest = zlib.crc32(text.encode()) >> 1
  if len(set(_gather(digest).tolist())) > 1:
    with shared_fate():
      raise UsageError(f'the processes of this job have different {what}')


def _gather(value: int) -> np.ndarray:
  """One int32 of each process, in order of rank."""
  from jax.experimental import multihost_utils

  every = multihost_utils.process_allgather(np.int32(value))
  return np.asarray(every).reshape(-1)


def to_host(tree: PyTree) -> PyTree:
  """Whole numpy arrays, wherever the parts lie; all processes must call it."""
  if is_alone():
    return jax.device_get(tree)
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(tree, tiled=True)


_ENDS, _LEFT = 'extrap/ends', 'extrap/left/{}'
_at_end: list[Callable[[], None]] = []


def at_end(call: Callable[[], None]) -> None:
  """What this process does last where another one's failure ends it."""
  _at_end.append(call)


def leave(code: int, message: str = '') -> NoReturn:
  """Ends the whole job, from one process of several, whose error it is alone.

  At a normal exit it would wait for the others, who wait for it; ended at once
  it would leave them with a page about a lost peer. So all are told and go
  together, the first process, which passes the words on, last.

  Args:
    code: exit code of all.
    message: printed if no other process has said why before.
  """
  client = _client()
  try:
    client.key_value_set(_ENDS, str(code))
    print(message, file=sys.stderr, flush=True)
  except jax.errors.JaxRuntimeError:  # Another one was faster.
    pass
  _go(code)


def _watch() -> None:
  """Follows another process that leaves; polls, as a wait cannot be ended."""
  client = _client()
  while not _exiting.wait(0.5):
    try:
      code = client.key_value_try_get(_ENDS)
    except jax.errors.JaxRuntimeError as error:
      if 'NOT_FOUND' in str(error):
        continue
      return
    if not _leaving.locked():
      for call in _at_end:
        with contextlib.suppress(ExtrapError):
          call()
    _go(int(code))


def _go(code: int) -> NoReturn:
  """Ends this process when all others are about to, or after some seconds."""
  _leaving.acquire()  # By two threads at once: the first one goes.
  client = _client()
  sys.stdout.flush()
  # What libraries say about the others' end is no news.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    client.key_value_set(_LEFT.format(jax.process_index()), 'yes')
    for rank in range(jax.process_count()):
      client.blocking_key_value_get(_LEFT.format(rank), 5000)
  if is_first():
    time.sleep(0.5)
  os._exit(code)


_leaving, _exiting = threading.Lock(), threading.Event()
atexit.register(_exiting.set)


def _client() -> 'DistributedRuntimeClient':
  """The job's store of keys and values, which JAX has no public name for."""
  from jax._src import distributed as jax_distributed

  return jax_distributed.global_state.client


class Agreed:
  """A flag that is up in all processes, one question after it is in any.

  All must ask equally often. The answer to one question travels while the
  devices do what comes next, so nobody waits for it.

  Args:
    here: whether the flag is up in this process.
  """

  def __init__(self, here: Callable[[], bool]):
    self._here = here
    self._pending: jax.Array | None = None

  def __call__(self) -> bool:
    """Asks."""
    before, self._pending = self._pending, _any(self._here())
    return before is not None and bool(before)


def _any(value: bool) -> jax.Array:
  """Whether the value is true in any process; on its way."""
  spread, reduce = _reduction()
  shape = (spread.mesh.size,)
  given = lambda index: np.full(1, value)  # noqa: E731
  return reduce(jax.make_array_from_callback(shape, spread, given))


@functools.cache
def _reduction() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
  """One element a device, and the program that reads all of them."""
  mesh = Mesh(np.array(jax.devices()), ('all',))
  everywhere = NamedSharding(mesh, P())
  return NamedSharding(mesh, P('all')), jax.jit(
    jnp.any, out_shardings=everywhere
  )


def check_shared(folder: Path, seconds: float = 10.0) -> None:
  """Refuses a folder that some process does not see; leaves no trace.

  Args:
    folder: it need not exist.
    seconds: how long what one process writes may take to reach the others.

  Raises:
    UsageError: naming the process; ExtrapError: it cannot be made.
  """
  if is_alone():
    return
  token = secrets.randbits(31) if is_first() else 0
  token = _gather(token)[0]
  probe = folder.absolute() / f'probe-{token:08x}.partial'
  made: list[Path] = []
  try:
    with shared_fate():
      if is_first():
        _make(probe, made)
    with shared_fate():
      if not _appears(probe, seconds):
        raise UsageError(
          f'--workdir={folder}: process {jax.process_index()} on '
          f'{socket.gethostname()} does not see what the first one writes '
          'there; choose a folder that all share'
        )
      if not os.access(probe.parent, os.W_OK):
        raise ExtrapError(
          f'--workdir={folder}: process {jax.process_index()} on '
          f'{socket.gethostname()} cannot write there'
        )
  finally:
    if is_first():
      with contextlib.suppress(OSError):
        probe.unlink()
        for parent in made:
          parent.rmdir()


def _make(probe: Path, made: list[Path]) -> None:
  """Writes the probe; notes the folders that it needed, innermost first."""
  try:
    made += itertools.takewhile(lambda path: not path.exists(), probe.parents)
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.touch()
  except OSError as error:
    raise ExtrapError(f'{probe.parent}: {error.strerror}') from error


def _appears(path: Path, seconds: float) -> bool:
  end = time.monotonic() + seconds
  while not path.exists():
    if time.monotonic() > end:
      return False
    time.sleep(0.1)
  return True
