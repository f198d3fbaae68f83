"""What the study of single arithmetic modules says of its rows.

Published numbers: of 25 seeds each, read off a vector figure of
bmistry4/nalm-benchmark (notes/MCFC_findings.pdf).

Shape key: Y units and operations, X ranges.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extrap.evaluation.results import Result, by_cell, select
from extrap.evaluation.statistics import wilson
from extrap.models.units import OPERATIONS
from extrap.reporting.heatmaps import share_heatmap
from extrap.reporting.tables import Table, format_limits

LOOSE = ' at 1e-4'  # What metrics of the second convention end with.
CANNOT = 'cannot represent'
SEEDS = 25  # of every published cell
# Solved; where not in the second mapping, all seeds.
PUBLISHED: Mapping[tuple[str, str], Mapping[str, int]] = {
  ('nau', 'add'): {},
  ('nmu', 'mul'): {'-1.2..-1.1': 17, '-2..-1': 20},
}

Cell = tuple[str, str]


def cell_of(row: Result) -> Cell:
  """Unit and operation."""
  return row.arm, row.split.partition(':')[0]


def cells(results: Sequence[Result]) -> dict[Cell, dict[str, list[Result]]]:
  """Rows of each unit and operation, in order, by range."""
  found: dict[Cell, dict[str, list[Result]]] = {}
  for (unit, split, _), rows in by_cell(results).items():
    operation, _, interval = split.partition(':')
    found.setdefault((unit, operation), {})[interval] = rows
  return found


def as_elsewhere(results: Sequence[Result]) -> list[Result]:
  """Rows of units and operations of which numbers were published."""
  return [row for row in results if cell_of(row) in PUBLISHED]


def represented(results: Sequence[Result]) -> list[Result]:
  """Rows of operations that their unit represents."""
  there = {
    cell
    for cell, intervals in cells(results).items()
    if None not in map(solved, intervals.values())
  }
  return [row for row in results if cell_of(row) in there]


def solved(rows: Sequence[Result], suffix: str = '') -> tuple[int, int] | None:
  """How many runs of how many, or None of what is not trained."""
  known = select(rows, metric=f'solved{suffix}')
  if not known or known[0].value is None:
    return None
  return sum(row.successes for row in known), len(known)


def median_step(rows: Sequence[Result], suffix: str = '') -> str:
  """Of runs that are solved, over all the rows."""
  steps = [
    row.value
    for row in select(rows, metric=f'step{suffix}')
    if row.value is not None
  ]
  return f'{np.median(steps):,.0f}' if steps else ''


def overview_table(results: Sequence[Result]) -> Table:
  """Runs and ranges that are solved, by unit and operation."""
  rows = []
  for (unit, operation), intervals in cells(results).items():
    line = [unit, operation]
    for suffix in ('', LOOSE):
      counts = [solved(found, suffix) for found in intervals.values()]
      together = [row for found in intervals.values() for row in found]
      line += [*_counts(counts), median_step(together, suffix)]
    rows.append(line)
  headers = ['unit', 'operation']
  for epsilon in ('1e-5', '1e-4'):
    headers += [f'solved at {epsilon}', 'ranges with all seeds', 'median step']
  return Table(
    headers,
    rows,
    'Runs of all ranges, which share seeds: no intervals, see by range. Steps: '
    'of solved runs.',
  )


def _counts(counts: Sequence[tuple[int, int] | None]) -> tuple[str, str]:
  """Solved runs, and ranges of which all are."""
  if None in counts:
    return CANNOT, ''
  whole = sum(k == n for k, n in counts)
  right, runs = (sum(column) for column in zip(*counts, strict=True))
  return f'{right} of {runs}', f'{whole} of {len(counts)}'


def detail_table(results: Sequence[Result]) -> Table:
  """Success by unit, operation and range, with intervals."""
  rows = []
  for cell, intervals in cells(results).items():
    if None in map(solved, intervals.values()):
      rows.append([*cell, 'any range', CANNOT, *[''] * 6])
      continue
    for interval, found in intervals.items():
      line = [*cell, interval]
      for suffix in ('', LOOSE):
        k, n = solved(found, suffix)
        line += [f'{k} of {n}', format_limits(*wilson(k, n))]
        line.append(median_step(found, suffix))
      rows.append([*line, _published(cell, interval, found)])
  headers = ['unit', 'operation', 'trained on']
  for epsilon in ('1e-5', '1e-4'):
    headers += [f'solved at {epsilon}', '95 %', 'median step']
  caption = "Wilson's intervals over seeds; steps: of solved runs."
  return Table([*headers, 'published'], rows, caption)


def _published(cell: Cell, interval: str, rows: Sequence[Result]) -> str:
  """Of runs that were made likewise."""
  alike = json.loads(rows[0].hparams).get('as_published', False)
  if cell not in PUBLISHED or not alike:
    return ''
  return f'{PUBLISHED[cell].get(interval, SEEDS)} of {SEEDS}'


def write_picture(results: Sequence[Result], path: Path) -> Path:
  """Share of seeds by operation and unit, and by range, at epsilon 1e-5.

  Without what units cannot represent, if there is anything else.
  """
  table = cells(represented(results) or results)
  table = {cell: table[cell] for cell in sorted(table, key=_by_operation)}
  ranges = list(dict.fromkeys(name for of in table.values() for name in of))
  share_YX = np.full((len(table), len(ranges)), np.nan)
  for y, intervals in enumerate(table.values()):
    for name, rows in intervals.items():
      if count := solved(rows):
        share_YX[y, ranges.index(name)] = count[0] / count[1]
  names = [f'{operation} {unit}' for unit, operation in table], ranges
  note = 'share of seeds at epsilon 1e-5, by range of training'
  return share_heatmap(share_YX, names, path, 'Solved', note)


def _by_operation(cell: Cell) -> tuple[int, str]:
  unit, operation = cell
  return OPERATIONS.index(operation), unit
