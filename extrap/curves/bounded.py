"""Forecasts that are cut off at the bounds of a metric.

Shape key: N curves, Q steps asked for.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from extrap.curves.normalise import Normalisation


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BoundedForecast(abc.ABC):
  """A distribution for every curve and step, each by itself.

  Attributes:
    step_NQ: float64, the steps asked for.
    normalisation_N: of each metric, for its bounds and what is better.
  """

  step_NQ: np.ndarray
  normalisation_N: Sequence[Normalisation]

  @abc.abstractmethod
  def unbounded(self, p: float) -> np.ndarray:
    """Quantiles [N, Q] that know of no bounds."""

  @abc.abstractmethod
  def below(self, value: np.ndarray | float) -> np.ndarray:
    """Probability [N, Q] of no more than a value, or than [N, Q]."""

  def above(self, value: np.ndarray | float) -> np.ndarray:
    """Probability [N, Q] of more than a value, or than [N, Q]."""
    return 1 - self.below(value)

  @abc.abstractmethod
  def of_row(self, row: int) -> Self:
    """The forecast of one curve."""

  def quantile(self, p: float) -> np.ndarray:
    """Values [N, Q] below which there is a probability p, 0 < p < 1."""
    bounds = [(how.hard_low, how.hard_up) for how in self.normalisation_N]
    low_N1, up_N1 = np.array(bounds).T[..., None]
    return np.clip(self.unbounded(p), low_N1, up_N1)

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
    best_N1 = np.array(
      [
        [value <= how.hard_low if how.minimise else value >= how.hard_up]
        for how in self.normalisation_N
      ]
    )
    better_NQ = np.where(minimise_N1, self.below(value), self.above(value))
    return np.where(best_N1, 0.0, better_NQ)
