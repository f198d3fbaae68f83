"""Child processes whose output carries a label, and which outlive nothing.

One selector loop reads every pipe; a signal and the end of a child wake it
through one more pipe, so that there are neither threads nor busy waiting.
"""

import contextlib
import dataclasses
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Self

from extrap.errors import Diverged, ExtrapError, Preempted, UsageError

PREEMPTED = Preempted.exit_code
# What would come out the same if it were tried again.
FINAL = (0, UsageError.exit_code, Diverged.exit_code)

_SEVERITY = {
  0: 0,
  PREEMPTED: 1,
  Diverged.exit_code: 3,
  UsageError.exit_code: 4,
}
_FAILED = 2
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def worst(codes: Iterable[int]) -> int:
  """The exit code that stands for several; 0 for none.

  From good to bad: 0; 75; every other failure, a death by signal n being
  128 + n; 3; 2. A divergence or a usage error explains the deaths beside it.
  Of several failures it is the largest code.
  """
  return max(
    codes, key=lambda code: (_SEVERITY.get(code, _FAILED), code), default=0
  )


def describe(code: int) -> str:
  """'exited with 1', or 'was killed by SIGKILL'."""
  if code > 128:
    with contextlib.suppress(ValueError):
      return f'was killed by {signal.Signals(code - 128).name}'
  return f'exited with {code}'


def with_this_python(command: Sequence[str]) -> list[str]:
  """The command, with the Python that runs this for a leading `python`."""
  if command[0] in ('python', 'python3'):
    return [sys.executable, *command[1:]]
  return list(command)


@dataclasses.dataclass
class _Pipe:
  """One output of a child, cut into lines."""

  label: str
  stream: str  # 'stdout' or 'stderr', looked up in sys when it is written.
  rest: bytes = b''

  def feed(self, data: bytes) -> None:
    """Prints the lines that have come to their end."""
    *lines, rest = (self.rest + data).split(b'\n')
    for line in lines:
      self._print(line)
    self.rest = _last_state(rest)

  def close(self) -> None:
    """Prints what the child wrote without ending the line."""
    if self.rest:
      self._print(self.rest)
    self.rest = b''

  def _print(self, line: bytes) -> None:
    text = _last_state(line).rstrip(b'\r').decode(errors='replace')
    try:
      out = getattr(sys, self.stream)
      out.write(f'[{self.label}] {text}'.rstrip() + '\n')
      out.flush()
    except OSError as error:
      raise ExtrapError(
        f'{self.stream} cannot be written: {error.strerror}'
      ) from error


def _last_state(line: bytes) -> bytes:
  """What a progress bar, which returns to the start, shows in the end."""
  return line[line.rstrip(b'\r').rfind(b'\r') + 1 :]


class Children:
  """Labelled children, each in a process group of its own.

  A context manager. In the block SIGTERM, SIGINT and SIGHUP (as SIGTERM) go to
  all children; on leaving it every process group is killed, also if the reason
  is an exception. A SIGKILL of this very process cannot be caught, and does
  leave the children running.

  Attributes:
    told: the first signal that this process got, or None.
  """

  def __init__(self, grace: float) -> None:
    """Makes an empty set.

    Args:
      grace: time between a signal and SIGKILL, in seconds.
    """
    self.told: int | None = None
    self._grace = grace
    self._deadline: float | None = None
    self._received: list[int] = []
    self._children: dict[str, subprocess.Popen[bytes]] = {}
    self._selector = selectors.DefaultSelector()

  @property
  def running(self) -> tuple[str, ...]:
    """The labels of those whose end was not reported yet."""
    return tuple(self._children)

  def __enter__(self) -> Self:
    self._wake, write = os.pipe()
    for end in (self._wake, write):
      os.set_blocking(end, False)
    self._selector.register(self._wake, selectors.EVENT_READ)
    self._wakeup = (
      signal.set_wakeup_fd(write, warn_on_full_buffer=False),
      write,
    )
    self._handlers = {
      signum: signal.signal(signum, self._note)
      for signum in (*_FORWARDED, signal.SIGCHLD)
      # nohup, and a shell's &, mean what they say.
      if signum == signal.SIGCHLD or signal.getsignal(signum) != signal.SIG_IGN
    }
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    self._signal(signal.SIGKILL)
    for child in self._children.values():
      child.wait()
      child.stdout.close()
      child.stderr.close()
    self._children.clear()
    for signum, handler in self._handlers.items():
      signal.signal(signum, handler)
    before, write = self._wakeup
    signal.set_wakeup_fd(before)
    self._selector.close()
    os.close(self._wake)
    os.close(write)

  def start(
    self, label: str, command: Sequence[str], environment: Mapping[str, str]
  ) -> None:
    """Starts a child.

    Args:
      label: unique; each line of output begins with it, in brackets.
      command: program and arguments.
      environment: changes to that of this process.

    Raises:
      ExtrapError: the program cannot be run.
    """
    try:
      child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Python writes whole blocks into a pipe unless told otherwise.
        env={'PYTHONUNBUFFERED': '1', **os.environ, **environment},
        process_group=0,
      )
    except OSError as error:
      raise ExtrapError(f'{command[0]}: {error.strerror}') from error
    if not self._children:
      self._deadline = None
    self._children[label] = child
    for name in ('stdout', 'stderr'):
      pipe = getattr(child, name)
      os.set_blocking(pipe.fileno(), False)
      self._selector.register(pipe, selectors.EVENT_READ, _Pipe(label, name))

  def wait(self) -> dict[str, int]:
    """Passes output and signals on until a child has ended.

    Returns:
      Exit codes by label, 128 + n for a death by signal n; nothing where no
      child is running.
    """
    ended: dict[str, int] = {}
    while self._children and not ended:
      for key, _ in self._selector.select(self._patience()):
        if key.data is None:
          os.read(self._wake, 4096)
        else:
          self._read(key)
      self._forward()
      self._kill_when_late()
      ended = self._reap()
    return ended

  def stop(self, signum: int | None = signal.SIGTERM) -> None:
    """Ends all children: with a signal now, and SIGKILL after the grace.

    Args:
      signum: None sends nothing now, for children that end by themselves.
    """
    if self._deadline is None:
      self._deadline = time.monotonic() + self._grace
    if signum is not None:
      self._signal(signum)

  def _note(self, signum: int, frame: FrameType | None) -> None:
    if signum != signal.SIGCHLD:
      self._received.append(signum)

  def _forward(self) -> None:
    while self._received:
      signum = self._received.pop(0)
      self.told = self.told or signum
      # A terminal that goes away is, for a study, a machine that does.
      self.stop(signal.SIGTERM if signum == signal.SIGHUP else signum)

  def _patience(self) -> float | None:
    if self._deadline is None:
      return None
    return max(0.0, self._deadline - time.monotonic())

  def _kill_when_late(self) -> None:
    if self._patience() == 0:
      self._signal(signal.SIGKILL)
      self._deadline = time.monotonic() + max(1.0, self._grace)

  def _signal(self, signum: int) -> None:
    for child in self._children.values():
      _signal_group(child.pid, signum)

  def _read(self, key: selectors.SelectorKey) -> bool:
    """Passes on what is there; returns whether there may be more."""
    try:
      data = os.read(key.fd, 1 << 16)
    except BlockingIOError:
      return False
    if data:
      key.data.feed(data)
      return True
    self._selector.unregister(key.fileobj)
    key.data.close()
    key.fileobj.close()
    return False

  def _reap(self) -> dict[str, int]:
    ended = {}
    for label, child in list(self._children.items()):
      code = child.poll()
      if code is not None:
        # What the child itself has started would be an orphan.
        _signal_group(child.pid, signal.SIGKILL)
        self._close(label)
        ended[label] = code if code >= 0 else 128 - code
    return ended

  def _close(self, label: str) -> None:
    """Passes on the rest of a child's output and forgets it."""
    child = self._children.pop(label)
    for pipe in (child.stdout, child.stderr):
      if pipe.closed:
        continue
      key = self._selector.get_key(pipe)
      while self._read(key):
        pass
      if not pipe.closed:  # Somebody who left the group has it open, too.
        self._selector.unregister(pipe)
        key.data.close()
        pipe.close()


def _signal_group(leader: int, signum: int) -> None:
  # macOS does not permit to signal a group of which only a zombie is left.
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(leader, signum)
