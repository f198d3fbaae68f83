"""The posterior by an ensemble of walkers: the MCMC of LC-PFN's tables.

The stretch move, which no linear map of the parameters slows down or speeds up:
a walker of one half moves along the line through it and one of the other half.
It is the default of the package emcee, with which Domhan et al. (2015) and
LC-PFN's paper sample; here the loop is compiled.

Walkers start from the best of some draws of the prior. The paper's code starts
from least squares and jitter, which it finds to help short chains only.

Source: Goodman and Weare (2010), Ensemble samplers with affine invariance;
Foreman-Mackey et al. (2013), emcee, for the two halves.

Shape key: W walkers, H a half of them, D dimensions, K kept states, N all kept
walkers, B curves seen, T times.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from extrap.curves.posterior import Particles, check, densities
from extrap.curves.prior import Prior
from extrap.errors import UsageError

LogDensity = Callable[[jax.Array], jax.Array]

LONGEST = 2.0  # Stretch, and the inverse of the shortest.
DRAWS = 4096  # Of the prior, of which the best are starts.


@dataclasses.dataclass(frozen=True)
class Settings:
  """How long walkers walk.

  Attributes:
    steps: of every walker, those left out included.
    walkers: even, and more than twice the number of dimensions.
    burn: the first steps, which are left out.
    thin: of the others one in so many is kept.
  """

  steps: int = 2000
  walkers: int = 100
  burn: int = 500
  thin: int = 1

  def __post_init__(self) -> None:
    if self.walkers < 4 or self.walkers % 2:
      raise UsageError(f'walkers are even and four at least: {self.walkers}')
    if self.burn < 0 or self.thin < 1 or self.kept < 1:
      raise UsageError(
        f'of {self.steps} steps none is kept after {self.burn}, '
        f'one in {self.thin}'
      )

  @property
  def kept(self) -> int:
    """States that are kept."""
    return (self.steps - self.burn) // self.thin


# Those of the paper's table: M1 is Domhan's, M3 is its best.
M1 = Settings(2000, 100, 500)
M2 = Settings(4000, 100, 100, thin=100)
M3 = Settings(4000, 100, 500)


class Walk(NamedTuple):
  """Where walkers have been.

  Attributes:
    x_KWD: kept states.
    accepted: [], share of moves, of all steps.
  """

  x_KWD: jax.Array
  accepted: jax.Array


def walk(
  key: jax.Array, log_density: LogDensity, x_WD: jax.Array, settings: Settings
) -> Walk:
  """Walkers of a distribution, from where they start.

  Args:
    key: of all moves.
    log_density: [H] of [H, D], up to a constant.
    x_WD: different points, at which the density is not zero.
    settings: its walkers are as many as these.
  """
  half = settings.walkers // 2
  sides = (x_WD[:half], x_WD[half:])
  level = tuple(log_density(side) for side in sides)
  state = (sides, level, jnp.float32(0))

  def step(index: jax.Array, state: tuple) -> tuple:
    sides, level, accepted = state
    first_key, second_key = jax.random.split(jax.random.fold_in(key, index))
    one, one_level, a = _stretch(
      first_key, log_density, sides[0], level[0], sides[1]
    )
    two, two_level, b = _stretch(
      second_key, log_density, sides[1], level[1], one
    )
    return (one, two), (one_level, two_level), accepted + 0.5 * (a + b)

  def kept(state: tuple, index: jax.Array) -> tuple[tuple, jax.Array]:
    first = settings.burn + index * settings.thin
    state = jax.lax.fori_loop(first, first + settings.thin, step, state)
    return state, jnp.concatenate(state[0])

  state = jax.lax.fori_loop(0, settings.burn, step, state)
  state, x_KWD = jax.lax.scan(kept, state, jnp.arange(settings.kept))
  steps = settings.burn + settings.kept * settings.thin
  return Walk(x_KWD, state[2] / steps)


def _stretch(
  key: jax.Array,
  log_density: LogDensity,
  x_HD: jax.Array,
  level_H: jax.Array,
  other_HD: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """One move of a half: where it is, its log density, the share accepted."""
  stretch_key, partner_key, accept_key = jax.random.split(key, 3)
  count, dimensions = x_HD.shape
  # Density proportional to 1 / sqrt(z) between 1 / LONGEST and LONGEST.
  low, high = LONGEST**-0.5, LONGEST**0.5
  root_H = low + (high - low) * jax.random.uniform(stretch_key, (count,))
  stretch_H = root_H**2
  partner_H = jax.random.randint(partner_key, (count,), 0, len(other_HD))
  partner_HD = other_HD[partner_H]
  new_HD = partner_HD + stretch_H[:, None] * (x_HD - partner_HD)
  new_level_H = log_density(new_HD)
  gain_H = (dimensions - 1) * jnp.log(stretch_H) + new_level_H - level_H
  taken_H = jnp.log(jax.random.uniform(accept_key, (count,))) < gain_H
  x_HD = jnp.where(taken_H[:, None], new_HD, x_HD)
  level_H = jnp.where(taken_H, new_level_H, level_H)
  return x_HD, level_H, jnp.mean(taken_H)


def posterior_ensemble(
  prior: Prior,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  settings: Settings = M1,
  time_BT: jax.Array | None = None,
) -> Particles:
  """The posterior of each curve, [B, N]; N is kept states times walkers.

  Walkers start from the most likely of `DRAWS` curves of the prior.

  Args:
    prior: of the curves.
    key: of all choices.
    value_BT: values, of which what is not seen has no influence.
    seen_B: how many are seen, the same or not.
    settings: see there; `M1` to `M3` are published.
    time_BT: times of the values, at least 1 and in order, in place of 1..T.

  Returns:
    Particles of equal weight, 52 bytes each. In place of an effective sample
    size the share of moves accepted, times N: an upper limit of it.

  Raises:
    UsageError: shapes do not fit, or a value that is seen is not finite.
  """
  check(prior, value_BT, seen_B)
  if time_BT is None:
    time_BT = jnp.broadcast_to(prior.time_T[None], value_BT.shape)
  return _posterior(prior, key, value_BT, seen_B, settings, time_BT)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _posterior(
  prior: Prior,
  key: jax.Array,
  value_BT: jax.Array,
  seen_B: jax.Array,
  settings: Settings,
  time_BT: jax.Array,
) -> Particles:
  start_key, walk_key = jax.random.split(key)
  theta_NP = prior.kept(start_key, DRAWS)

  def one(query: tuple) -> Particles:
    key, value_T, seen, time_T = query

    def log_density(theta_WP: jax.Array) -> jax.Array:
      return sum(densities(prior, theta_WP, value_T, seen, time_T))

    best_W = jax.lax.top_k(log_density(theta_NP), settings.walkers)[1]
    walked = walk(key, log_density, theta_NP[best_W], settings)
    found_NP = walked.x_KWD.reshape(-1, theta_NP.shape[-1])
    equal_N = jnp.full(len(found_NP), -jnp.log(len(found_NP)))
    return Particles(found_NP, equal_N, walked.accepted * len(found_NP))

  keys_B = jax.random.split(walk_key, len(value_BT))
  return jax.lax.map(one, (keys_B, value_BT, seen_B, time_BT))
