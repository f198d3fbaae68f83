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
from typing import Self, TextIO

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
# A terminal that goes away, or is told to quit, is for a study a machine that
# does: it saves.
_FORWARDED = {
  signal.SIGTERM: signal.SIGTERM,
  signal.SIGINT: signal.SIGINT,
  signal.SIGHUP: signal.SIGTERM,
  signal.SIGQUIT: signal.SIGTERM,
}
# Selectors refuse years; nobody waits so long without a look.
_LONGEST_SLEEP = 3600.0
# How often to look whether the study of a wrapper that is gone has ended.
_LOOK = 0.05
# What the largest pipe holds, 1 MiB, in the parts that it is read in.
_MOST_READS = 16


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
  is_mute: bool = False

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
    if self.is_mute:
      return
    text = _last_state(line).rstrip(b'\r').decode(errors='replace')
    out = getattr(sys, self.stream)
    text = _writable(f'[{self.label}] {text}'.rstrip() + '\n', out)
    try:
      out.write(text)
      out.flush()
    except OSError as error:
      _give_up(out)
      raise ExtrapError(
        f'{self.stream} cannot be written: {error.strerror}'
      ) from error


def _give_up(out: TextIO) -> None:
  """Lets what is still in a stream's buffer go nowhere.

  Python would try to write it once more at its end, and exit with 120.
  """
  quiet = contextlib.suppress(AttributeError, OSError, ValueError)
  with quiet, open(os.devnull, 'wb') as nowhere:
    os.dup2(nowhere.fileno(), out.fileno())


def _writable(text: str, out: TextIO) -> str:
  """The text in the characters that a terminal or a file there can take."""
  encoding = getattr(out, 'encoding', None) or 'utf-8'
  return text.encode(encoding, 'backslashreplace').decode(encoding)


def _last_state(line: bytes) -> bytes:
  """What a progress bar, which returns to the start, shows in the end."""
  return line[line.rstrip(b'\r').rfind(b'\r') + 1 :]


class Children:
  """Labelled children, each in a process group of its own.

  A context manager. In the block SIGTERM, SIGINT, SIGHUP and SIGQUIT (these two
  as SIGTERM) go to all children. Children that an exception leaves behind get
  SIGTERM, and then have as long as after a signal. A SIGKILL of this very
  process cannot be caught, and does leave the children running.

  Attributes:
    told: the first signal that this process got, or None.
    signalled: the labels of children that got a signal from here.
  """

  def __init__(self, grace: float) -> None:
    """Makes an empty set.

    Args:
      grace: time between a signal and SIGKILL, in seconds.
    """
    self.told: int | None = None
    self.signalled: set[str] = set()
    self._grace = grace
    self._deadline: float | None = None
    self._is_late = False
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
    try:
      self._end_silently()
    finally:
      self._restore()

  def _end_silently(self) -> None:
    """Ends what an exception has left; its output may be what is broken."""
    for key in list(self._selector.get_map().values()):
      if key.data is not None:
        key.data.is_mute = True
    if self._children:
      self.stop()
    while self._children:
      self.wait()

  def _restore(self) -> None:
    """Gives back what `__enter__` has taken."""
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
      self._deadline, self._is_late = None, False
    self._children[label] = child
    self.signalled.discard(label)
    for name in ('stdout', 'stderr'):
      pipe = getattr(child, name)
      os.set_blocking(pipe.fileno(), False)
      self._selector.register(pipe, selectors.EVENT_READ, _Pipe(label, name))

  def wait(self) -> dict[str, int]:
    """Passes output and signals on until a child has ended.

    Returns:
      Exit codes by label, 128 + n for a death by signal n; nothing where no
      child is running. A child that SIGTERM has ended, after this process was
      told to stop, was preempted: it had not begun, or it would have saved.
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
      self.stop(_FORWARDED[signum])

  def _patience(self) -> float | None:
    """How long nothing needs to be done, in seconds; None for ever."""
    if self._deadline is None:
      return None
    has_wrapper = any(
      child.returncode is not None for child in self._children.values()
    )
    left = max(0.0, self._deadline - time.monotonic())
    return min(left, _LOOK if has_wrapper else _LONGEST_SLEEP)

  def _kill_when_late(self) -> None:
    if self._deadline is not None and self._deadline <= time.monotonic():
      self._signal(signal.SIGKILL)
      self._deadline = time.monotonic() + max(1.0, self._grace)
      self._is_late = True

  def _signal(self, signum: int) -> None:
    for label, child in self._children.items():
      self.signalled.add(label)
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
      if child.poll() is not None and not self._is_wrapper(child):
        # What the child itself has started would be an orphan.
        _signal_group(child.pid, signal.SIGKILL)
        self._close(label)
        ended[label] = self._code(child.returncode)
    return ended

  def _is_wrapper(self, child: subprocess.Popen[bytes]) -> bool:
    """Whether a shell died of our signal while what it runs is saving."""
    is_asked = self._deadline is not None and not self._is_late
    return is_asked and child.returncode < 0 and _has_members(child.pid)

  def _code(self, returncode: int) -> int:
    if returncode >= 0:
      return returncode
    told = _FORWARDED.get(self.told)
    if told == signal.SIGTERM and returncode == -signal.SIGTERM:
      return PREEMPTED
    return 128 - returncode

  def _close(self, label: str) -> None:
    """Passes on the rest of a child's output and forgets it."""
    child = self._children.pop(label)
    for pipe in (child.stdout, child.stderr):
      if pipe.closed:
        continue
      key = self._selector.get_key(pipe)
      # Bounded: somebody who left the group may be writing without end.
      for _ in range(_MOST_READS):
        if not self._read(key):
          break
      if not pipe.closed:  # Somebody who left the group has it open, too.
        self._selector.unregister(pipe)
        key.data.close()
        pipe.close()


def _signal_group(leader: int, signum: int) -> None:
  # macOS does not permit to signal a group of which only a zombie is left.
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(leader, signum)


def _has_members(leader: int) -> bool:
  """Whether anybody is left in a process group."""
  with contextlib.suppress(ChildProcessError):
    # In a container this may be process 1, to whom orphans come to be buried.
    while os.waitpid(-leader, os.WNOHANG)[0]:
      pass
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(leader, 0)
    return True
  return False
