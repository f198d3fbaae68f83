"""What the study of erosion says of its rows: one table a question.

Suffix keys: K looks during training, R replicas.
"""

from collections.abc import Sequence

import numpy as np

from extrap.evaluation.claims import judged
from extrap.evaluation.reach import LEARNED
from extrap.evaluation.results import Result, arms_of, select
from extrap.evaluation.statistics import Interval
from extrap.reporting.tables import Table, format_percent

COUNTED = (
  'Every seed, in order; gain in points, t interval and verdict of the same '
  'seeds as above.'
)
SHIFTS = 16  # of ids whose predictions are averaged at inference


def trained_length(results: Sequence[Result]) -> int:
  """N."""
  return int(select(results, split='in_distribution')[0].size)


def _curves(results: Sequence[Result], arm: str, length: int) -> np.ndarray:
  """Exact match of every look at a length, [looks, R]."""
  rows = select(results, arm=arm, checkpoint='then', size=str(length))
  replicas = len({row.replica for row in rows})
  return np.array([row.value for row in rows]).reshape(-1, replicas)


def _eroded(results: Sequence[Result], arm: str) -> dict[str, np.ndarray]:
  """Of each replica: N at the end, and 2 N over the looks."""
  n = trained_length(results)
  inside_KR, double_KR = (_curves(results, arm, m) for m in (n, 2 * n))
  # Fixed quarters: a look that was chosen for being good would be a fluke.
  _, _, third_KR, last_KR = np.array_split(double_KR, 4)
  return {
    'inside': _late(inside_KR),
    'greatest': double_KR.max(axis=0),
    'third': third_KR.mean(axis=0),
    'last': last_KR.mean(axis=0),
  }


def _late(inside_KR: np.ndarray) -> np.ndarray:
  """Mean of the second half of the looks, [R]."""
  return np.concatenate(np.array_split(inside_KR, 4)[2:]).mean(axis=0)


def _judged(
  results: Sequence[Result], arm: str, change_R: Sequence[float]
) -> list[str]:
  """Mean change, interval and verdict, of seeds that stay right at N."""
  learned_R = _late(_curves(results, arm, trained_length(results))) >= LEARNED
  found, said = judged(list(change_R), learned_R.tolist())
  return ['', '', said] if found is None else [*_points(found), said]


def all_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Every question's, by its heading."""
  return {
    'What is lost': erosion_table(results),
    'Diluted attention': dilution_table(results),
    'Confused ids': confusion_table(results),
  }


def erosion_table(results: Sequence[Result]) -> Table:
  """What is left at 2 N of what was there before, of every seed."""
  n, rows = trained_length(results), []
  for arm in arms_of(results):
    found = _eroded(results, arm)
    lost_R = found['third'] - found['last']
    rows.append(
      [arm]
      + [', '.join(map(format_percent, values)) for values in found.values()]
      + _judged(results, arm, lost_R)
    )
  headers = [
    *('arm', f'{n} digits, late', f'{2 * n}: greatest'),
    *('third quarter', 'last quarter', 'lost', '95 %', 'erosion'),
  ]
  caption = (
    f'Every seed, in order. Lost: mean exact match at {2 * n} digits in the '
    'third quarter of training, less that in the last; t interval, in points, '
    f'over seeds of which at {n} digits at least 99 % are right in the mean of '
    'both quarters (late). The greatest is of all looks, chosen after the fact.'
  )
  return Table(headers, rows, caption)


def dilution_table(results: Sequence[Result]) -> Table:
  """The two predictions of diluted attention, for every arm."""
  n, rows = trained_length(results), []
  for arm in arms_of(results):
    mass = {
      length: [
        row.value
        for row in select(
          results, arm=arm, metric='near_mass', size=str(length)
        )
      ]
      for length in (n, 2 * n)
    }
    *_, falls = _judged(results, arm, np.subtract(mass[n], mass[2 * n]))
    line = [arm, *(_shares(values) for values in mass.values()), falls]
    rows.append([*line, *_changed(results, arm, 2 * n, 'gain:2')])
  headers = [
    *('arm', f'near mass at {n}', f'at {2 * n}', 'it falls'),
    *(f'{2 * n} digits, as trained', 'logits doubled', 'gain', '95 %'),
    'sharper helps',
  ]
  return Table(headers, rows, COUNTED)


def confusion_table(results: Sequence[Result]) -> Table:
  """What the mean over shifts of the ids changes, for every arm."""
  n, rows = trained_length(results), []
  for arm in arms_of(results):
    rows.append([arm, *_changed(results, arm, 2 * n, f'shifts:{SHIFTS}')])
  headers = [
    *('arm', f'{2 * n} digits, one shift', f'mean of {SHIFTS} shifts'),
    *('gain', '95 %', 'the mean helps'),
  ]
  return Table(headers, rows, COUNTED)


def _changed(
  results: Sequence[Result], arm: str, length: int, way: str
) -> list[str]:
  """Exact match as trained and in a way, their difference and the verdict."""
  before, after = (
    [
      row.value
      for row in select(results, arm=arm, split=split, size=str(length))
    ]
    for split in ('gain:1', way)
  )
  if not before or not after:
    return [''] * 5
  shown = [', '.join(map(format_percent, v)) for v in (before, after)]
  return [*shown, *_judged(results, arm, np.subtract(after, before))]


def _points(interval: Interval) -> list[str]:
  limits = f'{100 * interval.low:+.1f}..{100 * interval.high:+.1f}'
  return [f'{100 * interval.mean:+.1f}', limits]


def _shares(values: Sequence[float]) -> str:
  return ', '.join(f'{value:.2f}' for value in values)
