"""Scalars in TensorBoard event files, read without TensorFlow.

A file is a row of records: 8 bytes of length, 4 of the length's checksum, the
record, 4 of its checksum; all little-endian. A record is an `Event` message
(tensorflow/core/util/event.proto), whose classes tensorboardX brings along.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extrap.curves.csv_files import Point
from extrap.errors import ExtrapError, UsageError

if TYPE_CHECKING:
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.proto.summary_pb2 import Summary

HEAD, TAIL = 12, 4  # Bytes around a record.
MASK = 0xA282EAD8  # What is added to a rotated checksum.
NUMBERS = {1: '<f4', 2: '<f8'}  # DataType of tensors that hold one number.

# By tag: step and value, in the order of writing.
Scalars = dict[str, list[tuple[int, float]]]


def read_events(path: Path) -> dict[str, list[Point]]:
  """Points by tag, of a file or of all event files under a folder.

  Files of one folder are one run, oldest first. Where a process has started
  again, what an earlier one wrote from that step on is dropped, as TensorBoard
  does. The tags of a folder below have its path before them.

  Raises:
    ExtrapError: tensorboardX is not installed.
    UsageError: there are no such files, or one of them is something else.
  """
  if not path.is_dir():
    return _points(_scalars([path]))
  runs: dict[Path, list[Path]] = {}
  for file in sorted(path.rglob('*tfevents*')):
    if file.is_file():
      runs.setdefault(file.parent, []).append(file)
  if not runs:
    raise UsageError(
      f'{path}: has neither metrics.jsonl nor a TensorBoard file in it'
    )
  found: dict[str, list[Point]] = {}
  for folder, files in runs.items():
    below = '' if folder == path else f'{folder.relative_to(path).as_posix()}/'
    run = _points(_scalars(files))
    found |= {below + tag: points for tag, points in run.items()}
  return found


def _points(scalars: Scalars) -> dict[str, list[Point]]:
  return {
    tag: [
      Point(f'event of step {step}', tag, step, value) for step, value in series
    ]
    for tag, series in scalars.items()
  }


def _scalars(files: list[Path]) -> Scalars:
  """Scalars of one run, without what a later process wrote again."""
  found: Scalars = {}
  for file in files:
    for event in _events(file):
      if event.session_log.status == event.session_log.START:
        for series in found.values():
          series[:] = [point for point in series if point[0] < event.step]
      for item in event.summary.value:
        value = _scalar(item)
        if value is not None:
          found.setdefault(item.tag, []).append((event.step, value))
  return {tag: series for tag, series in found.items() if series}


def _scalar(item: 'Summary.Value') -> float | None:
  """The number of a summary, or None if it is a picture, a text or the like.

  TensorFlow 2 and PyTorch's newer writers put it in a tensor of one number.
  """
  if item.HasField('simple_value'):
    return item.simple_value
  tensor = item.tensor
  if not item.HasField('tensor') or tensor.dtype not in NUMBERS:
    return None
  numbers = [*tensor.float_val, *tensor.double_val]
  if tensor.tensor_content:
    numbers = np.frombuffer(tensor.tensor_content, NUMBERS[tensor.dtype])
  return float(numbers[0]) if len(numbers) == 1 else None


def _events(file: Path) -> Iterator['Event']:
  """The messages of a file."""
  try:
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event
  except ImportError as error:
    raise ExtrapError(
      'TensorBoard files need tensorboardX: pip install tensorboardX'
    ) from error
  for number, record in enumerate(_records(file), start=1):
    try:
      yield Event.FromString(record)
    except DecodeError as error:
      raise UsageError(
        f'{file}, record {number}: is damaged, it is no event'
      ) from error


def _records(file: Path) -> Iterator[bytes]:
  """Whole records; a half-written last one is left out."""
  try:
    content = file.read_bytes()
  except OSError as error:
    raise UsageError(f'{file}: cannot be read: {error.strerror}') from error
  if not content:
    raise UsageError(f'{file}: is empty')
  start = 0
  while start + HEAD <= len(content):
    length, checksum = struct.unpack_from('<QI', content, start)
    if _checksum(content[start : start + 8]) != checksum:
      raise UsageError(f'{file}, byte {start}: is no TensorBoard event file')
    end = start + HEAD + length
    if end + TAIL > len(content):
      return
    yield content[start + HEAD : end]
    start = end + TAIL


def _checksum(content: bytes) -> int:
  """The masked CRC-32C of a record's length."""
  from tensorboardX.crc32c import crc32c

  crc = crc32c(content)
  return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF
