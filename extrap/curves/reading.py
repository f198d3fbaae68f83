"""Learning curves out of files: CSV, JSON lines, TensorBoard events.

Every reader gives points as the file has them; here they become numbers, and
what cannot be forecast from is refused in one line that says where it is.

Shape key: T points of one curve.
"""

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from extrap.curves.csv_files import Place, Point, read_csv
from extrap.errors import ExtrapError, UsageError
from extrap.reporting.writers import read_jsonl

# What is read of files that hold many metrics: the first if it is there.
TRAINING, METRIC = 'train/loss', 'loss'
MINIMUM = 3  # Points of a curve; two say nothing of how it bends.
METRICS_FILE = 'metrics.jsonl'  # of a run folder


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
  """One learning curve.

  Attributes:
    name: of its column, its id, or its metric and replica.
    step_T: float64, finite and increasing; in the file's unit.
    value_T: float64, finite; in the file's unit.
  """

  name: str
  step_T: np.ndarray
  value_T: np.ndarray


def read_curves(
  path: str | os.PathLike[str],
  metric: str | None = None,
  minimum: int = MINIMUM,
) -> list[Curve]:
  """Reads every curve of a file or folder.

  What the file is, its name says: `.jsonl` is a metrics file of a run, a name
  with `tfevents` is TensorBoard's, and anything else is CSV. A folder with
  metrics.jsonl is a run; in any other, all TensorBoard files are read.

  CSV has names in its first row. With columns id, step and value, in any order
  and case, every row is a point. Otherwise every column is a curve, but for one
  called step, epoch or iteration, as a rule the first: it numbers the points,
  which are 1, 2, ... without it. A column with empty cells at its end is a
  shorter curve.

  Args:
    path: the file or the folder.
    metric: what to read. Of JSON lines and TensorBoard a metric's full name or
      what follows its last slash, one curve a replica; None is train/loss, or
      else loss. Of CSV a column, in place of all of them or of 'value'.
    minimum: fewest points of a curve.

  Returns:
    At least one curve, in the order of the file.

  Raises:
    UsageError: nothing to read, no such metric, too few points, a number that
      is missing or not finite, a step that is not above the one before. The
      message names the file, the row and the column.
  """
  path = Path(path)
  if not path.exists():
    raise UsageError(f'{path}: there is no such file or folder')
  if path.is_dir() and (path / METRICS_FILE).exists():
    path = path / METRICS_FILE
  if path.is_dir() or 'tfevents' in path.name:
    found = _chosen(path, _events(path), metric)
  elif path.suffix == '.jsonl':
    found = _chosen(path, _records(path), metric)
  else:
    found = read_csv(path, metric)
  curves = [_curve(path, name, points) for name, points in found.items()]
  for curve in curves:
    _check_length(path, curve.name, found[curve.name], minimum)
  return curves


def _events(path: Path) -> Mapping[str, list[Point]]:
  from extrap.curves.event_files import read_events

  return read_events(path)


def _records(path: Path) -> dict[str, list[Point]]:
  """Points by metric and replica of a metrics file."""
  try:
    records = read_jsonl(path)
  except (ExtrapError, UnicodeDecodeError) as error:
    raise UsageError(' '.join(str(error).split())) from error
  found: dict[str, list[Point]] = {}
  for number, record in enumerate(records, start=1):
    for name, value in record.items():
      if name == 'step':
        continue
      many = isinstance(value, list)
      for replica, one in enumerate(value if many else [value]):
        curve = f'{name}/replica_{replica}' if many else name
        point = Point(f'line {number}', name, record['step'], one)
        found.setdefault(curve, []).append(point)
  return found


def _chosen(
  path: Path, found: Mapping[str, list[Point]], metric: str | None
) -> dict[str, list[Point]]:
  """The curves of one metric: of its full name, or of its last part."""
  if not found:
    raise UsageError(f'{path}: is empty, it has no metric')
  metrics = _in_order(_metric(name) for name in found)
  if metric is None:
    metric = TRAINING if TRAINING in metrics else METRIC
  called = [name for name in metrics if name == metric]
  called = called or [
    name for name in metrics if name.rpartition('/')[2] == metric
  ]
  if not called:
    raise UsageError(
      f'{path}: there is no metric {metric!r}; there are: {", ".join(metrics)}'
    )
  if len(called) > 1:
    raise UsageError(
      f'{path}: several metrics are called {metric!r}: {", ".join(called)}; '
      'give one in full'
    )
  return {
    name: points for name, points in found.items() if _metric(name) in called
  }


def _metric(name: str) -> str:
  return re.sub(r'/replica_\d+$', '', name)


def _in_order(names: Iterable[str]) -> list[str]:
  """Every name once, where it is first met."""
  return list(dict.fromkeys(names))


def _curve(path: Path, name: str, points: list[Point]) -> Curve:
  """The points as numbers, at steps that increase."""
  step_T = np.empty(len(points))
  value_T = np.empty(len(points))
  for number, point in enumerate(points):
    place = f'{path}, {point.row}'
    step_T[number] = _number(f'{place}, step of {name!r}', point.step)
    value_T[number] = _number(f'{place}, column {point.column!r}', point.value)
    if number and step_T[number] <= step_T[number - 1]:
      before, here = (
        f'{step:.10g}' for step in step_T[number - 1 : number + 1]
      )
      how = 'is repeated' if before == here else f'comes after {before}'
      raise UsageError(f'{place}, step of {name!r}: {here} {how}')
  return Curve(name, step_T, value_T)


def _check_length(
  path: Path, name: str, points: list[Point], minimum: int
) -> None:
  if len(points) < minimum:
    last = f', the last in {points[-1].row}' if points else ''
    many = 's' * (len(points) != 1)
    raise UsageError(
      f'{path}, curve {name!r}: has {len(points)} point{many}{last}; at least '
      f'{minimum} are needed'
    )


def _number(where: str, value: Place) -> float:
  """A finite number, from text or as it is."""
  if value == '':
    raise UsageError(f'{where}: is empty')
  try:
    number = float(value)
  except (TypeError, ValueError, OverflowError) as error:
    raise UsageError(f'{where}: {str(value)[:40]!r} is no number') from error
  if not math.isfinite(number):
    raise UsageError(f'{where}: {value} is not finite')
  return number
