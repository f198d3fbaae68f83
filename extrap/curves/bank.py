"""The posterior by weighing a large bank of curves drawn from the prior.

Importance sampling with the prior as its proposal: exact as the bank grows, and
the same million curves serve every curve seen. The size of the noise is
integrated over and not drawn: given the sum of squared errors S of c values,
the likelihood of a curve is a function of S and c alone, which is tabulated.

Squared errors are sums of squared differences. As a product of matrices they
would cost as much (8 ms a curve seen, a million in the bank, 80 values, one
core), and where noise is 1e-3 in values of 0.5, float32 has no digits left of
the difference of squares.

A million weights become a few thousand particles by chance, without bias
(`thin`): what is heavy remains as it is, of light curves some remain and stand
for the others. Nothing is left out.

Shape key: B curves seen, N curves in the bank in C chunks of n, S sizes of
noise, T times, P numbers of a curve, K particles.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves.posterior import Particles, check
from extrap.curves.prior import NORMAL, Prior, curve
from extrap.errors import UsageError

COUNT = 1_000_000
CHUNK = 8000  # Of curves: squared errors of a chunk remain in the cache.
PARTICLES = 4096
THRESHOLDS = 24  # Bisections of the weight that counts as heavy.

# Sizes of noise, of which the likelihood is a sum: 4.5 deviations of the prior
# to both sides. Given 100 values, log noise is known to 0.07.
_MEAN, _DEVIATION = NORMAL['log_noise']
_LOG_NOISE_S = np.linspace(
  _MEAN - 4.5 * _DEVIATION, _MEAN + 4.5 * _DEVIATION, 161, dtype=np.float32
)
SPACING = float(_LOG_NOISE_S[1] - _LOG_NOISE_S[0])
TABLE = 2048  # Sums of squares for which the likelihood is tabulated.
LEAST = 1e-12  # Of sums of squares, where their logarithm is taken.


class Bank(NamedTuple):
  """Curves of the prior.

  Attributes:
    theta_NP: what they are made of; its noise is not used.
    clean_CTn: their values at times 1..T, without noise.
    lot_N: a number of 0..1 for each, by which `thin` chooses.
  """

  theta_NP: jax.Array
  clean_CTn: jax.Array
  lot_N: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def build(
  prior: Prior, key: jax.Array, count: int = COUNT, chunk: int = CHUNK
) -> Bank:
  """So many curves: 450 bytes each, about 10 microseconds each on a core.

  Raises:
    UsageError: `count` is not a multiple of `chunk`.
  """
  if count < 1 or count % chunk:
    raise UsageError(f'a bank has a multiple of {chunk} curves, not {count}')
  lot_key, curve_key = jax.random.split(key)

  def some(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    theta_nP = prior.kept(key, chunk)
    return theta_nP, curve(theta_nP, prior.time_T).T

  keys = jax.random.split(curve_key, count // chunk)
  theta_CnP, clean_CTn = jax.lax.map(some, keys)
  theta_NP = theta_CnP.reshape(count, -1)
  return Bank(theta_NP, clean_CTn, jax.random.uniform(lot_key, (count,)))


def weigh(
  prior: Prior,
  bank: Bank,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  particles: int = PARTICLES,
) -> Particles:
  """The posterior of each curve.

  Args:
    prior: that of the bank.
    bank: from `build`.
    key: for the choice of particles.
    value_BT: values, of which what is not seen has no influence.
    seen_B: how many are seen, the same or not.
    particles: K, how many there are at most.

  Returns:
    Particles with leading axes [B, K]. Their effective sample size is that of
    the curves in the bank with the noise integrated over, (sum w)^2 / sum w^2.

  Raises:
    UsageError: shapes do not fit, or a value that is seen is not finite.
  """
  check(prior, value_BT, seen_B)
  return _weigh(bank, key, value_BT, seen_B, particles)


@functools.partial(jax.jit, static_argnums=4)
def _weigh(
  bank: Bank,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  particles: int,
) -> Particles:
  squares_BN = squared_errors(bank.clean_CTn, value_BT, seen_B)
  keys_B = jax.random.split(key, len(value_BT))

  def one(query: tuple) -> Particles:
    squares_N, seen, key = query
    return posterior(bank, key, squares_N, seen, 1.0, particles)

  return jax.lax.map(one, (squares_BN, seen_B, keys_B))


def squared_errors(
  clean_CTn: jax.Array, value_BT: jax.Array, seen_B: jax.Array
) -> jax.Array:
  """Sums over the values seen, [B, N], chunk by chunk."""
  value_TB = value_BT.T
  count = seen_B.shape[0]

  def chunk(clean_Tn: jax.Array) -> jax.Array:
    def add(t: jax.Array, squares_Bn: jax.Array) -> jax.Array:
      gap_Bn = clean_Tn[t][None] - value_TB[t][:, None]
      return squares_Bn + jnp.where((t < seen_B)[:, None], gap_Bn**2, 0.0)

    none_Bn = jnp.zeros((count, clean_Tn.shape[1]))
    return jax.lax.fori_loop(0, jnp.max(seen_B), add, none_Bn)

  squares_CBn = jax.lax.map(chunk, clean_CTn)
  return jnp.moveaxis(squares_CBn, 0, 1).reshape(count, -1)


def posterior(
  bank: Bank,
  key: jax.Array,
  squares_N: jax.Array,
  seen: jax.Array,
  power: jax.Array | float,
  particles: int,
) -> Particles:
  """The posterior of one curve, with this power of the likelihood."""
  log_weight_N = marginal(squares_N, seen, power)
  index_K, log_weight_K = thin(bank.lot_N, log_weight_N, particles)
  # Of each that remains, all sizes of noise, and of these pairs again some.
  squares_K1 = squares_N[index_K][:, None]
  log_joint_KS = joint(squares_K1, seen, power)
  scale_K = log_weight_K - jax.nn.logsumexp(log_joint_KS, axis=1)
  log_pair_KS = log_joint_KS + scale_K[:, None]
  lot_KS = jax.random.uniform(key, log_pair_KS.shape)
  pair_K, log_weight_K = thin(lot_KS.ravel(), log_pair_KS.ravel(), particles)
  curve_K, noise_K = jnp.divmod(pair_K, len(_LOG_NOISE_S))
  theta_KP = bank.theta_NP[index_K[curve_K]]
  theta_KP = theta_KP.at[:, -1].set(jnp.asarray(_LOG_NOISE_S)[noise_K])
  return Particles(theta_KP, log_weight_K, effective_size(log_weight_N))


def joint(
  squares_N1: jax.Array, seen: jax.Array, power: jax.Array | float
) -> jax.Array:
  """Log prior of noise plus log likelihood, [N, S], up to a constant."""
  log_noise_1S = jnp.asarray(_LOG_NOISE_S)[None]
  standard_1S = (log_noise_1S - _MEAN) / _DEVIATION
  precision_1S = jnp.exp(-2 * log_noise_1S)
  likelihood_NS = -seen * log_noise_1S - 0.5 * squares_N1 * precision_1S
  return power * likelihood_NS - 0.5 * standard_1S**2


def marginal(
  squares_N: jax.Array, seen: jax.Array, power: jax.Array | float
) -> jax.Array:
  """Log likelihood [N] with the noise integrated over, up to a constant.

  Interpolated in the logarithm of the sum of squares, of which it is a smooth
  function; the error is below 1e-3.
  """
  log_squares_N = jnp.log(squares_N + LEAST)
  low, high = jnp.min(log_squares_N), jnp.max(log_squares_N)
  step = jnp.maximum(high - low, 1e-6) / (TABLE - 1)
  knot_J = low + step * jnp.arange(TABLE)
  table_J = jax.nn.logsumexp(
    joint(jnp.exp(knot_J)[:, None], seen, power), axis=1
  )
  place_N = (log_squares_N - low) / step
  left_N = jnp.clip(place_N.astype(jnp.int32), 0, TABLE - 2)
  share_N = place_N - left_N
  return table_J[left_N] * (1 - share_N) + table_J[left_N + 1] * share_N


def thin(
  lot_N: jax.Array, log_weight_N: jax.Array, room: int
) -> tuple[jax.Array, jax.Array]:
  """So many at most of weighted things, without bias.

  Those heavier than a threshold remain with their weights; of the others each
  remains with the probability weight / threshold, and then weighs as much as
  the threshold. That is the least variance for a number of things, except that
  the number is a matter of chance here, for which room is left.

  Args:
    lot_N: independent numbers, uniform in 0..1.
    log_weight_N: up to a constant.
    room: K.

  Returns:
    Indices [K] and logarithms of weights [K] that sum to one; minus infinity
    where there is room left.

  Source: Fearnhead and Clifford (2003), On-line inference for hidden Markov
  models via particle filters: their threshold.
  """
  share_N = jnp.exp(log_weight_N - jnp.max(log_weight_N))
  threshold = _threshold(share_N, room - 5 * math.sqrt(room))
  chosen_N = lot_N * threshold < share_N
  index_K = jnp.nonzero(chosen_N, size=room, fill_value=-1)[0]
  share_K = jnp.maximum(share_N[index_K], threshold)
  share_K = jnp.where(index_K < 0, 0.0, share_K)
  return jnp.maximum(index_K, 0), jnp.log(share_K / jnp.sum(share_K))


def _threshold(share_N: jax.Array, wanted: float) -> jax.Array:
  """Such that so many remain on average; where all may, next to nothing."""

  def halve(_: int, bracket: tuple) -> tuple:
    low, high = bracket
    middle = 0.5 * (low + high)
    remaining = jnp.sum(jnp.minimum(share_N * jnp.exp(-middle), 1.0))
    many = remaining > wanted
    return jnp.where(many, middle, low), jnp.where(many, high, middle)

  # A share of e^-30 each of a million would not be seen in a sum.
  _, high = jax.lax.fori_loop(0, THRESHOLDS, halve, (-30.0, 0.0))
  return jnp.exp(high)


def effective_size(log_weight_N: jax.Array) -> jax.Array:
  """(sum w)^2 / sum w^2, a scalar between 1 and N (Kong 1992)."""
  log_sum = jax.nn.logsumexp(log_weight_N)
  return jnp.exp(2 * log_sum - jax.nn.logsumexp(2 * log_weight_N))
