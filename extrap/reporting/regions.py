"""Tables of regions: every seed of every arm, and the interval of the mean."""

from collections.abc import Sequence

from extrap.evaluation.reach import LEARNED
from extrap.evaluation.regions import learned_replicas
from extrap.evaluation.results import Result, arms_of, select, values
from extrap.evaluation.statistics import across_replicas
from extrap.reporting.tables import Table, format_limits, format_percent


def region_table(
  results: Sequence[Result], metric: str = 'exact_match'
) -> Table:
  """Mean of each region that was tested, one row an arm.

  Args:
    results: rows of `extrap.evaluation.regions.region_rows`, among others.
    metric: what was counted.
  """
  chosen = [
    row
    for row in select(results, metric=metric)
    if row.split.startswith('region:')
  ]
  splits = list(dict.fromkeys(row.split for row in chosen))
  rows = []
  for arm in arms_of(chosen):
    of_arm = select(chosen, arm=arm)
    seeds = len({row.replica for row in of_arm})
    line = [arm, f'{len(learned_replicas(of_arm, arm, metric))} of {seeds}']
    for split in splits:
      line += _summary(values(select(of_arm, split=split)))
    rows.append(line)
  names = [split.removeprefix('region:') for split in splits]
  regions = (text for name in names for text in (name, '95 %'))
  caption = (
    'Every seed, in order; t interval of the mean. Learned: seeds with at '
    f'least {100 * LEARNED:g} % in distribution; of others nothing follows '
    'beyond it.'
  )
  return Table(['arm', 'learned', *regions], rows, caption)


def _summary(found: Sequence[float]) -> list[str]:
  """The values, and the limits of their mean in per cent."""
  if not found:
    return ['', '']
  interval = across_replicas(found)
  limits = format_limits(interval.low, interval.high)
  return [', '.join(map(format_percent, found)), limits]
