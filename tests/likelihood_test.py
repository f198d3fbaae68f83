"""Gamma and beta means, their profile intervals, Newcombe's difference."""

import math

import numpy as np
import pytest
from scipy import stats

from extrap.evaluation.likelihood import beta_mean, gamma_mean, newcombe


def test_the_gamma_mean_is_the_samples_and_its_interval_scales():
  sample = np.random.default_rng(0).gamma(0.4, 5.0, 30)
  found, scaled = gamma_mean(sample), gamma_mean(1e6 * sample)
  assert found.mean == pytest.approx(sample.mean(), rel=1e-12)
  assert found.low < found.mean < found.high
  # Skewed: further above than below.
  assert found.high - found.mean > found.mean - found.low
  limits = [scaled.low / 1e6, scaled.high / 1e6]
  np.testing.assert_allclose(limits, [found.low, found.high], rtol=1e-6)


def test_gamma_limits_lie_where_the_likelihood_has_fallen_by_half_of_3_84():
  sample = np.random.default_rng(1).gamma(2.0, 3.0, 25)

  def log_likelihood(mean, shape):
    return stats.gamma.logpdf(sample, shape, scale=mean / shape).sum()

  shapes = np.linspace(0.2, 12, 20_001)
  found = gamma_mean(sample)
  best = max(log_likelihood(sample.mean(), k) for k in shapes)
  for limit in (found.low, found.high):
    profile = max(log_likelihood(limit, k) for k in shapes)
    assert 2 * (best - profile) == pytest.approx(3.8415, abs=1e-3)


def test_an_exponential_samples_interval_covers_as_often_as_it_says():
  rng = np.random.default_rng(2)
  found = [gamma_mean(rng.exponential(7.0, 40)) for _ in range(300)]
  covered = sum(each.low < 7.0 < each.high for each in found)
  assert 0.90 < covered / 300 < 0.985


def test_the_beta_mean_is_scipys_and_not_half_of_it():
  errors = 0.5 * np.random.default_rng(3).beta(2.0, 8.0, 60)
  a, b, *_ = stats.beta.fit(2 * errors, floc=0, fscale=1)
  found = beta_mean(errors, 0.5)
  assert found.mean == pytest.approx(0.5 * a / (a + b), rel=1e-4)
  assert found.mean == pytest.approx(errors.mean(), rel=0.05)
  assert 0 < found.low < found.mean < found.high < 0.5


def test_beta_limits_keep_inside_and_cover():
  rng = np.random.default_rng(4)
  found = [beta_mean(rng.beta(0.5, 20.0, 30)) for _ in range(60)]
  assert all(0 <= each.low and each.high <= 1 for each in found)
  covered = sum(each.low < 0.5 / 20.5 < each.high for each in found)
  assert covered >= 50


@pytest.mark.parametrize('mean', [gamma_mean, beta_mean])
def test_values_that_hardly_differ_have_students_interval(mean):
  assert mean([0.25]).n == 1 and math.isnan(mean([0.25]).low)
  nearly = mean([0.25, 0.25 + 1e-11])
  assert nearly.low < 0.25 < nearly.high
  same = mean([0.25, 0.25, 0.25])
  assert (same.mean, same.low, same.high) == (0.25, 0.25, 0.25)


def test_times_that_are_all_but_one_the_same_have_an_interval():
  found = gamma_mean([5e6] * 99 + [4.999e6])
  assert 4.99e6 < found.low < found.mean < found.high < 5.01e6


def test_what_no_such_distribution_has_is_refused():
  with pytest.raises(ValueError, match='positive'):
    gamma_mean([1.0, 0.0])
  with pytest.raises(ValueError, match=r'0\.\.0\.5'):
    beta_mean([0.6], 0.5)


@pytest.mark.parametrize(
  ('first', 'second', 'limits'),
  [  # Newcombe 1998, table II, method 10
    ((56, 70), (48, 80), (0.0524, 0.3339)),
    ((9, 10), (3, 10), (0.1705, 0.8090)),
    ((6, 7), (2, 7), (0.0582, 0.8062)),
    ((5, 56), (0, 29), (-0.0381, 0.1926)),
    ((10, 10), (0, 10), (0.6075, 1.0)),
  ],
)
def test_newcombe_gives_the_published_intervals(first, second, limits):
  np.testing.assert_allclose(newcombe(first, second), limits, atol=5e-5)
