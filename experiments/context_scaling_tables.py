"""Tables and the heatmap of `experiments.context_scaling`.

Suffix key: R replicas, P panels, Y training scales, X evaluation scales.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.context_scaling_nets import NO_SCALE, NOT_TUNED, PLAIN
from experiments.language_length_arms import BASE, CONTROLS, CUT
from experiments.language_length_scores import LOSS
from experiments.length_tables import (
  cell,
  changes,
  check_one_text,
  claim_row,
  losses,
  nats,
  notes_of,
  of_cost,
  tested_lengths,
  text_of,
)
from extrap.evaluation.results import Result, arms_of
from extrap.reporting import panels
from extrap.reporting.tables import NOT_RUN, Table


class Claim(NamedTuple):
  """That one arm has less loss than another at a multiple of L."""

  words: str
  lower: str
  upper: str
  multiple: int


CLAIMS = (
  Claim('not trained further: YaRN below linear', 'yarn x8', 'linear x8', 8),
  Claim('not trained further: linear below NTK', 'linear x8', 'ntk x8', 8),
  *(
    Claim(f'{name} below {other}', arm, f'{method} 4 x4', multiple)
    for multiple in (4, 8)
    for name, arm in (
      ('CLEX', 'clex'),
      ('CLEX on long windows', 'clex_long'),
    )
    for other, method in (('linear', 'linear'), ('YaRN', 'yarn'))
  ),
  *(
    Claim(f'linear below {method}', 'linear 4 x4', f'{method} tuned', multiple)
    for multiple in (4, 8)
    for method in ('power', 'truncated')
  ),
  Claim(
    'linear at 4 serves better beyond when read at twice its scale',
    *('linear 4 x8', 'linear 4 x4', 8),
  ),
  Claim(
    'linear at 2 fails when read at four times its scale',
    *('linear 2 x4', 'linear 2 x8', 8),
  ),
)


def all_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Every table by its heading.

  Raises:
    ExtrapError: the rows are of more than one text.
  """
  check_one_text(results)
  tables = {'Loss by context, every arm': main_table(results)}
  for method in grid_methods(results):
    heading = f'Training scale by evaluation scale: {method}'
    tables[heading] = grid_table(results, method)
  return tables | {'Claims': claims_table(results)}


def main_table(results: Sequence[Result]) -> Table:
  """One row an arm, in the order of the sweep."""
  lengths = tested_lengths(results)
  first, last = lengths[0], lengths[-1]
  base = cell(results, BASE, LOSS, first)
  rows = [
    [
      f'{arm} (control)' if arm in CONTROLS else arm,
      *(nats(cell(results, arm, LOSS, length)) for length in lengths),
      *changes(results, arm, CUT, first, last),
      of_cost(cell(results, arm, LOSS, first), base),
    ]
    for arm in arms_of(results)
  ]
  headers = [
    'arm',
    *(f'loss at {length:,}' for length in lengths),
    *(f'more at {last:,}', 'below cut rotary', 'it gains', 'training'),
  ]
  row = results[0]
  return Table(
    headers,
    rows,
    f'Rotary nets trained on windows of {first:,} bytes. `linear 4 x8`: '
    'trained further at a scale of 4, read at 8; `linear x8`: not trained '
    f'further. Loss in nats of the same bytes, {row.n} windows; mean over '
    f'{len({row.replica for row in results})} seeds ± half of the t interval. '
    f'Below cut rotary: the loss at {last:,} of rotary that sees the last '
    f"{first:,} bytes alone, less the arm's, seed by seed. Training: FLOPs, "
    f'those of the rotary nets being 1. Text: {text_of(row)}.',
  )


def grid_methods(results: Sequence[Result]) -> list[str]:
  """Those whose nets were trained further at several scales."""
  scales: dict[str, set[int]] = {}
  for row in results:
    notes = notes_of(row)
    if notes['trained_scale'] > PLAIN:
      scales.setdefault(notes['method'], set()).add(notes['trained_scale'])
  return [method for method, found in scales.items() if len(found) > 1]


class Grid(NamedTuple):
  """Arms of a method by training scale and evaluation scale."""

  trained: list[int]
  read: list[int]
  arms: dict[tuple[int, int], str]


def grid_of(results: Sequence[Result], method: str) -> Grid:
  """A method's; where nothing is scaled, the arm is one of rotary."""
  arms = {}
  for row in results:
    notes = notes_of(row)
    place = notes['trained_scale'], notes['scale']
    if NO_SCALE in place:
      continue
    if notes['method'] == method or (notes['method'], place[1]) == (BASE, 1):
      arms[place] = row.arm
  trained, read = (sorted({place[side] for place in arms}) for side in (0, 1))
  return Grid(trained, read, arms)


def grid_table(results: Sequence[Result], method: str) -> Table:
  """Losses at every context: a row a training scale, a column an evaluation."""
  grid, rows = grid_of(results, method), []
  for length in tested_lengths(results):
    cut = nats(cell(results, CUT, LOSS, length))
    for trained in grid.trained:
      found = [
        nats(cell(results, grid.arms[trained, scale], LOSS, length))
        if (trained, scale) in grid.arms
        else NOT_RUN
        for scale in grid.read
      ]
      rows.append([f'{length:,}', _trained(trained), *found, cut])
  headers = ['context', 'trained at', *(f'read at {n}' for n in grid.read)]
  caption = 'Loss in nats, mean over seeds ± half of the t interval.'
  return Table([*headers, 'cut rotary'], rows, caption)


def claims_table(results: Sequence[Result]) -> Table:
  """Each claim whose arms there are."""
  lengths, rows = tested_lengths(results), []
  for claim in CLAIMS:
    length = claim.multiple * lengths[0]
    lower_R, upper_R = (
      losses(results, arm, length) for arm in (claim.lower, claim.upper)
    )
    if not len(lower_R) or len(lower_R) != len(upper_R):
      continue
    row = claim_row(claim.words, f'{length:,}', upper_R - lower_R)
    rows.append([*row, claim.lower, claim.upper])
  headers = ['claim', 'context', 'gap', 'it is so', 'lower', 'upper']
  caption = (
    'Gap: loss of the upper arm less that of the lower, seed by seed; mean ± '
    'half of the t interval.'
  )
  return Table(headers, rows, caption)


def matched_arms(results: Sequence[Result], window: int) -> list[str]:
  """What a figure has room for: rotary, and nets read as they were trained."""
  shown = {}
  for row in results:
    notes = notes_of(row)
    scales = notes['trained_scale'], notes['scale']
    tuned = scales in ((PLAIN, PLAIN), (window, window), (NO_SCALE, NO_SCALE))
    if tuned or row.arm in (BASE, CUT):
      shown[row.arm] = True
  return list(shown)


def heat_map(
  results: Sequence[Result], method: str, path: str | os.PathLike[str]
) -> Path:
  """Draws the grid of a method, a panel for each context."""
  grid, lengths = grid_of(results, method), tested_lengths(results)
  loss_PYX = np.stack([_losses_YX(results, grid, n) for n in lengths])
  names = (
    [f'{length:,} bytes' for length in lengths],
    [_trained(scale) for scale in grid.trained],
    [str(scale) for scale in grid.read],
  )
  labels = 'loss (nats)', 'training scale', 'evaluation scale'
  return panels.value_heatmaps(loss_PYX, names, path, labels)


def _losses_YX(
  results: Sequence[Result], grid: Grid, length: int
) -> np.ndarray:
  """Mean over seeds; nan where there is no arm."""
  mean_YX = np.full((len(grid.trained), len(grid.read)), np.nan)
  for (trained, scale), arm in grid.arms.items():
    place = grid.trained.index(trained), grid.read.index(scale)
    mean_YX[place] = losses(results, arm, length).mean()
  return mean_YX


def _trained(scale: int) -> str:
  return 'not further' if scale == NOT_TUNED else str(scale)
