"""Keeps a study going on TPU slices that come and go.

States and their meaning: cloud.google.com/tpu/docs/queued-resources. A spot
slice that was taken away cannot be started again; it is deleted and asked for
anew.
"""

import contextlib
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Literal, Self

from extrap.errors import ExtrapError, Preempted
from launch import command_line
from launch.processes import FINAL

Words = tuple[str, ...]
# What `describe` is asked for: the state, and why it failed.
ASKED = 'value(state.state,state.failedData.error.message)'

_ABSENT = 'ABSENT'  # Of our own making: there is no such resource.
_GONE = ('SUSPENDING', 'SUSPENDED', 'FAILED', 'DELETING', _ABSENT)
_OVER = ('SUSPENDED', 'FAILED')
_CONNECTION_LOST = 255  # Of ssh.
_ANSWERS = 5  # How often `describe` may fail in a row.
_LONGEST_ANSWER = 120.0  # Seconds; one that hangs is a failure.
_LONGEST_STOP = 300.0  # Seconds for a study to save, where it can be reached.
# Those of a person, a terminal that goes away, and a machine that goes down.
_INTERRUPTIONS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


@dataclasses.dataclass(frozen=True)
class Commands:
  """What is called, each as a list of words.

  Attributes:
    pack: makes the archive of the code.
    create: asks for the slices.
    describe: prints what `ASKED` asks for.
    prepare: makes all workers ready; the first copies the code.
    run: runs the study; exits with its code.
    stop: makes the study save and end.
    delete: gives the slices back.
    may_reach_none: whether `run` exits with 0 where no slice was there to be
      reached.
  """

  pack: Words
  create: Words
  describe: Words
  prepare: tuple[Words, ...]
  run: Words
  stop: Words
  delete: Words
  may_reach_none: bool = False


@dataclasses.dataclass(frozen=True)
class Limits:
  """How long to go on.

  Attributes:
    tries: how often a slice is asked for or the study started.
    wait: longest wait for a slice, in seconds.
    poll: time between two looks at it, in seconds.
  """

  tries: int
  wait: float
  poll: float


def supervise(
  name: str,
  commands: Commands,
  limits: Limits,
  *,
  keep: bool = False,
  sleep: Callable[[float], None] = time.sleep,
) -> int:
  """Runs the study until it ends; returns its exit code.

  Args:
    name: of the resource, for messages.
    commands: what to call.
    limits: when to give up.
    keep: whether to leave the slices in the end.
    sleep: waits for a number of seconds.

  Raises:
    ExtrapError: gcloud refuses, or the limits are reached.
    Preempted: SIGTERM or SIGHUP came; the study has been told to save.
    KeyboardInterrupt: likewise, SIGINT.
  """
  if code := subprocess.call(commands.pack):
    raise ExtrapError(f'packing the tracked files failed (exit code {code})')
  with _Interruption() as interruption:
    slices = _Slices(name, commands, limits, sleep, interruption)
    try:
      for attempt in range(limits.tries):
        if attempt:
          interruption.check()
          sleep(back_off(attempt))
        if (code := slices.attempt()) is not None:
          return code
    finally:
      if slices.are_there and not keep:
        slices.delete()
  raise ExtrapError(
    f'{name}: gave up after --tries={limits.tries}; '
    'the same command resumes the run'
  )


def back_off(attempt: int) -> float:
  """Seconds to wait before the given attempt; doubles up to ten minutes."""
  return min(30.0 * 2 ** (attempt - 1), 600.0)


def verdict(code: int, state: str) -> Literal['finished', 'recreate', 'again']:
  """What follows from the exit code of a run and the state of its slices.

  The code is that of the first worker that failed. Where one is taken away the
  others may fail in any way, so that 1 only counts on slices that are well.
  """
  if code in FINAL:
    return 'finished'
  if state in _GONE:
    return 'recreate'
  return 'finished' if code == 1 else 'again'


class _Slices:
  """The queued resource, and what is done to it.

  Attributes:
    are_there: whether there may be something to delete.
  """

  def __init__(
    self,
    name: str,
    commands: Commands,
    limits: Limits,
    sleep: Callable[[float], None],
    interruption: '_Interruption',
  ) -> None:
    self.are_there = False
    self._interruption = interruption
    self._name = name
    self._commands = commands
    self._limits = limits
    self._sleep = sleep
    self._was_accepted = False
    self._said = ''

  def attempt(self) -> int | None:
    """Goes from nothing to the study's exit code; None: try again."""
    if not self._acquire():
      return None
    for step, words in enumerate(self._commands.prepare):
      if code := subprocess.call(words):
        self._judge_preparation(code, is_copy=step == 0)
        return None
    code = self._run()
    is_sure = code in FINAL and (code or not self._commands.may_reach_none)
    state = 'ACTIVE' if is_sure else self._settled_state()
    if code == 0 and state in _GONE:
      code = _CONNECTION_LOST
    decision = verdict(code, state)
    self._say(f'the study ended with {code} ({state}): {decision}')
    if decision == 'recreate':
      self.delete()
    return code if decision == 'finished' else None

  def delete(self) -> None:
    """Gives the slices back, or says that they still cost money."""
    with self._interruption.deferred():
      for attempt in range(1, 4):
        if self._is_deleted():
          self.are_there = False
          return
        self._sleep(back_off(attempt))
    again = command_line.shown(self._commands.delete)
    self._say(f'could not be deleted, and may cost money; try: {again}')

  def _is_deleted(self) -> bool:
    # In a session of its own Ctrl-C does not reach it.
    code = subprocess.call(self._commands.delete, start_new_session=True)
    return code == 0 or self._is_absent()

  def _acquire(self) -> bool:
    """Waits until the slices can be used; False where they were lost."""
    waited, was_created = 0.0, False
    while waited <= self._limits.wait:
      state, reason = self._state()
      self._say(f'{state} {reason}'.strip())
      if state == 'ACTIVE':
        return True
      if state in _OVER:
        self.delete()
        return False
      if state == _ABSENT:
        if was_created or not self._create():
          return False
        was_created = True
        continue
      self._sleep(self._limits.poll)
      # A poll of 0 must not make the wait endless.
      waited += max(self._limits.poll, 1.0)
    hours = self._limits.wait / 3600
    raise ExtrapError(f'{self._name}: no slice within --wait_hours={hours:g}')

  def _is_gone(self) -> bool:
    """False where gcloud cannot say: no reason to end a study that runs."""
    with contextlib.suppress(ExtrapError):
      return self._state()[0] in _GONE
    return False

  def _is_absent(self) -> bool:
    with contextlib.suppress(ExtrapError):
      return self._state()[0] == _ABSENT
    return False

  def _create(self) -> bool:
    """Asks for the slices; False where gcloud refuses for the moment."""
    # An interrupted request may have been heard.
    self.are_there = True
    code = subprocess.call(self._commands.create)
    if code and not self._is_absent():
      # The answer was lost, not the request.
      code = 0
    if code and not self._was_accepted:
      self.are_there = False
      raise ExtrapError(
        f'{self._name}: gcloud refuses to create it (exit code {code}; '
        'its reason is above)'
      )
    # What was accepted once is not wrong in itself.
    self._was_accepted = True
    return code == 0

  def _state(self) -> tuple[str, str]:
    """The state of the resource, and why it failed."""
    for _ in range(_ANSWERS):
      asked = self._describe()
      state, _, reason = asked.stdout.strip().partition('\t')
      if asked.returncode == 0 and state:
        self.are_there = True
        return state, reason
      if 'NOT_FOUND' in asked.stderr:
        return _ABSENT, ''
      self._sleep(self._limits.poll)
    last = (asked.stderr.strip().splitlines() or ['no answer'])[-1]
    raise ExtrapError(f'{self._name}: gcloud cannot say its state: {last}')

  def _describe(self) -> subprocess.CompletedProcess[str]:
    words = self._commands.describe
    try:
      return subprocess.run(
        words, capture_output=True, text=True, timeout=_LONGEST_ANSWER
      )
    except subprocess.TimeoutExpired:
      return subprocess.CompletedProcess(words, 1, '', 'it does not answer')

  def _settled_state(self) -> str:
    """The state, after a while if nothing seems wrong.

    A study may notice that its slice is taken away before `describe` does.
    """
    state, _ = self._state()
    if state == 'ACTIVE':
      self._sleep(self._limits.poll)
      state, _ = self._state()
    return state

  def _judge_preparation(self, code: int, *, is_copy: bool) -> None:
    """Refuses to go on where another try would fail in the same way."""
    state = self._settled_state()
    if state in _GONE:
      self.delete()
    elif code != _CONNECTION_LOST and not is_copy:
      raise ExtrapError(
        f'{self._name}: a worker cannot be made ready (exit code {code}; its '
        'reason is above)'
      )

  def _run(self) -> int:
    """Runs the study, until it ends or its slices go away."""
    process = subprocess.Popen(self._commands.run)
    try:
      while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
          return process.wait(max(self._limits.poll, 0.01))
        if self._is_gone():
          # The connection may hang for as long as the network likes.
          return _CONNECTION_LOST
    except (KeyboardInterrupt, Preempted):
      self._say('telling the study to save')
      with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.call(self._commands.stop, timeout=_LONGEST_STOP)
      raise
    finally:
      process.kill()
      process.wait()

  def _say(self, text: str) -> None:
    if text != self._said:
      print(f'{self._name}: {text}', file=sys.stderr, flush=True)
    self._said = text


class _Interruption:
  """Turns the first signal to stop into an exception; ignores further ones.

  While it is deferred, as in a deletion, nothing is raised.
  """

  def __init__(self) -> None:
    self._heard: int | None = None
    self._is_deferred = False

  def __enter__(self) -> Self:
    # What is ignored already, as by nohup, is to stay so.
    self._before = {
      number: signal.signal(number, self._hear)
      for number in _INTERRUPTIONS
      if signal.getsignal(number) is not signal.SIG_IGN
    }
    return self

  def __exit__(self, *error: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @contextlib.contextmanager
  def deferred(self) -> Iterator[None]:
    """A part that must not be interrupted; `check` raises what was heard."""
    self._is_deferred = True
    try:
      yield
    finally:
      self._is_deferred = False

  def check(self) -> None:
    """Raises what was heard.

    Raises:
      KeyboardInterrupt: SIGINT.
      Preempted: another signal.
    """
    if self._heard == signal.SIGINT:
      raise KeyboardInterrupt
    if self._heard is not None:
      raise Preempted('told to stop; the same command resumes the run')

  def _hear(self, number: int, frame: FrameType | None) -> None:
    if self._heard is not None:
      return
    self._heard = number
    if not self._is_deferred:
      self.check()
