"""Tables of `experiments.collinear`.

Suffix key: R replicas.
"""

import math
from collections.abc import Sequence

import numpy as np

from experiments.language_length_scores import APART, LETTERS, LOSS
from experiments.length_tables import (
  cell,
  changes,
  check_one_text,
  claim_row,
  losses,
  nats,
  notes_of,
  of_cost,
  percent,
  tested_lengths,
  text_of,
)
from extrap.evaluation.results import Result, arms_of, values
from extrap.evaluation.statistics import across_replicas
from extrap.reporting.tables import Table

# Perplexity at 1, 2, 4, 8 and 16 times the 512 tokens that were trained, and
# share of passkeys that are found (arXiv 2309.08646): by nets and factor.
PUBLISHED_FACTOR = 4
PUBLISHED = {
  ('rotary', 0): (19.66, 411.5, 3276, 3026, 3028),
  ('rotary', PUBLISHED_FACTOR): (19.66, 22.30, 38.00, 75.75, 138.1),
  ('coca_slack', 0): (20.11, 33.47, 69.06, 113.2, 157.4),
  ('coca_slack', PUBLISHED_FACTOR): (20.11, 20.81, 25.88, 34.16, 55.75),
}
PASSKEYS = {
  ('rotary', 0): (0.99, 0.53, 0.30, 0.18, 0.04),
  ('rotary', PUBLISHED_FACTOR): (0.99, 1.00, 0.95, 0.70, 0.41),
  ('coca_slack', PUBLISHED_FACTOR): (1.00, 1.00, 0.96, 0.89, 0.50),
}


def all_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Every table by its heading.

  Raises:
    ExtrapError: the rows are of more than one text.
  """
  check_one_text(results)
  return {
    'Loss and retrieval by length': main_table(results),
    'Growth of perplexity, beside the published one': growth_table(results),
    'Claims': claims_table(results),
  }


def main_table(results: Sequence[Result]) -> Table:
  """One row an arm, each beside the cut context of its own nets."""
  lengths = tested_lengths(results)
  first, last = lengths[0], lengths[-1]
  arms = arms_of(results)
  base = cell(results, arms[0], LOSS, first)
  asked = [
    (words, metric)
    for words, metric in (('brackets', APART), ('letters', LETTERS))
    if any(row.metric == metric for row in results)
  ]
  rows = [
    [
      f'{arm} (control)' if _notes(results, arm)['cut'] else arm,
      *(nats(cell(results, arm, LOSS, length)) for length in lengths),
      *changes(results, arm, _cut_of(results, arm), first, last),
      *(
        percent(cell(results, arm, metric, length))
        for _, metric in asked
        for length in (first, last)
      ),
      of_cost(cell(results, arm, LOSS, first), base),
    ]
    for arm in arms
  ]
  headers = [
    'arm',
    *(f'loss at {length:,}' for length in lengths),
    *(f'more at {last:,}', 'below its cut', 'it gains'),
    *(f'{words} at {n:,}' for words, _ in asked for n in (first, last)),
    'training',
  ]
  row = results[0]
  return Table(
    headers,
    rows,
    f'Trained on windows of {first:,} bytes. Loss in nats of the same bytes, '
    f'{row.n} windows; mean over {len({row.replica for row in results})} seeds '
    '± half of the t interval. Below its cut: the loss of the same nets that '
    f"see the last {first:,} bytes alone, less the arm's, at {last:,}, seed by "
    'seed. Brackets: pairs that are told apart (chance: 50 %). Training: '
    f'FLOPs, those of {arms[0]} being 1. Text: {text_of(row)}.',
  )


def growth_table(results: Sequence[Result]) -> Table:
  """Perplexity over that at the training length, ours and the published."""
  lengths = tested_lengths(results)
  multiples = [length // lengths[0] for length in lengths[1:]]
  rows = []
  for arm in arms_of(results):
    near_R = losses(results, arm, lengths[0])
    far = [losses(results, arm, length) - near_R for length in lengths[1:]]
    kind = _kind(results, arm)
    rows.append(
      [
        arm,
        *map(growth, far),
        *(_published(kind, multiple) for multiple in multiples),
        percent(cell(results, arm, APART, lengths[-1])),
        _passkeys(kind, multiples[-1]),
      ]
    )
  headers = [
    'arm',
    *(f'at {multiple}x' for multiple in multiples),
    *(f'published {multiple}x' for multiple in multiples),
    f'brackets at {multiples[-1]}x',
    f'passkeys, published {multiples[-1]}x',
  ]
  caption = (
    'e to the growth of the loss from the training length on: geometric mean '
    'over seeds, with the t interval of the logarithm. Published: perplexities '
    'of tokens, one model each, and passkeys found; brackets have a chance of '
    '50 %, passkeys of none.'
  )
  return Table(headers, rows, caption)


def growth(added_R: np.ndarray) -> str:
  """'2.77 (2.50 to 3.07)' of nats that are added, one a seed."""
  interval = across_replicas(added_R.tolist())
  shown = f'{math.exp(interval.mean):.2f}'
  if math.isnan(interval.low):
    return shown
  low, high = (math.exp(limit) for limit in (interval.low, interval.high))
  return f'{shown} ({low:.2f} to {high:.2f})'


def claims_table(results: Sequence[Result]) -> Table:
  """Whether each form of CoCA does what is claimed, at the longest context."""
  first, *_, last = tested_lengths(results)
  arms = {_kind(results, arm): arm for arm in arms_of(results)}
  rows = []
  for (nets, factor), arm in arms.items():
    rotary = arms.get(('rotary', factor))
    if nets in ('rotary', '') or rotary is None:
      continue
    own, other = (
      {n: losses(results, name, n) for n in (first, last)}
      for name in (arm, rotary)
    )
    apart_R, apart_rotary_R = (
      np.array(values(cell(results, name, APART, last)))
      for name in (arm, rotary)
    )
    grown = [of[last] - of[first] for of in (own, other)]
    at = f'{last:,}'
    rows += [
      claim_row(f'{arm}: its loss grows less', at, grown[1] - grown[0]),
      claim_row(f'{arm}: its loss is lower', at, other[last] - own[last]),
      claim_row(
        f'{arm}: it tells more brackets apart', at, apart_R - apart_rotary_R
      ),
    ]
  headers = ['claim', 'context', 'gap', 'it is so']
  caption = (
    'Against rotary read alike, seed by seed: nats, and shares of pairs; mean '
    '± half of the t interval.'
  )
  return Table(headers, rows, caption)


def _notes(results: Sequence[Result], arm: str) -> dict[str, object]:
  return notes_of(next(row for row in results if row.arm == arm))


def _cut_of(results: Sequence[Result], arm: str) -> str:
  return f'{_notes(results, arm)["nets"]}_cut'


def _kind(results: Sequence[Result], arm: str) -> tuple[str, float]:
  """Nets and factor; none of a control."""
  notes = _notes(results, arm)
  return ('', 0) if notes['cut'] else (notes['nets'], notes['factor'])


def _published(kind: tuple[str, float], multiple: int) -> str:
  found = PUBLISHED.get(kind)
  if found is None or multiple not in (2, 4, 8, 16):
    return ''
  return f'{found[multiple.bit_length() - 1] / found[0]:.2f}'


def _passkeys(kind: tuple[str, float], multiple: int) -> str:
  found = PASSKEYS.get(kind)
  if found is None or multiple not in (2, 4, 8, 16):
    return ''
  return f'{found[multiple.bit_length() - 1]:.2f}'
