"""A prior over scaling curves, sampled inside a program.

Loss or error y against data, width or steps x, as smoothly broken power laws
(Caballero et al. 2023, arXiv 2210.14891) above a limit: straight, bent or flat
at first; some fall as a stretched exponential, some rise between two falls, as
in double descent. Noise is of one size a curve in log y, or shrinks with x, or
is correlated; what no law has, slow waves, comes on top. That a network trained
on such a prior forecasts scaling curves is of Lee et al. (2025, arXiv
2505.23032), whose prior is another: x on a line and known up to its end.

Everything is in log x from the first point, u, and log y. Ranges were set with
the fitted parts of the benchmark's curves (`extrap.datasets.scaling_benchmark`)
in view; no error on points to be forecast has chosen a number.

Shape key: N curves, T points, Q times asked for, B breaks.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from extrap.randomness import named

BREAKS = 3
AHEAD = 3.9  # Natural log of how many times as far is asked for, at most.
NEAREST = 0.01  # Likewise, at least.
WIDEST = 7.0  # Log of how many times the first x the last is, at most.


class Shape(NamedTuple):
  """What curves are without noise; [N] unless it says otherwise.

  Attributes:
    slope_NB: power of each piece, [N, B + 1], positive where y falls.
    place_NB: log x of the breaks.
    width_NB: over how much log x each bends.
    rate: of the stretched exponential; 0 where the curve is a power law.
    middle: log x at which that has fallen by a factor of e.
    limit: log of what y falls to; minus infinity for nothing.
    wave_NB, pace_NB, phase_NB: size, angular frequency and phase of waves.
  """

  slope_NB: jax.Array
  place_NB: jax.Array
  width_NB: jax.Array
  rate: jax.Array
  middle: jax.Array
  limit: jax.Array
  wave_NB: jax.Array
  pace_NB: jax.Array
  phase_NB: jax.Array


class ScalingCurves(NamedTuple):
  """Points of curves, and later ones of each.

  Attributes:
    u_NT: log x, 0 at the first point, ascending.
    log_y_NT: noisy.
    there_NT: whether there is a point.
    asked_NTQ: log x after each point.
    answer_NTQ: noisy log y there.
  """

  u_NT: jax.Array
  log_y_NT: jax.Array
  there_NT: jax.Array
  asked_NTQ: jax.Array
  answer_NTQ: jax.Array


def curve(shape: Shape, u_NT: jax.Array) -> jax.Array:
  """Log y [N, T] without noise."""
  plain_NT = _law(shape, u_NT)
  wave_NT = jnp.sum(
    shape.wave_NB[:, None]
    * jnp.sin(
      u_NT[..., None] * shape.pace_NB[:, None] + shape.phase_NB[:, None]
    ),
    axis=-1,
  )
  return jnp.logaddexp(plain_NT, shape.limit[:, None]) + wave_NT


def _law(shape: Shape, u_NT: jax.Array) -> jax.Array:
  """Log y without limit and waves."""
  bend_NTB = shape.width_NB[:, None] * jax.nn.softplus(
    (u_NT[..., None] - shape.place_NB[:, None]) / shape.width_NB[:, None]
  )
  change_NB = jnp.diff(shape.slope_NB, axis=1)
  power_NT = -shape.slope_NB[:, :1] * u_NT - jnp.sum(
    change_NB[:, None] * bend_NTB, axis=-1
  )
  rate_N1 = shape.rate[:, None]
  gone_NT = jnp.exp(rate_N1 * (u_NT - shape.middle[:, None]))
  return jnp.where(rate_N1 > 0, -gone_NT, power_NT)


@dataclasses.dataclass(frozen=True)
class ScalingPrior:
  """The prior.

  Attributes:
    length: T, points that are shown of a curve at most.
    least, most: points that it has; where it has more than are shown, these are
      means of neighbours.
    falls: share of curves that only fall.
    exponential: share that are stretched exponentials.
    flat: share of curves that fall slowly at first.
    noise: median deviation of log y.
    wave: median size of waves in log y.
  """

  length: int = 64
  least: int = 6
  most: int = 400
  falls: float = 0.85
  exponential: float = 0.1
  flat: float = 0.4
  noise: float = 0.008
  wave: float = 0.003

  def sample(self, key: jax.Array, count: int, asked: int) -> ScalingCurves:
    """So many curves, with so many later points of each of their points."""
    grid_key, shape_key, noise_key, asked_key = jax.random.split(key, 4)
    many_N1, span_N1 = self.extent(named(grid_key, 'extent'), count)
    u_NT, there_NT = self.grid(grid_key, many_N1, span_N1)
    shape = self.shape(shape_key, span_N1)
    # Most of what is asked is near.
    share = jax.random.uniform(asked_key, (*u_NT.shape, asked)) ** 2
    asked_NTQ = u_NT[..., None] + NEAREST + (AHEAD - NEAREST) * share
    every_NS = jnp.concatenate([u_NT, asked_NTQ.reshape(count, -1)], axis=1)
    clean_NS = curve(shape, every_NS)
    points = u_NT.shape[1]
    noise_NS = self.noises(noise_key, every_NS, points)
    # Points that are means of several have less noise than those asked for.
    less_N1 = jnp.sqrt(jnp.maximum(many_N1 / points, 1.0))
    noise_NS = noise_NS.at[:, :points].divide(less_N1)
    noisy_NS = clean_NS + noise_NS
    return ScalingCurves(
      u_NT,
      noisy_NS[:, :points],
      there_NT,
      asked_NTQ,
      noisy_NS[:, points:].reshape(asked_NTQ.shape),
    )

  def extent(self, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """How many points curves had, [N, 1], and log x of the last, [N, 1]."""
    draw = _Draws(key, (count, 1))
    least, most = jnp.log(self.least), jnp.log(self.most + 1.0)
    many_N1 = jnp.floor(jnp.exp(draw.uniform('points', least, most)))
    return many_N1, draw.uniform('span', 0.4, WIDEST)

  def grid(
    self, key: jax.Array, many_N1: jax.Array, span_N1: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Log x [N, T], and which of them are points.

    Between evenly spaced x and evenly spaced log x, some at random places; of
    more than T points there are T that stand for all.
    """
    count = len(many_N1)
    draw, many_N1 = _Draws(key, (count, 1)), jnp.minimum(many_N1, self.length)
    index_T = jnp.arange(self.length, dtype=jnp.float32)[None]
    there_NT = index_T < many_N1
    even_NT = jnp.minimum(index_T / (many_N1 - 1), 1.0)
    chance_NT = jax.random.uniform(named(key, 'places'), (count, self.length))
    chance_NT = jnp.sort(jnp.where(there_NT, chance_NT, 2.0), axis=1)
    first, last = (
      chance_NT[:, :1],
      jnp.max(jnp.where(there_NT, chance_NT, 0.0), axis=1, keepdims=True),
    )
    chance_NT = jnp.minimum((chance_NT - first) / (last - first), 1.0)
    at_random = draw.chance('random', 0.3)
    share_NT = jnp.where(at_random, chance_NT, even_NT)
    # A power of x that is evenly spaced; near 0 it is the logarithm.
    power_N1 = draw.uniform('power', 0.02, 1.0)
    top_N1 = jnp.expm1(power_N1 * span_N1)
    u_NT = jnp.log1p(share_NT * top_N1) / power_N1
    return u_NT, there_NT

  def shape(self, key: jax.Array, span_N1: jax.Array) -> Shape:
    """What curves over so much log x are."""
    count = len(span_N1)
    one = _Draws(key, (count, 1))
    each = _Draws(named(key, 'each'), (count, BREAKS))
    piece = _Draws(named(key, 'piece'), (count, BREAKS + 1))
    slope_NB = jnp.minimum(piece.log_normal('slope', 0.25, 0.9), 3.0)
    slow = one.chance('flat', self.flat)
    flat_N1 = jnp.where(slow, one.uniform('how flat', 0.0, 0.2), 1.0)
    rises = ~one.chance('falls', self.falls)
    number_N1 = jnp.floor(one.uniform('breaks', 0.0, BREAKS + 1.0) ** 1.2 / 1.4)
    number_N1 = jnp.where(rises, jnp.maximum(number_N1, 2.0), number_N1)
    # A piece behind the last break goes on as the one before it.
    index_B = jnp.minimum(jnp.arange(BREAKS + 1.0)[None], number_N1)
    slope_NB = jnp.take_along_axis(slope_NB, index_B.astype(jnp.int32), axis=1)
    second = jnp.arange(BREAKS + 1)[None] == 1
    slope_NB = jnp.where(rises & second, -1.0, 1.0) * slope_NB
    slope_NB = slope_NB.at[:, :1].multiply(flat_N1)
    place_NB = jnp.sort(each.uniform('place', -0.5, 0.5 + span_N1), axis=1)
    width_NB = jnp.exp(each.uniform('width', jnp.log(0.03), jnp.log(1.5)))
    width_NB = jnp.where(rises, 0.3 * width_NB, width_NB)
    decays = one.chance('exponential', self.exponential) & ~rises
    rate_N1 = jnp.where(decays, one.uniform('rate', 0.3, 1.5), 0.0)
    shape = Shape(
      slope_NB,
      place_NB,
      width_NB,
      rate_N1[:, 0],
      one.uniform('middle', -0.5, span_N1)[:, 0],
      jnp.full(count, -jnp.inf),
      each.log_normal('wave', self.wave, 1.0),
      each.uniform('pace', 0.5, 5.0),
      each.uniform('phase', 0.0, 2 * jnp.pi),
    )
    # The limit is a share of what y is at the last point.
    end_N1 = _law(shape, span_N1)
    share_N1 = one.uniform('limit', -0.4, 0.97)
    some = (share_N1 > 0) | decays
    share_N1 = jnp.maximum(share_N1, 1e-3)
    limit_N1 = end_N1 + jnp.log(share_N1 / (1 - share_N1))
    # An exponential may be gone by then: its limit is a share of y at x = 0.
    rest_N1 = jnp.log(one.uniform('rest', 0.02, 0.95))
    limit_N1 = jnp.where(decays, rest_N1, limit_N1)
    limit_N1 = jnp.where(some, limit_N1, -jnp.inf)
    return shape._replace(limit=limit_N1[:, 0])

  def noises(self, key: jax.Array, u_NS: jax.Array, points: int) -> jax.Array:
    """Noise of log y [N, S]; that of the first points may be correlated."""
    one = _Draws(key, (len(u_NS), 1))
    size_N1 = jnp.clip(one.log_normal('size', self.noise, 1.2), 5e-4, 0.3)
    less_N1 = jnp.maximum(one.uniform('less', -0.6, 0.4), 0.0)
    normal_NS = jax.random.normal(named(key, 'normal'), u_NS.shape)
    after = jnp.maximum(one.uniform('correlation', -2.0, 0.95), 0.0)
    ago_TT = jnp.arange(points)[:, None] - jnp.arange(points)[None]
    share_NTT = jnp.where(
      ago_TT >= 0, after[..., None] ** jnp.maximum(ago_TT, 0)[None], 0.0
    )
    # The first point stands for all before it.
    fresh_N1T = jnp.sqrt(1 - after**2)[..., None]
    fresh_N1T = jnp.where(jnp.arange(points)[None, None] > 0, fresh_N1T, 1.0)
    share_NTT *= fresh_N1T
    smooth_NT = jnp.einsum('nts,ns->nt', share_NTT, normal_NS[:, :points])
    normal_NS = normal_NS.at[:, :points].set(smooth_NT)
    return size_N1 * jnp.exp(-less_N1 * u_NS) * normal_NS


PRIOR = ScalingPrior()


@dataclasses.dataclass(frozen=True)
class _Draws:
  """Draws of one shape, each by its name."""

  key: jax.Array
  shape: tuple[int, ...]

  def uniform(
    self, name: str, low: jax.Array | float, high: jax.Array | float
  ) -> jax.Array:
    """Between two limits."""
    share = jax.random.uniform(named(self.key, name), self.shape)
    return low + (high - low) * share

  def log_normal(self, name: str, median: float, deviation: float) -> jax.Array:
    """With a median and the deviation of its logarithm."""
    normal = jax.random.normal(named(self.key, name), self.shape)
    return median * jnp.exp(deviation * normal)

  def chance(self, name: str, share: float) -> jax.Array:
    """True in a share of cases."""
    return self.uniform(name, 0.0, 1.0) < share
