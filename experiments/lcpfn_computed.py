"""What forecasts curves of a known prior without any training, for the study.

Walkers at published settings and ten times as long, and a bank of curves of the
prior with importance weights. Every cutoff is kept by itself: each takes long.
"""

import dataclasses
import functools
import time

import jax

from experiments.lcpfn_scores import held_out_curves, keep_by_curve, rows_of
from experiments.lcpfn_tables import CUTOFFS
from extrap.curves import bank as banks
from extrap.curves import ensemble, smc
from extrap.curves.prior import PUBLISHED
from extrap.curves.scores import Posterior, score_posterior
from extrap.evaluation.results import Provenance, Result
from extrap.kept import Kept
from extrap.randomness import named
from extrap.reporting.progress import Progress

# The published settings, and the first ten times as long.
CHAINS = {
  'mcmc': ensemble.M1,
  'mcmc_2': ensemble.M2,
  'mcmc_3': ensemble.M3,
  'mcmc_long': ensemble.Settings(20_000, 100, 5000, thin=10),
}
# What is computed, and the flag that says of how many curves.
TABLES = dict.fromkeys(CHAINS, 'chains') | {'posterior': 'posteriors'}


def computed(
  kept: Kept, source: Provenance, curves: int, bank: int
) -> list[Result]:
  """Log density and coverage behind every cutoff.

  Args:
    kept: where the rows of each cutoff are kept.
    source: whose they are; its arm is one of `TABLES`.
    curves: test curves, the first.
    bank: curves of the bank, for the arm that has one.
  """
  rows = []
  for cutoff in CUTOFFS:
    make = functools.partial(_after, kept, source, cutoff, curves, bank)
    rows += kept.rows(f'{source.arm}_{cutoff}', (curves, bank), make)
  return rows


def _after(
  kept: Kept, source: Provenance, cutoff: int, count: int, bank: int
) -> list[Result]:
  name, (seed,) = source.arm, source.seeds
  value_NT, find = held_out_curves(count), finder(name, bank)
  key = jax.random.fold_in(named(jax.random.key(seed), name), cutoff)
  with Progress(count, f'{name} after {cutoff}', unit='curves') as progress:
    began = time.process_time()
    given = value_NT, cutoff, progress.update
    scores = score_posterior(PUBLISHED, find, key, *given)
    seconds = (time.process_time() - began) / count
  keep_by_curve(kept, name, 0, cutoff, scores)
  return rows_of(
    dataclasses.replace(source, seconds=seconds), 0, cutoff, scores
  )


def finder(name: str, bank: int) -> Posterior:
  """What finds a posterior, by an arm; the bank has so many curves."""
  if name in CHAINS:
    settings = CHAINS[name]
    return lambda *given: ensemble.posterior_ensemble(
      PUBLISHED, *given, settings
    )
  curves = _bank_of(bank)
  return lambda *given: smc.reference(PUBLISHED, curves, *given)[0]


@functools.cache
def _bank_of(count: int) -> banks.Bank:
  return banks.build(PUBLISHED, named(jax.random.key(0), 'bank'), count)
