"""How forecasts of curves of a known prior are scored, for the study of LC-PFN.

All arms have the same curves; what each has scored on each curve is kept beside
its rows, so that two arms can be paired.
"""

import functools
import io
from collections.abc import Callable

import jax
import numpy as np

from experiments.lcpfn_tables import CUTOFFS, LEVELS
from extrap.curves import prior
from extrap.curves.scores import Scores
from extrap.evaluation.results import Provenance, Result, write_bytes
from extrap.kept import Kept
from extrap.randomness import named
from extrap.training import distributed


def held_out_curves(count: int) -> np.ndarray:
  """Noisy curves [N, T] that no arm is trained on; the first are the same."""
  key = named(jax.random.key(0), 'test curves')
  parts = [
    prior.sample(prior.PUBLISHED, jax.random.fold_in(key, part), 1000).noisy_NT
    for part in range(-(-count // 1000))
  ]
  return np.concatenate(parts)[:count]


def of_network(
  kept: Kept,
  value_NT: np.ndarray,
  source: Provenance,
  score: Callable[[np.ndarray, int], Scores],
  replica: int = 0,
) -> list[Result]:
  """Of one network, on test curves, behind every cutoff."""
  rows = []
  for cutoff in CUTOFFS:
    kept.check()
    scores = score(value_NT, cutoff)
    keep_by_curve(kept, source.arm, replica, cutoff, scores)
    rows += rows_of(source, replica, cutoff, scores)
  return rows


def keep_by_curve(
  kept: Kept, name: str, replica: int, cutoff: int, scores: Scores
) -> None:
  """Adds log densities of curves, for what is paired."""
  if not distributed.is_first():
    return
  path = kept.run.path / 'arms' / name / f'log_density_{replica}.npz'
  there = dict(np.load(path, allow_pickle=False)) if path.exists() else {}
  file = io.BytesIO()
  np.savez(file, **there | {str(cutoff): scores.log_density_NQ.mean(1)})
  write_bytes(path, file.getvalue())


def rows_of(
  source: Provenance, replica: int, cutoff: int, scores: Scores
) -> list[Result]:
  """Of one replica and cutoff."""
  row = functools.partial(source.row, replica, 'prior', str(cutoff))
  log_density_N = scores.log_density_NQ.mean(1)
  n = len(log_density_N)
  error = float(log_density_N.std(ddof=1) / np.sqrt(n))
  rows = [
    row('log_density', float(log_density_N.mean()), n),
    row('log_density_error', error, n),
  ]
  for level in LEVELS:
    inside = np.abs(scores.cdf_NQ - 0.5) <= level / 200
    rows.append(row(f'coverage_{level}', float(inside.mean()), inside.size))
  return rows
