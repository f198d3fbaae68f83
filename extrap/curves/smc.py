"""The posterior by tempering: sequential Monte Carlo from the bank.

Where next to no curve of the bank fits what has been seen, particles start from
the bank with so small a power of the likelihood that thousands fit. The power
then grows to one in steps that leave half the effective sample size; after each
step particles are resampled and moved by random-walk Metropolis, with their own
covariance, until they have forgotten where they were.

They move in coordinates in which a curve is linear wherever it can be: a
weight, weight times limit and weight times scale, and the sum of limits, which
is all that is seen of these. What fits is a narrow bent ridge in the parameters
and less bent in these: on nine of ten curves with 80 of 100 values seen, 1.5 to
7 times as many moves are accepted.

Source: Del Moral, Doucet and Jasra (2006), Sequential Monte Carlo samplers;
the step by the effective sample size: Jasra et al. (2011).

Shape key: B curves seen, N particles, D coordinates, P numbers of a curve,
T times.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from extrap.curves import bank as banks
from extrap.curves.bank import Bank, effective_size
from extrap.curves.posterior import Particles, check, densities
from extrap.curves.prior import Prior
from extrap.errors import UsageError

# Log prior density and log likelihood, each [N], of coordinates [N, D].
Densities = Callable[[jax.Array], tuple[jax.Array, jax.Array]]

LEAST_EFFECTIVE = 200.0  # Of the bank, below which particles are moved.
BISECTIONS = 30  # Of the next power, and fewer of the first.
LEAST_LOG_POWER = -14.0
SMALLEST_SCALE = 0.05  # Of steps, in those that suit a normal distribution.


@dataclasses.dataclass(frozen=True)
class Settings:
  """How particles are tempered.

  Attributes:
    particles: how many move.
    target: effective sample size that a step leaves, of the particles.
    forgotten: moves go on until the mean squared way from where a step began
      is this share of that between independent draws,
    moves: or until there have been so many in a step.
    snapshots: of all particles at the end, each with as many moves between.
  """

  particles: int = 1024
  target: float = 0.5
  forgotten: float = 0.5
  moves: int = 100
  snapshots: int = 4

  def __post_init__(self) -> None:
    if min(self.particles, self.moves, self.snapshots) < 1:
      raise UsageError('particles, moves and snapshots are positive')
    if not (0 < self.target < 1 and 0 < self.forgotten < 1):
      raise UsageError('target and forgotten are shares, within 0..1')


DEFAULT = Settings()


class _Cloud(NamedTuple):
  """Particles on their way."""

  x_ND: jax.Array
  prior_N: jax.Array
  likelihood_N: jax.Array
  root_N: jax.Array  # Which start each descends from.


def temper(
  key: jax.Array,
  density: Densities,
  x_ND: jax.Array,
  log_weight_N: jax.Array,
  power: jax.Array | float,
  settings: Settings = DEFAULT,
) -> Particles:
  """From a small power of a likelihood to the likelihood itself.

  Args:
    key: of all choices.
    density: what is asked of coordinates; a log prior density of minus infinity
      is a wall.
    x_ND: where particles start; not as many as move, but better more.
    log_weight_N: for the distribution prior * likelihood^power.
    power: 0 where starts are drawn from the prior.
    settings: see there.

  Returns:
    Particles of equal weight. Their effective sample size is that of the starts
    that they descend from: a lower limit, as if moves were of no use.
  """
  start_key, stage_key, end_key = jax.random.split(key, 3)
  index_N = _resampled(start_key, log_weight_N, settings.particles)
  x_ND = x_ND[index_N]
  cloud = _Cloud(x_ND, *density(x_ND), index_N)

  def stage(state: tuple) -> tuple:
    step, power, cloud = state
    resample_key, move_key = jax.random.split(
      jax.random.fold_in(stage_key, step)
    )
    next_ = _next_power(power, cloud.likelihood_N, settings)
    log_weight_N = (next_ - power) * cloud.likelihood_N
    index_N = _resampled(resample_key, log_weight_N, settings.particles)
    cloud = jax.tree.map(lambda each: each[index_N], cloud)
    return step + 1, next_, _moved(move_key, density, cloud, next_, settings)

  state = (jnp.int32(0), jnp.float32(power), cloud)
  *_, cloud = jax.lax.while_loop(lambda state: state[1] < 1, stage, state)

  def snapshot(cloud: _Cloud, key: jax.Array) -> tuple[_Cloud, jax.Array]:
    cloud = _moved(key, density, cloud, 1.0, settings)
    return cloud, cloud.x_ND

  keys = jax.random.split(end_key, settings.snapshots)
  _, x_SND = jax.lax.scan(snapshot, cloud, keys)
  x_ND = x_SND.reshape(-1, x_SND.shape[-1])
  equal_N = jnp.full(len(x_ND), -jnp.log(len(x_ND)))
  return Particles(x_ND, equal_N, _roots(cloud.root_N, len(log_weight_N)))


def _resampled(
  key: jax.Array, log_weight_N: jax.Array, count: int
) -> jax.Array:
  """Indices of so many, each as often as its weight says: systematic."""
  total_N = jnp.cumsum(jax.nn.softmax(log_weight_N))
  place = (jnp.arange(count) + jax.random.uniform(key)) / count
  index = jnp.searchsorted(total_N, place * total_N[-1], side='right')
  return jnp.minimum(index, len(log_weight_N) - 1)


def _next_power(
  power: jax.Array, likelihood_N: jax.Array, settings: Settings
) -> jax.Array:
  """The largest up to 1 that leaves the effective sample size aimed at."""
  wanted = settings.target * len(likelihood_N)

  def enough(next_: jax.Array) -> jax.Array:
    return effective_size((next_ - power) * likelihood_N) >= wanted

  def halve(_: int, bracket: tuple) -> tuple:
    low, high = bracket
    middle = 0.5 * (low + high)
    fine = enough(middle)
    return jnp.where(fine, middle, low), jnp.where(fine, high, middle)

  one = jnp.ones_like(power)
  _, high = jax.lax.fori_loop(0, BISECTIONS, halve, (power, one))
  # The upper end, or rounding might leave the power as it was.
  return jnp.where(enough(one), one, high)


def _moved(
  key: jax.Array,
  density: Densities,
  cloud: _Cloud,
  power: jax.Array | float,
  settings: Settings,
) -> _Cloud:
  """Particles that have forgotten where they were, or have tried to."""
  root_DD = _root_of_covariance(cloud.x_ND)
  whitening_DD = jnp.linalg.inv(root_DD)
  start_ND = cloud.x_ND

  def on(state: tuple) -> jax.Array:
    move, cloud = state
    way_ND = (cloud.x_ND - start_ND) @ whitening_DD.T
    near = jnp.mean(way_ND**2) < 2 * settings.forgotten
    return near & (move < settings.moves)

  def move(state: tuple) -> tuple:
    move, cloud = state
    move_key = jax.random.fold_in(key, move)
    return move + 1, _step(move_key, density, cloud, power, root_DD)

  return jax.lax.while_loop(on, move, (jnp.int32(0), cloud))[1]


def _step(
  key: jax.Array,
  density: Densities,
  cloud: _Cloud,
  power: jax.Array | float,
  root_DD: jax.Array,
) -> _Cloud:
  """One Metropolis step of every particle.

  Sizes of steps are drawn, up to the one that suits a normal distribution: a
  ridge asks for smaller ones, of a size that is not known.
  """
  normal_key, size_key, accept_key = jax.random.split(key, 3)
  count, dimensions = cloud.x_ND.shape
  size_N1 = (
    2.38
    * dimensions**-0.5
    * SMALLEST_SCALE ** (jax.random.uniform(size_key, (count, 1)))
  )
  normal_ND = jax.random.normal(normal_key, cloud.x_ND.shape)
  x_ND = cloud.x_ND + size_N1 * (normal_ND @ root_DD.T)
  new = _Cloud(x_ND, *density(x_ND), cloud.root_N)
  gain_N = new.prior_N - cloud.prior_N
  gain_N += power * (new.likelihood_N - cloud.likelihood_N)
  taken_N = jnp.log(jax.random.uniform(accept_key, (count,))) < gain_N

  def choose(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(taken_N.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

  return jax.tree.map(choose, new, cloud)


def _root_of_covariance(x_ND: jax.Array) -> jax.Array:
  """Lower Cholesky factor [D, D], of correlations for the sake of float32."""
  deviation_D = jnp.std(x_ND, axis=0) + 1e-9
  standard_ND = (x_ND - jnp.mean(x_ND, axis=0)[None]) / deviation_D[None]
  correlation_DD = standard_ND.T @ standard_ND / len(x_ND)
  ridge_DD = 1e-5 * jnp.eye(len(deviation_D))
  return deviation_D[:, None] * jnp.linalg.cholesky(correlation_DD + ridge_DD)


def _roots(root_N: jax.Array, starts: int) -> jax.Array:
  """Effective number of starts that particles descend from."""
  share = jnp.zeros(starts).at[root_N].add(1 / len(root_N))
  return 1 / jnp.sum(share**2)


def straight(theta_NP: jax.Array) -> jax.Array:
  """Coordinates [..., P] of curves: see the top of this file."""
  part = jnp.moveaxis(theta_NP, -1, 0)
  w1, w2, w3, limit1, scale1, limit2, scale2, limit3, start3 = part[:9]
  limit2, limit3 = w2 * limit2, w3 * limit3
  total = w1 * limit1 + limit2 + limit3
  fallen = limit3 - w3 * start3
  linear = (total, w1 * scale1, limit2, w2 * scale2, limit3, fallen)
  return jnp.stack([w1, w2, w3, *linear, *part[9:]], axis=-1)


def curved(x_NP: jax.Array) -> jax.Array:
  """What curves at these coordinates are made of: `straight`, inverted."""
  part = jnp.moveaxis(x_NP, -1, 0)
  w1, w2, w3, total, scale1, limit2, scale2, limit3, fallen = part[:9]
  limit1 = (total - limit2 - limit3) / w1
  start3 = (limit3 - fallen) / w3
  own = (limit1, scale1 / w1, limit2 / w2, scale2 / w2, limit3 / w3, start3)
  return jnp.stack([w1, w2, w3, *own, *part[9:]], axis=-1)


def log_volume(x_NP: jax.Array) -> jax.Array:
  """Log of the volume [...] that a unit of coordinates has in parameters."""
  return -2 * jnp.sum(jnp.log(jnp.abs(x_NP[..., :3])), axis=-1)


def refine(
  prior: Prior,
  bank: Bank,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  settings: Settings = DEFAULT,
) -> Particles:
  """The posterior of each curve, [B, K]; K is particles times snapshots.

  Args:
    prior: that of the bank.
    bank: from `bank.build`, from which particles start.
    key: of all choices.
    value_BT: values, of which what is not seen has no influence.
    seen_B: how many are seen, the same or not.
    settings: see there.

  Raises:
    UsageError: shapes do not fit, or a value that is seen is not finite.
  """
  check(prior, value_BT, seen_B)
  return _refine(prior, bank, key, value_BT, seen_B, settings)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _refine(
  prior: Prior,
  bank: Bank,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  settings: Settings,
) -> Particles:
  squares_BN = banks.squared_errors(bank.clean_CTn, value_BT, seen_B)

  def one(query: tuple) -> Particles:
    key, squares_N, value_T, seen = query
    bank_key, noise_key, temper_key = jax.random.split(key, 3)
    power = _first_power(squares_N, seen, settings.particles)
    start = banks.posterior(
      bank, bank_key, squares_N, seen, power, 2 * settings.particles
    )
    theta_NP = _anywhere_between_sizes(noise_key, start.theta_NP)

    def density(x_NP: jax.Array) -> tuple[jax.Array, jax.Array]:
      prior_N, likelihood_N = densities(prior, curved(x_NP), value_T, seen)
      kept_N = prior_N > -jnp.inf
      volume_N = jnp.where(kept_N, log_volume(x_NP), 0.0)
      return prior_N + volume_N, likelihood_N

    found = temper(
      temper_key,
      density,
      straight(theta_NP),
      start.log_weight_N,
      power,
      settings,
    )
    return found._replace(theta_NP=curved(found.theta_NP))

  keys_B = jax.random.split(key, len(value_BT))
  return jax.lax.map(one, (keys_B, squares_BN, value_BT, seen_B))


def _first_power(
  squares_N: jax.Array, seen: jax.Array, wanted: int
) -> jax.Array:
  """With which so many curves of the bank fit; found on a part of it."""
  part = max(1, len(squares_N) // 4)

  def halve(_: int, bracket: tuple) -> tuple:
    low, high = bracket
    middle = 0.5 * (low + high)
    log_weight_N = banks.marginal(squares_N[:part], seen, jnp.exp(middle))
    many = effective_size(log_weight_N) * len(squares_N) > wanted * part
    return jnp.where(many, middle, low), jnp.where(many, high, middle)

  bracket = (jnp.float32(LEAST_LOG_POWER), jnp.float32(0.0))
  return jnp.exp(jax.lax.fori_loop(0, 12, halve, bracket)[0])


def _anywhere_between_sizes(key: jax.Array, theta_NP: jax.Array) -> jax.Array:
  """Sizes of noise that are not those of the bank's grid alone."""
  shift_N = banks.SPACING * (jax.random.uniform(key, theta_NP.shape[:1]) - 0.5)
  return theta_NP.at[:, -1].add(shift_N)


def reference(
  prior: Prior,
  bank: Bank,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  batch: int = 16,
) -> tuple[Particles, jax.Array]:
  """The bank's posterior, refined where its effective sample size is small.

  Args:
    prior, bank, key, value_BT, seen_B: as in `refine`.
    batch: curves at a time, of which the last are repeated where there are too
      few, so that two programs are compiled.

  Returns:
    Particles [B, K] and the bank's effective sample sizes [B]; particles have
    been moved where that is below `LEAST_EFFECTIVE`.

  Raises:
    UsageError: shapes do not fit, or a value that is seen is not finite.
  """
  check(prior, value_BT, seen_B)
  every = jnp.arange(len(value_BT))
  room = DEFAULT.particles * DEFAULT.snapshots
  weigh = functools.partial(banks.weigh, particles=room)
  found = _in_batches(weigh, prior, bank, key, value_BT, seen_B, every, batch)
  low = jnp.nonzero(found.effective < LEAST_EFFECTIVE)[0]
  if not low.size:
    return found, found.effective
  moved = _in_batches(refine, prior, bank, key, value_BT, seen_B, low, batch)
  both = jax.tree.map(lambda all_, new: all_.at[low].set(new), found, moved)
  return both, found.effective


def _in_batches(
  method: Callable[..., Particles],
  prior: Prior,
  bank: Bank,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  index: jax.Array,
  batch: int,
) -> Particles:
  """A method on the curves of these indices."""
  parts = []
  for first in range(0, len(index), batch):
    some = index[first : first + batch]
    padded = jnp.pad(some, (0, batch - len(some)), mode='edge')
    part_key = jax.random.fold_in(key, first)
    parts.append(
      method(prior, bank, part_key, value_BT[padded], seen_B[padded])
    )
  return jax.tree.map(lambda *each: jnp.concatenate(each)[: len(index)], *parts)
