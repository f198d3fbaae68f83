"""Tables of `experiments.retrieval_length`.

Shape key: D depths, L lengths.
"""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np

from extrap.evaluation.claims import Claim, at_length, judged, learned_by
from extrap.evaluation.results import Result, arms_of, select
from extrap.evaluation.statistics import wilson
from extrap.reporting.claims import claims_table, shown
from extrap.reporting.reach import trained_length
from extrap.reporting.tables import (
  Table,
  format_limits,
  format_percent,
)
from extrap.tasks.haystack import DEPTHS

FOUND = 0.9  # Least share of needles of an arm that has learned, or keeps it.
LOST = 0.2  # Above the chance of any needle of the row, 13 %.
FLAT = 0.1  # Largest rise of a loss that is called flat, in nats a digit.
# Of the digits of all answers of a row, and of its first answer.
LOSS, FIRST_LOSS = 'loss', 'loss_first'
LONGEST = 16  # Training lengths at which others have published.

MAIN, BY_DEPTH = 'Retrieval and loss by length', 'By depth at the longest test'

CLAIMS = tuple(
  Claim(
    published=f'{share} % (162M, 4,096 tokens)',
    arm=arm,
    multiple=LONGEST,
    side='above' if share > 100 * FOUND else 'below',
    threshold=FOUND if share > 100 * FOUND else LOST,
  )
  for arm, share in {
    'rotary': 0.0,
    'none': 0.0,
    'alibi': 0.3,
    'p_rotary': 0.0,
    'log_n_rotary': 6.4,
    'log_n_p_rotary': 93.9,
    'scale_invariant': 96.9,
  }.items()
)


def all_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Every question's, by its heading."""
  return {
    MAIN: main_table(results),
    'Published, and here': claims_table(over_depths(results), CLAIMS, FOUND),
    BY_DEPTH: depth_table(results),
  }


def far_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Those of tests at lengths beyond any that a claim is of."""
  return {MAIN: main_table(results), BY_DEPTH: depth_table(results)}


def over_depths(results: Sequence[Result]) -> list[Result]:
  """Prompts of all depths together: rows whose sizes are lengths."""
  grouped: dict[tuple[str, str, int], list[Result]] = {}
  for row in select(results, metric='exact_match'):
    key = (row.arm, row.size.partition('@')[0], row.replica)
    grouped.setdefault(key, []).append(row)
  together = []
  for (_, size, _), rows in grouped.items():
    right, n = sum(r.successes for r in rows), sum(r.n for r in rows)
    together.append(
      dataclasses.replace(
        rows[0], size=size, value=right / n, n=n, successes=right
      )
    )
  return together


def main_table(results: Sequence[Result]) -> Table:
  """One row an arm: retrieval, loss, and whether either is kept."""
  needles = over_depths(results)
  trained = trained_length(needles)
  lengths = sorted({int(row.size) for row in needles})
  rows = []
  for arm in arms_of(results):
    learned = learned_by(needles, arm, trained, FOUND)
    shares = [at_length(needles, arm, n, trained) for n in lengths]
    losses = [_losses(results, arm, n) for n in (trained, lengths[-1])]
    rise = [far - near for near, far in zip(*losses, strict=True)]
    _, found = judged([share - FOUND for share in shares[-1]], learned)
    _, flat = judged([FLAT - each for each in rise], learned)
    both = all(said.startswith('confirmed') for said in (found, flat))
    rows.append(
      [
        *(arm, *map(shown, shares), found, *map(_nats, losses), flat),
        'yes' if both else 'no',
        _nats(_losses(results, arm, lengths[-1], FIRST_LOSS)),
        *_cost(select(results, arm=arm)[0]),
      ]
    )
  headers = [
    *('arm', *(f'found at {n:,}' for n in lengths), 'retrieval stays'),
    *(f'loss at {n:,}' for n in (trained, lengths[-1])),
    *('loss stays flat', 'both', f'of first answers at {lengths[-1]:,}'),
    *('learning rate', 'samples', 'tuning', 'FLOPs', 'seconds'),
  ]
  return Table(headers, rows, _caption(results, trained, lengths[-1]))


def _losses(
  results: Sequence[Result], arm: str, length: int, metric: str = LOSS
) -> list[float]:
  rows = select(results, arm=arm, metric=metric, size=str(length))
  return [row.value for row in sorted(rows, key=lambda row: row.replica)]


def _nats(losses: Sequence[float]) -> str:
  return ', '.join(f'{loss:.3f}' for loss in losses)


def _cost(row: Result) -> list[str]:
  notes = json.loads(row.hparams)
  return [
    f'{notes["learning_rate"]:g}',
    f'{row.samples:,}',
    f'{notes["tuning_samples"]:,}',
    f'{row.flops:.1e}',
    f'{row.seconds:.0f}',
  ]


def _caption(results: Sequence[Result], trained: int, longest: int) -> str:
  row = select(results, metric='exact_match')[0]
  notes = json.loads(row.hparams)
  blind, own = notes['chance'], 1 / notes['needles']
  any_needle = own + (1 - own) * blind
  return (
    f'Every seed, in order. Prompts whose needle is found, in the mean over '
    f'{DEPTHS} depths, {row.n:,} prompts each; trained on contexts of up to '
    f'{trained:,} tokens (largest id of a row: {notes["trained_id"]}). Chance: '
    f'{format_percent(blind)} for a blind guess, {format_percent(any_needle)} '
    'for any needle of the row. Loss of the digits of all answers of a row, '
    f'nats a digit. Retrieval stays: above {format_percent(FOUND)} at '
    f'{longest:,}; flat: the loss there is less than {FLAT:g} above that at '
    f'{trained:,}; t intervals over the seeds that learned, which find at '
    f'least {format_percent(FOUND)} at {trained:,}: of the others nothing '
    'follows on extrapolation. Samples, FLOPs and seconds of a seed; tuning: '
    'samples that chose the learning rate.'
  )


def depth_table(results: Sequence[Result]) -> Table:
  """One row a seed: every depth at the longest test, with Wilson intervals."""
  needles = over_depths(results)
  longest = max(int(row.size) for row in needles)
  rows = []
  for whole in select(needles, size=str(longest)):
    of_seed = [
      _cell(results, whole.arm, longest, depth, whole.replica)
      for depth in range(1, DEPTHS + 1)
    ]
    least = min(of_seed, key=lambda row: row.value)
    rows.append(
      [
        *(whole.arm, str(whole.seed)),
        *(format_percent(row.value) for row in of_seed),
        *(_with_limits(least), _with_limits(whole)),
      ]
    )
  headers = [
    *('arm', 'seed', *DEPTH_NAMES),
    *('least depth (95 %)', 'mean (95 %)'),
  ]
  caption = (
    f'Needles found in {longest:,} tokens, by where they stand in the context; '
    'Wilson intervals within the seed.'
  )
  return Table(headers, rows, caption)


DEPTH_NAMES = tuple(
  f'{100 * depth // (DEPTHS - 1)} %' for depth in range(DEPTHS)
)


def _cell(
  results: Sequence[Result], arm: str, length: int, depth: int, replica: int
) -> Result:
  (row,) = select(
    results,
    arm=arm,
    size=f'{length}@{depth}',
    metric='exact_match',
    replica=replica,
  )
  return row


def _with_limits(row: Result) -> str:
  """'83.0 % (77.2..87.6)', within the only replica that a row is of."""
  limits = format_limits(*wilson(row.successes, row.n))
  return f'{format_percent(row.value)} ({limits})'


def depth_shares(
  results: Sequence[Result], arm: str
) -> tuple[np.ndarray, tuple[Sequence[str], Sequence[str]]]:
  """Median of the seeds, [D, L], and the names of depths and lengths."""
  rows = select(results, arm=arm, metric='exact_match')
  lengths = sorted({int(row.size.partition('@')[0]) for row in rows})
  share_DL = np.array(
    [
      [
        np.median([r.value for r in select(rows, size=f'{length}@{depth}')])
        for length in lengths
      ]
      for depth in range(1, DEPTHS + 1)
    ]
  )
  return share_DL, (DEPTH_NAMES, [f'{length:,}' for length in lengths])
