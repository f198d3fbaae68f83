"""What MCMC in the network's prior says of curves that are cut off.

Shape key: N curves, T points, C later points of all at most, B curves at a
time, K points that are seen.
"""

from collections.abc import Sequence

import jax
import numpy as np

from extrap.curves import ensemble, mixtures
from extrap.curves.cuts import SCORED, Cut, Found
from extrap.curves.posterior import Particles, predictive
from extrap.curves.prior import PUBLISHED
from extrap.randomness import named

# The paper's first row, of whose states one in fifty is kept.
SETTINGS = ensemble.Settings(2000, 100, 500, thin=50)
BATCH = 16  # Curves at a time.


def by_chains(cuts: Sequence[Cut], seed: int) -> Found:
  """What walkers in the posterior of the network's prior say.

  Their times are the network's, or the number of the point where those are
  below one. Of more than a hundred points that are seen a hundred are taken.
  """
  medians, log_densities = [], []
  key = named(jax.random.key(seed), 'chains')
  for start in range(0, len(cuts), BATCH):
    part = cuts[start : start + BATCH]
    # The last curve again: one program for all.
    rows = [_chained(each) for each in [*part, *part[-1:] * BATCH][:BATCH]]
    value_BT, time_BT, seen_B, time_BC, truth_BC = map(
      np.stack, zip(*rows, strict=True)
    )
    particles = ensemble.posterior_ensemble(
      PUBLISHED,
      jax.random.fold_in(key, start),
      value_BT,
      seen_B,
      SETTINGS,
      time_BT,
    )
    found = _read(particles, time_BC, truth_BC)
    for at, each in enumerate(part):
      later = len(each.later_Q)
      medians.append(np.asarray(found[0][at, :later], float))
      log_densities.append(np.asarray(found[1][at, :later], float))
  return Found(medians, log_densities)


def _chained(cut: Cut) -> tuple[np.ndarray, ...]:
  """Values, times, how many are seen, later times and later values, padded."""
  item, length = cut.item, PUBLISHED.length
  unit = min(1.0, item.time_T[0], np.diff(item.time_T).min())
  time_T = np.float32(item.time_T / unit)
  value_T = np.float32(item.normalisation.forward(item.value_T))
  kept_K = np.linspace(0, cut.seen - 1, min(cut.seen, length - 1))
  kept_K = kept_K.round().astype(int)
  spare, last = length - len(kept_K), max(time_T[-1], length)
  # What is not seen lies evenly up to the end: the prior has bounds at all of
  # its times, and where they are 1 .. 100 these are the same.
  later_T = np.linspace(time_T[kept_K[-1]], last, spare + 1)[1:]
  later_C = np.pad(cut.later_Q, (0, SCORED - len(cut.later_Q)), mode='edge')
  return (
    np.append(value_T[kept_K], np.zeros(spare, np.float32)),
    np.append(time_T[kept_K], np.float32(later_T)),
    np.int32(len(kept_K)),
    time_T[later_C],
    value_T[later_C],
  )


@jax.jit
def _read(
  particles: Particles, time_BC: jax.Array, truth_BC: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Medians and log densities, [B, C], of normalised values."""

  def one(given: tuple) -> tuple[jax.Array, jax.Array]:
    mixture = predictive(*given[:2])
    return mixtures.quantile(mixture, 0.5), mixtures.log_density(
      mixture, given[2]
    )

  return jax.lax.map(one, (particles, time_BC, truth_BC))
