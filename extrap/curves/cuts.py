"""Curves that are cut off, and what methods say of what follows.

The network and classical fits are asked the same: medians and log densities of
later points, as normalised values.

Shape key: N curves, T points, Q later points that are scored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from extrap.curves import least_squares, residual_bootstrap
from extrap.curves.families import family
from extrap.curves.lcpfn import LCPFN
from extrap.curves.least_squares import DEFAULT, Settings
from extrap.curves.normalise import Normalisation

LEAST_SEEN = 5  # Points.
SCORED = 20  # Later points of a curve and cutoff, at most.
GUARD = 0.01  # The share of a forecast that is anywhere in 0..1.
DRAWS = 32  # Of the residual bootstrap.


class Item(NamedTuple):
  """A curve.

  Attributes:
    task: of which it is one.
    step_T, value_T: as they are.
    time_T: as the network has it, 0..100.
    normalisation: of the metric.
  """

  task: str
  step_T: np.ndarray
  value_T: np.ndarray
  time_T: np.ndarray
  normalisation: Normalisation


class Cut(NamedTuple):
  """A curve and what of it is seen: points up to `seen`, scored at `later`."""

  item: Item
  seen: int
  later_Q: np.ndarray


class Found(NamedTuple):
  """Of each cut: medians and log densities of its later points, normalised."""

  median: list[np.ndarray]
  log_density: list[np.ndarray]


def cut(items: Sequence[Item], share: float) -> list[Cut]:
  """Curves of which a share of the points is seen, where any are left."""
  cuts = []
  for item in items:
    count = len(item.value_T)
    seen = max(LEAST_SEEN, round(share * count))
    if seen >= count:
      continue
    later_Q = np.linspace(seen, count - 1, min(SCORED, count - seen))
    cuts.append(Cut(item, seen, np.round(later_Q).astype(int)))
  return cuts


def by_network(model: LCPFN, cuts: Sequence[Cut]) -> Found:
  """What the network says."""
  most = max(len(each.later_Q) for each in cuts)
  # Rows of one length: the last point again.
  later_NQ = np.stack(
    [np.pad(c.later_Q, (0, most - len(c.later_Q)), mode='edge') for c in cuts]
  )
  forecast = model.predict(
    [each.item.value_T[: each.seen] for each in cuts],
    100,
    at=[
      each.item.time_T[row] for each, row in zip(cuts, later_NQ, strict=True)
    ],
    steps=[each.item.time_T[: each.seen] for each in cuts],
    normalisation=[each.item.normalisation for each in cuts],
  )
  truth_NQ = np.stack(
    [each.item.value_T[row] for each, row in zip(cuts, later_NQ, strict=True)]
  )
  log_density_NQ = forecast.log_density(truth_NQ)
  return _found(cuts, forecast.median(), log_density_NQ)


def by_family(
  name: str, cuts: Sequence[Cut], settings: Settings = DEFAULT
) -> Found:
  """What a fit and its residuals say.

  Args:
    name: of the family.
    cuts: of positive values, if their logarithms are fitted.
    settings: how they are fitted.
  """
  shape = family(name)
  pairs = [
    (each.item.step_T[: each.seen], each.item.value_T[: each.seen])
    for each in cuts
  ]
  seen = least_squares.points(pairs)
  fit = least_squares.fit(shape, seen, settings)
  draws = residual_bootstrap.bootstrap(shape, fit, seen, DRAWS, settings)
  later = least_squares.points(
    [
      (each.item.step_T[each.later_Q], each.item.value_T[each.later_Q])
      for each in cuts
    ]
  )
  median_NQ = least_squares.predict(shape, fit, later.x_BT, settings)
  log_density_NQ, _ = residual_bootstrap.judge(
    shape, draws, later.x_BT, later.y_BT
  )
  return _found(cuts, median_NQ, log_density_NQ)


def _found(
  cuts: Sequence[Cut], median_NQ: np.ndarray, log_density_NQ: np.ndarray
) -> Found:
  """Rows without what was added to them, as normalised values."""
  medians, log_densities = [], []
  for each, median_Q, log_Q in zip(
    cuts, median_NQ, log_density_NQ, strict=True
  ):
    count, how = len(each.later_Q), each.item.normalisation
    truth_Q = each.item.value_T[each.later_Q]
    medians.append(how.forward(np.clip(median_Q[:count], how.hard_low, None)))
    log_densities.append(log_Q[:count] - how.log_jacobian(truth_Q))
  return Found(medians, log_densities)


def guarded(found: Found) -> Found:
  """The same forecasts, a share of each anywhere in 0..1."""
  log_density = [
    np.logaddexp(np.log1p(-GUARD) + log_Q, np.log(GUARD))
    for log_Q in found.log_density
  ]
  return found._replace(log_density=log_density)


def scores_of(cuts: Sequence[Cut], found: Found) -> np.ndarray:
  """Log density, RMSE, absolute error, and that of the last value, [N, 4]."""
  rows = []
  for each, median_Q, log_Q in zip(cuts, *found, strict=True):
    how, value_T = each.item.normalisation, each.item.value_T
    truth_Q = how.forward(value_T[each.later_Q])
    last = how.forward(value_T[each.seen - 1])
    off_Q = np.nan_to_num(np.abs(median_Q - truth_Q), nan=1.0)
    rmse, naive = np.sqrt(np.mean(off_Q**2)), np.mean(np.abs(last - truth_Q))
    rows.append([np.mean(log_Q), rmse, np.mean(off_Q), naive])
  return np.array(rows)
