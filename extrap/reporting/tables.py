"""Tables: Markdown for files, aligned text for the terminal."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from extrap.errors import ExtrapError
from extrap.evaluation.results import (
  Result,
  exact_match_cells,
  parse_size,
  select,
  values,
)
from extrap.evaluation.statistics import across_replicas, wilson

OUT_OF_TABLE = 'out of table'
NOT_RUN = 'not run'


@dataclasses.dataclass(frozen=True)
class Table:
  """A table with its caption, ready for a file or a terminal."""

  headers: list[str]
  rows: list[list[str]]
  caption: str

  def markdown(self) -> str:
    """Returns the Markdown table with the caption below."""
    return f'{markdown(self.headers, self.rows)}\n\n{self.caption}'

  def text(self) -> str:
    """Returns the plain table with the caption below."""
    return f'{text(self.headers, self.rows)}\n\n{self.caption}'


def markdown(
  headers: Sequence[str],
  rows: Sequence[Sequence[str]],
  align: str | None = None,
) -> str:
  """Makes a Markdown table that also reads well as source.

  Args:
    headers: one a column.
    rows: cells; a '|' in them is escaped.
    align: one letter a column, 'l' or 'r'; by default the first column is on
      the left and the others on the right.

  Returns:
    The table, without a newline at the end.
  """
  lines = [
    [cell.replace('|', r'\|') for cell in line] for line in (headers, *rows)
  ]
  align = _align(align, headers)
  widths = [max(3, width) for width in _widths(lines)]
  rule = [
    '-' * (width - 1) + (':' if side == 'r' else '-')
    for width, side in zip(widths, align, strict=True)
  ]
  padded = [_pad(line, widths, align) for line in lines]
  return '\n'.join(
    f'| {" | ".join(line)} |' for line in (padded[0], rule, *padded[1:])
  )


def text(
  headers: Sequence[str],
  rows: Sequence[Sequence[str]],
  align: str | None = None,
) -> str:
  """Makes an aligned plain table; arguments as for `markdown`."""
  align = _align(align, headers)
  widths = _widths([headers, *rows])
  rule = ['-' * width for width in widths]
  padded = [_pad(line, widths, align) for line in (headers, rule, *rows)]
  return '\n'.join('  '.join(line).rstrip() for line in padded)


def format_percent(fraction: float, decimals: int = 1) -> str:
  """Writes a fraction as a percentage that never overstates.

  Only 1 is '100 %' and only 0 is '0 %': 0.9996 is '>99.9 %', and 0.0002 is
  '<0.1 %'.

  Args:
    fraction: any number; nan is 'nan'.
    decimals: digits after the point, left out for 0 and 100.

  Returns:
    The percentage with its unit.
  """
  if math.isnan(fraction):
    return 'nan'
  if fraction in (0, 1):
    return f'{fraction * 100:.0f} %'
  smallest = 10.0**-decimals
  rounded = round(fraction * 100, decimals)
  if rounded == 100:
    return f'>{100 - smallest:.{decimals}f} %' if fraction < 1 else '>100 %'
  if rounded == 0:
    return f'<{smallest:.{decimals}f} %' if fraction > 0 else '<0 %'
  return f'{rounded:.{decimals}f} %'


def format_limits(low: float, high: float, decimals: int = 1) -> str:
  """Writes an interval of fractions in percent, without the unit."""
  return f'{100 * low:.{decimals}f}..{100 * high:.{decimals}f}'


def exact_match_table(
  results: Iterable[Result],
  arms: Sequence[str],
  sizes: Sequence[str | int],
  train_size: int,
  *,
  confidence: float = 0.95,
  method: Literal['t', 'bootstrap'] = 't',
  intervals: bool = True,
  unit: str = 'sums',
  **columns: str | int | Sequence[str | int],
) -> Table:
  """Exact match by size, one column an arm.

  A cell is the mean over replicas, with the least and the greatest replica
  when they differ. It says 'out of table' where the model has no value to
  give, and 'not run' where there is no row.

  Args:
    results: rows of any kind.
    arms: columns, in order.
    sizes: rows, in order: 100, '100' or '20x35'.
    train_size: largest size of the training region, in digits.
    confidence: coverage of the intervals.
    method: interval across replicas, see `across_replicas`; a cell of a
      single replica gets its Wilson interval instead.
    intervals: whether each arm has a column of intervals beside it.
    unit: what is counted, for the caption.
    **columns: selection of rows, see `exact_match_cells`.

  Returns:
    The table; its caption counts replicas and instances.

  Raises:
    ExtrapError: nothing is selected, or a replica has two rows in one cell.
  """
  cells = exact_match_cells(results, **columns)
  shown = [cells.get((arm, str(size)), []) for size in sizes for arm in arms]
  headers = ['digits']
  for arm in arms:
    headers += (
      [arm, f'{format_percent(confidence, 0)} interval'] if intervals else [arm]
    )
  rows = []
  for size in map(str, sizes):
    row = [f'{size} *' if _is_trained(size, train_size) else size]
    for arm in arms:
      cell = cells.get((arm, size), [])
      row += [_cell(cell)]
      row += [_interval(cell, confidence, method)] if intervals else []
    rows.append(row)
  caption = _caption(shown, train_size, unit)
  if intervals:
    caption += ' ' + _interval_note(shown, method)
  return Table(headers, rows, caption)


def update_block(markdown_text: str, name: str, table: str) -> str:
  """Replaces a generated table in a Markdown text.

  Args:
    markdown_text: a text with the lines `<!-- table: name -->` and
      `<!-- end: name -->`.
    name: which table.
    table: what stands between the two lines afterwards.

  Returns:
    The new text; the same table once more changes nothing.

  Raises:
    ExtrapError: the text does not have both lines, in order and once.
  """
  start, end = f'<!-- table: {name} -->', f'<!-- end: {name} -->'
  before, _, rest = markdown_text.partition(start)
  _, _, after = rest.partition(end)
  once = markdown_text.count(start) == markdown_text.count(end) == 1
  if not (once and end in rest):
    raise ExtrapError(f'the text needs {start} and, below it, {end}, once each')
  return f'{before}{start}\n\n{table.strip()}\n\n{end}{after}'


def _align(align: str | None, headers: Sequence[str]) -> str:
  return align or 'l' + 'r' * (len(headers) - 1)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
  return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _pad(line: Sequence[str], widths: Sequence[int], align: str) -> list[str]:
  return [
    cell.rjust(width) if side == 'r' else cell.ljust(width)
    for cell, width, side in zip(line, widths, align, strict=True)
  ]


def _is_trained(size: str, train_size: int) -> bool:
  return max(parse_size(size)) <= train_size


def _cell(rows: Sequence[Result]) -> str:
  """'98.2 % (91.0 %..100 %)', with '3/4 replicas' where some have no value."""
  if not rows:
    return NOT_RUN
  known = values(rows)
  if not known:
    return OUT_OF_TABLE
  notes = []
  if min(known) < max(known):
    notes.append(f'{format_percent(min(known))}..{format_percent(max(known))}')
  if len(known) < len(rows):
    notes.append(f'{len(known)}/{len(rows)} replicas')
  mean = format_percent(across_replicas(known).mean)
  return f'{mean} ({", ".join(notes)})' if notes else mean


def _interval(
  rows: Sequence[Result], confidence: float, method: Literal['t', 'bootstrap']
) -> str:
  known = [row for row in rows if row.value is not None]
  if len(known) == 1 and known[0].successes is not None:
    low, high = wilson(known[0].successes, known[0].n, confidence)
  elif len(set(values(known))) > 1:
    summary = across_replicas(values(known), confidence, method)
    low, high = summary.low, summary.high
  else:
    return '-'
  return f'{format_percent(low)}..{format_percent(high)}'


def _caption(
  shown: Sequence[Sequence[Result]], train_size: int, unit: str
) -> str:
  """Counts replicas and instances; out-of-table rows count for nothing."""
  cells = [[row for row in rows if row.value is not None] for rows in shown]
  cells = [rows for rows in cells if rows]
  replicas = _range(len(rows) for rows in cells)
  each = _range(row.n for rows in cells for row in rows)
  pooled = _range(sum(row.n for row in rows) for rows in cells)
  return (
    f'Mean over replicas (least..greatest where they differ). '
    f'Replicas a cell: {replicas}; {unit} a replica: {each}; '
    f'{unit} a cell, all replicas: {pooled}. '
    f'* within the training range, up to {train_size} digits.'
  )


def _interval_note(
  shown: Sequence[Sequence[Result]], method: Literal['t', 'bootstrap']
) -> str:
  counts = {len(values(rows)) for rows in shown} - {0}
  notes = []
  if 1 in counts:
    notes.append('Wilson within the only replica')
  if counts - {1}:
    notes.append(f'{method} over replicas, not clipped, - where all are equal')
  return f'Interval: {"; ".join(notes)}.' if notes else ''


def _range(counts: Iterable[int]) -> str:
  ordered = sorted(counts) or [0]
  if ordered[0] == ordered[-1]:
    return str(ordered[0])
  return f'{ordered[0]}..{ordered[-1]}'


def certificate_table(results: Sequence[Result]) -> str:
  """Certificates in Markdown, one row a replica."""
  rows = []
  for replica in sorted({r.replica for r in results}):
    one = {r.metric: r for r in results if r.replica == replica}
    margin, rounding = one['margin'].value, one['rounding'].value
    found = one['certified']
    rows.append(
      [
        str(found.seed),
        f'{found.n:,}',
        str(found.n - found.successes),
        f'{margin:.3g}',
        f'{rounding:.2g}',
        f'{margin / rounding:.2g}',
        'passed (measured)' if found.value else 'FAILED',
      ]
    )
  headers = ['seed', 'contexts', 'wrong', 'margin', 'rounding', 'ratio']
  return markdown([*headers, 'verdict'], rows)


def checked_sections(
  results: Sequence[Result], arm: str, suite: str = 'Stress suite'
) -> list[tuple[str, str]]:
  """An arm's stress suite, and its certificate if it has one, for a report.

  Args:
    results: rows of all arms.
    arm: which one.
    suite: what its stress suite is called.
  """
  stress = [row for row in select(results, arm=arm) if ':' in row.split]
  sections = [(f'{suite}: {arm}', suite_table(stress))]
  if certified := select(results, arm=arm, split='certificate'):
    sections.append((f'Certificate: {arm}', certificate_table(certified)))
  return sections


def suite_table(results: Sequence[Result]) -> str:
  """One row a kind: sums right in all replicas together."""
  rows = []
  for kind in dict.fromkeys(r.split for r in results):
    chosen = [r for r in results if r.split == kind]
    right, n = sum(r.successes for r in chosen), sum(r.n for r in chosen)
    sizes = {r.size for r in chosen}
    rows.append(
      [
        kind.partition(':')[2],
        str(len(sizes)),
        f'{right}/{n}',
        format_percent(right / n),
      ]
    )
  return markdown(['suite', 'lengths', 'right', 'exact match'], rows)
