"""Training a network on curves of the prior.

`CurveProblem` from all points at once, `PublishedProblem` from one cutoff.

Shape key: N curves of a batch, T points, Q times asked for.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from extrap.curves import mixtures
from extrap.curves.bars import Bars
from extrap.curves.causal_pfn import LAST, CausalPFN, fresh
from extrap.curves.pfn import PFN
from extrap.curves.prior import PUBLISHED, Prior
from extrap.training.problem import Context, Metrics, Params


class Examples(NamedTuple):
  """Noisy points, and later ones that are asked for.

  Attributes:
    time_NT, value_NT: float32, packed at the front.
    counts_NT: bool, whether a point is there and has points after it.
    asked_NTQ: float32, times after each point.
    answer_NTQ: float32, what was seen there.
  """

  time_NT: jax.Array
  value_NT: jax.Array
  counts_NT: jax.Array
  asked_NTQ: jax.Array
  answer_NTQ: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CurveProblem:
  """The mean negative log density of later points, over all cutoffs.

  A network that is asked about curves of ten points must have met some: a share
  of the curves is thinned to fewer points, evenly spaced over all times, 4 to
  100 of them, log-uniform.

  Attributes:
    model: the network.
    prior: of the curves.
    batch_size: N, curves a step.
    asked: Q, later times of each point, uniform over those that there are.
    thinned: share of curves with fewer points.
  """

  model: CausalPFN
  prior: Prior = PUBLISHED
  batch_size: int = 64
  asked: int = 3
  thinned: float = 0.25

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters."""
    return fresh(self.model.config, key)

  def sample(self, ctx: Context) -> Examples:
    """Curves that nothing else has seen."""
    curve_key, asked_key, thin_key = jax.random.split(ctx.key, 3)
    noisy_NT = self.prior.sample(curve_key, self.batch_size).noisy_NT
    place_NT, there_NT = self._places(thin_key)
    length = self.prior.length
    left_NT1 = (length - 1 - place_NT)[..., None]
    shape = (*place_NT.shape, self.asked)
    ahead_NTQ = jnp.floor(jax.random.uniform(asked_key, shape) * left_NT1)
    later_NTQ = place_NT[..., None] + 1 + ahead_NTQ.astype(jnp.int32)
    later_NTQ = jnp.minimum(later_NTQ, length - 1)
    scale = LAST / length
    return Examples(
      scale * (place_NT + 1),
      jnp.take_along_axis(noisy_NT, place_NT, axis=1),
      there_NT & (left_NT1[..., 0] > 0),
      scale * (later_NTQ + 1),
      jnp.take_along_axis(noisy_NT[:, None], later_NTQ, axis=2),
    )

  def _places(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which points of each curve are shown, and whether they are there."""
    size_key, choice_key = jax.random.split(key)
    length, each = self.prior.length, (self.batch_size, 1)
    least, most = jnp.log(4.0), jnp.log(length + 1.0)
    few_N1 = jax.random.uniform(size_key, each, minval=least, maxval=most)
    few_N1 = jnp.floor(jnp.exp(few_N1)).astype(jnp.int32)
    thin_N1 = jax.random.uniform(choice_key, each) < self.thinned
    count_N1 = jnp.where(thin_N1, jnp.minimum(few_N1, length), length)
    index_T = jnp.arange(length)
    # The k-th of m lies at k / m of all times, rounded up: the last is last.
    place_NT = -(-(index_T[None] + 1) * length // count_N1) - 1
    return jnp.minimum(place_NT, length - 1), index_T[None] < count_N1

  def loss(
    self, params: Params, batch: Examples, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """Mean negative log density a later point, in nats."""
    del ctx
    return mean_loss(self.model, params, batch)


def mean_loss(
  model: CausalPFN, params: Params, batch: Examples
) -> tuple[jax.Array, Metrics]:
  """Mean negative log density, in nats, over points that count."""
  forecast = model.apply(
    {'params': params}, batch.time_NT, batch.value_NT, batch.asked_NTQ
  )
  log_density_NT = mixtures.log_density(forecast, batch.answer_NTQ).mean(-1)
  counts_NT = batch.counts_NT
  loss = -jnp.sum(jnp.where(counts_NT, log_density_NT, 0)) / counts_NT.sum()
  return loss, {'log_density': -loss}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PublishedProblem:
  """The published training: one cutoff a batch, uniform over 1..99.

  Attributes:
    model: the network.
    bars: the bins of its forecasts.
    prior: of the curves.
    batch_size: N, curves a step.
  """

  model: PFN
  bars: Bars
  prior: Prior = PUBLISHED
  batch_size: int = 100

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters."""
    time_T = jnp.asarray(self.prior.time_T)
    return self.model.init(key, time_T, time_T[None], 1)['params']

  def sample(self, ctx: Context) -> tuple[jax.Array, jax.Array]:
    """Noisy values [N, T], and the cutoff."""
    curve_key, cutoff_key = jax.random.split(ctx.key)
    cutoff = jax.random.randint(cutoff_key, (), 1, self.prior.length)
    return self.prior.sample(curve_key, self.batch_size).noisy_NT, cutoff

  def loss(
    self, params: Params, batch: tuple[jax.Array, jax.Array], ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """Mean negative log density of the values after the cutoff, in nats."""
    value_NT, cutoff = batch
    time_T = jnp.asarray(self.prior.time_T)
    logits = self.model.apply(
      {'params': params},
      time_T,
      value_NT,
      cutoff,
      train=True,
      rngs={'dropout': ctx.key},
    )
    log_density_T = self.bars.log_density(logits, value_NT).mean(0)
    later_T = jnp.arange(len(time_T)) >= cutoff
    loss = -jnp.sum(jnp.where(later_T, log_density_T, 0)) / later_T.sum()
    return loss, {'log_density': -loss}
