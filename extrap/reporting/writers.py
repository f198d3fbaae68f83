"""Metric writers. The JSON-lines file is the source of truth.

Metric names are slash-grouped: 'train/loss', 'eval/addition/exact_match'.
"""

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from extrap.errors import ExtrapError
from extrap.evaluation.results import write_text

# A number, or one number a replica.
Scalar = float | Sequence[float]
Record = dict[str, float | list[float]]


class Writer(Protocol):
  """Where metrics go."""

  def write(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    """Writes the metrics of one step."""

  def close(self) -> None:
    """Writes what is still held back; the writer is not used afterwards."""


class JsonLinesWriter:
  """One JSON object a line: {"step": 400, "train/loss": [0.1, 0.2]}.

  Every line is flushed. JSON has no nan and no infinity: a value that is not
  finite is written as null, and `read_jsonl` gives nan back.

  Args:
    path: the file, 'metrics.jsonl' in a run folder.
    resume_step: None starts a new file. A resumed run gives the step of the
      checkpoint it continues from: lines of later steps, and a half-written
      last line, are dropped because the run will write them again.
  """

  def __init__(
    self, path: str | os.PathLike[str], resume_step: int | None = None
  ):
    kept = []
    if resume_step is not None and os.path.exists(path):
      kept = [line for line in _read(path) if line['step'] <= resume_step]
    write_text(path, ''.join(json.dumps(line) + '\n' for line in kept))
    self._file = Path(path).open('a', encoding='utf-8')

  def write(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    """Appends one line."""
    line = {'step': int(step)}
    line |= {name: _plain(value) for name, value in scalars.items()}
    with _one_line(self._file.name):
      self._file.write(json.dumps(line, allow_nan=False) + '\n')
      self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    with _one_line(self._file.name):
      self._file.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def read_jsonl(path: str | os.PathLike[str]) -> list[Record]:
  """Reads a metrics file, also while a run is writing to it.

  Args:
    path: a file of `JsonLinesWriter`.

  Returns:
    One record a line, with 'step'; null comes back as nan, and a half-written
    last line is left out.

  Raises:
    ExtrapError: the file is missing or a line is no record; the message names
      the file and the line.
  """
  return [
    {name: _with_nan(value) for name, value in line.items()}
    for line in _read(path)
  ]


class TensorBoardWriter:
  """Event files for TensorBoard; a list becomes 'name/replica_0' and so on.

  Args:
    folder: where the event files go.
    resume_step: the step a resumed run continues from, None from scratch;
      TensorBoard hides what an earlier process wrote after it.

  Raises:
    ExtrapError: tensorboardX is not installed.
  """

  def __init__(
    self, folder: str | os.PathLike[str], resume_step: int | None = None
  ):
    try:
      # Not its SummaryWriter, whose thread fails where nobody can see it.
      from tensorboardX.event_file_writer import EventsWriter
      from tensorboardX.proto import event_pb2
      from tensorboardX.proto.summary_pb2 import Summary
    except ImportError as error:
      raise ExtrapError(
        'TensorBoard files need tensorboardX: pip install tensorboardX'
      ) from error
    self._event, self._summary = event_pb2.Event, Summary
    self._folder = os.fspath(folder)
    with _one_line(self._folder):
      os.makedirs(folder, exist_ok=True)
      self._file = EventsWriter(
        os.path.join(folder, 'events'), f'.{os.getpid()}'
      )
      first = 0 if resume_step is None else resume_step + 1
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._add(step=first, session_log=start)

  def write(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    """Adds one point a tag."""
    with _one_line(self._folder):
      for name, value in scalars.items():
        numbers = np.asarray(value, dtype=float)
        # TensorBoard's own mending of a tag says so, every time.
        name = re.sub(r'[^-/\w.]', '_', name)
        if numbers.ndim == 0:
          self._add_scalar(step, name, float(numbers))
        for replica, number in enumerate(numbers if numbers.ndim else ()):
          tag = f'{name}/replica_{replica}'
          self._add_scalar(step, tag, float(number))
      self._file.flush()

  def _add_scalar(self, step: int, tag: str, value: float) -> None:
    # Not tensorboardX's own function, which warns of every nan.
    value = self._summary.Value(tag=tag, simple_value=value)
    self._add(step=step, summary=self._summary(value=[value]))

  def _add(self, **content: object) -> None:
    self._file.write_event(self._event(wall_time=time.time(), **content))

  def close(self) -> None:
    """Flushes and closes the event file."""
    with _one_line(self._folder):
      self._file.close()


class MultiWriter:
  """Writes to several writers, in order.

  Args:
    *writers: the writers, closed together.
  """

  def __init__(self, *writers: Writer):
    self._writers = writers

  def write(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    """Writes to each writer."""
    for writer in self._writers:
      writer.write(step, scalars)

  def close(self) -> None:
    """Closes each writer."""
    for writer in self._writers:
      writer.close()


@contextlib.contextmanager
def _one_line(path: str) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise ExtrapError(f'{path} cannot be written: {error.strerror}') from error


def _plain(value: Scalar) -> float | list[float | None] | None:
  """Turns a number or an array into what JSON can hold."""
  numbers = np.asarray(value).tolist()
  if isinstance(numbers, list):
    return [_plain(number) for number in numbers]
  return numbers if math.isfinite(numbers) else None


def _with_nan(value: float | list[float | None] | None) -> Scalar:
  if isinstance(value, list):
    return [_with_nan(number) for number in value]
  return math.nan if value is None else value


def _read(path: str | os.PathLike[str]) -> list[dict]:
  """Parses every whole line."""
  try:
    text = Path(path).read_text(encoding='utf-8')
  except OSError as error:
    raise ExtrapError(f'{path}: cannot be read: {error}') from error
  records = []
  # The piece after the last newline is empty or half-written.
  for number, line in enumerate(text.split('\n')[:-1], start=1):
    try:
      record = json.loads(line)
      record['step'] = int(record['step'])
    except (ValueError, KeyError, TypeError) as error:
      raise ExtrapError(
        f'{path}, line {number}: not a metrics record ({error!r})'
      ) from error
    records.append(record)
  return records
