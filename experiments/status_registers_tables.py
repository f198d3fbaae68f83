"""What the study of status registers says of its rows."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence

import numpy as np

from extrap.evaluation.results import (
  Result,
  arms_of,
  format_size,
  parse_size,
  select,
)
from extrap.evaluation.statistics import across_replicas, wilson
from extrap.reporting.tables import Table, format_limits, format_percent

SMALL = 0.01  # A mean error below it counts as success.
SHOWN = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15)  # of the magnitudes


def tables(results: Sequence[Result]) -> dict[str, Table]:
  """All tables, by their headings, of the parts that there are."""
  shown = {}
  for part in ('comparisons', 'redundancy'):
    if rows := select(results, rung=part):
      shown[f'{part.capitalize()}: errors'] = reach_table(rows)
      shown[f'{part.capitalize()}: runs'] = comparison_table(rows)
      if select(rows, metric='leak'):
        shown[f'{part.capitalize()}: leaks'] = leak_table(rows)
  for part in ('lists', 'pieces', 'paths'):
    if rows := select(results, rung=part):
      shown[part.capitalize()] = corner_table(rows)
  if rows := select(results, rung='images'):
    shown['Images'] = image_table(rows)
  scaled = select(results, rung='scales')
  for comparison in dict.fromkeys(row.split for row in scaled):
    shown[f'Scales: {comparison}'] = scale_table(scaled, comparison)
  return shown


def over_comparisons(results: Sequence[Result]) -> list[Result]:
  """One row a seed and size, the mean of its comparisons."""
  cells: dict[tuple[str, str, int], list[Result]] = {}
  for row in select(results, metric='error'):
    cells.setdefault((row.arm, row.size, row.replica), []).append(row)
  return [
    dataclasses.replace(rows[0], split='all', value=_mean(rows))
    for rows in cells.values()
  ]


def _mean(rows: Sequence[Result]) -> float:
  return float(np.mean([row.value for row in rows]))


def _worst(
  rows: Sequence[Result], group: Callable[[Result], object]
) -> list[float]:
  """Of each group, its largest mean error of all sizes."""
  cells: dict[object, dict[str, list[Result]]] = {}
  for row in rows:
    cells.setdefault(group(row), {}).setdefault(row.size, []).append(row)
  return [max(map(_mean, sizes.values())) for sizes in cells.values()]


def _below(errors: Sequence[float]) -> tuple[str, str]:
  """How many are small, with Wilson's interval in percent."""
  right = sum(error < SMALL for error in errors)
  limits = format_limits(*wilson(right, len(errors)), decimals=0)
  return f'{right} of {len(errors)}', limits


def reach_table(results: Sequence[Result]) -> Table:
  """Mean error of comparisons by magnitude, and seeds that never err."""
  rows, chosen = [], select(results, metric='error')
  sizes = [str(10**m) for m in SHOWN if select(chosen, size=str(10**m))]
  for arm in arms_of(results):
    of_arm = select(chosen, arm=arm)
    by_size = [select(of_arm, size=size) for size in sizes]
    worst = _worst(of_arm, lambda row: row.replica)
    rows.append(
      [
        arm,
        *(f'{_mean(cell):.2g}' if cell else '-' for cell in by_size),
        f'{max(worst):.2g}',
        *_below(worst),
      ]
    )
  headers = ['arm', *(f'10^{len(size) - 1}' for size in sizes)]
  headers += ['worst seed', f'seeds below {SMALL:g}', '95 %']
  return Table(headers, rows, _caption(results))


def _caption(results: Sequence[Result]) -> str:
  """What is judged, and which columns are void."""
  kinds = {json.loads(row.hparams)['dtype'] for row in results}
  return (
    'Mean absolute error over comparisons and seeds; a seed is judged by its '
    "worst column, mean of the comparisons. Wilson's interval. Larger "
    f'magnitudes are void: {" and ".join(sorted(kinds))} does not hold all of '
    'their numbers.'
  )


def comparison_table(results: Sequence[Result]) -> Table:
  """Runs of each comparison that err nowhere."""
  chosen = select(results, metric='error')
  splits = list(dict.fromkeys(row.split for row in chosen))
  rows = []
  for arm in arms_of(results):
    line = [arm]
    for split in splits:
      of_cell = select(chosen, arm=arm, split=split)
      right, limits = _below(_worst(of_cell, lambda row: row.replica))
      line.append(f'{right} ({limits} %)')
    rows.append(line)
  caption = (
    f'Runs whose error is below {SMALL:g} in every column that counts, and '
    "Wilson's interval."
  )
  return Table(['arm', *splits], rows, caption)


def leak_table(results: Sequence[Result]) -> Table:
  """What operands take of inputs that are not theirs."""
  found = select(results, metric='leak')
  rows = []
  for arm in arms_of(found):
    leaks = [row.value for row in select(found, arm=arm)]
    rows.append([arm, f'{np.median(leaks):.1e}', f'{max(leaks):.1e}'])
  caption = (
    'Mean share over operands, weighted by their bits; median and largest of '
    'all runs. With two inputs it does no harm.'
  )
  return Table(['arm', 'leak', 'largest'], rows, caption)


def corner_table(results: Sequence[Result]) -> Table:
  """Mean error at the least and greatest of each axis of size."""
  axes = zip(*(parse_size(row.size) for row in results), strict=True)
  ends = [sorted({min(axis), max(axis)}) for axis in map(list, axes)]
  corners = [format_size(size) for size in itertools.product(*ends)]
  rows = []
  for arm in arms_of(results):
    of_arm = select(results, arm=arm)
    worst = _worst(of_arm, lambda row: row.replica)
    means = [_mean(select(of_arm, size=size)) for size in corners]
    shown = [f'{error:.3g}' for error in (*means, max(worst))]
    rows.append([arm, *shown, *_below(worst)])
  headers = ['arm', *corners, 'worst', f'seeds below {SMALL:g}', '95 %']
  caption = (
    'Mean absolute error over seeds at the corners; a seed is judged by the '
    "worst of all sizes. Wilson's interval."
  )
  return Table(headers, rows, caption)


def image_table(results: Sequence[Result]) -> Table:
  """How often each seed is right about two digits, and reads one."""
  rows, accuracies = [], select(results, metric='accuracy')
  for arm in arms_of(results):
    right = [row.value for row in select(accuracies, arm=arm)]
    interval = across_replicas(right)
    read = _mean(select(results, arm=arm, metric='read'))
    rows.append(
      [
        arm,
        format_percent(interval.mean, 2),
        format_limits(interval.low, interval.high, decimals=2),
        ' '.join(f'{100 * value:.2f}' for value in right),
        f'{_mean(select(results, arm=arm, metric="error")):.3g}',
        format_percent(read, 2),
      ]
    )
  caption = (
    'Pairs of test images, in percent: those of which the error is below 0.5, '
    'mean over seeds with a t interval, and each seed; of = equal and unequal '
    'pairs count as much. To say no to every pair makes about 55 % right of >, '
    '50 % of =. Then the mean absolute error, and images whose number rounds '
    'to their digit, which nothing asks for.'
  )
  headers = ['arm', 'accuracy', '95 %', 'each seed', 'error', 'digits read']
  return Table(headers, rows, caption)


def _spread(rows: Sequence[Result]) -> str:
  """Mean over seeds, with the least and the greatest."""
  values = [row.value for row in rows]
  return f'{_mean(rows):.3f} ({min(values):.3f}..{max(values):.3f})'


def scale_table(results: Sequence[Result], comparison: str) -> Table:
  """Mean error by unit and lambda, of one comparison."""
  cells: dict[tuple[float, float], list[Result]] = {}
  for row in select(results, metric='error', split=comparison):
    notes = json.loads(row.hparams)
    cells.setdefault((notes['scale'], notes['unit']), []).append(row)
  units = sorted({unit for _, unit in cells})
  rows = [
    [f'{scale:g}', *(_spread(cells[scale, unit]) for unit in units)]
    for scale in sorted({scale for scale, _ in cells})
  ]
  caption = (
    f'{comparison}: mean absolute error over seeds (least..greatest) at 10^1 '
    'units, by lambda (rows) and unit (columns).'
  )
  return Table(['lambda', *(f'{unit:g}' for unit in units)], rows, caption)
