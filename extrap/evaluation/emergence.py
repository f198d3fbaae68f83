"""Emergence as an effect of the metric.

Schaeffer, Miranda and Koyejo 2023 (arXiv 2304.15004): an answer of n tokens is
right as a whole about as often as p^n, p the chance that one of them is. Where
p rises slowly, p^n stays at nothing for long and then rises fast: what looks
like an ability that emerges may be a smooth improvement, seen through a metric
that is not.

Shape key: T points of a curve.
"""

from typing import NamedTuple

import numpy as np

LOW, HIGH = 0.1, 0.9  # Shares of the range between which a rise is measured.


class Rise(NamedTuple):
  """When a metric rises, as shares of training; nan of one that does not.

  Attributes:
    onset: until it has made a tenth of its range.
    width: from there to nine tenths.
  """

  onset: float
  width: float


class Agreement(NamedTuple):
  """How well one curve is told by another.

  Attributes:
    correlation: over the points, nan where one of them is constant.
    gap: mean absolute difference.
  """

  correlation: float
  gap: float


def whole_answer(accuracy_T: np.ndarray, tokens: float) -> np.ndarray:
  """p^n: exact match [T] if tokens were right independently of each other.

  Args:
    accuracy_T: share of tokens that are right, or how likely one is.
    tokens: of an answer.
  """
  return np.asarray(accuracy_T, float) ** tokens


def likelihood(loss_T: np.ndarray) -> np.ndarray:
  """How likely a token is, [T]: the geometric mean, from nats a token."""
  return np.exp(-np.asarray(loss_T, float))


def rise(step_T: np.ndarray, value_T: np.ndarray) -> Rise:
  """When a metric rises through its range, that of its best so far.

  Args:
    step_T: increasing; the last is the length of training.
    value_T: finite, more is better; its range begins with the first of them.
  """
  share_T, step_T = _made(value_T), np.asarray(step_T, float)
  if np.isnan(share_T).any():
    return Rise(np.nan, np.nan)
  low, high = (_first(step_T, share_T, share) for share in (LOW, HIGH))
  return Rise(low / step_T[-1], (high - low) / step_T[-1])


def made_by(step_T: np.ndarray, value_T: np.ndarray, moment: float) -> float:
  """The share of its range that a metric has made at a moment.

  Args:
    step_T, value_T: as for `rise`.
    moment: as a share of training; nan gives nan.
  """
  step_T = np.asarray(step_T, float)
  return float(np.interp(moment * step_T[-1], step_T, _made(value_T)))


def _made(value_T: np.ndarray) -> np.ndarray:
  """What the best so far has made of its range, [T]; nan if it has none."""
  best_T = np.maximum.accumulate(np.asarray(value_T, float))
  gained_T, whole = best_T - best_T[0], best_T[-1] - best_T[0]
  return gained_T / whole if whole else np.full(len(best_T), np.nan)


def _first(step_T: np.ndarray, share_T: np.ndarray, share: float) -> float:
  """The step at which a share is reached, on the line between two points."""
  at = int(np.argmax(share_T >= share))
  between = slice(at - 1, at + 1)  # The first share is 0.
  return float(np.interp(share, share_T[between], step_T[between]))


def agreement(found_T: np.ndarray, told_T: np.ndarray) -> Agreement:
  """How well one curve is told by another of the same points."""
  gap = float(np.mean(np.abs(np.asarray(found_T) - told_T)))
  if np.ptp(found_T) == 0 or np.ptp(told_T) == 0:
    return Agreement(np.nan, gap)
  return Agreement(float(np.corrcoef(found_T, told_T)[0, 1]), gap)
