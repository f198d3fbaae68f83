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
from typing import Literal, NoReturn

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
  """

  pack: Words
  create: Words
  describe: Words
  prepare: tuple[Words, ...]
  run: Words
  stop: Words
  delete: Words


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
    Preempted: SIGTERM came; the study has been told to save.
  """
  if code := subprocess.call(commands.pack):
    raise ExtrapError(f'packing the tracked files failed (exit code {code})')
  slices = _Slices(name, commands, limits, sleep)
  with _terminated():
    try:
      for attempt in range(limits.tries):
        if attempt:
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
  ) -> None:
    self.are_there = False
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
    state = self._settled_state() if code not in FINAL else 'ACTIVE'
    decision = verdict(code, state)
    self._say(f'the study ended with {code} ({state}): {decision}')
    if decision == 'recreate':
      self.delete()
    return code if decision == 'finished' else None

  def delete(self) -> None:
    """Gives the slices back, or says that they still cost money."""
    for attempt in range(1, 4):
      if subprocess.call(self._commands.delete) == 0 or self._is_absent():
        self.are_there = False
        return
      self._sleep(back_off(attempt))
    again = command_line.shown(self._commands.delete)
    self._say(f'could not be deleted, and may cost money; try: {again}')

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

  def _is_absent(self) -> bool:
    with contextlib.suppress(ExtrapError):
      return self._state()[0] == _ABSENT
    return False

  def _create(self) -> bool:
    """Asks for the slices; False where gcloud refuses for the moment."""
    # An interrupted request may have been heard.
    self.are_there = True
    code = subprocess.call(self._commands.create)
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
      asked = subprocess.run(
        self._commands.describe, capture_output=True, text=True
      )
      state, _, reason = asked.stdout.strip().partition('\t')
      if asked.returncode == 0 and state:
        self.are_there = True
        return state, reason
      if 'NOT_FOUND' in asked.stderr:
        return _ABSENT, ''
      self._sleep(self._limits.poll)
    last = (asked.stderr.strip().splitlines() or ['no answer'])[-1]
    raise ExtrapError(f'{self._name}: gcloud cannot say its state: {last}')

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
        if self._state()[0] in _GONE:
          # The connection may hang for as long as the network likes.
          return _CONNECTION_LOST
    except (KeyboardInterrupt, Preempted):
      self._say('telling the study to save')
      subprocess.call(self._commands.stop)
      raise
    finally:
      process.kill()
      process.wait()

  def _say(self, text: str) -> None:
    if text != self._said:
      print(f'{self._name}: {text}', file=sys.stderr, flush=True)
    self._said = text


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
  """Turns the first SIGTERM into `Preempted`, and ignores further ones."""

  def stop(number: int, frame: FrameType | None) -> NoReturn:
    # Giving the slices back must not be interrupted again.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Preempted('told to stop; the same command resumes the run')

  before = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
