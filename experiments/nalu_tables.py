"""What the study of arithmetic units says of its rows, and what was published.

Published numbers: 100 seeds each, 5,000,000 steps (Madsen and Johansen 2020,
arXiv 2001.05016, with AndreasMadsen/stable-nalu's table of results).
"""

import json
import math
from collections.abc import Mapping, Sequence

from extrap.evaluation.likelihood import beta_mean, gamma_mean, newcombe
from extrap.evaluation.results import Result, select
from extrap.evaluation.statistics import Interval, wilson
from extrap.reporting.tables import Table, format_limits, format_percent

SEEDS = 100  # of every published cell
ORDER = ('mul', 'div', 'add', 'sub', 'root', 'squared')
# Solved, of 100, in that order.
SOLVED = {
  'nmu': (98, 0, 0, 56, 0, 100),
  'nac_mul_nmu': (93, 0, 0, 0, 3, 100),
  'nac_mul_sigma': (100, 0, 0, 0, 0, 100),
  'nac_mul': (31, 0, 0, 0, 7, 77),
  'nac_add': (0, 0, 100, 100, 0, 0),
  'nau': (0, 0, 100, 100, 0, 0),
  'nalu': (0, 0, 14, 14, 2, 0),
  'gated_nau_nmu': (0, 0, 0, 0, 0, 0),
  'linear': (0, 0, 100, 7, 0, 0),
  'relu': (0, 0, 62, 0, 0, 0),
  'relu6': (0, 0, 0, 0, 0, 0),
}
# Median step at which a run was solved.
MEDIANS = {
  ('nmu', 'mul'): 1_434_500,
  ('nmu', 'squared'): 1_219_500,
  ('nmu', 'sub'): 1_001_000,
  ('nac_mul_nmu', 'mul'): 1_750_000,
  ('nac_mul_nmu', 'squared'): 1_356_500,
  ('nac_mul_sigma', 'mul'): 2_547_500,
  ('nac_mul_sigma', 'squared'): 1_889_000,
  ('nac_mul', 'mul'): 2_771_000,
  ('nac_mul', 'squared'): 3_273_000,
  ('nac_mul', 'root'): 400_000,
  ('nac_add', 'add'): 248_500,
  ('nac_add', 'sub'): 9_000,
  ('nau', 'add'): 18_000,
  ('nau', 'sub'): 5_000,
  ('nalu', 'add'): 1_493_000,
  ('nalu', 'sub'): 1_877_500,
  ('linear', 'add'): 61_000,
  ('linear', 'sub'): 3_332_000,
  ('relu', 'add'): 61_500,
}


# Mean step, as published and as is most likely of the same runs; likewise the
# sparsity error (both from stable-nalu's table of its 100 seeds).
MEANS = {
  ('nau', 'add'): (3.91e5, 1.90e5),
  ('nau', 'sub'): (1.62e5, 5.83e4),
  ('nac_add', 'add'): (4.92e5, 3.02e5),
  ('nac_add', 'sub'): (3.71e5, 3.11e5),
  ('linear', 'sub'): (1.45e6, 3.04e6),
  ('nmu', 'mul'): (1.52e6, 1.50e6),
}
SPARSITY = {
  ('nac_add', 'add'): (0.227, 0.454),
  ('linear', 'add'): (0.249, 0.535),
  ('nac_mul_sigma', 'mul'): (4.6e-5, 9.1e-5),
  ('nac_mul', 'mul'): (5.8e-4, 1.1e-3),
  ('nmu', 'sub'): (3.4e-4, 6.6e-4),
}


def cells(results: Sequence[Result]) -> list[tuple[str, str]]:
  """Every model and operation, in order."""
  return list(dict.fromkeys((row.arm, row.split) for row in results))


def comparable(row: Result) -> bool:
  """Whether a run was made as the published ones were."""
  return row.arm in SOLVED and json.loads(row.hparams)['as_published']


def success_table(results: Sequence[Result]) -> Table:
  """Success of every cell with Wilson's interval, and the published rate."""
  rows = []
  for unit, operation in cells(results):
    found = select(results, arm=unit, split=operation, metric='solved')
    k, n = sum(row.successes for row in found), len(found)
    limits = format_limits(*wilson(k, n))
    line = [unit, operation, f'{k} of {n}', format_percent(k / n), limits]
    if not comparable(found[0]):
      rows.append([*line, '', '', ''])
      continue
    there = SOLVED[unit][ORDER.index(operation)]
    low, high = newcombe((k, n), (there, SEEDS))
    agrees = 'yes' if low <= 0 <= high else 'no'
    rows.append(
      [*line, f'{there} of {SEEDS}', format_limits(low, high), agrees]
    )
  headers = ['unit', 'operation', 'solved', 'share', '95 %']
  headers += ['published', 'difference, 95 %', 'holds 0']
  return Table(headers, rows, "Wilson's intervals; difference: Newcombe's.")


def time_table(results: Sequence[Result]) -> Table:
  """When runs were solved, and how far their weights are from integers."""
  rows = []
  for unit, operation in cells(results):
    of_cell = select(results, arm=unit, split=operation)
    right = {r.seed for r in select(of_cell, metric='solved') if r.successes}
    if not right:
      continue
    step, sparsity = (
      [r.value for r in select(of_cell, metric=metric) if r.seed in right]
      for metric in ('step', 'sparsity')
    )
    cell = (unit, operation) if comparable(of_cell[0]) else None
    median = f'{MEDIANS[cell]:,}' if cell in MEDIANS else ''
    when, far = gamma_mean(step), sparsity_mean(sparsity)
    rows.append(
      [
        *(unit, operation, f'{when.median:,.0f}', median),
        *(f'{when.mean:,.0f}', _limits(when, ',.0f')),
        _pair(MEANS, cell),
        *(f'{far.mean:.1e}', _limits(far, '.1e')),
        _pair(SPARSITY, cell),
      ]
    )
  headers = ['unit', 'operation', 'median step', 'published']
  headers += ['mean', '95 %', 'published (most likely)']
  headers += ['sparsity error', '95 %', 'published (actual)']
  caption = (
    'Of runs that are solved; first step with a small enough test error.'
  )
  return Table(headers, rows, caption)


def _limits(of: Interval, form: str) -> str:
  """Blank where a single run gives none."""
  return '' if math.isnan(of.low) else f'{of.low:{form}}..{of.high:{form}}'


def sparsity_mean(values: Sequence[float]) -> Interval:
  """The mean distance from integers; that of a weight beyond 1.5 passes 0.5."""
  if max(values) <= 0.5:
    return beta_mean(values, 0.5)
  return gamma_mean(values)


def _pair(
  known: Mapping[tuple[str, str], tuple[float, float]],
  cell: tuple[str, str] | None,
) -> str:
  """What was published, and what the same runs say."""
  if cell not in known:
    return ''
  published, actual = known[cell]
  return f'{published:.3g} ({actual:.3g})'
