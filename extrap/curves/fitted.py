"""Forecasts of curves by fits of a family, in the units of their metrics.

As those of the network (`extrap.curves.forecast`), from the residual bootstrap.

Shape key: N curves, T points, Q steps asked for.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from extrap.curves import least_squares, residual_bootstrap
from extrap.curves.families import Family, family
from extrap.curves.least_squares import Settings
from extrap.curves.normalise import Normalisation
from extrap.curves.residual_bootstrap import Draws


@dataclasses.dataclass(frozen=True, eq=False)
class FittedForecast:
  """A distribution for every curve and step, each by itself.

  Where it leaves the bounds of a metric, it is cut off at them.

  Attributes:
    step_NQ: float64, the steps asked for.
    family: what was fitted.
    draws: fits to residuals drawn again.
    normalisation_N: of each metric, for its bounds and what is better.
  """

  step_NQ: np.ndarray
  family: Family
  draws: Draws
  normalisation_N: Sequence[Normalisation]

  @classmethod
  def predict(
    cls,
    name: str,
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    step_NQ: np.ndarray,
    normalisation_N: Sequence[Normalisation],
  ) -> Self:
    """Fits a family and goes on.

    Args:
      name: of the family, see `extrap.curves.families`.
      curves: steps, positive, and values of each; in log y where all are
        positive.
      step_NQ: what is asked for.
      normalisation_N: of each metric.

    Raises:
      UsageError: there is no such family, or a point cannot be fitted.
    """
    shape, seen = family(name), least_squares.points(curves)
    settings = Settings(log=all((value_T > 0).all() for _, value_T in curves))
    fit = least_squares.fit(shape, seen, settings)
    draws = residual_bootstrap.bootstrap(shape, fit, seen, settings=settings)
    return cls(step_NQ, shape, draws, normalisation_N)

  def of_row(self, row: int) -> Self:
    """The forecast of one curve."""
    one = slice(row, row + 1)
    theta, *rest, log = self.draws
    draws = Draws(theta[one], *(each_N[one] for each_N in rest), log)
    how = self.normalisation_N[one]
    return type(self)(self.step_NQ[one], self.family, draws, how)

  def quantile(self, p: float) -> np.ndarray:
    """Values [N, Q] below which there is a probability p, 0 < p < 1."""
    arrays = self.family, self.draws, self.step_NQ
    (value_NQ,) = residual_bootstrap.quantiles(*arrays, (p,))
    bounds = [(how.hard_low, how.hard_up) for how in self.normalisation_N]
    low_N1, up_N1 = np.array(bounds).T[..., None]
    return np.clip(value_NQ, low_N1, up_N1)

  def median(self) -> np.ndarray:
    """Values [N, Q] that are exceeded half of the time."""
    return self.quantile(0.5)

  def interval(self, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ends [N, Q] of a central interval, share in 0..1."""
    return self.quantile((1 - share) / 2), self.quantile((1 + share) / 2)

  def probability_better(self, value: float) -> np.ndarray:
    """Probability [N, Q] of a better value than one given.

    None is better than the best bound of the metric.
    """
    minimise_N1 = np.array([[how.minimise] for how in self.normalisation_N])
    if value <= 0 and self.draws.log:  # All of it is above.
      below_NQ = np.zeros(self.step_NQ.shape)
    else:
      value_NQ = np.full(self.step_NQ.shape, float(value))
      arrays = self.family, self.draws, self.step_NQ, value_NQ
      below_NQ = residual_bootstrap.judge(*arrays)[1]
    best_N1 = np.array(
      [
        [value <= how.hard_low if how.minimise else value >= how.hard_up]
        for how in self.normalisation_N
      ]
    )
    better_NQ = np.where(minimise_N1, below_NQ, 1 - below_NQ)
    return np.where(best_N1, 0.0, better_NQ)
