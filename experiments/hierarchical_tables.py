"""Tables of `experiments.hierarchical`.

Suffix key: R replicas.
"""

from collections.abc import Sequence

import numpy as np

from experiments.hierarchical_scores import BY_PLACE, NEAR
from experiments.language_length_arms import CONTROLS, CUT, SLIDING
from experiments.language_length_scores import LOSS
from experiments.length_tables import (
  cell,
  check_one_text,
  claim_row,
  judged,
  losses,
  nats,
  signed,
  tested_lengths,
  text_of,
)
from extrap.evaluation.results import Result, arms_of, select, values
from extrap.reporting.tables import Table

# Nats above the control, up to which an arm is called stable.
MARGIN = 0.1
HIROPE = 'hirope'
OTHERS = ('rotary', 'ntk', 'rerope', 'self_extend')


def all_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Every table by its heading.

  Raises:
    ExtrapError: the rows are of more than one text.
  """
  check_one_text(results)
  return {
    'Loss of the same bytes as the context grows': main_table(results),
    'Loss by place in long windows': place_table(results),
    'Claims': claims_table(results),
  }


def main_table(results: Sequence[Result]) -> Table:
  """Loss at every context, and what is added to that of the same bytes."""
  lengths = tested_lengths(results)
  first, last = lengths[0], lengths[-1]
  rows = []
  for arm in arms_of(results):
    far_R, cut_R = (losses(results, name, last) for name in (arm, CUT))
    near_R = np.array(values(cell(results, arm, NEAR, last)))
    gains = ['', ''] if arm == CUT else _gains(cut_R, far_R)
    rows.append(
      [
        f'{arm} (control)' if arm in CONTROLS else arm,
        *(nats(cell(results, arm, LOSS, length)) for length in lengths),
        signed(far_R - near_R),
        *gains,
      ]
    )
  some = arms_of(results)[0]
  counts = {n: cell(results, some, LOSS, n)[0].n for n in lengths}
  headers = [
    'arm',
    *(f'loss at {n:,} ({counts[n]} windows)' for n in lengths),
    *(f'more at {last:,}', 'below cut rotary', 'it gains'),
  ]
  row = results[0]
  return Table(
    headers,
    rows,
    f'Trained on windows of {first:,} bytes. Loss in nats of the last bytes of '
    'windows, of which there are the fewer the longer they are: losses of one '
    'column are of the same bytes, those of two are not. Mean over '
    f'{len({row.replica for row in results})} seeds ± half of the t interval. '
    f'More: loss at {last:,} less that of the same bytes at {first:,}. Below '
    f'cut rotary: the loss of rotary that sees the last {first:,} bytes, less '
    f"the arm's, at {last:,}, seed by seed. Text: {text_of(row)}.",
  )


def _gains(cut_R: np.ndarray, far_R: np.ndarray) -> list[str]:
  if len(cut_R) != len(far_R):
    return ['', '']
  return [signed(cut_R - far_R), judged(cut_R - far_R)]


def place_table(results: Sequence[Result]) -> Table:
  """Loss by octaves of place, and how far an arm is stable."""
  ends = _ends(results)
  rows = [
    [
      f'{arm} (control)' if arm in CONTROLS else arm,
      *(nats(_place(results, arm, end)) for end in ends),
      *_stable(results, arm, ends),
    ]
    for arm in arms_of(results)
    if arm != CUT
  ]
  headers = [
    *('arm', f'up to {ends[0]:,}'),
    *(f'to {end:,}' for end in ends[1:]),
    *(f'above {SLIDING}, to {ends[-1]:,}', 'stable there', 'stable up to'),
  ]
  count = select(results, split=BY_PLACE)[0].n
  caption = (
    f'Loss in nats of every byte of {count} windows of {ends[-1]:,} bytes, by '
    'octaves of place; mean over seeds ± half of the t interval. Stable: at '
    f'most {MARGIN:g} nats above rotary whose every layer sees the last '
    f'{ends[0]:,} bytes, on the same bytes; up to the end of the last octave '
    'before the first in which this is not confirmed.'
  )
  return Table(headers, rows, caption)


def _stable(
  results: Sequence[Result], arm: str, ends: Sequence[int]
) -> list[str]:
  """How far above the control at the end; whether stable; and how far."""
  above = {end: _above(results, arm, end) for end in ends}
  if arm == SLIDING or not len(above[ends[-1]]):
    return ['', '', '']
  reach = 0
  for end in ends:
    if judged(MARGIN - above[end]) != 'confirmed':
      break
    reach = end
  last = above[ends[-1]]
  return [signed(last), judged(MARGIN - last), f'{reach:,}']


def claims_table(results: Sequence[Result]) -> Table:
  """HiRoPE's forms: stable to the end, and below the other methods there."""
  last, arms, rows = _ends(results)[-1], arms_of(results), []
  for arm in (name for name in arms if name.startswith(HIROPE)):
    above_R = _above(results, arm, last)
    rows.append(claim_row(f'{arm} is stable', f'{last:,}', MARGIN - above_R))
    for other in (name for name in OTHERS if name in arms):
      gap_R = _above(results, other, last) - above_R
      rows.append(claim_row(f'{arm} below {other}', f'{last:,}', gap_R))
  headers = ['claim', 'place', 'gap', 'it is so']
  caption = (
    f'In the last octave of long windows, seed by seed. Stable: {MARGIN:g} '
    'nats less what the arm is above its control.'
  )
  return Table(headers, rows, caption)


def _ends(results: Sequence[Result]) -> list[int]:
  """Ends of the octaves."""
  return sorted({int(row.size) for row in select(results, split=BY_PLACE)})


def _place(results: Sequence[Result], arm: str, end: int) -> list[Result]:
  return select(results, arm=arm, split=BY_PLACE, size=str(end))


def _above(results: Sequence[Result], arm: str, end: int) -> np.ndarray:
  """Nats above the control in an octave, [R]; none before it is tested."""
  own_R, control_R = (
    np.array(values(_place(results, name, end))) for name in (arm, SLIDING)
  )
  return own_R - control_R if len(control_R) == len(own_R) else np.array([])
