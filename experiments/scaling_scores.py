"""Scores of forecasts of scaling curves, by families and by networks.

Shape key: B curves, T points, Q points to forecast, L levels.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from extrap.curves import least_squares, residual_bootstrap
from extrap.curves.families import family
from extrap.curves.least_squares import Points, Settings
from extrap.curves.residual_bootstrap import Draws
from extrap.curves.scaling_pfn import ScalingForecast, ScalingPFN
from extrap.datasets.scaling_benchmark import Curve

LEVELS = np.array((0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99))
# Where densities are those of y over the largest y that is fitted.
RELATIVE = ('Nano', 'DD', 'LLM')
LEAST_ERROR = 1e-6  # Of held-out points, where it becomes a weight.
HELD_OUT = 0.2  # Of the points that are fitted, the last.
T = TypeVar('T')
XY = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
  """What one method made of one curve.

  Attributes:
    held_out: RMSLE on held-out points of the fitted part, after a fit without
      them; what choices are made by.
    error_Q: log forecast less log truth, of the points to forecast.
    log_density_Q: in nats, of their y, or of y over the largest that is fitted.
    below_Q: the forecast's probability of no more than what came.
    log_density_wide_Q, below_wide_Q: likewise, where the scale is `held_out` if
      that is more; a network's own in both.
    fit_ms: CPU time of the fit, in milliseconds, compilation left out, or of a
      network's forecast.
    bootstrap_ms: likewise, of the bootstrap; a network needs none.
  """

  held_out: float
  error_Q: np.ndarray
  log_density_Q: np.ndarray
  below_Q: np.ndarray
  log_density_wide_Q: np.ndarray
  below_wide_Q: np.ndarray
  fit_ms: float
  bootstrap_ms: float

  @property
  def complete(self) -> bool:
    """Whether all is known of it; a log density may be minus infinity."""
    arrays = [getattr(self, field.name) for field in dataclasses.fields(self)]
    known = not any(np.isnan(each).any() for each in arrays[2:])
    return known and bool(np.isfinite(self.error_Q).all())

  def numbers(self) -> dict[str, float]:
    """What is told of it."""
    return {
      'held_out': self.held_out,
      'rmsle': float(np.sqrt(np.mean(self.error_Q**2))),
      'log_density': float(np.mean(self.log_density_Q)),
      'msce': calibration_error(self.below_Q),
      'log_density_wide': float(np.mean(self.log_density_wide_Q)),
      'msce_wide': calibration_error(self.below_wide_Q),
      'fit_ms': self.fit_ms,
      'bootstrap_ms': self.bootstrap_ms,
    }


def best_held_out(methods: Sequence[Sequence[Score]]) -> list[Score]:
  """For each curve the score of the method that is best on held-out points.

  Its times are the sum of those of all.
  """
  chosen = []
  for scores in zip(*methods, strict=True):
    errors = np.nan_to_num([score.held_out for score in scores], nan=np.inf)
    best = scores[int(np.argmin(errors))]
    chosen.append(dataclasses.replace(best, **_times(scores)))
  return chosen


def combined(methods: Sequence[Sequence[Score]]) -> list[Score]:
  """For each curve all methods together, by how good they are on held-out.

  Weights are inverse mean squares of held-out errors (Bates and Granger 1969,
  Operational Research Quarterly 20): of log forecasts a mean, of densities a
  mixture. Its times are the sum of those of all. Families that coincide count
  more than once; where a single point is held out, one method may have all of
  the weight.
  """
  return [_mixed(scores) for scores in zip(*methods, strict=True)]


def _mixed(scores: Sequence[Score]) -> Score:
  """Of one curve."""
  usable = [score for score in scores if score.complete]
  errors = finite([score.held_out for score in usable])
  weight_M = np.maximum(errors, LEAST_ERROR) ** -2.0
  weight_M1 = (weight_M / weight_M.sum())[:, None]

  def mean(name: str) -> np.ndarray:
    values = np.stack([getattr(score, name) for score in usable])
    return np.sum(weight_M1 * values, axis=0)

  def mixture(name: str) -> np.ndarray:
    values = np.stack([getattr(score, name) for score in usable])
    return np.logaddexp.reduce(np.log(weight_M1) + values, axis=0)

  return Score(
    math.nan,  # There is no such forecast without the held-out points.
    mean('error_Q'),
    mixture('log_density_Q'),
    mean('below_Q'),
    mixture('log_density_wide_Q'),
    mean('below_wide_Q'),
    **_times(scores),
  )


def _times(scores: Sequence[Score]) -> dict[str, float]:
  """Those of several methods together."""
  return {
    name: sum(getattr(score, name) for score in scores)
    for name in ('fit_ms', 'bootstrap_ms')
  }


def log_ratio(found_T: np.ndarray, y_T: np.ndarray) -> np.ndarray:
  """Log found less log y; not finite where what was found is not positive."""
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.log(np.asarray(found_T, np.float64) / y_T)


def rmsle(found_T: np.ndarray, y_T: np.ndarray) -> float:
  """Root mean square of log found less log y."""
  return float(np.sqrt(np.mean(log_ratio(found_T, y_T) ** 2)))


def calibration_error(below_T: np.ndarray) -> float:
  """Mean squared gap between coverage and level of central intervals.

  Args:
    below_T: the forecast's probability of no more than what came.
  """
  width_T = 2 * np.abs(below_T - 0.5)
  covered_L = (width_T[:, None] <= LEVELS).mean(axis=0)
  return float(np.mean((covered_L - LEVELS) ** 2))


def held_out_count(count: int) -> int:
  """How many of the fitted points, the last, a choice is made by."""
  return max(1, round(HELD_OUT * count))


def timed(call: Callable[[], T], count: int) -> tuple[T, float]:
  """What a call returns, and its milliseconds of CPU time each of `count`."""
  call()  # Compiles.
  began = time.process_time()
  found = call()
  return found, 1e3 * (time.process_time() - began) / count


def fitted_part(curve: Curve) -> XY:
  """x and y of the points that are given to be fitted."""
  return curve.x_T[curve.fit_T], curve.y_T[curve.fit_T]


def held_out_parts(curve: Curve) -> tuple[XY, XY]:
  """x and y of the points that are fitted, all but the held out, and those."""
  x_T, y_T = fitted_part(curve)
  kept = len(x_T) - held_out_count(len(x_T))
  return (x_T[:kept], y_T[:kept]), (x_T[kept:], y_T[kept:])


def seen_points(curves: Sequence[Curve], *, held_out: bool) -> Points:
  """The fitted part of curves, without the held-out points if so asked."""
  pairs = [
    held_out_parts(curve)[0] if held_out else fitted_part(curve)
    for curve in curves
  ]
  ceilings = [curve.ceiling for curve in curves]
  return least_squares.points(pairs, ceilings)


def held_out_errors(
  name: str, curves: Sequence[Curve], settings: Settings
) -> list[float]:
  """RMSLE on held-out points of a fit without them, one a curve."""
  shape, seen = family(name), seen_points(curves, held_out=True)
  found = least_squares.fit(shape, seen, settings)
  whole = seen_points(curves, held_out=False)
  y_BT = least_squares.predict(shape, found, whole.x_BT, settings)
  errors = []
  for found_T, curve in zip(y_BT, curves, strict=True):
    (shown_T, _), (_, y_T) = held_out_parts(curve)
    start, stop = len(shown_T), len(shown_T) + len(y_T)
    errors.append(rmsle(found_T[start:stop], y_T))
  return errors


def family_scores(
  name: str, curves: Sequence[Curve], settings: Settings, draws: int
) -> list[Score]:
  """Fits a family to curves of similar length and scores its forecasts.

  Args:
    name: of the family.
    curves: padded to one length.
    settings: of the fit.
    draws: of the residual bootstrap.
  """
  shape, count = family(name), len(curves)
  held_out = held_out_errors(name, curves, settings)
  seen = seen_points(curves, held_out=False)
  found, fit_ms = timed(lambda: least_squares.fit(shape, seen, settings), count)
  drawn, bootstrap_ms = timed(
    lambda: residual_bootstrap.bootstrap(shape, found, seen, draws, settings),
    count,
  )
  wide = drawn._replace(scale_B=np.maximum(drawn.scale_B, finite(held_out)))
  new = least_squares.points(
    [(curve.x_T[~curve.fit_T], curve.y_T[~curve.fit_T]) for curve in curves]
  )
  point_BQ = least_squares.predict(shape, found, new.x_BT, settings)
  narrow, wider = (judged(name, each, new) for each in (drawn, wide))
  return [
    Score(
      held_out[row],
      log_ratio(point_BQ[row][mask_Q], new.y_BT[row][mask_Q]),
      *of_curve(curve, mask_Q, narrow, row),
      *of_curve(curve, mask_Q, wider, row),
      fit_ms,
      bootstrap_ms,
    )
    for row, (curve, mask_Q) in enumerate(zip(curves, new.mask_BT, strict=True))
  ]


def network_scores(network: ScalingPFN, curves: Sequence[Curve]) -> list[Score]:
  """Scores of a network's forecasts, whose densities are its own."""
  held_out = network_held_out(network, curves)
  seen = [fitted_part(curve) for curve in curves]
  new = [(c.x_T[~c.fit_T], c.y_T[~c.fit_T]) for c in curves]
  x_BQ, y_BQ, mask_BQ = filled(new)

  def forecast() -> tuple[ScalingForecast, np.ndarray]:
    found = network.predict(seen, x_BQ)
    return found, found.median()  # Which waits for the device.

  (found, median_BQ), ms = timed(forecast, len(curves))
  judged_BQ = found.log_density(y_BQ), found.below(y_BQ)
  return [
    Score(
      held_out[row],
      log_ratio(median_BQ[row][mask_Q], y_BQ[row][mask_Q]),
      *(2 * of_curve(curve, mask_Q, judged_BQ, row)),
      *(ms, 0.0),
    )
    for row, (curve, mask_Q) in enumerate(zip(curves, mask_BQ, strict=True))
  ]


def network_held_out(
  network: ScalingPFN, curves: Sequence[Curve]
) -> list[float]:
  """RMSLE on held-out points of a forecast without them, one a curve."""
  shown, later = zip(*map(held_out_parts, curves), strict=True)
  x_BQ, y_BQ, mask_BQ = filled(later)
  found_BQ = network.predict(shown, x_BQ).median()
  return [
    rmsle(found_Q[mask_Q], y_Q[mask_Q])
    for found_Q, y_Q, mask_Q in zip(found_BQ, y_BQ, mask_BQ, strict=True)
  ]


def filled(
  pairs: Sequence[XY],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """x and y of one length, the last repeated, and which are there."""
  most = max(len(x_Q) for x_Q, _ in pairs)
  x_BQ, y_BQ = (
    np.array([np.pad(each, (0, most - len(each)), 'edge') for each in side])
    for side in zip(*pairs, strict=True)
  )
  counts_B1 = np.array([[len(x_Q)] for x_Q, _ in pairs])
  return x_BQ, y_BQ, np.arange(most) < counts_B1


def finite(errors: Sequence[float]) -> np.ndarray:
  """Errors, one where a held-out fit has failed."""
  return np.nan_to_num(np.array(errors), nan=1.0, posinf=1.0)


def judged(
  name: str, drawn: Draws, new: Points
) -> tuple[np.ndarray, np.ndarray]:
  """Log densities and distribution functions [B, Q] at new points."""
  return residual_bootstrap.judge(family(name), drawn, new.x_BT, new.y_BT)


def of_curve(
  curve: Curve,
  mask_Q: np.ndarray,
  judged_BQ: tuple[np.ndarray, np.ndarray],
  row: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Log densities, in the unit that is told, and distribution functions."""
  log_Q, below_Q = (each_BQ[row][mask_Q] for each_BQ in judged_BQ)
  unit = curve.y_T[curve.fit_T].max() if curve.domain in RELATIVE else 1.0
  return np.asarray(log_Q) + np.log(unit), np.asarray(below_Q)
