"""Tables of `experiments.lcpfn`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extrap.evaluation.results import Result, select
from extrap.reporting.tables import Table

Rows = list[list[str]]

CUTOFFS = (10, 20, 40, 80)
LEVELS = (50, 80, 95)  # Percent, central.
POSTERIOR = ('posterior', 0)  # Arm and replica.
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


def paired(folder: Path, results: Sequence[Result]) -> Rows:
  """Log densities by cutoff and curve, of the posterior and of other arms.

  The header, then a row a curve that the posterior has been found of; empty
  where another arm was not scored on it. Nothing without a posterior. A file
  that is not what the results were made of is left out.
  """
  found = {}
  for row in select(results, metric='log_density', size=str(CUTOFFS[0])):
    name = f'log_density_{row.replica}.npz'
    path, values = folder / 'arms' / row.arm / name, {}
    if path.exists():
      with np.load(path, allow_pickle=False) as archive:
        values = dict(archive)
    means = _cells(results, row, 'log_density')
    if all(_is_of(values.get(str(at)), means[at]) for at in CUTOFFS):
      found[row.arm, row.replica] = values
  exact = found.pop(POSTERIOR, None)
  if exact is None:
    return []
  names = [f'{arm}, replica {replica}' for arm, replica in sorted(found)]
  rows = [['cutoff', 'curve', 'posterior', *names]]
  for cutoff in map(str, CUTOFFS):
    columns = [exact[cutoff], *(found[key][cutoff] for key in sorted(found))]
    for curve in range(len(columns[0])):
      cells = [f'{c[curve]:.6g}' if curve < len(c) else '' for c in columns]
      rows.append([cutoff, str(curve), *cells])
  return rows


def _is_of(values: np.ndarray | None, row: Result) -> bool:
  """Whether a row is the mean of these values."""
  if values is None or len(values) != row.n:
    return False
  return bool(np.isclose(values.mean(), row.value, rtol=1e-5))


def gap_table(rows: Rows) -> Table:
  """The posterior's log density less that of others, from `paired`."""
  names = rows[0][3:] if rows else ()
  shown = [
    [name, *(_gap(rows, column, str(cutoff)) for cutoff in CUTOFFS)]
    for column, name in enumerate(names, start=3)
  ]
  return Table(
    ['arm', *map(str, CUTOFFS)],
    shown,
    'Log density of the posterior less that of the arm, mean over the curves '
    'that both have, paired, with its standard error.',
  )


def _gap(rows: Rows, column: int, cutoff: str) -> str:
  """The mean difference of two arms on the curves that both have."""
  gap_N = np.array(
    [
      float(row[2]) - float(row[column])
      for row in rows[1:]
      if row[0] == cutoff and row[2] and row[column]
    ]
  )
  error = gap_N.std(ddof=1) / np.sqrt(len(gap_N))
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
