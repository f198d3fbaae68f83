"""What the sweeps of arithmetic units say of their rows.

Shape key: X values of a sweep.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.nalu_sweeps_settings import (
  SEEDS,
  SHARES,
  SWEEPS,
  WORDS,
  published_threshold,
  setting_name,
)
from extrap.evaluation.likelihood import newcombe
from extrap.evaluation.results import Result, arms_of, select
from extrap.evaluation.statistics import wilson
from extrap.reporting.shares import Shares, shares_by_value
from extrap.reporting.tables import Table, format_limits, format_percent


def rows_at(
  results: Sequence[Result], sweep: str, value: str, unit: str
) -> list[Result]:
  """Rows of a unit at a value of a sweep; none if it was not trained there."""
  return select(results, arm=unit, split=setting_name(sweep, value))


def solved(rows: Sequence[Result]) -> tuple[int, int]:
  """How many seeds of how many."""
  found = select(rows, metric='solved')
  return sum(row.successes for row in found), len(found)


def published_share(
  sweep: str, value: str, unit: str, row: Result
) -> float | None:
  """Of runs that were trained and judged likewise."""
  alike = json.loads(row.hparams)['as_published']
  return SHARES[sweep].get(unit, {}).get(value) if alike else None


def sweep_table(
  results: Sequence[Result], sweep: str, values: Sequence[str]
) -> Table:
  """Success at every value of a sweep, and the published share."""
  rows = []
  for value in values:
    for unit in arms_of(results):
      if of_cell := rows_at(results, sweep, value, unit):
        rows.append([value, unit, *_cell(sweep, value, of_cell)])
  headers = [sweep, 'unit', 'solved', 'share', '95 %', 'median step']
  headers += ['published', 'difference, 95 %', 'holds 0']
  caption = (
    f"{WORDS[sweep].capitalize()}. Wilson's intervals over seeds; steps: of "
    f"solved runs; difference: Newcombe's, of {SEEDS} published seeds, whose "
    'share is read off a figure.'
  )
  return Table(headers, rows, caption)


def _cell(sweep: str, value: str, rows: Sequence[Result]) -> list[str]:
  """What a unit has solved at a value, beside what was published."""
  k, n = solved(rows)
  steps = [row.value for row in select(rows, metric='step')]
  steps = [step for step in steps if step is not None]
  line = [f'{k} of {n}', format_percent(k / n), format_limits(*wilson(k, n))]
  line.append(f'{np.median(steps):,.0f}' if steps else '')
  there = published_share(sweep, value, rows[0].arm, rows[0])
  if there is None:
    return [*line, '', '', '']
  low, high = newcombe((k, n), (round(there * SEEDS), SEEDS))
  agrees = 'yes' if low <= 0 <= high else 'no'
  return [*line, format_percent(there, 0), format_limits(low, high), agrees]


def beside_table(results: Sequence[Result], unit: str) -> Table:
  """Every value of every sweep that is there, beside what was published.

  For runs that were trained otherwise: shares stand side by side, and nothing
  is tested.
  """
  rows = []
  for sweep, values in SWEEPS.items():
    for value in values:
      if of_cell := rows_at(results, sweep, value, unit):
        there = SHARES[sweep][unit][value]
        ours = _cell(sweep, value, of_cell)[:4]
        rows.append([WORDS[sweep], value, *ours, format_percent(there, 0)])
  headers = ['sweep', 'value', 'solved', 'share', '95 %', 'median step']
  return Table(
    [*headers, 'published, by Adam'],
    rows,
    "Wilson's intervals over seeds; steps: of solved runs. Published: 50 seeds "
    'of 5,000,000 to 15,000,000 steps, shares read off figures.',
  )


def threshold_table(results: Sequence[Result]) -> Table:
  """Below which test error runs counted as solved, at every setting."""
  rows = []
  for name in dict.fromkeys(row.split for row in results):
    used = json.loads(select(results, split=name)[0].hparams)['threshold']
    there = published_threshold(name)
    line = [name, f'{used:.4g}']
    if there is None:
      rows.append([*line, 'not known', ''])
    else:
      rows.append([*line, f'{there:.4g}', f'{used / there:.3f}'])
  headers = ['setting', 'used', 'published', 'used / published']
  return Table(
    headers,
    rows,
    'Mean squared test error below which a run has solved its task; published '
    'ones are those of subsets and overlaps of one input more.',
  )


def write_picture(
  results: Sequence[Result], sweep: str, values: Sequence[str], path: Path
) -> Path:
  """Share of seeds along a sweep, one line a unit, published ones beside."""
  lines = {
    unit: _line(results, sweep, values, unit) for unit in arms_of(results)
  }
  lines = {unit: line for unit, line in lines.items() if line is not None}
  return shares_by_value(
    lines,
    values,
    path,
    f'Products that are solved, by {WORDS[sweep]}',
    WORDS[sweep],
    "band: Wilson's 95 % over seeds",
  )


def _line(
  results: Sequence[Result], sweep: str, values: Sequence[str], unit: str
) -> Shares | None:
  """A unit along a sweep; None if it was trained nowhere on it."""
  point_4X = np.full((4, len(values)), np.nan)
  for x, value in enumerate(values):
    if rows := rows_at(results, sweep, value, unit):
      k, n = solved(rows)
      there = published_share(sweep, value, unit, rows[0])
      point_4X[:, x] = k / n, *wilson(k, n), np.nan if there is None else there
  return None if np.isnan(point_4X).all() else Shares(*point_4X)
