"""Forecasts of curves by fits of a family, in the units of their metrics.

As those of the network (`extrap.curves.forecast`), from the residual bootstrap.

Shape key: N curves, T points, Q steps asked for.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from extrap.curves import least_squares, residual_bootstrap
from extrap.curves.bounded import BoundedForecast
from extrap.curves.families import Family, family
from extrap.curves.least_squares import Settings
from extrap.curves.normalise import Normalisation
from extrap.curves.residual_bootstrap import Draws


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FittedForecast(BoundedForecast):
  """A distribution for every curve and step, each by itself.

  Attributes:
    family: what was fitted.
    draws: fits to residuals drawn again.
  """

  family: Family
  draws: Draws

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
    return cls(
      step_NQ=step_NQ,
      family=shape,
      draws=draws,
      normalisation_N=normalisation_N,
    )

  def of_row(self, row: int) -> Self:
    """The forecast of one curve."""
    one = slice(row, row + 1)
    theta, *rest, log = self.draws
    draws = Draws(theta[one], *(each_N[one] for each_N in rest), log)
    return dataclasses.replace(
      self,
      step_NQ=self.step_NQ[one],
      draws=draws,
      normalisation_N=self.normalisation_N[one],
    )

  def unbounded(self, p: float) -> np.ndarray:
    """Quantiles [N, Q] that know of no bounds."""
    arrays = self.family, self.draws, self.step_NQ
    (value_NQ,) = residual_bootstrap.quantiles(*arrays, (p,))
    return value_NQ

  def below(self, value: np.ndarray | float) -> np.ndarray:
    """Probability [N, Q] of no more than a value, or than [N, Q]."""
    value_NQ = np.broadcast_to(np.asarray(value, float), self.step_NQ.shape)
    none_NQ = (value_NQ <= 0) & self.draws.log  # All of it is above.
    there_NQ = np.where(none_NQ, 1.0, value_NQ)
    arrays = self.family, self.draws, self.step_NQ, there_NQ
    return np.where(none_NQ, 0.0, residual_bootstrap.judge(*arrays)[1])
