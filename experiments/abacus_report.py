"""What the study of Abacus says of its rows: cells, orderings, report.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extrap.evaluation.regions import OUT, learned_replicas
from extrap.evaluation.results import (
  Result,
  arms_of,
  parse_size,
  select,
  values,
  write_csv,
)
from extrap.evaluation.statistics import Interval, difference, verdict
from extrap.kept import provenance
from extrap.reporting import heatmaps
from extrap.reporting.reach import reach_table
from extrap.reporting.regions import region_table
from extrap.reporting.report import bullets, picture, write_report
from extrap.reporting.tables import Table

if TYPE_CHECKING:
  from experiments.abacus import Config

GRID = 'grid.png'


def keep_cells(folder: Path, config: Config, cells: Sequence[Result]) -> None:
  """Writes the cells of an arm to a file, and draws the grid of two lengths."""
  setting, first = config.setting, cells[0]
  write_csv(folder / f'cells_{first.metric}.csv', cells, provenance())
  if config.task != 'sorting':
    grid = [row for row in cells if max(parse_size(row.size)) <= setting.grid]
    title = f'{first.arm}: exact match'
    heatmaps.grid_heatmap(grid, setting.trained, folder / GRID, title)


def claims(results: Sequence[Result]) -> Table:
  """The paper's orderings, with what this size says of each.

  Of the seeds that have learned what is in distribution; last, of all of them.
  """
  rows = []
  pairs = [('abacus_lt', 'abacus_st'), ('abacus_ii', 'abacus_st')]
  pairs += [('abacus_st', other) for other in ('nope_st', 'fire_st')]
  pairs += [('abacus_ii', 'nope_st')]
  pairs += [('abacus_fire_st', 'fire_st')]
  there = {row.arm for row in results}
  for better, worse in pairs:
    if there.issuperset((better, worse)):
      found = ordering(results, better, worse)
      rows.append([f'{better} above {worse}', *found])
  headers = ['claim, out of distribution', 'seeds', 'difference', '95 %']
  return Table(
    [*headers, 'verdict', 'all seeds: difference'],
    rows,
    'Of the seeds that have learned what is in distribution. Difference of '
    'means in points, with its Welch interval, not corrected for how many '
    'claims there are; of all seeds, learned or not, no verdict follows.',
  )


def ordering(results: Sequence[Result], better: str, worse: str) -> list[str]:
  """How many seeds have learned, their difference, its limits, the verdict.

  Last, the difference of all seeds with its limits.
  """
  beyond = select(results, split=f'region:{OUT}', metric='exact_match')
  learned = [learned_replicas(results, arm) for arm in (better, worse)]
  seeds = ' and '.join(str(len(replicas)) for replicas in learned)
  one, other = (select(beyond, arm=arm) for arm in (better, worse))
  everyone = ''
  if min(len(one), len(other)) > 1:
    mean, limits = in_points(difference(values(one), values(other)))
    everyone = f'{mean} ({limits})'
  if min(map(len, learned)) < 2:
    return [seeds, '', '', 'not learned', everyone]
  gap = difference(
    values(select(one, replica=learned[0])),
    values(select(other, replica=learned[1])),
  )
  return [seeds, *in_points(gap), verdict(gap), everyone]


def in_points(gap: Interval) -> tuple[str, str]:
  """A difference of shares and its limits, in points."""
  mean = f'{100 * gap.mean:+.1f}'
  return mean, f'{100 * gap.low:+.1f}..{100 * gap.high:+.1f}'


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md; returns the table of regions."""
  regions = region_table(results)
  sections = [('Regions of the grid', regions.markdown())]
  least = region_table(results, 'first_match')
  if least.rows:
    sections.append(('The least number alone', least.markdown()))
  orderings = claims(results)
  if orderings.rows:
    sections.append(('The orderings', orderings.markdown()))
  lengths = [row for row in results if not row.split.startswith('region')]
  if lengths:
    sections.append(('Reach', reach_table(lengths).markdown()))
  report = folder / 'report.md'
  for name in arms_of(results):
    if (grid := folder / 'arms' / name / GRID).exists():
      sections.append((f'Grid of {name}', picture(name, grid, report)))
  sections.append(('How it was made', bullets([*provenance()])))
  title = f'Abacus embeddings: {config.task}'
  write_report(report, title, sections)
  return regions.text()
