"""How good forecasts are: log density of what came, and where it fell.

Shape key: N curves, B of them at a time, T times, Q times after a cutoff, P
numbers of a curve.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import mixtures
from extrap.curves.bars import Bars
from extrap.curves.causal_pfn import CausalPFN
from extrap.curves.pfn import PFN
from extrap.curves.posterior import Particles, predictive
from extrap.curves.prior import Prior
from extrap.training.problem import Params

CURVES = 250  # Scored at a time.
POSTERIORS = 16  # Likewise, where each has thousands of particles.
PARTICLES = 4096  # Of a posterior, drawn from those of equal weight.

# The posterior of curves [B, T] of which the first [B] points are seen.
Posterior = Callable[[jax.Array, np.ndarray, jax.Array], Particles]


class Scores(NamedTuple):
  """Of every point after a cutoff.

  Attributes:
    log_density_NQ: float32, in nats.
    cdf_NQ: float32, forecast probability of at most what came; uniform on 0..1
      if forecasts are calibrated.
  """

  log_density_NQ: np.ndarray
  cdf_NQ: np.ndarray


def score_causal(
  model: CausalPFN, params: Params, value_NT: np.ndarray, cutoff: int
) -> Scores:
  """Of curves at times 1..T, of which the first `cutoff` are seen."""
  score = functools.partial(_causal, model, cutoff)
  return _joined(score(params, part_NT) for part_NT in _parts(value_NT))


def score_bars(
  model: PFN, bars: Bars, params: Params, value_NT: np.ndarray, cutoff: int
) -> Scores:
  """Of curves at times 1..T, of which the first `cutoff` are seen."""
  score = functools.partial(_bars, model, bars)
  found = _joined(
    score(params, part_NT, jnp.int32(cutoff)) for part_NT in _parts(value_NT)
  )
  return Scores(*(found_NT[:, cutoff:] for found_NT in found))


def score_posterior(
  prior: Prior,
  find: Posterior,
  key: jax.Array,
  value_NT: np.ndarray,
  cutoff: int,
  done: Callable[[int], None] = lambda count: None,
) -> Scores:
  """Of curves of the prior, of which the first `cutoff` are seen.

  Args:
    prior: of the curves.
    find: the posterior, from a key, curves [B, T] and how many points are seen
      [B]; its particles have leading axes [B, K].
    key: of all choices; every batch has its own.
    value_NT: the curves.
    cutoff: how many points are seen.
    done: called after each batch with how many curves are.
  """
  parts, seen_B = [], jnp.full(POSTERIORS, cutoff)
  for start in range(0, len(value_NT), POSTERIORS):
    part_BT = value_NT[start : start + POSTERIORS]
    spare = POSTERIORS - len(part_BT)
    padded_BT = np.pad(part_BT, ((0, spare), (0, 0)), mode='edge')
    own_key = jax.random.fold_in(key, start)
    particles = find(own_key, padded_BT, seen_B)
    found = _particles(prior, cutoff, _some(own_key, particles), padded_BT)
    parts.append(tuple(each[: len(part_BT)] for each in found))
    done(start + len(part_BT))
  return _joined(iter(parts))


def _some(key: jax.Array, particles: Particles) -> Particles:
  """So many of them by chance, where there are more; equal weights remain."""
  count = particles.log_weight_N.shape[-1]
  if count <= PARTICLES:
    return particles
  kept = jax.random.choice(key, count, (PARTICLES,), replace=False)
  log_weight = jnp.full((POSTERIORS, PARTICLES), -jnp.log(PARTICLES))
  return particles._replace(
    theta_NP=particles.theta_NP[:, kept], log_weight_N=log_weight
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _particles(
  prior: Prior, cutoff: int, particles: Particles, value_BT: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Log density and cdf, [B, Q], of the points after the cutoff."""
  time_Q = jnp.asarray(prior.time_T[cutoff:])

  def one(given: tuple[Particles, jax.Array]) -> tuple[jax.Array, jax.Array]:
    mixture = predictive(given[0], time_Q)
    later_Q = given[1][cutoff:]
    return mixtures.log_density(mixture, later_Q), mixtures.cdf(
      mixture, later_Q
    )

  return jax.lax.map(one, (particles, value_BT))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _causal(
  model: CausalPFN, cutoff: int, params: Params, value_NT: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Log density and cdf, [N, Q]; points after the cutoff are not shown."""
  count, length = value_NT.shape
  time_NT = jnp.broadcast_to(jnp.arange(1.0, length + 1), (count, length))
  bound = model.bind({'params': params})
  state_NCE, level_NC = bound.states(time_NT[:, :cutoff], value_NT[:, :cutoff])
  forecast = bound.forecast(
    state_NCE[:, -1],
    level_NC[:, -1],
    time_NT[:, cutoff - 1],
    time_NT[:, cutoff:],
  )
  later_NQ = value_NT[:, cutoff:]
  return mixtures.log_density(forecast, later_NQ), mixtures.cdf(
    forecast, later_NQ
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _bars(
  model: PFN, bars: Bars, params: Params, value_NT: jax.Array, cutoff: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Log density and cdf, [N, T]; those up to the cutoff mean nothing."""
  time_T = jnp.arange(1.0, value_NT.shape[1] + 1)
  logits = model.apply({'params': params}, time_T, value_NT, cutoff)
  return bars.log_density(logits, value_NT), bars.cdf(logits, value_NT)


def _parts(value_NT: np.ndarray) -> Iterator[np.ndarray]:
  """As many curves at a time as are held in memory."""
  for start in range(0, len(value_NT), CURVES):
    yield value_NT[start : start + CURVES]


def _joined(parts: Iterator[tuple[jax.Array, jax.Array]]) -> Scores:
  """The scores of all parts."""
  log_densities, cdfs = zip(*parts, strict=True)
  return Scores(np.concatenate(log_densities), np.concatenate(cdfs))
