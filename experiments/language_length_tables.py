"""Tables of `experiments.language_length`."""

import json
from collections.abc import Sequence

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
from experiments.length_tables import (
  FEWEST,
  cell,
  changes,
  check_one_text,
  nats,
  percent,
  tested_lengths,
  text_of,
)
from extrap.evaluation.needle import CHANCE, GIVEN, REST
from extrap.evaluation.needle import LETTERS as NAME
from extrap.evaluation.results import Result, arms_of, values
from extrap.evaluation.statistics import across_replicas
from extrap.reporting.tables import OUT_OF_TABLE, Table, format_percent

# Nats above the best arm's loss at the training length, from which an arm is
# called under-trained.
UNDER_TRAINED = 0.15


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


def main_table(results: Sequence[Result]) -> Table:
  """One row an arm, in the order of their losses at the longest context."""
  lengths = tested_lengths(results)
  first, last = lengths[0], lengths[-1]
  best = min(
    np.mean(values(cell(results, arm, LOSS, first)))
    for arm in arms_of(results)
    if values(cell(results, arm, LOSS, first))
  )
  arms = sorted(arms_of(results), key=lambda arm: _order(results, arm, last))
  rows = [
    [
      f'{arm} (control)' if arm in CONTROLS else arm,
      *(nats(cell(results, arm, LOSS, length)) for length in lengths),
      *changes(results, arm, CUT, first, last),
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
    + [one(results, arm, length) for one, at in shown.values() for length in at]
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


def _apart(results: Sequence[Result], arm: str, length: int) -> str:
  """'98.0 % ± 0.4 % (0.14)': pairs that are told apart, and nats."""
  odds = values(cell(results, arm, ODDS, length))
  if not odds:
    return OUT_OF_TABLE
  return f'{percent(cell(results, arm, APART, length))} ({np.mean(odds):.2f})'


def _whole(results: Sequence[Result], arm: str, length: int) -> str:
  return percent(cell(results, arm, NEEDLE, length))


def _copied(results: Sequence[Result], arm: str, length: int) -> str:
  return nats(cell(results, arm, COPIED, length))


def _letters(results: Sequence[Result], arm: str, length: int) -> str:
  """'23.1 % ± 2.0 % (5.1 %)': with the name, and without."""
  shown = cell(results, arm, LETTERS, length)
  hidden = values(cell(results, arm, HIDDEN, length))
  if not hidden:
    return OUT_OF_TABLE
  return f'{percent(shown)} ({format_percent(float(np.mean(hidden)))})'


def _notes(
  results: Sequence[Result], arm: str, first: int, best: float
) -> list[str]:
  """What is to be known of an arm before its numbers are read."""
  rows = cell(results, arm, LOSS, first)
  notes = []
  if of := json.loads(rows[0].hparams)['of']:
    notes.append(f'nets of {of}')
  if found := values(rows):
    above = float(np.mean(found)) - best
    if above > UNDER_TRAINED:
      notes.append(f'under-trained: {above:.2f} above the best at {first}')
  shown, hidden = (
    values(cell(results, arm, metric, first)) for metric in (LETTERS, HIDDEN)
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
  found = values(cell(results, arm, LOSS, last))
  return float(np.mean(found)) if found else np.inf


def _caption(results: Sequence[Result], first: int, last: int) -> str:
  row = cell(results, arms_of(results)[0], LOSS, first)[0]
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
    f'{UNDER_TRAINED:g} above the best arm at {first:,}. Text: {text_of(row)}.'
  )
