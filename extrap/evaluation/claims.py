"""What trained replicas say of a claim, those that did not learn left out.

A replica that fails where it was trained says nothing on how it extrapolates.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from extrap.evaluation.results import Result, length_split, select
from extrap.evaluation.statistics import Interval, across_replicas, verdict

FEWEST = 2  # Replicas that a verdict needs.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
  """That an arm's exact match at a length is on one side of a threshold.

  Attributes:
    published: what others report, in words.
    arm: of which it is asked here.
    multiple: of the training length, at which it is asked.
    side: of the threshold, which itself is on neither.
    threshold: between 0 and 1.
  """

  published: str
  arm: str
  multiple: int
  side: Literal['above', 'below']
  threshold: float

  def margin(self, value: float) -> float:
    """How far a value is on the claimed side."""
    return (value - self.threshold) * (1 if self.side == 'above' else -1)


def judged(
  values: Sequence[float], learned: Sequence[bool]
) -> tuple[Interval | None, str]:
  """Whether values are positive: t interval and verdict in words.

  Args:
    values: one a replica.
    learned: which of them count.

  Returns:
    The interval over those that count, None if they are fewer than two, and
    the verdict with their number.
  """
  counted = [v for v, counts in zip(values, learned, strict=True) if counts]
  of = f'{len(counted)} of {len(values)} seeds'
  if len(counted) < FEWEST:
    return None, f'not learned ({of})'
  found = across_replicas(counted)
  return found, f'{verdict(found)} ({of})'


def at_length(
  results: Sequence[Result], arm: str, length: int, trained: int
) -> list[float]:
  """Exact match of every replica of an arm at a length, in their order.

  Args:
    results: rows whose sizes are lengths.
    arm: the arm; length: the length.
    trained: the largest length that was trained on.

  Returns:
    One value a replica; none where the length was not tested.
  """
  rows = select(
    results,
    arm=arm,
    size=str(length),
    split=length_split(length, trained),
    metric='exact_match',
  )
  rows = sorted(rows, key=lambda row: row.replica)
  return [row.value for row in rows if row.value is not None]


def learned_by(
  results: Sequence[Result], arm: str, trained: int, least: float
) -> list[bool]:
  """Which replicas have learned: exact match at the training length."""
  found = at_length(results, arm, trained, trained)
  return [value >= least for value in found]
