"""Intervals. The replica, one training run, is the unit of inference.

Thousands of test instances say how well *one* trained model does; they say
nothing about the next seed. `wilson` therefore stays inside one replica, and
whatever is claimed of a method goes through `across_replicas`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

BOOTSTRAP_SAMPLES = 10_000
BOOTSTRAP_SEED = 0


@dataclasses.dataclass(frozen=True)
class Interval:
  """What n replicas say; the interval is for the mean.

  `low` and `high` are nan for one replica: one run has no spread to show.
  """

  mean: float
  median: float
  low: float
  high: float
  n: int


def wilson(
  successes: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
  """Wilson score interval of a proportion, inside ONE replica.

  The replica is the unit of inference: counts of several replicas must not be
  pooled into this interval, which knows only the draw of test instances. Where
  a whole replica succeeds or fails, as in solving a task, it is the instance.

  Args:
    successes: number of successes, 0..n.
    n: number of independent instances; 0 gives (0, 1).
    confidence: coverage, between 0 and 1.

  Returns:
    The lower and the upper limit, fractions in 0..1.

  Raises:
    ValueError: successes are not between 0 and n.

  Source: Wilson (1927), Probable inference, the law of succession, and
  statistical inference; no continuity correction.
  """
  from scipy import stats

  if n == 0 and successes == 0:
    return 0.0, 1.0
  interval = stats.binomtest(int(successes), int(n)).proportion_ci(
    confidence, method='wilson'
  )
  return float(interval.low), float(interval.high)


def across_replicas(
  values: Sequence[float],
  confidence: float = 0.95,
  method: Literal['t', 'bootstrap'] = 't',
) -> Interval:
  """Mean of replicas with its confidence interval.

  The replica is the unit of inference: give one value a replica, never one a
  test instance. Limits are not clipped, so a t interval of a proportion may
  pass 0 or 1: a sign of too few replicas, not to be hidden. Replicas that are
  all equal give an interval of width zero, which is no proof of no spread.

  Args:
    values: one value a replica.
    confidence: coverage, between 0 and 1.
    method: 't', Student's interval; or 'bootstrap', the percentile bootstrap
      (Efron, 1979) with a fixed seed, too narrow below about ten replicas.

  Returns:
    Mean, median, limits, and the number of replicas. One replica has limits
    of nan, and so has any set that holds a value that is not finite.

  Raises:
    ValueError: there are no values, or the method is unknown.
  """
  if len(values) == 0:
    raise ValueError('no replicas: there is nothing to summarise')
  if method not in _LIMITS:
    raise ValueError(f'method {method!r} is not one of {sorted(_LIMITS)}')
  sample = np.asarray(values, dtype=float)
  low = high = math.nan
  if len(sample) > 1 and np.isfinite(sample).all():
    low, high = _LIMITS[method](sample, confidence)
  return Interval(
    mean=float(np.mean(sample)),
    median=float(np.median(sample)),
    low=float(low),
    high=float(high),
    n=len(sample),
  )


def median_interval(
  values: Sequence[float], confidence: float = 0.95
) -> Interval:
  """The median of replicas, with limits that are two of their values.

  For errors that spread over orders of magnitude, of which a mean says little:
  nothing is assumed of how they are distributed, and a replica that failed
  counts with an error of infinity.

  Args:
    values: one value a replica.
    confidence: least coverage; with five replicas or fewer no two values have
      95 %, and the limits are nan.

  Raises:
    ValueError: there are no values.

  Source: binomial order statistics (Thompson 1936, On confidence ranges for
  the median).
  """
  from scipy import stats

  if len(values) == 0:
    raise ValueError('no replicas: there is nothing to summarise')
  ordered = np.sort(np.asarray(values, float))
  outside = int(stats.binom.ppf((1 - confidence) / 2, len(ordered), 0.5))
  low = high = math.nan
  if outside:
    low, high = ordered[outside - 1], ordered[-outside]
  mean, median = float(np.mean(ordered)), float(np.median(ordered))
  return Interval(mean, median, float(low), float(high), len(ordered))


def difference(
  first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval:
  """Mean of the first less that of the second, with Welch's interval.

  Args:
    first: one value a replica, two at least; second: likewise.
    confidence: coverage, between 0 and 1.

  Raises:
    ValueError: fewer than two replicas of either.

  Source: Welch (1947), The generalization of Student's problem.
  """
  from scipy import stats

  if min(len(first), len(second)) < 2:
    raise ValueError('a difference needs two replicas of each arm')
  one, other = np.asarray(first, float), np.asarray(second, float)
  gap = float(np.mean(one) - np.mean(other))
  middle = float(np.median(one) - np.median(other))
  low = high = gap
  if np.ptp(one) or np.ptp(other):
    found = stats.ttest_ind(one, other, equal_var=False)
    limits = found.confidence_interval(confidence)
    low, high = float(limits.low), float(limits.high)
  return Interval(gap, middle, low, high, len(one) + len(other))


def ratio(
  first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval:
  """Mean of the first over that of the second, of the same replicas.

  Args:
    first, second: one value a replica each, of equal length.
    confidence: coverage of the percentile bootstrap, which draws pairs, with
      the seed of `across_replicas`.

  Returns:
    The ratio, as mean and as median, and its limits.

  Raises:
    ValueError: there are no values, or not as many of both, or the second's
      mean is not positive.
  """
  one, other = np.asarray(first, float), np.asarray(second, float)
  if len(one) != len(other) or not len(one):
    raise ValueError('a ratio needs replicas, and a value of each in both')
  if not np.mean(other) > 0:
    raise ValueError('a ratio needs a second mean that is positive')
  low = high = math.nan
  if len(one) > 1 and np.isfinite([one, other]).all():
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    pairs = rng.integers(0, len(one), (BOOTSTRAP_SAMPLES, len(one)))
    tail = (1 - confidence) / 2
    with np.errstate(divide='ignore', invalid='ignore'):
      drawn = one[pairs].mean(axis=1) / other[pairs].mean(axis=1)
      low, high = np.nanquantile(drawn, [tail, 1 - tail])
  mean = float(np.mean(one) / np.mean(other))
  return Interval(mean, mean, float(low), float(high), len(one))


def verdict(gap: Interval) -> str:
  """What a difference says of the claim that it is positive."""
  if gap.low > 0:
    return 'confirmed'
  return 'refuted' if gap.high < 0 else 'not resolved at this size'


def _t_limits(sample: np.ndarray, confidence: float) -> tuple[float, float]:
  from scipy import stats

  error = np.std(sample, ddof=1) / math.sqrt(len(sample))
  half = error * stats.t.ppf((1 + confidence) / 2, df=len(sample) - 1)
  return np.mean(sample) - half, np.mean(sample) + half


def _bootstrap_limits(
  sample: np.ndarray, confidence: float
) -> tuple[float, float]:
  rng = np.random.default_rng(BOOTSTRAP_SEED)
  means = rng.choice(sample, (BOOTSTRAP_SAMPLES, len(sample))).mean(axis=1)
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return low, high


_LIMITS = {'t': _t_limits, 'bootstrap': _bootstrap_limits}
