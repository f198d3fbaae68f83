"""Progress of a loop: a live bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO


class Progress:
  """Shows step, metrics, speed and time left.

  In a terminal this is a tqdm bar. Elsewhere it prints lines such as
  `train hard-window  step 400/1000  loss 0.0123  8.1 steps/s  1m 14s left`,
  the first update at once, then one in `every_seconds`, and always the last.
  Speed counts from `start`, so a resumed run does not boast of the steps of
  the process before it.

  Args:
    total: the step at which the loop ends.
    label: what is running.
    stream: where to write, stderr by default.
    start: the step at which this process began.
    every_seconds: least time between two plain lines.
    clock: seconds, monotonic.
    unit: what is counted, in the plural.
    shown: false where another process of the job shows it.
  """

  def __init__(
    self,
    total: int,
    label: str,
    stream: TextIO | None = None,
    start: int = 0,
    every_seconds: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    unit: str = 'steps',
    shown: bool = True,
  ):
    self._total = total
    self._label = label
    self._stream = sys.stderr if stream is None else stream
    self._start = start
    self._step = start
    self._every_seconds = every_seconds
    self._clock = clock
    self._unit = unit
    self._shown = shown
    self._bar = None
    self._pending: str | None = None
    self._printed_at: float | None = None

  def __enter__(self) -> Self:
    self._began = self._clock()
    if self._shown and self._stream.isatty():
      from tqdm import tqdm

      self._bar = tqdm(
        total=self._total,
        initial=self._start,
        desc=self._label,
        file=self._stream,
        unit=f' {self._unit}',
        dynamic_ncols=True,
      )
    return self

  def update(self, step: int, **scalars: float) -> None:
    """Reports that `step` steps are done.

    Args:
      step: steps done, counted from the beginning of the whole run.
      **scalars: metrics to show, in order: `loss=0.01`.
    """
    self._step = step
    if self._bar is not None:
      shown = {name: _number(value) for name, value in scalars.items()}
      self._bar.set_postfix(shown, refresh=False)
      self._bar.update(step - self._bar.n)
      return
    if not self._shown:
      return
    self._pending = self._line(step, scalars)
    printed = self._printed_at
    if printed is None or self._clock() - printed >= self._every_seconds:
      self._print()

  def advance(self, steps: int) -> None:
    """Reports that so many more steps are done."""
    self.update(self._step + steps)

  def __exit__(self, *_: object) -> None:
    if self._bar is not None:
      self._bar.close()
    elif self._pending is not None:
      self._print()

  def _print(self) -> None:
    print(self._pending, file=self._stream, flush=True)
    self._pending = None
    self._printed_at = self._clock()

  def _line(self, step: int, scalars: Mapping[str, float]) -> str:
    one = self._unit.removesuffix('s')
    parts = [self._label, f'{one} {step}/{self._total}']
    parts += [f'{name} {_number(value)}' for name, value in scalars.items()]
    seconds = self._clock() - self._began
    if step > self._start and seconds > 0:
      speed = (step - self._start) / seconds
      left = format_duration((self._total - step) / speed)
      parts += [f'{speed:.3g} {self._unit}/s', f'{left} left']
    return '  '.join(parts)


def format_duration(seconds: float) -> str:
  """Writes a duration with its two largest units: '45s', '1m 14s', '2h 05m'."""
  minutes, second = divmod(round(seconds), 60)
  hours, minute = divmod(minutes, 60)
  days, hour = divmod(hours, 24)
  if days:
    return f'{days}d {hour:02}h'
  if hours:
    return f'{hour}h {minute:02}m'
  return f'{minute}m {second:02}s' if minutes else f'{second}s'


def _number(value: float) -> str:
  return f'{float(value):.4g}'
