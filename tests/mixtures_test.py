"""Mixtures of normals, against SciPy and against what is drawn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from extrap.curves import mixtures
from extrap.curves.mixtures import Mixture

WEIGHT = np.array([[0.2, 0.5, 0.3], [0.6, 0.0, 0.4]])
MEAN = np.array([[-1.0, 0.5, 4.0], [0.0, 100.0, 0.1]])
DEVIATION = np.array([[0.5, 1.0, 0.2], [2.0, 1.0, 1e-3]])


@pytest.fixture
def mixture():
  with np.errstate(divide='ignore'):
    arrays = (np.log(WEIGHT), MEAN, DEVIATION)
  return Mixture(*(jnp.asarray(each, jnp.float32) for each in arrays))


def expected(function, y):
  each = function(np.asarray(y)[..., None], MEAN, DEVIATION)
  return (WEIGHT * each).sum(-1)


@pytest.mark.parametrize('y', [(-1.3, 0.1), (0.7, 3.0), (4.1, -2.0)])
def test_densities_and_probabilities_are_scipys(mixture, y):
  found = mixtures.log_density(mixture, jnp.array(y))
  np.testing.assert_allclose(
    found, np.log(expected(stats.norm.pdf, y)), rtol=1e-4, atol=1e-4
  )
  cdf = mixtures.cdf(mixture, jnp.array(y))
  np.testing.assert_allclose(cdf, expected(stats.norm.cdf, y), rtol=1e-4)
  above = mixtures.probability_above(mixture, jnp.array(y))
  np.testing.assert_allclose(above, expected(stats.norm.sf, y), rtol=1e-4)


def test_one_number_is_compared_with_every_mixture(mixture):
  found = mixtures.cdf(mixture, 0.5)
  np.testing.assert_allclose(
    found, expected(stats.norm.cdf, (0.5, 0.5)), rtol=1e-5
  )


def test_the_far_tail_keeps_its_digits(mixture):
  """In float32, 1 - cdf would be 0 here."""
  found = mixtures.probability_above(mixture, jnp.array([9.0, 16.0]))
  reference = expected(stats.norm.sf, (9.0, 16.0))
  np.testing.assert_allclose(found, reference, rtol=1e-4)
  far = mixtures.log_density(mixture, jnp.array([40.0, 90.0]))
  assert np.isfinite(far).all()


def test_the_gradient_of_the_log_density_is_its_slope(mixture):
  def total(shift):
    moved = mixture._replace(mean=mixture.mean + shift)
    return mixtures.log_density(moved, jnp.array([0.7, 3.0])).sum()

  slope = (total(1e-2) - total(-1e-2)) / 2e-2
  assert jax.grad(total)(0.0) == pytest.approx(float(slope), rel=1e-2)


def test_the_mean_is_that_of_the_components(mixture):
  np.testing.assert_allclose(
    mixtures.mean(mixture), (WEIGHT * MEAN).sum(-1), rtol=1e-5
  )


@pytest.mark.parametrize('p', [1e-4, 0.05, 0.5, 0.9, 0.999])
def test_quantiles_invert_the_distribution(mixture, p):
  y = mixtures.quantile(mixture, p)
  # The absent component, at 100, has no part in it.
  assert (y < 20).all()
  np.testing.assert_allclose(expected(stats.norm.cdf, y), p, rtol=2e-3)


def test_several_quantiles_by_vmap_rise(mixture):
  p = jnp.array([0.1, 0.4, 0.8])
  found = jax.vmap(mixtures.quantile, (None, 0), -1)(mixture, p)
  assert found.shape == (2, 3)
  assert (jnp.diff(found, axis=-1) > 0).all()


def test_samples_are_distributed_as_the_mixture(mixture):
  key = jax.random.key(0)
  drawn = np.asarray(mixtures.sample(key, mixture, (50, 40)))
  assert drawn.shape == (50, 40, 2)
  for row in range(2):

    def cdf(y, row=row):
      parts = stats.norm.cdf(y[:, None], MEAN[row], DEVIATION[row])
      return parts @ WEIGHT[row]

    assert stats.kstest(drawn[..., row].ravel(), cdf).pvalue > 1e-3


def test_shapes_broadcast_as_those_of_particles_do():
  """Weights of particles are the same at all times."""
  mixture = Mixture(
    jnp.log(jnp.array([[0.25, 0.75]])),
    jnp.arange(6.0).reshape(3, 2),
    jnp.array([[1.0, 2.0]]),
  )
  assert mixtures.log_density(mixture, jnp.zeros(3)).shape == (3,)
  assert mixtures.quantile(mixture, 0.5).shape == (3,)
  drawn = mixtures.sample(jax.random.key(1), mixture, (2000,))
  assert drawn.shape == (2000, 3)
  np.testing.assert_allclose(drawn.mean(0), mixtures.mean(mixture), atol=0.2)
