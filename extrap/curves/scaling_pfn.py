"""A network that forecasts scaling curves of any unit, up to 49 times as far.

That of `extrap.curves.causal_pfn`, trained on curves of
`extrap.curves.scaling_prior`, all of whose points are cutoffs. It sees x in
units of the last x seen, and log y from the first y seen, so that no unit
matters; how far it is asked to look ahead it is told by nothing but what is
asked. That such a network beats parametric laws is of Lee et al. (2025, arXiv
2505.23032).

Shape key: N curves, T points, Q asked for.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import mixtures, weights
from extrap.curves.bounded import BoundedForecast
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig, fresh
from extrap.curves.lcpfn import forecast_behind, packed, room
from extrap.curves.mixtures import Mixture
from extrap.curves.normalise import Normalisation, loss_from
from extrap.curves.pfn_problem import Examples, mean_loss
from extrap.curves.scaling_prior import PRIOR, ScalingPrior
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.training.problem import Context, Metrics, Params

SHIPPED = Path(__file__).with_name('scaling_pfn.npz')
# Where curves lie in what the network calls time and value, both of which are
# of no unit: log y from the first, and the last x seen.
VALUE_START, VALUE_SCALE = 0.75, 0.25
TIME_LAST = 0.5
TIME_RANGE = (0.1, 2.0)  # Of the last point of a curve, in training.
LEAST_SEEN = 3  # Points, from which on cutoffs are trained.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScalingProblem:
  """The mean negative log density of later points, over all cutoffs.

  Attributes:
    model: the network.
    prior: of the curves.
    batch_size: N, curves a step.
    asked: Q, later x of each point.
  """

  model: CausalPFN
  prior: ScalingPrior = PRIOR
  batch_size: int = 64
  asked: int = 3

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters."""
    return fresh(self.model.config, key)

  def sample(self, ctx: Context) -> Examples:
    """Curves that nothing else has seen."""
    found = self.prior.sample(ctx.key, self.batch_size, self.asked)
    low, high = jnp.log(jnp.asarray(TIME_RANGE))
    share_N1 = jax.random.uniform(named(ctx.key, 'last'), (self.batch_size, 1))
    last_N1 = low + (high - low) * share_N1
    end_N1 = jnp.max(found.u_NT, axis=1, keepdims=True)
    start_N1 = found.log_y_NT[:, :1]
    # A network is asked about what it has seen a few points of.
    enough_T = jnp.arange(self.prior.length) >= LEAST_SEEN - 1
    shift_N1 = last_N1 - end_N1
    return Examples(
      jnp.exp(found.u_NT + shift_N1),
      to_value(found.log_y_NT, start_N1),
      found.there_NT & enough_T[None],
      jnp.exp(found.asked_NTQ + shift_N1[..., None]),
      to_value(found.answer_NTQ, start_N1[..., None]),
    )

  def loss(
    self, params: Params, batch: Examples, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """Mean negative log density a later point, in nats of `to_value`."""
    del ctx
    return mean_loss(self.model, params, batch)


def to_value(log_y: jax.Array, start: jax.Array) -> jax.Array:
  """What the network sees of log y, given that of the first point."""
  return VALUE_START + VALUE_SCALE * (log_y - start)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ScalingForecast(BoundedForecast):
  """Distributions of y, or of how far it is below a limit.

  Attributes:
    mixture: of `to_value`, [N, Q].
    start_N1: logarithm of the first y, or of its distance.
    top_N1: float64, the limit; 0 where y itself was forecast.
  """

  mixture: Mixture
  start_N1: np.ndarray
  top_N1: np.ndarray

  def unbounded(self, p: float) -> np.ndarray:
    """Quantiles [N, Q] that know of no bounds."""
    p_NQ = np.where(self.top_N1 > 0, 1 - p, p) + np.zeros(self.step_NQ.shape)
    value_NQ = np.asarray(_quantile(self.mixture, np.float32(p_NQ)), np.float64)
    above_NQ = (value_NQ - VALUE_START) / VALUE_SCALE
    distance_NQ = np.exp(self.start_N1 + above_NQ)
    return np.where(self.top_N1 > 0, self.top_N1 - distance_NQ, distance_NQ)

  def log_density(self, y_NQ: np.ndarray) -> np.ndarray:
    """In nats per unit of y, [N, Q]."""
    distance_NQ = self._distance(y_NQ)
    found_NQ = mixtures.log_density(self.mixture, self._value(distance_NQ))
    return np.asarray(found_NQ) + np.log(VALUE_SCALE) - np.log(distance_NQ)

  def below(self, value: np.ndarray | float) -> np.ndarray:
    """Probability [N, Q] of no more than a value, or than [N, Q]."""
    distance_NQ = self._distance(np.broadcast_to(value, self.step_NQ.shape))
    there_NQ = np.maximum(distance_NQ, np.finfo(float).tiny)
    less_NQ = np.asarray(mixtures.cdf(self.mixture, self._value(there_NQ)))
    less_NQ = np.where(distance_NQ > 0, less_NQ, 0.0)
    return np.where(self.top_N1 > 0, 1 - less_NQ, less_NQ)

  def of_row(self, row: int) -> Self:
    """The forecast of one curve."""
    one = slice(row, row + 1)
    return dataclasses.replace(
      self,
      step_NQ=self.step_NQ[one],
      normalisation_N=self.normalisation_N[one],
      mixture=jax.tree.map(lambda leaf: leaf[one], self.mixture),
      start_N1=self.start_N1[one],
      top_N1=self.top_N1[one],
    )

  def _distance(self, y_NQ: np.ndarray) -> np.ndarray:
    """What was forecast, of y."""
    return np.where(self.top_N1 > 0, self.top_N1 - y_NQ, y_NQ)

  def _value(self, distance_NQ: np.ndarray) -> np.ndarray:
    """What the network calls that."""
    return np.float32(to_value(np.log(distance_NQ), self.start_N1))


_quantile = jax.jit(mixtures.quantile)


class ScalingPFN:
  """Forecasts scaling curves in one pass."""

  def __init__(self, config: CausalPFNConfig, params: Params) -> None:
    self.model = CausalPFN(config)
    self.params = jax.device_put(params)

  @classmethod
  def load(cls, path: str | os.PathLike[str] = SHIPPED) -> Self:
    """The network of a file, by default the one that comes along.

    Raises:
      ExtrapError: there is no such file, or it holds no network.
    """
    return cls(*weights.load(path, weights.SCALING))

  def predict(
    self,
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    at_NQ: np.ndarray,
    normalisations: Sequence[Normalisation] | None = None,
  ) -> ScalingForecast:
    """Forecasts of y at several x after what is seen.

    What falls is forecast itself; what rises to a bound, such as an accuracy,
    by how far it is from there.

    Args:
      curves: x and y of what is seen of each, x positive and ascending.
      at_NQ: x to forecast.
      normalisations: of each metric; without any, y falls, and is positive.

    Raises:
      UsageError: a value is at its best bound or beyond it.
    """
    how_N = normalisations or [loss_from(1.0)] * len(curves)
    top_N1 = np.array([[top_of(how)] for how in how_N])
    seen = [
      merged(np.log(np.asarray(x_T, float)), log_distance(y_T, top))
      for (x_T, y_T), (top,) in zip(curves, top_N1, strict=True)
    ]
    shown = [
      (TIME_LAST * np.exp(u_T - u_T[-1]), to_value(log_T, log_T[0]))
      for u_T, log_T in seen
    ]
    last_N1 = np.array([[u_T[-1]] for u_T, _ in seen])
    time_NQ = TIME_LAST * np.exp(np.log(at_NQ) - last_N1)
    rows, columns = time_NQ.shape
    spare = (0, room(rows) - rows), (0, room(columns) - columns)
    time_NQ = np.pad(time_NQ, spare, mode='edge')
    mixture = forecast_behind(
      self.model, self.params, *packed(shown), np.float32(time_NQ)
    )
    return ScalingForecast(
      step_NQ=np.asarray(at_NQ, float),
      normalisation_N=how_N,
      mixture=jax.tree.map(lambda leaf: leaf[:rows, :columns], mixture),
      start_N1=np.array([[log_T[0]] for _, log_T in seen]),
      top_N1=top_N1,
    )


def top_of(how: Normalisation) -> float:
  """The bound that a metric rises to, 0 where it falls or has none."""
  rises = not how.minimise and np.isfinite(how.hard_up)
  return how.hard_up if rises else 0.0


def log_distance(y_T: np.ndarray, top: float) -> np.ndarray:
  """Logarithm of y, or of how far it is below a bound.

  Raises:
    UsageError: a value is none that a scaling law can have.
  """
  distance_T = np.asarray(y_T, float)
  distance_T = top - distance_T if top else distance_T
  if not (distance_T > 0).all():
    wanted = f'below {top:g}' if top else 'above 0'
    raise UsageError(f'a scaling law has values {wanted} alone')
  return np.log(distance_T)


def merged(
  u_T: np.ndarray, log_y_T: np.ndarray, most: int = PRIOR.length
) -> tuple[np.ndarray, np.ndarray]:
  """At most so many points: means, in logarithms, of those side by side."""
  if len(u_T) <= most:
    return u_T, log_y_T
  groups = np.array_split(np.arange(len(u_T)), most)
  return tuple(
    np.array([each_T[group].mean() for group in groups])
    for each_T in (u_T, log_y_T)
  )
