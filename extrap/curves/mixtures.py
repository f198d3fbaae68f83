"""Mixtures of normal distributions: what a forecaster says of one value.

Pure functions of a `Mixture`, exact, with any axes in front. They are used
for networks with a few components and for posteriors with thousands.

Shape key: K components; `...` are the axes of what is forecast.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

BISECTIONS = 32


class Mixture(NamedTuple):
  """A mixture of normal distributions for each entry of `...`.

  The three have as many axes and may broadcast against each other.

  Attributes:
    log_weight: [..., K], logarithms of weights that sum to one; minus infinity
      for a component that is not there.
    mean: [..., K].
    deviation: [..., K], standard deviations, positive.
  """

  log_weight: jax.Array
  mean: jax.Array
  deviation: jax.Array


def log_density(mixture: Mixture, y: jax.Array) -> jax.Array:
  """Log density [...] at values y [...], per unit of y."""
  log_scale = jnp.log(mixture.deviation) + 0.5 * math.log(2 * math.pi)
  log_part = -0.5 * _standard(mixture, y) ** 2 - log_scale
  return jax.nn.logsumexp(mixture.log_weight + log_part, axis=-1)


def cdf(mixture: Mixture, y: jax.Array) -> jax.Array:
  """Probability [...] of a value of at most y [...]."""
  part = jax.scipy.special.ndtr(_standard(mixture, y))
  return jnp.sum(jnp.exp(mixture.log_weight) * part, axis=-1)


def probability_above(mixture: Mixture, y: jax.Array) -> jax.Array:
  """Probability [...] of a value above y [...].

  One less `cdf` would have no digits left where it is small.
  """
  part = jax.scipy.special.ndtr(-_standard(mixture, y))
  return jnp.sum(jnp.exp(mixture.log_weight) * part, axis=-1)


def mean(mixture: Mixture) -> jax.Array:
  """Expected value [...]."""
  return jnp.sum(jnp.exp(mixture.log_weight) * mixture.mean, axis=-1)


def quantile(mixture: Mixture, p: jax.Array | float) -> jax.Array:
  """Value [...] below which there is a probability p, scalar or [...].

  By bisection between the least and the greatest quantile of the components,
  between which that of the mixture lies.

  Args:
    mixture: of any shape.
    p: within 0..1, the ends excluded. For several, `jax.vmap`.
  """
  present = mixture.log_weight > -jnp.inf
  part = mixture.mean + mixture.deviation * _column(jax.scipy.special.ndtri(p))
  bracket = (
    jnp.min(jnp.where(present, part, jnp.inf), axis=-1),
    jnp.max(jnp.where(present, part, -jnp.inf), axis=-1),
  )

  def halve(_: int, bracket: tuple) -> tuple:
    low, high = bracket
    middle = 0.5 * (low + high)
    below = cdf(mixture, middle) < p
    return jnp.where(below, middle, low), jnp.where(below, high, middle)

  low, high = jax.lax.fori_loop(0, BISECTIONS, halve, bracket)
  return 0.5 * (low + high)


def sample(
  key: jax.Array, mixture: Mixture, shape: tuple[int, ...] = ()
) -> jax.Array:
  """Independent values [*shape, ...].

  Independent over `...`, too: values of one curve at several times are not a
  curve that is likely, though each of them is.
  """
  part_key, normal_key = jax.random.split(key)
  batch = _batch(mixture)
  every = (*batch, mixture.mean.shape[-1])
  flat = (math.prod(batch), every[-1])
  log_weight, centre, deviation = (
    jnp.broadcast_to(each, every).reshape(flat) for each in mixture
  )
  wanted = (flat[0], math.prod(shape))
  part = jax.vmap(_pick)(log_weight, jax.random.uniform(part_key, wanted))
  centre = jnp.take_along_axis(centre, part, axis=-1)
  deviation = jnp.take_along_axis(deviation, part, axis=-1)
  value = centre + deviation * jax.random.normal(normal_key, wanted)
  return value.T.reshape(*shape, *batch)


def _pick(log_weight_K: jax.Array, uniform_S: jax.Array) -> jax.Array:
  """Indices [S] of components, each as often as its weight says."""
  total_K = jnp.cumsum(jnp.exp(log_weight_K))
  place_S = jnp.searchsorted(total_K, uniform_S * total_K[-1], side='right')
  return jnp.minimum(place_S, len(log_weight_K) - 1)


def _standard(mixture: Mixture, y: jax.Array) -> jax.Array:
  """How many deviations y is above the mean of each component, [..., K]."""
  return (_column(y) - mixture.mean) / mixture.deviation


def _column(y: jax.Array | float) -> jax.Array:
  """With an axis for components; a scalar remains one."""
  y = jnp.asarray(y)
  return y[..., None] if y.ndim else y


def _batch(mixture: Mixture) -> tuple[int, ...]:
  return jnp.broadcast_shapes(*(each.shape for each in mixture))[:-1]
