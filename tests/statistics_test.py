"""Intervals against published values, hand numbers and simulation."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from extrap.evaluation import statistics
from extrap.evaluation.statistics import difference, verdict


@pytest.mark.parametrize(
  ('successes', 'n', 'low', 'high'),
  [
    # Newcombe (1998), Two-sided confidence intervals for the single
    # proportion, table I, method 3.
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
  ],
)
def test_wilson_equals_published_values(successes, n, low, high):
  assert statistics.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_a_perfect_score_ends_at_one_and_starts_below():
  low, high = statistics.wilson(1000, 1000)
  # n / (n + z^2) with z = 1.959964.
  assert low == pytest.approx(1000 / 1003.841459, abs=1e-9)
  assert high == pytest.approx(1.0)


def test_wilson_confidence_widens_the_interval():
  low, high = statistics.wilson(50, 100, confidence=0.99)
  # At 1/2 the half width is z / 2 / sqrt(n + z^2), with z = 2.575829.
  half = 2.575829 / 2 / math.sqrt(100 + 2.575829**2)
  assert high - 0.5 == pytest.approx(half, abs=1e-6)
  assert 0.5 - low == pytest.approx(high - 0.5)


def test_wilson_without_instances_says_nothing():
  assert statistics.wilson(0, 0) == (0.0, 1.0)


def test_wilson_refuses_impossible_counts():
  with pytest.raises(ValueError):
    statistics.wilson(5, 4)


def test_t_interval_by_hand():
  interval = statistics.across_replicas([1.0, 2.0, 3.0, 6.0])
  # mean 3, s = sqrt(14/3), t(0.975, 3) = 3.182446.
  half = 3.182446 * math.sqrt(14 / 3) / 2
  assert interval.mean == 3.0
  assert interval.median == 2.5
  assert interval.n == 4
  assert interval.low == pytest.approx(3 - half, abs=1e-5)
  assert interval.high == pytest.approx(3 + half, abs=1e-5)


def test_t_interval_is_not_clipped():
  interval = statistics.across_replicas([1.0, 1.0, 0.2])
  assert interval.high > 1


def test_t_interval_follows_the_confidence():
  # t(0.95, 1) = 6.313752, s / sqrt(2) = 1 / 2.
  interval = statistics.across_replicas([0.0, 1.0], confidence=0.9)
  assert interval.high - 0.5 == pytest.approx(6.313752 / 2, abs=1e-5)


@pytest.mark.parametrize('method', ['t', 'bootstrap'])
def test_one_replica_has_no_interval(method):
  interval = statistics.across_replicas([0.7], method=method)
  assert (interval.mean, interval.median, interval.n) == (0.7, 0.7, 1)
  assert math.isnan(interval.low) and math.isnan(interval.high)


@pytest.mark.parametrize('method', ['t', 'bootstrap'])
def test_a_diverged_replica_spoils_the_interval_visibly(method):
  interval = statistics.across_replicas([0.7, math.nan, 0.8], method=method)
  assert math.isnan(interval.mean)
  assert math.isnan(interval.low) and math.isnan(interval.high)


def test_bootstrap_is_the_same_every_time():
  values = np.random.default_rng(2).normal(size=20)
  first = statistics.across_replicas(values, method='bootstrap')
  assert first == statistics.across_replicas(values, method='bootstrap')
  assert min(values) < first.low < first.mean < first.high < max(values)


def test_bootstrap_of_two_replicas_reaches_both():
  # Each of the two is the whole resample in a quarter of the draws.
  interval = statistics.across_replicas([0.0, 1.0], method='bootstrap')
  assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize('method', ['t', 'bootstrap'])
def test_coverage_is_near_its_promise(method, monkeypatch):
  monkeypatch.setattr(statistics, 'BOOTSTRAP_SAMPLES', 1000)
  rng = np.random.default_rng(1)
  covered = 0
  for _ in range(400):
    interval = statistics.across_replicas(
      rng.normal(size=20), confidence=0.9, method=method
    )
    covered += interval.low <= 0 <= interval.high
  assert 0.83 < covered / 400 < 0.95


@pytest.mark.parametrize(
  ('values', 'method'), [([], 't'), ([0.1, 0.2], 'normal')]
)
def test_bad_arguments_are_refused(values, method):
  with pytest.raises(ValueError):
    statistics.across_replicas(values, method=method)


def test_a_launcher_can_have_intervals_without_jax():
  code = """
import sys
import extrap.evaluation
from extrap.evaluation import results, statistics
from extrap.evaluation import across_replicas, exact_match
print(across_replicas([1.0, 2.0]).n, 'jax' in sys.modules)
from extrap.evaluation import *
import extrap.evaluation.exact_match, extrap.evaluation.grid
print(extrap.evaluation.exact_match is exact_match, evaluate.__module__)
"""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout == '2 False\nTrue extrap.evaluation.grid\n'


def test_a_difference_is_that_of_means_with_welchs_interval():
  one, other = [0.9, 0.8, 1.0], [0.5, 0.1, 0.3, 0.3]
  gap = difference(one, other)
  assert gap.mean == pytest.approx(0.6)
  # Standard error and Welch-Satterthwaite degrees of freedom, by hand.
  parts = np.var(one, ddof=1) / 3, np.var(other, ddof=1) / 4
  freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
  half = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
  assert (gap.low, gap.high) == pytest.approx((0.6 - half, 0.6 + half))
  assert verdict(gap) == 'confirmed'
  assert verdict(difference(other, one)) == 'refuted'
  assert verdict(difference(one, [1.0, 0.7])) == 'not resolved at this size'
  # Equal replicas: a difference without spread.
  assert difference([1.0, 1.0], [0.0, 0.0]).low == 1
  with pytest.raises(ValueError, match='two replicas'):
    difference([1.0], other)


def test_the_interval_of_a_median_is_two_of_its_values():
  values = [10.0**-k for k in range(20)]
  found = statistics.median_interval(values)
  assert found.n == 20
  # Of 20 fair coins 6 to 14 heads come up in 95.9 %: ranks 6 and 15.
  assert (found.low, found.high) == (1e-14, 1e-5)
  assert found.median == pytest.approx(np.median(values))
  covered = stats.binom.cdf(14, 20, 0.5) - stats.binom.cdf(5, 20, 0.5)
  assert 0.95 <= covered < 0.96


def test_a_median_of_few_or_failed_replicas():
  few = statistics.median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
  assert few.median == 3 and math.isnan(few.low) and math.isnan(few.high)
  failed = statistics.median_interval([1.0, 2.0, 3.0, 4.0, 5.0, math.inf])
  assert (failed.median, failed.low, failed.high) == (3.5, 1.0, math.inf)
  with pytest.raises(ValueError, match='no replicas'):
    statistics.median_interval([])


def test_a_ratio_is_of_means_and_its_interval_of_pairs():
  base = np.linspace(1, 5, 40)
  found = statistics.ratio(2 * base, base)
  # Pairs are drawn together: whatever is drawn, the ratio is the same.
  np.testing.assert_allclose([found.mean, found.low, found.high], 2)
  noise = np.where(np.arange(40) % 2, 0.5, -0.5)
  found = statistics.ratio(2 * base + noise, base)
  assert found.mean == pytest.approx(2) and found.n == 40
  # The delta method, of a mean of 3.
  assert (found.high - found.low) / 2 == pytest.approx(
    1.96 * 0.5 / math.sqrt(40) / 3, rel=0.15
  )
  assert math.isnan(statistics.ratio([1.0], [2.0]).low)


@pytest.mark.parametrize(
  ('first', 'second', 'message'),
  [([], [], 'needs replicas'), ([1], [1, 2], 'both'), ([1], [0], 'positive')],
)
def test_a_ratio_that_is_none_is_refused(first, second, message):
  with pytest.raises(ValueError, match=message):
    statistics.ratio(first, second)
