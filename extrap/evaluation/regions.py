"""Regions of a grid of sizes: within training, beyond it, and far beyond."""

from collections.abc import Callable, Mapping, Sequence

from extrap.evaluation.grid import Cell
from extrap.evaluation.reach import LEARNED
from extrap.evaluation.results import (
  Provenance,
  Result,
  format_size,
  length_split,
  select,
)

IN, OUT, EXTREME = 'in distribution', 'out of distribution', 'extreme'


def region_of(cell: Cell, trained: int, grid: int) -> str:
  """Which region a cell lies in.

  Args:
    cell: its sizes.
    trained: largest training size.
    grid: side of the grid; equal sizes beyond it are extreme.
  """
  if max(cell) <= trained:
    return IN
  return EXTREME if max(cell) > grid else OUT


def square(grid: int) -> tuple[Cell, ...]:
  """Every pair of sizes from 1 to `grid`."""
  side = range(1, grid + 1)
  return tuple((i, j) for i in side for j in side)


def cell_rows(
  source: Provenance,
  counts: Mapping[Cell, Sequence[int]],
  rows: int,
  trained: int,
  metric: str = 'exact_match',
) -> list[Result]:
  """Every cell, a row a replica.

  Args:
    source: the arm's.
    counts: right answers of each replica by cell, as from `grid.evaluate`.
    rows: problems behind each count.
    trained: largest training size.
    metric: what was counted.
  """
  results = []
  for cell, right_R in counts.items():
    split = length_split(max(cell), trained)
    given = (split, format_size(cell), right_R, rows, metric)
    results += source.exact_match(*given)
  return results


def region_rows(
  source: Provenance,
  counts: Mapping[Cell, Sequence[int]],
  rows: int,
  grid: int,
  region: Callable[[Cell], str],
  metric: str = 'exact_match',
) -> list[Result]:
  """The mean of each region over its cells, a row a replica.

  Args:
    source: the arm's.
    counts: right answers of each replica by cell, as from `grid.evaluate`.
    rows: problems behind each count.
    grid: side of the grid, the size of each row.
    region: names the region of a cell, as `region_of`.
    metric: what was counted.
  """
  cells: dict[str, list[Cell]] = {}
  for cell in counts:
    cells.setdefault(region(cell), []).append(cell)
  results = []
  for name, inside in cells.items():
    n = rows * len(inside)
    for replica in range(len(source.seeds)):
      right = sum(int(counts[cell][replica]) for cell in inside)
      value = (metric, right / n, n, right)
      results.append(source.row(replica, f'region:{name}', str(grid), *value))
  return results


def learned_replicas(
  results: Sequence[Result], arm: str, metric: str = 'exact_match'
) -> set[int]:
  """Replicas of an arm that have learned what is in distribution."""
  inside = select(results, arm=arm, metric=metric, split=f'region:{IN}')
  return {row.replica for row in inside if row.value >= LEARNED}
