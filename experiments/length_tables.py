"""What the tables of several studies of length have: cells, gaps, verdicts.

Suffix key: R replicas.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np

from experiments.language_length_scores import LOSS
from extrap.config import Value
from extrap.errors import ExtrapError
from extrap.evaluation.results import LENGTH_SPLITS, Result, select, values
from extrap.evaluation.statistics import across_replicas, verdict
from extrap.reporting.tables import OUT_OF_TABLE, format_percent

FEWEST = 2  # Seeds that a verdict needs.
EXACT = 4  # Decimals of a loss that float32 is trusted with.


def check_one_text(results: Sequence[Result]) -> None:
  """Refuses rows of more than one text, which no table may compare."""
  texts = {text_of(row) for row in results}
  if len(texts) > 1:
    raise ExtrapError(
      f'rows of {len(texts)} texts: {"; ".join(sorted(texts))}; numbers are '
      'compared within one text alone'
    )


def tested_lengths(results: Sequence[Result]) -> list[int]:
  """The lengths of context, the training length first."""
  rows = select(results, metric=LOSS, split=LENGTH_SPLITS)
  return sorted({int(row.size) for row in rows})


def nats(rows: Sequence[Result]) -> str:
  """'1.467 ± 0.004', mean of the replicas with half of its t interval."""
  return _mean(rows, lambda value: f'{value:.3f}')


def percent(rows: Sequence[Result]) -> str:
  """'52.3 % ± 1.2 %', likewise."""
  return _mean(rows, format_percent)


def _mean(rows: Sequence[Result], shown: Callable[[float], str]) -> str:
  found = values(rows)
  if not found:
    return OUT_OF_TABLE
  interval = across_replicas(found)
  half = (interval.high - interval.low) / 2
  if np.isnan(half):
    return shown(interval.mean)
  return f'{shown(interval.mean)} ± {shown(half)}'


def cell(
  results: Sequence[Result], arm: str, metric: str, length: int
) -> list[Result]:
  """One row a replica."""
  size = str(length)
  return select(results, arm=arm, metric=metric, size=size, split=LENGTH_SPLITS)


def text_of(row: Result) -> str:
  """What text a row is of, in words."""
  notes = notes_of(row)
  return f'SHA-256 {notes["text"]}, read by Python {notes["python"]}'


def changes(
  results: Sequence[Result], arm: str, cut: str, first: int, last: int
) -> list[str]:
  """What is added to the loss; what the cut arm has more; whether it has."""
  near_R, far_R, cut_R = (
    losses(results, name, length)
    for name, length in ((arm, first), (arm, last), (cut, last))
  )
  if not len(far_R):
    return [OUT_OF_TABLE, OUT_OF_TABLE, '']
  added = signed(far_R - near_R)
  if arm == cut or len(cut_R) != len(far_R):
    return [added, '', '']
  return [added, signed(cut_R - far_R), judged(cut_R - far_R)]


def losses(results: Sequence[Result], arm: str, length: int) -> np.ndarray:
  """Of each replica, [R]; none where the arm's table has ended."""
  return np.array(values(cell(results, arm, LOSS, length)))


def notes_of(row: Result) -> dict[str, Value]:
  """What is said of an arm beside its numbers."""
  return json.loads(row.hparams)


def of_cost(rows: Sequence[Result], base: Sequence[Result]) -> str:
  """'1.22': training FLOPs over those of other nets; stopped seeds are told."""
  mean = [np.mean([row.flops for row in each]) for each in (rows, base)]
  planned = notes_of(rows[0])['planned_steps']
  stopped = sum(row.steps < planned for row in rows)
  tail = f', {stopped} of {len(rows)} seeds diverged' if stopped else ''
  return f'{mean[0] / mean[1]:.2f}{tail}'


def claim_row(words: str, where: str, gap_R: np.ndarray) -> list[str]:
  """A claim that gaps of seeds are positive, them, and what they say of it."""
  return [words, where, signed(gap_R), judged(gap_R)]


def judged(gap_R: np.ndarray) -> str:
  """What gaps of seeds say of the claim that they are positive."""
  if len(gap_R) < FEWEST:
    return ''
  # Arms that see the same differ by the order of sums alone.
  return verdict(across_replicas(np.round(gap_R, EXACT).tolist()))


def signed(value_R: np.ndarray) -> str:
  """'+0.012 ± 0.003'."""
  interval = across_replicas(value_R.tolist())
  half = (interval.high - interval.low) / 2
  tail = '' if np.isnan(half) else f' ± {half:.3f}'
  return f'{interval.mean:+.3f}{tail}'
