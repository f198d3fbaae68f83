"""Tables of `experiments.language_length`.

Suffix key: R replicas.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np

from experiments.language_length_arms import CONTROLS, CUT
from experiments.language_length_scores import (
  APART,
  COPIED,
  HIDDEN,
  LETTERS,
  LOSS,
  NEEDLE,
  ODDS,
)
from extrap.errors import ExtrapError
from extrap.evaluation.needle import CHANCE, GIVEN, REST
from extrap.evaluation.needle import LETTERS as NAME
from extrap.evaluation.results import (
  LENGTH_SPLITS,
  Result,
  arms_of,
  select,
  values,
)
from extrap.evaluation.statistics import across_replicas, verdict
from extrap.reporting.tables import OUT_OF_TABLE, Table, format_percent

# Nats above the best arm's loss at the training length, from which an arm is
# called under-trained.
UNDER_TRAINED = 0.15
FEWEST = 2  # Seeds that a verdict needs.


def all_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Every question's, by its heading.

  Raises:
    ExtrapError: the rows are of more than one text.
  """
  check_one_text(results)
  return {
    'Loss and retrieval by length': main_table(results),
    'Retrieval by length': retrieval_table(results),
  }


def check_one_text(results: Sequence[Result]) -> None:
  """Refuses rows of more than one text, which no table may compare."""
  texts = {_text(row) for row in results}
  if len(texts) > 1:
    raise ExtrapError(
      f'rows of {len(texts)} texts: {"; ".join(sorted(texts))}; numbers are '
      'compared within one text alone'
    )


def main_table(results: Sequence[Result]) -> Table:
  """One row an arm, in the order of their losses at the longest context."""
  lengths = tested_lengths(results)
  first, last = lengths[0], lengths[-1]
  best = min(
    np.mean(values(_cell(results, arm, LOSS, first)))
    for arm in arms_of(results)
    if values(_cell(results, arm, LOSS, first))
  )
  arms = sorted(arms_of(results), key=lambda arm: _order(results, arm, last))
  rows = [
    [
      f'{arm} (control)' if arm in CONTROLS else arm,
      *(nats(_cell(results, arm, LOSS, length)) for length in lengths),
      *_changes(results, arm, first, last),
      *(_apart(results, arm, length) for length in (first, last)),
      *(_letters(results, arm, length) for length in (first, last)),
      ', '.join(_notes(results, arm, first, best)),
    ]
    for arm in arms
  ]
  headers = [
    'arm',
    *(f'loss at {length:,}' for length in lengths),
    *(f'more at {last:,}', 'below cut rotary', 'it gains'),
    *(f'brackets at {length:,}' for length in (first, last)),
    *(f'letters at {length:,} (chance)' for length in (first, last)),
    'note',
  ]
  return Table(headers, rows, _caption(results, first, last))


def retrieval_table(results: Sequence[Result]) -> Table:
  """Brackets and names at every length."""
  lengths = tested_lengths(results)
  shown = {
    'brackets': (_apart, lengths),
    'letters': (_letters, lengths),
    'whole': (_whole, (lengths[0], lengths[-1])),
    'copied': (_copied, (lengths[0], lengths[-1])),
  }
  rows = [
    [arm]
    + [
      cell(results, arm, length) for cell, at in shown.values() for length in at
    ]
    for arm in arms_of(results)
  ]
  headers = ['arm'] + [
    f'{name} at {length:,}' for name, (_, at) in shown.items() for length in at
  ]
  caption = (
    'Brackets: pairs of prompts with another open bracket that are told apart '
    '(chance: 50 %), and by how many nats. Of names of '
    f'{NAME} letters whose first {GIVEN} are given again: letters of the other '
    f'{REST} that are right, in brackets where the window has another name in '
    f'its place (a blind guess: {format_percent(CHANCE)}); names of which all '
    f'{REST} are; and nats by which a letter is predicted better with the name '
    'in the window than with the other. Mean over seeds ± half of the t '
    'interval.'
  )
  return Table(headers, rows, caption)


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


def _apart(results: Sequence[Result], arm: str, length: int) -> str:
  """'98.0 % ± 0.4 % (0.14)': pairs that are told apart, and nats."""
  odds = values(_cell(results, arm, ODDS, length))
  if not odds:
    return OUT_OF_TABLE
  return f'{percent(_cell(results, arm, APART, length))} ({np.mean(odds):.2f})'


def _whole(results: Sequence[Result], arm: str, length: int) -> str:
  return percent(_cell(results, arm, NEEDLE, length))


def _copied(results: Sequence[Result], arm: str, length: int) -> str:
  return nats(_cell(results, arm, COPIED, length))


def _letters(results: Sequence[Result], arm: str, length: int) -> str:
  """'23.1 % ± 2.0 % (5.1 %)': with the name, and without."""
  shown = _cell(results, arm, LETTERS, length)
  hidden = values(_cell(results, arm, HIDDEN, length))
  if not hidden:
    return OUT_OF_TABLE
  return f'{percent(shown)} ({format_percent(float(np.mean(hidden)))})'


def _changes(
  results: Sequence[Result], arm: str, first: int, last: int
) -> list[str]:
  """What is added to the loss; what cut rotary has more; whether it has."""
  near_R, far_R, cut_R = (
    np.array(values(_cell(results, name, LOSS, length)))
    for name, length in ((arm, first), (arm, last), (CUT, last))
  )
  if not len(far_R):
    return [OUT_OF_TABLE, OUT_OF_TABLE, '']
  added = _signed(far_R - near_R)
  if arm == CUT or len(cut_R) != len(far_R):
    return [added, '', '']
  judged = ''
  if len(far_R) >= FEWEST:
    judged = verdict(across_replicas((cut_R - far_R).tolist()))
  return [added, _signed(cut_R - far_R), judged]


def _signed(value_R: np.ndarray) -> str:
  """'+0.012 ± 0.003'."""
  interval = across_replicas(value_R.tolist())
  half = (interval.high - interval.low) / 2
  tail = '' if np.isnan(half) else f' ± {half:.3f}'
  return f'{interval.mean:+.3f}{tail}'


def _notes(
  results: Sequence[Result], arm: str, first: int, best: float
) -> list[str]:
  """What is to be known of an arm before its numbers are read."""
  rows = _cell(results, arm, LOSS, first)
  notes = []
  if of := json.loads(rows[0].hparams)['of']:
    notes.append(f'nets of {of}')
  if found := values(rows):
    above = float(np.mean(found)) - best
    if above > UNDER_TRAINED:
      notes.append(f'under-trained: {above:.2f} above the best at {first}')
  shown, hidden = (
    values(_cell(results, arm, metric, first)) for metric in (LETTERS, HIDDEN)
  )
  if len(shown) >= FEWEST:
    gain = across_replicas(np.subtract(shown, hidden).tolist())
    if not gain.low > 0:
      notes.append(f'copies no names at {first}')
  whole = max(row.steps for row in results)
  if stopped := sum(row.steps < whole for row in rows):
    notes.append(f'{stopped} of {len(rows)} seeds diverged')
  return notes


def _order(results: Sequence[Result], arm: str, last: int) -> float:
  found = values(_cell(results, arm, LOSS, last))
  return float(np.mean(found)) if found else np.inf


def _cell(
  results: Sequence[Result], arm: str, metric: str, length: int
) -> list[Result]:
  """One row a replica."""
  size = str(length)
  return select(results, arm=arm, metric=metric, size=size, split=LENGTH_SPLITS)


def _text(row: Result) -> str:
  notes = json.loads(row.hparams)
  return f'SHA-256 {notes["text"]}, read by Python {notes["python"]}'


def _caption(results: Sequence[Result], first: int, last: int) -> str:
  row = _cell(results, arms_of(results)[0], LOSS, first)[0]
  seeds = len({row.replica for row in results})
  return (
    f'Trained on windows of {first:,} bytes. Loss in nats of the same bytes as '
    f'the context before them grows, {row.n} windows; mean over {seeds} seeds '
    f'± half of the t interval. More: loss at {last:,} less that at {first:,}. '
    f'Below cut rotary: the loss at {last:,} of rotary that sees the last '
    f"{first:,} bytes alone, less the arm's, seed by seed; an arm that is the "
    f'better one at {first:,} already may have that without using more, see '
    'the column before. Brackets: pairs of prompts with another open bracket '
    'that are told apart (chance: 50 %), and by how many nats. Letters: of a '
    'name in the window, right; in brackets chance, measured without the name. '
    'An arm that copies no names is not above it at the training length, and '
    'nothing follows from its letters beyond. Under-trained: more than '
    f'{UNDER_TRAINED:g} above the best arm at {first:,}. Text: {_text(row)}.'
  )
