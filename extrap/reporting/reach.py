"""Tables of reach: every seed of every arm, with what it cost."""

import json
from collections.abc import Sequence

from extrap.evaluation.reach import THRESHOLDS, reach
from extrap.evaluation.results import Result, arms_of, select
from extrap.reporting.tables import Table, format_percent


def reach_table(results: Sequence[Result], unit: str = 'digits') -> Table:
  """One row an arm: what each seed learned and how far it goes.

  Args:
    results: rows of `extrap.arms.score_lengths`, of one training length.
    unit: of lengths.
  """
  trained = trained_length(results)
  rows = [
    _row(select(results, arm=arm, metric='exact_match'), trained)
    for arm in arms_of(results)
  ]
  headers = [
    *('arm', 'rung', f'exact match at {trained}', 'reach at 99 %'),
    *('at 90 %', 'at 50 %', 'largest id trained', 'tested', 'longest test'),
    *('learning rate', 'samples', 'tuning', 'FLOPs', 'seconds'),
  ]
  caption = (
    f'Trained to {trained} {unit}; every seed, in order. Reach: the largest '
    'length up to which every tested one is so good; - where the training '
    'length is not (not learned: nothing follows on extrapolation). Samples, '
    'FLOPs and seconds of a seed; tuning: samples that chose the learning rate.'
  )
  return Table(headers, rows, caption)


def trained_length(results: Sequence[Result]) -> int:
  """The longest test inside the training region."""
  inside = select(results, split='in_distribution', metric='exact_match')
  return max(int(row.size) for row in inside)


def _row(chosen: Sequence[Result], trained: int) -> list[str]:
  replicas = [
    {
      int(row.size): row.value
      for row in select(chosen, replica=replica)
      if row.value is not None
    }
    for replica in sorted({row.replica for row in chosen})
  ]
  first, notes = chosen[0], json.loads(chosen[0].hparams)
  return [
    first.arm,
    first.rung,
    ', '.join(format_percent(one[trained]) for one in replicas),
    *(_reaches(replicas, trained, level) for level in THRESHOLDS),
    notes['trained_id'],
    notes['tested_id'],
    str(max(max(one) for one in replicas)),
    f'{notes["learning_rate"]:g}',
    f'{first.samples:,}',
    f'{notes["tuning_samples"]:,}',
    f'{first.flops:.1e}',
    f'{first.seconds:.0f}',
  ]


def _reaches(
  replicas: Sequence[dict[int, float]], trained: int, level: float
) -> str:
  """The reach of every seed, in order."""
  found = [reach(one, trained, level) for one in replicas]
  if all(far is None for far in found):
    return 'not learned'
  return ', '.join('-' if far is None else str(far) for far in found)
