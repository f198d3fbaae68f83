"""Tables of claims, and of the exact match by length that they are about."""

from collections.abc import Sequence

from extrap.evaluation.claims import (
  FEWEST,
  Claim,
  at_length,
  judged,
  learned_by,
)
from extrap.evaluation.results import Result, arms_of
from extrap.reporting.reach import trained_length
from extrap.reporting.tables import (
  Table,
  format_limits,
  format_percent,
)

NOT_TESTED = 'not tested'


def length_table(
  results: Sequence[Result], least: float, unit: str = 'tokens'
) -> Table:
  """One row an arm, all its seeds at each length.

  Args:
    results: rows of exact match whose sizes are lengths.
    least: exact match at the training length from which a seed has learned.
    unit: of lengths.
  """
  trained = trained_length(results)
  lengths = sorted({int(row.size) for row in results})
  rows = []
  for arm in arms_of(results):
    learned = learned_by(results, arm, trained, least)
    shares = (at_length(results, arm, n, trained) for n in lengths)
    note = f'{sum(learned)} of {len(learned)}'
    note = note if any(learned) else f'not learned ({note})'
    rows.append([arm, note, *map(shown, shares)])
  headers = ['arm', f'learned {trained}', *(f'at {n:,}' for n in lengths)]
  caption = (
    f'Exact match by length in {unit}, every seed, in order; trained on up to '
    f'{trained:,}. A seed that is right on less than {format_percent(least)} '
    'there has not learned: nothing follows on how it extrapolates.'
  )
  return Table(headers, rows, caption)


def claims_table(
  results: Sequence[Result], claims: Sequence[Claim], least: float
) -> Table:
  """One row a claim of which the arm is there.

  Args:
    results: rows of exact match whose sizes are lengths.
    claims: what to judge.
    least: exact match at the training length from which a seed has learned.
  """
  trained, arms = trained_length(results), arms_of(results)
  rows = [
    _row(results, claim, trained, least)
    for claim in claims
    if claim.arm in arms
  ]
  headers = [
    *('published', 'asked here', f'at {trained:,}', 'at the length asked for'),
    *('95 %', 'verdict'),
  ]
  caption = (
    f'Every seed, in order; t interval over the seeds that are right on at '
    f'least {format_percent(least)} at {trained:,}, and verdict if they are '
    f'{FEWEST} or more. Verdicts are not corrected for how many there are.'
  )
  return Table(headers, rows, caption)


def _row(
  results: Sequence[Result], claim: Claim, trained: int, least: float
) -> list[str]:
  length = claim.multiple * trained
  side = 'over' if claim.side == 'above' else 'under'
  asked = f'{claim.arm}: {side} {format_percent(claim.threshold)} at {length:,}'
  inside, found = (
    at_length(results, claim.arm, n, trained) for n in (trained, length)
  )
  line = [claim.published, asked, shown(inside), shown(found)]
  if not found:
    return [*line, '', NOT_TESTED]
  learned = learned_by(results, claim.arm, trained, least)
  _, said = judged([claim.margin(v) for v in found], learned)
  return [*line, _limits(found, learned), said]


def _limits(values: Sequence[float], learned: Sequence[bool]) -> str:
  """Of exact match, over the seeds that count."""
  interval, _ = judged(values, learned)
  return '' if interval is None else format_limits(interval.low, interval.high)


def shown(shares: Sequence[float]) -> str:
  """'98.2 %, 97.0 %, 100 %', or that there are none."""
  return ', '.join(map(format_percent, shares)) or NOT_TESTED
