"""The prior over learning curves of LC-PFN, sampled inside a program.

Adriaensen et al. 2023 (arXiv 2310.20447, section 3.2; where text and code of
automl/lcpfn differ, its code, as its readme asks): a weighted sum of three
families that rise or fall to a limit, with noise of one size a curve. Weights
are independent, they do not sum to one. Curves are kept whose last value is
above their first and that stay within 0..1 before noise; nothing is asked of
what lies between. 20.5 % of draws are kept.

Shape key: N curves, M candidates, T times, P numbers of a curve.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Bounds of what is uniform, in the order of `theta`.
UNIFORM = {
  'weight_pow3': (0.0, 1.0),
  'weight_ilog2': (0.0, 1.0),
  'weight_janoschek': (0.0, 1.0),
  'pow3_limit': (0.0, 1.25),
  'pow3_scale': (-0.6, 0.6),
  'ilog2_limit': (0.0, 1.0),
  'ilog2_scale': (-0.5, 0.5),
  'janoschek_limit': (0.0, 1.0),
  'janoschek_start': (0.0, 2.0),
}
# Mean and standard deviation of what is normal, behind those.
NORMAL = {
  'pow3_log_power': (0.0, 2.0),
  'janoschek_log_rate': (-2.0, 1.0),
  'janoschek_log_power': (0.0, 0.5),
  'log_noise': (-4.0, 1.0),
}
NAMES = (*UNIFORM, *NORMAL)
_LOW_P, _HIGH_P = np.array(list(UNIFORM.values()), np.float32).T
_MEAN_P, _DEVIATION_P = np.array(list(NORMAL.values()), np.float32).T

# Candidates a wanted curve in a round, and those of them that are looked at in
# full: some more than pass each test.
CANDIDATES = 5.5
FINALISTS = 1.25


class Curves(NamedTuple):
  """Curves of the prior.

  Attributes:
    theta_NP: float32, what they are made of, see `NAMES`.
    clean_NT: float32, 0..1.
    noisy_NT: float32, may leave 0..1.
  """

  theta_NP: jax.Array
  clean_NT: jax.Array
  noisy_NT: jax.Array


def curve(theta_NP: jax.Array, time_T: jax.Array) -> jax.Array:
  """Values [..., T] without noise, of any [..., P], at times of at least 1."""
  time_NT = jnp.expand_dims(time_T, range(theta_NP.ndim - 1))
  log_NT = jnp.log(time_NT)
  part = dict(zip(NAMES, jnp.moveaxis(theta_NP, -1, 0)[..., None], strict=True))
  pow3_NT = part['pow3_limit'] - part['pow3_scale'] * jnp.exp(
    -jnp.exp(part['pow3_log_power']) * log_NT
  )
  ilog2_NT = part['ilog2_limit'] - part['ilog2_scale'] / jnp.log(time_NT + 1)
  # k t^d, as one exponential.
  log_gone_NT = part['janoschek_log_rate'] + (
    jnp.exp(part['janoschek_log_power']) * log_NT
  )
  fallen = part['janoschek_limit'] - part['janoschek_start']
  janoschek_NT = part['janoschek_limit'] - fallen * jnp.exp(
    -jnp.exp(log_gone_NT)
  )
  return (
    part['weight_pow3'] * pow3_NT
    + part['weight_ilog2'] * ilog2_NT
    + part['weight_janoschek'] * janoschek_NT
  )


def within(value_NT: jax.Array) -> jax.Array:
  """Whether curves [..., T] are kept: [...]; nan is not."""
  inside = jnp.all((value_NT >= 0) & (value_NT <= 1), axis=-1)
  return inside & (value_NT[..., -1] > value_NT[..., 0])


def draw(key: jax.Array, count: int) -> jax.Array:
  """Candidates [M, P], before any is refused."""
  uniform_key, normal_key = jax.random.split(key)
  uniform_MP = jax.random.uniform(uniform_key, (count, len(UNIFORM)))
  normal_MP = jax.random.normal(normal_key, (count, len(NORMAL)))
  uniform_MP = _LOW_P[None] + (_HIGH_P - _LOW_P)[None] * uniform_MP
  normal_MP = _MEAN_P[None] + _DEVIATION_P[None] * normal_MP
  return jnp.concatenate([uniform_MP, normal_MP], axis=-1)


def log_density(theta_NP: jax.Array) -> jax.Array:
  """Log density [...] of candidates [..., P], up to a constant.

  Of what is refused, too, as that needs the curve: see `within`.
  """
  rank = range(theta_NP.ndim - 1)
  low, high, mean, deviation = (
    jnp.expand_dims(each_P, rank)
    for each_P in (_LOW_P, _HIGH_P, _MEAN_P, _DEVIATION_P)
  )
  uniform_NP = theta_NP[..., : len(UNIFORM)]
  normal_NP = (theta_NP[..., len(UNIFORM) :] - mean) / deviation
  inside = jnp.all((uniform_NP >= low) & (uniform_NP <= high), axis=-1)
  return jnp.where(inside, -0.5 * jnp.sum(normal_NP**2, axis=-1), -jnp.inf)


@dataclasses.dataclass(frozen=True)
class Prior:
  """Curves at times 1..length.

  Attributes:
    length: of each curve; the published one is 100.
  """

  length: int = 100

  @property
  def time_T(self) -> np.ndarray:
    """float32, 1..length."""
    return np.arange(1, self.length + 1, dtype=np.float32)

  def sample(self, key: jax.Array, count: int) -> Curves:
    """So many curves, exactly from the prior."""
    theta_key, noise_key = jax.random.split(key)
    theta_NP = self.kept(theta_key, count)
    clean_NT = curve(theta_NP, self.time_T)
    noise_NT = jax.random.normal(noise_key, clean_NT.shape)
    noisy_NT = clean_NT + jnp.exp(theta_NP[:, -1:]) * noise_NT
    return Curves(theta_NP, clean_NT, noisy_NT)

  def kept(self, key: jax.Array, count: int) -> jax.Array:
    """What so many kept curves are made of, [N, P].

    By rounds of candidates until there are enough.
    """

    def fill(state: tuple) -> tuple:
      round_, filled, theta_NP = state
      found_FP, ok_F = self._finalists(jax.random.fold_in(key, round_), count)
      place_F = filled + jnp.cumsum(ok_F) - 1
      place_F = jnp.where(ok_F, place_F, count)  # Beyond the end: dropped.
      theta_NP = theta_NP.at[place_F].set(found_FP, mode='drop')
      return round_ + 1, filled + jnp.sum(ok_F), theta_NP

    start = (jnp.int32(0), jnp.int32(0), jnp.zeros((count, len(NAMES))))
    return jax.lax.while_loop(lambda state: state[1] < count, fill, start)[2]

  def _finalists(self, key: jax.Array, count: int) -> tuple:
    """Candidates whose ends are right, and which are right in between.

    Four of five are refused by their ends alone, which costs two times of a
    hundred. They are looked at in order, so that those that there is no room
    for are missed by chance.
    """
    theta_MP = draw(key, int(CANDIDATES * count) + 64)
    ok_M = within(curve(theta_MP, self.time_T[[0, -1]]))
    room = int(FINALISTS * count) + 32
    first_F = jnp.nonzero(ok_M, size=room, fill_value=-1)[0]
    theta_FP = theta_MP[first_F]
    return theta_FP, (first_F >= 0) & within(curve(theta_FP, self.time_T))


PUBLISHED = Prior()


@functools.partial(jax.jit, static_argnums=(0, 2))
def sample(prior: Prior, key: jax.Array, count: int) -> Curves:
  """`Prior.sample`, compiled."""
  return prior.sample(key, count)
