"""A network that forecasts a curve from every one of its points at once.

LC-PFN (Adriaensen et al. 2023, arXiv 2310.20447; `extrap.curves.pfn`) sees a
curve up to one cutoff, and carries each time that is asked for through all of
its layers. Here a causal transformer, pre-norm, runs along the points, and what
it knows after each of them is all that a small network needs to forecast any
later time. So a curve trains every cutoff in one pass, several later times of
each, and another time or another epoch costs little. A forecast is a mixture of
normals, a tenth of the size of a layer of 1000 bins, and not bounded in how
sure it can be.

Points are packed at the front; which times they are at is free, within 0..100.

Shape key: B curves, T points, Q times asked for, F features, E width, H heads,
D width of a head, S points of a cache, K components.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from extrap.config import option
from extrap.curves.dense import Dense
from extrap.curves.mixtures import Mixture
from extrap.errors import UsageError
from extrap.models.product import product
from extrap.training.problem import Params

LAST = 100.0  # The time that curves of the prior end at.
DECAYS = (0.5, 0.8, 0.95)  # Of the running means that a point sees.
LEAST_LOG_DEVIATION = -8.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalPFNConfig:
  """Sizes of the network."""

  width: int = option(96, 'of the states', minimum=8)
  layers: int = option(4, 'of the transformer', minimum=1)
  heads: int = option(4, 'of each layer; they divide the width', minimum=1)
  readout: int = option(192, 'hidden units that forecast', minimum=8)
  components: int = option(16, 'normals of a forecast', minimum=1)

  def check(self) -> None:
    """Refuses heads that do not divide the width."""
    if self.width % self.heads:
      raise UsageError(
        f'--model.heads={self.heads} does not divide --model.width={self.width}'
      )


class Points(NamedTuple):
  """What a network sees of points, see `points`.

  Attributes:
    feature_BTF: float32.
    level_BT: float32, a running mean, from which forecasts start.
  """

  feature_BTF: jax.Array
  level_BT: jax.Array


class Memory(NamedTuple):
  """What is kept of points that were seen, to go on from.

  Attributes:
    keys, values: of each layer, [B, S, H, D].
    weighted: [B, 3], sums behind the running means; weight: [B, 3].
    latest: [B], the last value; count: int32 scalar, points so far.
  """

  keys: tuple[jax.Array, ...]
  values: tuple[jax.Array, ...]
  weighted: jax.Array
  weight: jax.Array
  latest: jax.Array
  count: jax.Array


def points(time_BT: jax.Array, value_BT: jax.Array) -> Points:
  """Features of points and of those before them."""
  before_BT = jnp.concatenate([value_BT[:, :1], value_BT[:, :-1]], axis=1)
  place_T = np.arange(value_BT.shape[1])
  ago_TT = np.maximum(place_T - place_T[:, None], 0)
  past_TT = place_T[:, None] <= place_T
  means = []
  for decay in DECAYS:
    share_TT = np.where(past_TT, decay**ago_TT, 0.0).astype(np.float32)
    means.append(product(value_BT, jnp.asarray(share_TT / share_TT.sum(0))))
  return _points(time_BT, value_BT, before_BT, means)


def _points(
  time_BT: jax.Array,
  value_BT: jax.Array,
  before_BT: jax.Array,
  means: list[jax.Array],
) -> Points:
  """Features from a point, the value before it, and running means."""
  step_BT = value_BT - before_BT
  waves = [
    wave(np.pi * 2**power * value_BT)
    for power in range(5)
    for wave in (jnp.sin, jnp.cos)
  ]
  steps = [jnp.arcsinh(scale * step_BT) for scale in (10.0, 100.0, 1000.0)]
  off = [jnp.arcsinh(100 * (value_BT - mean_BT)) for mean_BT in means]
  size = jnp.log(jnp.abs(step_BT) + 1e-4) / 3 + 1.5
  features = [2 * value_BT - 1, *waves, *steps, *off, size]
  times = jnp.moveaxis(_clock(time_BT), -1, 0)
  return Points(jnp.stack([*times, *features], axis=-1), means[1])


def _clock(time: jax.Array) -> jax.Array:
  """Times as numbers of about unit size, [..., 3]."""
  return jnp.stack(
    [time / LAST - 0.5, jnp.log(time) / 4.6 - 0.7, 1 / (1 + time)], axis=-1
  )


def _ahead(cutoff: jax.Array, time: jax.Array) -> jax.Array:
  """A later time as seen from a cutoff, [..., 9]."""
  gap = jnp.maximum(time - cutoff, 1e-3)
  seen = [
    jnp.log(time / cutoff) / 2 - 0.5,
    jnp.log(gap) / 4.6 - 0.5,
    jnp.sqrt(time / LAST) - 0.5,
  ]
  return jnp.concatenate(
    [_clock(cutoff), _clock(time), jnp.stack(seen, axis=-1)], axis=-1
  )


def _small(scale: float) -> nn.initializers.Initializer:
  """So that what is added to a state is small at first."""
  return nn.initializers.variance_scaling(scale, 'fan_in', 'normal')


class Layer(nn.Module):
  """Attention to points up to one's own, and a feed-forward network."""

  config: CausalPFNConfig

  def setup(self) -> None:
    width = self.config.width
    self.attention_norm = nn.RMSNorm()
    self.queries, self.keys, self.values = (Dense(width) for _ in range(3))
    self.out = Dense(width, _small(0.1))
    self.ffn_norm = nn.RMSNorm()
    self.up, self.down = Dense(2 * width), Dense(width, _small(0.1))

  def project(self, x_BTE: jax.Array) -> tuple[jax.Array, ...]:
    """Queries, keys and values, [B, T, H, D] each."""
    x_BTE = self.attention_norm(x_BTE)
    heads = (*x_BTE.shape[:-1], self.config.heads, -1)
    makers = (self.queries, self.keys, self.values)
    return tuple(make(x_BTE).reshape(heads) for make in makers)

  def finish(
    self,
    x_BTE: jax.Array,
    query_BTHD: jax.Array,
    key_BSHD: jax.Array,
    value_BSHD: jax.Array,
    seen_TS: jax.Array,
  ) -> jax.Array:
    """States after this layer, from what each point sees."""
    score = jnp.einsum('bthd,bshd->bhts', query_BTHD, key_BSHD)
    score = score * query_BTHD.shape[-1] ** -0.5
    share = jax.nn.softmax(jnp.where(seen_TS[None, None], score, -1e30))
    mixed = jnp.einsum('bhts,bshd->bthd', share, value_BSHD)
    x_BTE = x_BTE + self.out(mixed.reshape(x_BTE.shape))
    hidden = jax.nn.gelu(self.up(self.ffn_norm(x_BTE)))
    return x_BTE + self.down(hidden)


class CausalPFN(nn.Module):
  """What is known after each point, and what it says of later times."""

  config: CausalPFNConfig

  def setup(self) -> None:
    config = self.config
    self.embed = Dense(config.width, hidden=False)
    self.layers = [Layer(config) for _ in range(config.layers)]
    self.norm = nn.RMSNorm()
    self.known = Dense(config.readout)
    self.asked = Dense(config.readout, hidden=False)
    self.hidden = Dense(config.readout)
    self.logits = Dense(3 * config.components, _small(0.01))

  def __call__(
    self, time_BT: jax.Array, value_BT: jax.Array, asked_BTQ: jax.Array
  ) -> Mixture:
    """Forecasts [B, T, Q] from every point, of times after it."""
    state_BTE, level_BT = self.states(time_BT, value_BT)
    return self.forecast(state_BTE, level_BT, time_BT, asked_BTQ)

  def states(
    self, time_BT: jax.Array, value_BT: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """What is known after each point: states, and the level [B, T]."""
    seen = points(time_BT, value_BT)
    x_BTE, _ = self._pass(seen)
    return self.norm(x_BTE), seen.level_BT

  def _pass(
    self, seen: Points
  ) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
    """States behind the last layer, and keys and values of each."""
    x_BTE, kept = self.embed(seen.feature_BTF), []
    past_TT = jnp.tril(jnp.ones((x_BTE.shape[1],) * 2, bool))
    for layer in self.layers:
      query, key, value = layer.project(x_BTE)
      kept.append((key, value))
      x_BTE = layer.finish(x_BTE, query, key, value, past_TT)
    return x_BTE, kept

  def remember(
    self, time_BT: jax.Array, value_BT: jax.Array, room: int
  ) -> Memory:
    """What is kept of points, with room for so many in all."""
    batch, count = value_BT.shape
    _, kept = self._pass(points(time_BT, value_BT))
    spare = ((0, 0), (0, room - count), (0, 0), (0, 0))
    keys, values = (
      tuple(jnp.pad(each, spare) for each in part)
      for part in zip(*kept, strict=True)
    )
    power = np.arange(count)[::-1, None]
    share = (np.array(DECAYS) ** power).astype(np.float32)
    return Memory(
      keys,
      values,
      product(value_BT, jnp.asarray(share)),
      jnp.broadcast_to(share.sum(0), (batch, len(DECAYS))),
      value_BT[:, -1],
      jnp.int32(count),
    )

  def append(
    self, memory: Memory, time_B: jax.Array, value_B: jax.Array
  ) -> tuple[Memory, jax.Array, jax.Array]:
    """One more point each: what is kept, the state [B, E], the level [B]."""
    decay = jnp.asarray(DECAYS)[None]
    weighted = decay * memory.weighted + value_B[:, None]
    weight = decay * memory.weight + 1
    means = list((weighted / weight).T[..., None])
    before_B1 = memory.latest[:, None]
    seen = _points(time_B[:, None], value_B[:, None], before_B1, means)
    x_B1E = self.embed(seen.feature_BTF)
    at = memory.count
    seen_1S = (jnp.arange(memory.keys[0].shape[1]) <= at)[None]
    keys, values = [], []
    for index, layer in enumerate(self.layers):
      query, key, value = layer.project(x_B1E)
      place = (0, at, 0, 0)
      key = jax.lax.dynamic_update_slice(memory.keys[index], key, place)
      value = jax.lax.dynamic_update_slice(memory.values[index], value, place)
      x_B1E = layer.finish(x_B1E, query, key, value, seen_1S)
      keys.append(key)
      values.append(value)
    kept = Memory(tuple(keys), tuple(values), weighted, weight, value_B, at + 1)
    return kept, self.norm(x_B1E)[:, 0], seen.level_BT[:, 0]

  def forecast(
    self,
    state: jax.Array,
    level: jax.Array,
    cutoff: jax.Array,
    asked: jax.Array,
  ) -> Mixture:
    """Mixtures [..., Q] of values at times [..., Q] after cutoffs [...]."""
    asked_from = jnp.broadcast_to(cutoff[..., None], asked.shape)
    hidden = self.known(state)[..., None, :] + self.asked(
      _ahead(asked_from, asked)
    )
    hidden = jax.nn.gelu(self.hidden(jax.nn.gelu(hidden)))
    score, shift, log_deviation = jnp.split(self.logits(hidden), 3, axis=-1)
    # Components start apart, or they would stay alike.
    apart = jnp.linspace(-0.3, 0.3, self.config.components)
    apart = jnp.expand_dims(apart, range(asked.ndim))
    return Mixture(
      jax.nn.log_softmax(score),
      level[..., None, None] + shift + apart,
      jnp.exp(jnp.maximum(log_deviation - 2.5, LEAST_LOG_DEVIATION)),
    )


def fresh(config: CausalPFNConfig, key: jax.Array) -> Params:
  """Parameters before training."""
  time_12 = jnp.ones((1, 2))
  made = CausalPFN(config).init(key, time_12, time_12, time_12[..., None])
  return made['params']
