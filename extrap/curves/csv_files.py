"""Points of curves in CSV: one curve a column, or one point a row."""

import csv
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from extrap.errors import UsageError

# What the column is called that curves run along.
STEPS = (
  *('step', 'steps', 'epoch', 'epochs', 'iteration', 'iterations'),
  *('examples', 'samples', 'tokens', 'parameters', 'flops', 'compute', 'x'),
)
ID, VALUE = 'id', 'value'

Place = str | float  # What stands in a number's place.
Rows = list[tuple[str, list[str]]]  # row, as told to people; cells


class Point(NamedTuple):
  """One point as a file has it.

  Attributes:
    row, column: where its value is, as told to people.
    step, value: not yet numbers.
  """

  row: str
  column: str
  step: Place
  value: Place


def read_csv(path: Path, metric: str | None = None) -> dict[str, list[Point]]:
  """Points by curve, not yet numbers.

  Args:
    path: the file.
    metric: the one column to read; in place of 'value' where rows are points.

  Raises:
    UsageError: the file cannot be read, has no header or no rows, a row is
      longer than the header, there is no such column, or a cell is empty
      though the curve goes on below it.
  """
  (_, header), *rows = _rows(path)
  _check_header(path, header)
  if not rows:
    raise UsageError(f'{path}: is empty, there is no row under its header')
  _fill(path, rows, len(header))
  plain = [name.lower() for name in header]
  step = next((i for i, name in enumerate(plain) if name in STEPS), None)
  wanted = (metric or VALUE).lower()
  if step is not None and {ID, wanted} <= set(plain):
    return _by_row(path, header, rows, step, plain.index(wanted))
  return _by_column(path, header, rows, step, metric)


def _rows(path: Path) -> Rows:
  """The rows that are not blank, the header first."""
  try:
    with path.open(encoding='utf-8-sig', newline='') as file:
      lines = csv.reader(file, strict=True)
      rows = [
        (f'row {lines.line_num}', [cell.strip() for cell in cells])
        for cells in lines
        if any(cell.strip() for cell in cells)
      ]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    reason = ' '.join(str(error).split())
    raise UsageError(f'{path}: cannot be read as CSV: {reason}') from error
  if not rows:
    raise UsageError(f'{path}: is empty')
  return rows


def _check_header(path: Path, header: list[str]) -> None:
  """Refuses names that are missing, numbers only, or there twice."""
  if all(map(_is_number, header)):
    raise UsageError(f'{path}, row 1: has only numbers, not names of columns')
  if '' in header:
    raise UsageError(
      f'{path}, row 1: column {header.index("") + 1} has no name; call it '
      'step if it numbers the points'
    )
  name, count = Counter(header).most_common(1)[0]
  if count > 1:
    raise UsageError(f'{path}, row 1: {count} columns are called {name!r}')


def _fill(path: Path, rows: Rows, columns: int) -> None:
  """Ends short rows with empty cells, and refuses long ones."""
  for row, cells in rows:
    if len(cells) > columns:
      raise UsageError(
        f'{path}, {row}: has {len(cells)} cells under {columns} columns'
      )
    cells.extend([''] * (columns - len(cells)))


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _by_row(
  path: Path, header: list[str], rows: Rows, step: int, value: int
) -> dict[str, list[Point]]:
  """Curves of a table with one point a row."""
  name = [column.lower() for column in header].index(ID)
  found: dict[str, list[Point]] = {}
  for row, cells in rows:
    if not cells[name]:
      raise UsageError(f'{path}, {row}, column {header[name]!r}: is empty')
    point = Point(row, header[value], cells[step], cells[value])
    found.setdefault(cells[name], []).append(point)
  return found


def _by_column(
  path: Path,
  header: list[str],
  rows: Rows,
  step: int | None,
  metric: str | None,
) -> dict[str, list[Point]]:
  """Curves of a table with one curve a column."""
  columns = {name: i for i, name in enumerate(header) if i != step}
  if not columns:
    raise UsageError(f'{path}: has steps and no column of values')
  if metric is not None and metric not in columns:
    raise UsageError(
      f'{path}: there is no column {metric!r}; there are: {", ".join(columns)}'
    )
  return {
    name: _column(path, name, rows, column, step)
    for name, column in columns.items()
    if metric in (None, name)
  }


def _column(
  path: Path, name: str, rows: Rows, column: int, step: int | None
) -> list[Point]:
  """Points of a column, up to its last cell that is not empty."""
  points = [
    Point(row, name, number if step is None else cells[step], cells[column])
    for number, (row, cells) in enumerate(rows, start=1)
  ]
  while points and not points[-1].value:
    points.pop()
  for point in points:
    if not point.value:
      raise UsageError(
        f'{path}, {point.row}, column {name!r}: is empty, but the column goes '
        f'on to {points[-1].row}'
      )
  return points
