"""What the study of periodic signals says of its rows.

Errors are medians over seeds; one that failed has an error of infinity.
"""

import json
import math
from collections.abc import Sequence

from extrap.evaluation.results import Result, arms_of, select
from extrap.evaluation.statistics import median_interval, wilson
from extrap.reporting.tables import Table, format_limits

SOLVED = 1e-3  # Error outside up to which a signal counts as continued.
LEARNED = 0.1  # Error inside, a fifth of that of predicting zero.
NOT_LEARNED = 'not learned'


def forms_of(results: Sequence[Result]) -> list[str]:
  """Every form, in order."""
  return list(dict.fromkeys(row.split for row in results))


def errors(
  results: Sequence[Result], arm: str, form: str, where: str
) -> list[float]:
  """The error of every seed, inside or outside of the trained range."""
  found = select(results, arm=arm, split=form, size=where, metric='mse')
  return [math.inf if row.value is None else row.value for row in found]


def outside(results: Sequence[Result]) -> str:
  """The size of rows that lie outside."""
  return max((row.size for row in results), key=int)


def has_learned(inside: Sequence[float]) -> bool:
  """Whether an arm has learned a form in distribution."""
  return median_interval(inside).median <= LEARNED


def form_table(results: Sequence[Result], form: str) -> Table:
  """One form: each arm inside and outside, and how many seeds it continues."""
  rows = []
  for arm in arms_of(results):
    inside = errors(results, arm, form, '1')
    there = errors(results, arm, form, outside(results))
    of_arm = select(results, arm=arm, split=form)[0]
    rows.append(
      [
        *(arm, of_arm.rung, f'{json.loads(of_arm.hparams)["parameters"]:,}'),
        *(_median(inside), _median(there), f'{min(there):.1e}'),
        f'{max(there):.1e}',
        _continued(inside, there),
      ]
    )
  headers = ['arm', 'assumes', 'parameters', 'inside', 'outside']
  headers += ['least', 'greatest', f'outside <= {SOLVED:g}']
  caption = (
    'Mean squared error, median over seeds (95 %, order statistics); seeds '
    'that are continued, of those that have learned (an error inside of at '
    f"most {LEARNED:g}), with Wilson's interval. Predicting zero has about 0.5."
  )
  return Table(headers, rows, caption)


def _continued(inside: Sequence[float], there: Sequence[float]) -> str:
  """How many of the seeds that have learned a form continue it.

  One that failed counts as one that does not.
  """
  learned = [
    far
    for near, far in zip(inside, there, strict=True)
    if near <= LEARNED or math.isinf(near)
  ]
  if not learned:
    return NOT_LEARNED
  solved = sum(error <= SOLVED for error in learned)
  limits = format_limits(*wilson(solved, len(learned)), decimals=0)
  return f'{solved} of {len(learned)} ({limits} %)'


def all_forms_table(results: Sequence[Result]) -> Table:
  """Median error outside, one row an arm and one column a form."""
  forms, rows = forms_of(results), []
  for arm in arms_of(results):
    line = [arm]
    for form in forms:
      there = errors(results, arm, form, outside(results))
      learned = has_learned(errors(results, arm, form, '1'))
      line.append(f'{median_interval(there).median:.1e}' + '*' * (not learned))
    rows.append(line)
  caption = f'Median error outside; *: in the median {NOT_LEARNED} inside.'
  return Table(['arm', *forms], rows, caption)


def seeds_table(results: Sequence[Result], arm: str) -> Table:
  """Every seed of an arm: its error outside, in the order of seeds."""
  rows = []
  for form in forms_of(results):
    there = errors(results, arm, form, outside(results))
    solved = sum(error <= SOLVED for error in there)
    listed = ' '.join(f'{error:.0e}' for error in there)
    rows.append([form, f'{solved} of {len(there)}', listed])
  headers = ['form', f'outside <= {SOLVED:g}', 'error outside of each seed']
  return Table(headers, rows, f'All seeds of {arm}, in order.')


def choices_table(results: Sequence[Result]) -> Table:
  """What was chosen for each arm and form, and what choosing took."""
  rows = []
  for arm in arms_of(results):
    for form in forms_of(results):
      of_cell = select(results, arm=arm, split=form)[0]
      notes = json.loads(of_cell.hparams)
      if 'learning_rate' in notes:
        rows.append(
          [
            *(arm, form, f'{notes["learning_rate"]:g}', notes['scale']),
            f'{of_cell.samples:,}',
            f'{notes["tuning_samples"]:,}',
          ]
        )
  headers = ['arm', 'form', 'learning rate', 'times', 'samples a seed']
  return Table([*headers, 'samples to choose'], rows, 'By points held out.')


def _median(values: Sequence[float]) -> str:
  found = median_interval(values)
  limits = (
    '' if math.isnan(found.low) else f' ({found.low:.1e}..{found.high:.1e})'
  )
  return f'{found.median:.1e}{limits}'
