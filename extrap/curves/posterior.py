"""What values seen of a curve say of the numbers it is made of.

Curves come from `extrap.curves.prior`. A posterior is a set of weighted
particles, however it was found: `bank`, `smc` and `ensemble` beside this file
find it. Values are arrays of the length of the prior's curves, of which the
first so many are seen; the others have no influence, whatever they hold.

Shape key: N particles, T times, P numbers of a curve.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from extrap.curves import mixtures
from extrap.curves.mixtures import Mixture
from extrap.curves.prior import Prior, curve, log_density, within
from extrap.errors import UsageError


class Particles(NamedTuple):
  """Weighted curves; the axes may follow others, one entry a curve seen.

  Attributes:
    theta_NP: what they are made of, see `prior.NAMES`.
    log_weight_N: logarithms of weights that sum to one.
    effective: [], effective sample size; what that is depends on the method.
  """

  theta_NP: jax.Array
  log_weight_N: jax.Array
  effective: jax.Array


def densities(
  prior: Prior,
  theta_NP: jax.Array,
  value_T: jax.Array,
  seen: jax.Array,
  time_T: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Log prior density [...] (up to a constant) and log likelihood [...].

  Args:
    prior: of curves of length T.
    theta_NP: [..., P]; those that the prior refuses have a log prior density of
      minus infinity, and some finite likelihood.
    value_T: values at times 1..T.
    seen: scalar, how many of them are seen.
    time_T: other times of at least 1, in order, to which the prior's curves
      have to stay within bounds.
  """
  clean_NT = curve(theta_NP, prior.time_T if time_T is None else time_T)
  kept_N = within(clean_NT)
  value_NT = value_T.reshape((1,) * (theta_NP.ndim - 1) + (-1,))
  seen_NT = seen_times(value_NT.shape, seen)
  gap_NT = jnp.where(seen_NT, value_NT - clean_NT, 0.0)
  log_noise_N = theta_NP[..., -1]
  squares_N = jnp.sum(gap_NT**2, axis=-1) * jnp.exp(-2 * log_noise_N)
  scale_N = log_noise_N + 0.5 * math.log(2 * math.pi)
  likelihood_N = -0.5 * squares_N - seen * scale_N
  return (
    jnp.where(kept_N, log_density(theta_NP), -jnp.inf),
    jnp.where(kept_N, likelihood_N, 0.0),
  )


def seen_times(shape: tuple[int, ...], seen: jax.Array) -> jax.Array:
  """Which of the times along the last axis are seen, in this shape."""
  return jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1) < seen


def predictive(particles: Particles, time_T: jax.Array) -> Mixture:
  """Distribution of the noisy value at each time, [T, N]; time is at least 1.

  Times may lie beyond those of the prior's curves.
  """
  return Mixture(
    particles.log_weight_N[None],
    curve(particles.theta_NP, time_T).T,
    jnp.exp(particles.theta_NP[None, :, -1]),
  )


def mean_log_density(
  prior: Prior, particles: Particles, value_T: jax.Array, seen: jax.Array
) -> jax.Array:
  """Log density of the noisy values after those seen: a scalar, their mean.

  Each value is scored by its own distribution, as in LC-PFN's tables.
  """
  mixture = predictive(particles, prior.time_T)
  log_density_T = mixtures.log_density(mixture, value_T)
  later_T = ~seen_times(value_T.shape, seen)
  total = jnp.sum(jnp.where(later_T, log_density_T, 0.0))
  return total / jnp.sum(later_T)


def check(prior: Prior, value_BT: jax.Array, seen_B: jax.Array) -> None:
  """Of what a caller gives, before it is inside a program.

  Raises:
    UsageError: shapes do not fit, or a value that is seen is not finite.
  """
  if value_BT.ndim != 2 or value_BT.shape[1] != prior.length:
    raise UsageError(
      f'curves of {prior.length} values are wanted, padded; '
      f'these have the shape {value_BT.shape}'
    )
  if seen_B.shape != value_BT.shape[:1]:
    raise UsageError(
      f'{len(value_BT)} curves and {seen_B.size} numbers of values seen'
    )
  if not ((seen_B >= 1) & (seen_B < prior.length)).all():
    raise UsageError(f'between 1 and {prior.length - 1} values must be seen')
  known_BT = seen_times(value_BT.shape, seen_B[:, None])
  if not (jnp.isfinite(value_BT) | ~known_BT).all():
    raise UsageError('a value that is seen is not a finite number')
