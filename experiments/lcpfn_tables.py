"""Tables of `experiments.lcpfn`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extrap.evaluation.results import Result, select
from extrap.reporting.tables import Table

CUTOFFS = (10, 20, 40, 80)
LEVELS = (50, 80, 95)  # Percent, central.
# Mean log density at the cutoffs, as published.
ELSEWHERE = {
  'published, 3 x 128, 1M curves': (1.528, 1.894, 2.159, 2.279),
  'published, 12 x 128, 1M curves': (1.621, 1.982, 2.223, 2.326),
  'published, 3 x 128, 10M curves': (1.585, 1.989, 2.282, 2.431),
  'published, 12 x 128, 10M curves': (1.717, 2.094, 2.377, 2.498),
  'published, 12 x 512, 10M curves': (1.758, 2.133, 2.403, 2.519),
  'published, best MCMC': (1.642, 1.956, 2.285, 2.486),
}


def log_density_table(results: Sequence[Result]) -> Table:
  """Every replica, with what is published."""
  rows = []
  for row in select(results, metric='log_density', size=str(CUTOFFS[0])):
    found = _cells(results, row, 'log_density')
    error = _cells(results, row, 'log_density_error')
    rows.append(
      [
        f'{row.arm}, seed {row.seed}',
        f'{json.loads(row.hparams)["parameters"]:,}',
        f'{row.samples:,}',
        f'{row.seconds:,.3g}' if row.seconds < 10 else f'{row.seconds:,.0f}',
        f'{row.n:,}',
        *(f'{found[at].value:.3f} ± {error[at].value:.3f}' for at in CUTOFFS),
      ]
    )
  for name, values in ELSEWHERE.items():
    rows.append([name, '', '', '', '', *(f'{value:.3f}' for value in values)])
  return Table(
    ['arm', 'parameters', 'curves', 'seconds', 'tested', *map(str, CUTOFFS)],
    rows,
    'Mean log density of an unseen noisy point, in nats, by how many of 100 '
    'points are seen; with the standard error over the curves tested. Curves '
    'and seconds of training; where there is none, CPU seconds of a curve.',
  )


def gap_table(folder: Path) -> Table:
  """The posterior's log density less that of others, on the same curves."""
  rows, exact = [], folder / 'arms' / 'posterior' / 'log_density_0.npz'
  others = sorted((folder / 'arms').glob('*/log_density_*.npz'))
  for path in others if exact.exists() else ():
    if path != exact:
      gaps = [_gap(exact, path, str(cutoff)) for cutoff in CUTOFFS]
      seed = path.stem.rpartition('_')[2]
      rows.append([f'{path.parent.name}, replica {seed}', *gaps])
  return Table(
    ['arm', *map(str, CUTOFFS)],
    rows,
    'Log density of the posterior less that of the arm, mean over the curves '
    'that both have, paired, with its standard error.',
  )


def _gap(exact: Path, other: Path, cutoff: str) -> str:
  """The mean difference of two arms on the curves that both have."""
  with np.load(exact) as one, np.load(other) as two:
    count = min(len(one[cutoff]), len(two[cutoff]))
    gap_N = one[cutoff][:count] - two[cutoff][:count]
  error = gap_N.std(ddof=1) / np.sqrt(count)
  return f'{gap_N.mean():.3f} ± {error:.3f}'


def coverage_table(results: Sequence[Result]) -> Table:
  """How often points lie within central intervals."""
  rows = []
  for row in select(results, metric='log_density', size=str(CUTOFFS[0])):
    for level in LEVELS:
      found = _cells(results, row, f'coverage_{level}')
      shares = (f'{100 * found[at].value:.1f} %' for at in CUTOFFS)
      rows.append([f'{row.arm}, seed {row.seed}', f'{level} %', *shares])
  return Table(
    ['arm', 'interval', *map(str, CUTOFFS)],
    rows,
    'Share of unseen points within the central interval, by how many of 100 '
    'points are seen.',
  )


def _cells(
  results: Sequence[Result], row: Result, metric: str
) -> Mapping[int, Result]:
  """Rows of the same replica by cutoff."""
  same = select(results, arm=row.arm, replica=row.replica, metric=metric)
  return {int(each.size): each for each in same}
