"""Results: one row a replica and cell, and the CSV file that keeps them."""

import contextlib
import csv
import dataclasses
import io
import json
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from extrap.errors import ExtrapError

# The splits that make up one axis of length. Suites such as 'carry:chain'
# revisit the same sizes and are compared on their own.
LENGTH_SPLITS = ('in_distribution', 'out_of_distribution', 'beyond')
SO_FAR = 'so far: '  # Begins the comment of a table that is not whole yet.

Columns = str | int | Sequence[str | int]  # What is selected of a column.


def length_split(size: int, trained: int) -> str:
  """The split of a size, by the largest that was trained on."""
  return LENGTH_SPLITS[0] if size <= trained else LENGTH_SPLITS[1]


@dataclasses.dataclass(frozen=True)
class Result:
  """One number, of one replica, at one size.

  Attributes:
    study: name of the study.
    arm: what is compared, for example the position encoding.
    rung: structure rung, how much of the alignment was given away.
    replica: index of the replica in its population.
    seed: seed of the run.
    hparams: the hyperparameters of this replica, a JSON object.
    checkpoint: 'last' or 'best'.
    split: 'in_distribution', 'out_of_distribution', 'beyond', or the name of
      a suite such as 'carry:chain'.
    size: '100', or '20x35' when the operands differ.
    metric: for example 'exact_match', a fraction in 0..1.
    value: the number, or None where the model's table ends before this size.
    n: number of instances behind the value.
    successes: the count, or None where the metric is not a proportion.
    steps: optimizer steps taken.
    samples: training examples seen.
    flops: training cost of this replica, or None where it was not counted.
    seconds: wall time of the program over the number of replicas.
  """

  study: str
  arm: str
  rung: str
  replica: int
  seed: int
  hparams: str
  checkpoint: str
  split: str
  size: str
  metric: str
  value: float | None
  n: int
  successes: int | None
  steps: int
  samples: int
  flops: float | None
  seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
  """What all rows of one trained arm share; see `Result` for the fields.

  `seeds`, `steps`, `samples` and `flops` have one value a replica: one that
  was frozen has made fewer steps than the others.
  """

  study: str
  arm: str
  rung: str
  seeds: tuple[int, ...]
  steps: tuple[int, ...]
  samples: tuple[int, ...]
  flops: tuple[float, ...]
  seconds: float
  checkpoint: str = 'last'
  hparams: str = '{}'

  def row(
    self,
    replica: int,
    split: str,
    size: str,
    metric: str,
    value: float | None,
    n: int,
    successes: int | None = None,
  ) -> Result:
    """One number of one replica."""
    shared = dataclasses.asdict(self)
    own = {name: shared.pop(name) for name in ('steps', 'samples', 'flops')}
    own['seed'] = shared.pop('seeds')
    return Result(
      **shared,
      **{name: values[replica] for name, values in own.items()},
      replica=replica,
      split=split,
      size=size,
      metric=metric,
      value=value,
      n=n,
      successes=successes,
    )

  def exact_match(
    self,
    split: str,
    size: str,
    right: Sequence[int] | None,
    n: int,
    metric: str = 'exact_match',
  ) -> list[Result]:
    """One row a replica; `right` is None where the table ends before size."""
    if right is None:
      return [
        self.row(replica, split, size, metric, None, 0)
        for replica in range(len(self.seeds))
      ]
    return [
      self.row(replica, split, size, metric, int(k) / n, n, int(k))
      for replica, k in enumerate(right)
    ]


def untrained(
  study: str, arm: str, rung: str, seeds: Sequence[int], seconds: float = 0.0
) -> Provenance:
  """Of rows that no training was needed for."""
  zeros = (0,) * len(seeds)
  return Provenance(
    study=study,
    arm=arm,
    rung=rung,
    seeds=tuple(seeds),
    steps=zeros,
    samples=zeros,
    flops=tuple(map(float, zeros)),
    seconds=seconds,
    hparams=json.dumps({'parameters': 0}),
  )


COLUMNS = tuple(field.name for field in dataclasses.fields(Result))

_PARSERS = {
  str: str,
  int: int,
  float: float,
  int | None: lambda text: int(text) if text else None,
  float | None: lambda text: float(text) if text else None,
}


def write_text(path: str | os.PathLike[str], text: str) -> Path:
  """Writes a whole file of text or nothing, see `write_bytes`."""
  return write_bytes(path, text.encode('utf-8'))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
  """Writes a whole file or nothing: temporary file first, then a rename."""
  path = Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open('wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    raise ExtrapError(
      f'{path} cannot be written: {error.strerror or error}'
    ) from error
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
  return path


def write_csv(
  path: str | os.PathLike[str],
  results: Iterable[Result],
  comments: Sequence[str] = (),
) -> Path:
  """Writes results, with comments (command, commit, hardware) on top.

  Args:
    path: the file, replaced in one move.
    results: rows, kept in order.
    comments: text, each line of it written behind '# '.

  Returns:
    The path.
  """
  text = io.StringIO()
  for line in '\n'.join(comments).splitlines():
    text.write(f'# {line}\n')
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(COLUMNS)
  writer.writerows(dataclasses.astuple(result) for result in results)
  return write_text(path, text.getvalue())


def read_csv(
  path: str | os.PathLike[str],
) -> tuple[list[Result], list[str]]:
  """Reads what `write_csv` wrote.

  Args:
    path: the file.

  Returns:
    The results, and the comments without their '# '.

  Raises:
    ExtrapError: the file is missing, truncated or malformed; the message
      names the file and the line.
  """
  lines = _lines(path)
  comments = []
  while len(comments) < len(lines) and lines[len(comments)].startswith('#'):
    comments.append(lines[len(comments)].removeprefix('#').strip())
  reader = csv.reader(lines[len(comments) :], strict=True)
  results = []
  try:
    if tuple(next(reader, ())) != COLUMNS:
      raise ValueError(f'the header is not {",".join(COLUMNS)}')
    results.extend(_parse(row) for row in reader)
  except (ValueError, csv.Error) as error:
    line = len(comments) + max(reader.line_num, 1)
    raise ExtrapError(f'{path}, line {line}: {error}') from error
  return results, comments


def _lines(path: str | os.PathLike[str]) -> list[str]:
  """Returns the lines of a file that ends as a whole file does."""
  try:
    with Path(path).open(encoding='utf-8') as file:
      lines = file.readlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ExtrapError(f'{path}, line 1: cannot be read: {error}') from error
  if lines and not lines[-1].endswith('\n'):
    raise ExtrapError(f'{path}, line {len(lines)}: the file is cut off here')
  return lines


def _parse(row: Sequence[str]) -> Result:
  """Turns one CSV row into a result, or raises ValueError."""
  if len(row) != len(COLUMNS):
    raise ValueError(f'{len(row)} columns instead of {len(COLUMNS)}')
  values = []
  for field, text in zip(dataclasses.fields(Result), row, strict=True):
    try:
      values.append(_PARSERS[field.type](text))
    except ValueError as error:
      raise ValueError(f'{field.name}: {error}') from error
  result = Result(*values)
  if not isinstance(json.loads(result.hparams), dict):
    raise ValueError('hparams: not a JSON object')
  return result


def format_size(cell: Sequence[int]) -> str:
  """Joins the numbers of a size: (20, 35) -> '20x35'."""
  return 'x'.join(map(str, cell))


def parse_size(size: str) -> tuple[int, ...]:
  """Splits a size into numbers: '100' -> (100,), '20x35' -> (20, 35)."""
  return tuple(int(part) for part in size.split('x'))


def select(results: Iterable[Result], **columns: Columns) -> list[Result]:
  """Keeps the rows whose columns have a given value, or one of several.

  Args:
    results: rows.
    **columns: for example `metric='exact_match', split=LENGTH_SPLITS`.

  Returns:
    The rows that agree with every column, in order.
  """
  rows = list(results)
  for name, wanted in columns.items():
    there = (wanted,) if isinstance(wanted, str | int) else tuple(wanted)
    # One column after another: the first leaves few rows to the others.
    of_column = operator.attrgetter(name)
    rows = [row for row in rows if of_column(row) in there]
  return rows


def by_cell(
  results: Iterable[Result],
) -> dict[tuple[str, str, str], list[Result]]:
  """Groups rows by (arm, split, size), in order of first appearance."""
  cells: dict[tuple[str, str, str], list[Result]] = {}
  for result in results:
    key = (result.arm, result.split, result.size)
    cells.setdefault(key, []).append(result)
  return cells


def exact_match_cells(
  results: Iterable[Result], **columns: Columns
) -> dict[tuple[str, str], list[Result]]:
  """Groups what a table or a plot of exact match shows by (arm, size).

  Args:
    results: rows of any kind.
    **columns: a selection other than exact match, last checkpoint, and the
      three splits along the axis of length.

  Returns:
    One row a replica in each cell, out-of-table rows included.

  Raises:
    ExtrapError: nothing is selected, or a replica has two rows in one cell.
  """
  chosen = {
    'metric': 'exact_match',
    'checkpoint': 'last',
    'split': LENGTH_SPLITS,
    **columns,
  }
  cells: dict[tuple[str, str], list[Result]] = {}
  for (arm, _, size), rows in by_cell(select(results, **chosen)).items():
    cells.setdefault((arm, size), []).extend(rows)
  if not cells:
    raise ExtrapError(f'no result has {chosen}')
  for (arm, size), rows in cells.items():
    if len({(row.seed, row.replica, row.hparams) for row in rows}) < len(rows):
      raise ExtrapError(
        f'{arm} at size {size}: a replica has two values for {chosen}'
      )
  return cells


def arms_of(results: Iterable[Result]) -> list[str]:
  """Returns the arms that have rows, in order of first appearance."""
  return list(dict.fromkeys(row.arm for row in results))


def values(rows: Iterable[Result]) -> list[float]:
  """Returns the values of a cell, one a replica, without out-of-table rows."""
  return [row.value for row in rows if row.value is not None]
