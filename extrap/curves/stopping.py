"""When to give up on a training run, to be asked from any training loop.

  rule = Forecasting(LCPFN.load(), horizon=50, normalisation=error())
  if rule(values_so_far, best_of_other_runs):
    break

Rules see the values of one run so far, in the units of the metric, one a step,
and the best value of the runs before it; `None` where there is none. A run
whose last value is not finite has failed, and is stopped by all of them.

Shape key: T steps so far, Q steps to come.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from extrap.curves.lcpfn import LCPFN
from extrap.curves.normalise import Normalisation, unit

COARSE = (0.1, 0.2, 0.4, 0.8)  # Shares of a run, as published.


class StoppingRule(Protocol):
  """Whether to stop."""

  def __call__(self, values: Sequence[float], best: float | None) -> bool:
    """True if a run with these values is not worth going on with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecasting:
  """Stops a run that at no later step is likely to be the best.

  The rule of LC-PFN (Adriaensen et al. 2023, arXiv 2310.20447, section 4.3):
  stop after step T if for every later step t the chance of a value better than
  the best so far, of this run or another, is at most 5 %.

  Attributes:
    model: the forecaster.
    horizon: steps of a whole run.
    normalisation: of the metric.
    chance: the least that keeps a run going.
    checks: shares of the run after which it is asked, `COARSE` for instance;
      after every step but the first where there are none.
  """

  model: LCPFN
  horizon: int
  normalisation: Normalisation = dataclasses.field(default_factory=unit)
  chance: float = 0.05
  checks: tuple[float, ...] = ()

  def __call__(self, values: Sequence[float], best: float | None) -> bool:
    """Whether to stop; one pass of the network, or none."""
    seen_T = np.asarray(values, float)
    if failed(seen_T):
      return True
    if not due(len(seen_T), self.horizon, self.checks):
      return False
    known = seen_T if best is None else np.append(seen_T, best)
    target = better(known, self.minimise)
    at_Q = np.arange(len(seen_T) + 1, self.horizon + 1)
    there_T = np.isfinite(seen_T)  # What came back from a nan goes on.
    forecast = self.model.predict(
      [seen_T[there_T]],
      self.horizon,
      at=at_Q,
      steps=[np.flatnonzero(there_T) + 1.0],
      normalisation=self.normalisation,
    )
    return bool(forecast.probability_better(target).max() <= self.chance)

  @property
  def minimise(self) -> bool:
    """Whether smaller is better."""
    return self.normalisation.minimise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
  """Stops a run that has not got better for more than so many steps.

  Attributes:
    steps: without a new best of its own that are borne; 0 stops after the first
      that is none.
    minimise: whether smaller is better.
  """

  steps: int
  minimise: bool = False

  def __call__(self, values: Sequence[float], best: float | None) -> bool:
    """Whether to stop; other runs do not matter."""
    del best
    seen_T = np.asarray(values, float)
    if failed(seen_T):
      return True
    if not len(seen_T):
      return False
    return bool(since_best(seen_T, self.minimise)[-1] > self.steps)


def due(
  count_T: np.ndarray | int, horizon: int, checks: Sequence[float] = ()
) -> np.ndarray:
  """Whether `Forecasting` asks for a forecast after so many steps.

  Args:
    count_T: steps made.
    horizon: steps of a whole run.
    checks: shares of it after which there is one; none: after every step but
      the first.
  """
  within_T = np.greater(count_T, 1) & np.less(count_T, horizon)
  at = [math.ceil(share * horizon) for share in checks]
  return within_T & np.isin(count_T, at) if at else within_T


def since_best(value_T: np.ndarray, minimise: bool = False) -> np.ndarray:
  """Steps at each value since the best so far, the first of equal ones, [T].

  A nan is no best.
  """
  risen_T = -value_T if minimise else value_T
  best_T = np.maximum.accumulate(np.where(np.isnan(risen_T), -np.inf, risen_T))
  new_T = np.append(True, best_T[1:] > best_T[:-1])
  at_T = np.arange(len(value_T))
  return at_T - np.maximum.accumulate(np.where(new_T, at_T, 0))


def failed(value_T: np.ndarray) -> bool:
  """Whether the last value, if there is one, is not finite."""
  return bool(len(value_T)) and not np.isfinite(value_T[-1])


def better(values: Sequence[float] | np.ndarray, minimise: bool) -> float:
  """The best of some values, of which one at least is no nan."""
  return float(np.nanmin(values) if minimise else np.nanmax(values))
