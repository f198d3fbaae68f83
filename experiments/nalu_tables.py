"""What the study of arithmetic units says of its rows, and what was published.

Published numbers: 100 seeds each, 5,000,000 steps (Madsen and Johansen 2020,
arXiv 2001.05016, with AndreasMadsen/stable-nalu's table of results).
"""

from collections.abc import Sequence

from extrap.evaluation.likelihood import beta_mean, gamma_mean, newcombe
from extrap.evaluation.results import Result, select
from extrap.evaluation.statistics import wilson
from extrap.reporting.tables import Table, format_percent

SEEDS, STEPS = 100, 5_000_000  # of every published cell
INPUTS = '100'
OPERATIONS = ('mul', 'div', 'add', 'sub', 'root', 'squared')
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


def cells(results: Sequence[Result]) -> list[tuple[str, str]]:
  """Every model and operation, in order."""
  return list(dict.fromkeys((row.arm, row.split) for row in results))


def published(row: Result) -> int | None:
  """How many of 100 seeds were solved, where that was published.

  A shorter run, or one with other inputs, has nothing to be compared with.
  """
  alike = row.steps == STEPS and row.size == INPUTS
  if row.arm not in SOLVED or not alike:
    return None
  return SOLVED[row.arm][OPERATIONS.index(row.split)]


def success_table(results: Sequence[Result]) -> Table:
  """Success of every cell with Wilson's interval, and the published rate."""
  rows = []
  for unit, operation in cells(results):
    found = select(results, arm=unit, split=operation, metric='solved')
    k, n = sum(row.successes for row in found), len(found)
    limits = _limits(*wilson(k, n))
    line = [unit, operation, f'{k} of {n}', format_percent(k / n), limits]
    there = published(found[0])
    if there is None:
      rows.append([*line, '', '', ''])
      continue
    low, high = newcombe((k, n), (there, SEEDS))
    agrees = 'yes' if low <= 0 <= high else 'no'
    rows.append([*line, f'{there} of {SEEDS}', _limits(low, high), agrees])
  headers = ['unit', 'operation', 'solved', 'share', '95 %']
  headers += ['published', 'difference, 95 %', 'holds 0']
  return Table(headers, rows, "Wilson's intervals; difference: Newcombe's.")


def _limits(low: float, high: float) -> str:
  return f'{100 * low:.1f}..{100 * high:.1f}'


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
    when, far = gamma_mean(step), beta_mean(sparsity, 0.5)
    there = MEDIANS.get((unit, operation))
    rows.append(
      [
        *(unit, operation, f'{when.median:,.0f}'),
        f'{there:,}' if there else '',
        f'{when.mean:,.0f}',
        f'{when.low:,.0f}..{when.high:,.0f}',
        f'{far.mean:.1e}',
        f'{far.low:.1e}..{far.high:.1e}',
      ]
    )
  headers = ['unit', 'operation', 'median step', 'published']
  headers += ['mean', '95 %', 'sparsity error', '95 %']
  caption = (
    'Of runs that are solved; first step with a small enough test error.'
  )
  return Table(headers, rows, caption)
