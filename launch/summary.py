"""What has become of the runs of a sweep: a table, and summary.csv.

Nothing that is imported here imports jax, which a launcher must not.
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
from extrap.evaluation.results import (
  LENGTH_SPLITS,
  Result,
  parse_size,
  read_csv,
  select,
)
from extrap.reporting.run_state import Status, read_state

NEW = 'new'
OUT_OF_TABLE = 'out of table'
UNREADABLE = 'unreadable'
# What runs may differ in whose seeds are of one setting.
_OF_A_SEED = ('seed', 'replicas', 'workdir')


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
    state: that of status.json, 'interrupted' where it says 'running' and is
      wrong; 'new' without one.
    step: steps made, or None.
    steps: steps asked for, or None.
    loss: mean of the last train/loss over replicas, or None.
    arm: of the metric; '' without results.
    size: of the metric.
    values: of the metric by the seed of a replica, without those out of
      table.
    setting: equal for runs that differ in their seeds alone; '' if unknown.
  """

  name: str
  state: str
  step: int | None = None
  steps: int | None = None
  loss: float | None = None
  arm: str = ''
  size: str = ''
  values: Mapping[int, float] = dataclasses.field(default_factory=dict)
  setting: str = ''

  @property
  def progress(self) -> str:
    """'300/600'."""
    return '' if self.step is None else f'{self.step}/{_shown(self.steps)}'

  @property
  def mean(self) -> float | None:
    """Over replicas; None without values."""
    return statistics.fmean(self.values.values()) if self.values else None

  @property
  def interval(self) -> tuple[float, float] | None:
    """95 % limits of the mean over replicas; None for a single one."""
    # Late: it takes a second, and a launcher starts its processes at once.
    from extrap.evaluation.statistics import across_replicas

    if len(self.values) < 2:
      return None
    found = across_replicas(list(self.values.values()))
    return found.low, found.high

  @property
  def score(self) -> str:
    """'0.5 (0.25..0.75, n=4)', the mean over replicas and their range."""
    if self.mean is None:
      return OUT_OF_TABLE if self.size else ''
    values = self.values.values()
    low, high = (_shown(end(values)) for end in (min, max))
    return f'{_shown(self.mean)} ({low}..{high}, n={len(values)})'

  @property
  def limits(self) -> str:
    """'0.1..0.9'; '-' where one replica, or equal ones, show no spread."""
    if not self.values:
      return ''
    low, high = self.interval or (0.0, 0.0)
    return '-' if low == high else f'{_shown(low)}..{_shown(high)}'


def status(folder: Path) -> Status:
  """How far a run is; without keys where there is none."""
  try:
    return read_state(folder)
  except ExtrapError:
    return {'state': UNREADABLE}


def read_run(name: str, folder: Path, metric: Metric) -> Row:
  """Reads one run folder, which need not be there, or be finished."""
  found = status(folder)
  try:
    arm, size, values = _score(folder / 'results.csv', metric)
  except (ValueError, ExtrapError):
    arm, size, values = UNREADABLE, UNREADABLE, {}
  return Row(
    name,
    found.get('state', NEW),
    found.get('step'),
    found.get('steps'),
    _last_loss(folder / 'metrics.jsonl'),
    arm,
    size,
    values,
    _setting(folder / 'config.json'),
  )


def together(rows: Sequence[Row]) -> list[Row]:
  """One more row for each setting whose seeds are in several runs.

  A seed that is in two of them, which gives the same number twice, counts once.
  """
  groups: dict[tuple[str, ...], list[Row]] = {}
  for row in rows:
    if row.setting and row.values:
      groups.setdefault((row.setting, row.arm, row.size), []).append(row)
  return [
    Row(
      f'{group[0].name} and {len(group) - 1} more',
      'together',
      arm=group[0].arm,
      size=group[0].size,
      values={seed: row.values[seed] for row in group for seed in row.values},
    )
    for group in groups.values()
    if len(group) > 1
  ]


def table(rows: Sequence[Row], metric: Metric) -> str:
  """The rows as aligned text; the file has all values."""
  start = ('run', 'state', 'step', 'train/loss', 'arm', 'size')
  headers = (*start, metric.name, '95% interval')
  lines = [headers] + [
    (
      row.name,
      row.state,
      row.progress,
      _shown(row.loss),
      row.arm,
      row.size,
      row.score,
      row.limits,
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
    'run state step steps train/loss arm size metric mean low high n values'
    ' seeds'.split()
  )
  for row in rows:
    start = (row.name, row.state, row.step, row.steps, row.loss)
    what = (row.arm, row.size, metric.name, row.mean)
    values, seeds = (
      ' '.join(map(str, part)) for part in (row.values.values(), row.values)
    )
    low, high = row.interval or (None, None)
    writer.writerow(
      (*start, *what, low, high, len(row.values) or None, values, seeds)
    )
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
  finite = [loss for loss in losses if isinstance(loss, int | float)]
  return statistics.fmean(finite) if finite else math.nan


def _records(path: Path) -> Iterator[Mapping[str, object]]:
  """The lines of a metrics file, without one that is being written."""
  try:
    lines = path.read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError):
    return
  for line in lines:
    with contextlib.suppress(ValueError):
      record = json.loads(line)
      if isinstance(record, dict):
        yield record


def _setting(path: Path) -> str:
  """The study and its configuration but for the seeds; '' where it is not."""
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
    config = dict(found['config'])
  except (OSError, ValueError, KeyError, TypeError):
    return ''
  for field in _OF_A_SEED:
    config.pop(field, None)
  return json.dumps([found.get('study'), config], sort_keys=True)


def _score(path: Path, metric: Metric) -> tuple[str, str, dict[int, float]]:
  """Arm, size and values by seed; nothing where the metric is not."""
  rows = _wanted(path, metric)
  arm = metric.arm or (rows[0].arm if rows else '')
  rows = select(rows, arm=arm)
  size = metric.size or max((row.size for row in rows), key=_length, default='')
  rows = select(rows, size=size)
  if not rows:
    return '', '', {}
  if len({row.seed for row in rows}) < len(rows):
    raise ValueError(f'{path}: a seed has two values')
  known = {row.seed: row.value for row in rows if row.value is not None}
  return arm, size, known


def _wanted(path: Path, metric: Metric) -> list[Result]:
  """The rows of the metric; none before there are results."""
  if not path.exists():
    return []
  return select(
    read_csv(path)[0],
    metric=metric.name,
    checkpoint='last',
    split=metric.split or LENGTH_SPLITS,
  )


def _length(size: str) -> int:
  """'20x35' is as hard as its shorter side, at least."""
  return min(parse_size(size))
