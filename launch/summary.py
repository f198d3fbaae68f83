"""What has become of the runs of a sweep: a table, and summary.csv.

Read with the standard library alone: a launcher does not import jax.
"""

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from extrap.config import option
from extrap.errors import ExtrapError

NEW = 'new'
OUT_OF_TABLE = 'out of table'
UNREADABLE = 'unreadable'
# Other splits are suites, whose sizes are not comparable with these.
_SPLITS = ('in_distribution', 'out_of_distribution', 'beyond')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
  """Which number of results.csv stands for a run."""

  name: str = option('exact_match', 'metric')
  size: str = option('', 'size of the problems (default: the largest one)')
  split: str = option('', 'split (default: those along the axis of length)')
  arm: str = option('', 'arm (default: the first one)')


@dataclasses.dataclass(frozen=True)
class Row:
  """One run.

  Attributes:
    name: of the run.
    state: that of status.json, or 'new' without one.
    step: steps made, or None.
    steps: steps asked for, or None.
    loss: mean of the last train/loss over replicas, or None.
    arm: of the metric; '' without results.
    size: of the metric.
    values: of the metric, one a replica without those out of table.
  """

  name: str
  state: str
  step: int | None = None
  steps: int | None = None
  loss: float | None = None
  arm: str = ''
  size: str = ''
  values: tuple[float, ...] = ()

  @property
  def progress(self) -> str:
    """'300/600'."""
    return '' if self.step is None else f'{self.step}/{_shown(self.steps)}'

  @property
  def score(self) -> str:
    """'0.5 (0.25..0.75, n=4)', the mean over replicas and their range."""
    if not self.values:
      return OUT_OF_TABLE if self.size else ''
    mean = _shown(statistics.fmean(self.values))
    low, high = (_shown(end(self.values)) for end in (min, max))
    return f'{mean} ({low}..{high}, n={len(self.values)})'


def status(folder: Path) -> Mapping[str, object]:
  """What status.json says; an object without keys where there is none."""
  with contextlib.suppress(OSError, ValueError):
    found = json.loads((folder / 'status.json').read_text(encoding='utf-8'))
    if isinstance(found, dict):
      return found
  return {}


def read_run(name: str, folder: Path, metric: Metric) -> Row:
  """Reads one run folder, which need not be there, or be finished."""
  found = status(folder)
  try:
    arm, size, values = _score(folder / 'results.csv', metric)
  except (ValueError, KeyError, csv.Error):
    arm, size, values = UNREADABLE, UNREADABLE, ()
  return Row(
    name,
    str(found.get('state', NEW)),
    found.get('step'),
    found.get('steps'),
    _last_loss(folder / 'metrics.jsonl'),
    arm,
    size,
    values,
  )


def table(rows: Sequence[Row], metric: Metric) -> str:
  """The rows as aligned text; the file has all values."""
  headers = ('run', 'state', 'step', 'train/loss', 'arm', 'size', metric.name)
  lines = [headers] + [
    (
      row.name,
      row.state,
      row.progress,
      _shown(row.loss),
      row.arm,
      row.size,
      row.score,
    )
    for row in rows
  ]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return '\n'.join(
    '  '.join(map(str.ljust, line, widths)).rstrip() for line in lines
  )


def write_csv(path: Path, rows: Sequence[Row], metric: Metric) -> None:
  """Writes the rows, replacing the file in one move.

  Raises:
    ExtrapError: the file cannot be written.
  """
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(
    'run state step steps train/loss arm size metric mean values'.split()
  )
  for row in rows:
    mean = statistics.fmean(row.values) if row.values else None
    values = ' '.join(map(str, row.values))
    start = (row.name, row.state, row.step, row.steps, row.loss)
    writer.writerow((*start, row.arm, row.size, metric.name, mean, values))
  partial = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    partial.write_text(out.getvalue(), encoding='utf-8')
    os.replace(partial, path)
  except OSError as error:
    raise ExtrapError(f'{path} cannot be written: {error.strerror}') from error


def _shown(number: float | None) -> str:
  return '' if number is None else f'{number:.4g}'


def _last_loss(path: Path) -> float | None:
  """The mean over the replicas that are finite; nan where none is."""
  losses: list[float | None] | None = None
  for record in _records(path):
    found = record.get('train/loss', losses)
    losses = found if isinstance(found, list | None) else [found]
  if losses is None:
    return None
  finite = [loss for loss in losses if loss is not None]
  return statistics.fmean(finite) if finite else math.nan


def _records(path: Path) -> Iterator[Mapping[str, object]]:
  """The lines of a metrics file, without one that is being written."""
  try:
    lines = path.read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError):
    return
  for line in lines:
    with contextlib.suppress(ValueError):
      yield json.loads(line)


def _score(path: Path, metric: Metric) -> tuple[str, str, tuple[float, ...]]:
  """Arm, size and values; nothing where the metric is not."""
  rows = [row for row in _results(path) if _is_wanted(row, metric)]
  arm = metric.arm or (rows[0]['arm'] if rows else '')
  rows = [row for row in rows if row['arm'] == arm]
  size = metric.size or max(
    (row['size'] for row in rows), key=_length, default=''
  )
  rows = [row for row in rows if row['size'] == size]
  if not rows:
    return '', '', ()
  return arm, size, tuple(float(row['value']) for row in rows if row['value'])


def _results(path: Path) -> list[dict[str, str]]:
  try:
    lines = path.read_text(encoding='utf-8').splitlines()
  except OSError:
    return []
  rows = list(csv.DictReader(line for line in lines if line[:1] != '#'))
  if any(None in row.values() for row in rows):
    raise ValueError(f'{path} is cut off')
  return rows


def _is_wanted(row: Mapping[str, str], metric: Metric) -> bool:
  splits = (metric.split,) if metric.split else _SPLITS
  return (
    row['metric'] == metric.name
    and row['checkpoint'] == 'last'
    and row['split'] in splits
  )


def _length(size: str) -> int:
  """'20x35' is as hard as its shorter side, at least."""
  return min(int(part) for part in size.split('x'))
