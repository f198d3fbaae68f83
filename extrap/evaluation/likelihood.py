"""Maximum likelihood of skewed samples, with intervals of their mean.

When a model first solves a task varies over orders of magnitude, and how far
its weights are from integers lies between two limits: Student's interval suits
neither. The literature of arithmetic units fits a gamma and a beta distribution
instead (Madsen and Johansen 2020, arXiv 2001.05016). Its own program
(AndreasMadsen/stable-nalu) evaluates the beta density on errors as they are, of
0 to 0.5, with twice the mean, so that half of it is reported; and some of its
gamma means are not the most likely ones, which are the means of the samples.
Success rates are compared by Newcombe's interval, which it does not have.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from extrap.evaluation.statistics import Interval, across_replicas, wilson

SAME = 1e-10  # A standard deviation below this has no distribution to fit;
ALIKE = 1e-4  # nor has that of times, below this share of their mean.
SHAPES = (1e-4, 1e9)  # of a gamma distribution; a beta's sum of shapes


def gamma_mean(values: Sequence[float], confidence: float = 0.95) -> Interval:
  """Mean of a gamma distribution and its profile-likelihood interval.

  Args:
    values: positive, one a replica; in any unit.
    confidence: coverage, between 0 and 1.

  Returns:
    As `across_replicas`, which is used where values hardly differ.

  Raises:
    ValueError: there are no values, or some are not positive.
  """
  sample = np.asarray(values, float)
  if len(sample) and not (sample > 0).all():
    raise ValueError('a gamma distribution has positive values')
  if len(sample) < 2 or np.std(sample) < ALIKE * np.mean(sample):
    return across_replicas(values, confidence)
  mean = float(np.mean(sample))
  low, high = _profile(
    lambda m: _gamma_profile(sample, m), mean, (0.0, math.inf), confidence
  )
  return Interval(mean, float(np.median(sample)), low, high, len(sample))


def _gamma_profile(sample: np.ndarray, mean: float) -> float:
  """Log likelihood at this mean and the shape that is most likely with it."""
  from scipy import optimize, special

  ratio = np.mean(sample) / mean
  excess = ratio - 1 + math.log(mean) - np.mean(np.log(sample))

  def slope(log_shape: float) -> float:
    return log_shape - special.digamma(math.exp(log_shape)) - excess

  low, high = map(math.log, SHAPES)
  shape = math.exp(optimize.brentq(slope, low, high))
  each = (shape - 1) * np.log(sample) - shape * sample / mean
  scale = shape * math.log(mean / shape) + special.gammaln(shape)
  return float(np.sum(each) - len(sample) * scale)


def beta_mean(
  values: Sequence[float], largest: float = 1.0, confidence: float = 0.95
) -> Interval:
  """Mean of a beta distribution on 0..largest, and its profile interval.

  Args:
    values: one a replica; 0 and `largest` themselves count as just inside.
    largest: the upper limit; 0.5 of a weight's distance from integers.
    confidence: coverage, between 0 and 1.

  Returns:
    As `across_replicas`, which is used where values hardly differ.

  Raises:
    ValueError: there are no values, or some are outside.
  """
  from scipy import optimize

  sample = np.asarray(values, float)
  if len(sample) and not ((sample >= 0) & (sample <= largest)).all():
    raise ValueError(f'values of a beta distribution lie in 0..{largest:g}')
  if len(sample) < 2 or np.std(sample) < SAME:
    return across_replicas(values, confidence)
  inside = np.clip(sample / largest, 1e-12, 1 - 1e-12)
  found = optimize.minimize_scalar(
    lambda m: -_beta_profile(inside, m),
    bounds=(0, 1),
    method='bounded',
    options={'xatol': 1e-10},
  )
  limits = _profile(
    lambda m: _beta_profile(inside, m), float(found.x), (0.0, 1.0), confidence
  )
  mean, low, high = (largest * share for share in (float(found.x), *limits))
  return Interval(mean, float(np.median(sample)), low, high, len(sample))


def _beta_profile(sample: np.ndarray, mean: float) -> float:
  """Log likelihood at this mean and the most likely sum of shapes."""
  from scipy import optimize, stats

  def loss(log_sum: float) -> float:
    both = math.exp(log_sum)
    shapes = mean * both, (1 - mean) * both
    return -float(np.sum(stats.beta.logpdf(sample, *shapes)))

  bounds = tuple(map(math.log, SHAPES))
  found = optimize.minimize_scalar(loss, bounds=bounds, method='bounded')
  return -float(found.fun)


def _profile(
  log_likelihood: Callable[[float], float],
  best: float,
  domain: tuple[float, float],
  confidence: float,
) -> tuple[float, float]:
  """Where the log likelihood has fallen by half the chi-squared quantile."""
  from scipy import optimize, stats

  least = log_likelihood(best) - stats.chi2.ppf(confidence, 1) / 2

  def above(mean: float) -> float:
    return log_likelihood(mean) - least

  def limit(towards: float) -> float:
    step, there = 0.5, _between(best, towards, 0.5)
    while above(there) > 0:
      step /= 2
      if step < 1e-9:
        return towards
      there = _between(best, towards, step)
    return float(optimize.brentq(above, *sorted((there, best)), xtol=1e-12))

  return limit(domain[0]), limit(domain[1])


def _between(best: float, towards: float, share: float) -> float:
  """A mean that nears the domain's limit as the share shrinks."""
  if math.isinf(towards):
    return best / share
  return towards + share * (best - towards)


def newcombe(
  first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95
) -> tuple[float, float]:
  """Interval of a difference of two proportions, the first less the second.

  Args:
    first, second: successes and number, of independent replicas.
    confidence: coverage, between 0 and 1.

  Source: Newcombe (1998), Interval estimation for the difference between
  independent proportions, method 10 (Wilson's limits, no correction).
  """
  p, q = first[0] / first[1], second[0] / second[1]
  (p_low, p_high), (q_low, q_high) = (
    wilson(*each, confidence) for each in (first, second)
  )
  below = math.hypot(p - p_low, q_high - q)
  return p - q - below, p - q + math.hypot(p_high - p, q - q_low)
