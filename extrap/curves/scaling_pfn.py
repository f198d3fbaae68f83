"""A network that forecasts scaling curves of any unit, at any x ahead.

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
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import mixtures, weights
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig, fresh
from extrap.curves.lcpfn import forecast_behind, packed, room
from extrap.curves.mixtures import Mixture
from extrap.curves.pfn_problem import Examples, mean_loss
from extrap.curves.scaling_prior import PRIOR, ScalingPrior
from extrap.randomness import named
from extrap.training.problem import Context, Metrics, Params

SHIPPED = Path(__file__).with_name('scaling_pfn.npz')
# Where curves lie in what the network calls time and value, both of which are
# of no unit: log y from the first, and the last x seen.
VALUE_START, VALUE_SCALE = 0.75, 0.25
TIME_LAST = 6.0
TIME_RANGE = (2.0, 20.0)  # Of the last point of a curve, in training.
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


class ScalingForecast(NamedTuple):
  """Distributions of log y.

  Attributes:
    mixture: of `to_value`, [N, Q].
    start_N: log y of the first points.
  """

  mixture: Mixture
  start_N: np.ndarray

  def median(self) -> np.ndarray:
    """Of y, [N, Q]."""
    value_NQ = np.asarray(mixtures.quantile(self.mixture, 0.5), np.float64)
    above_NQ = (value_NQ - VALUE_START) / VALUE_SCALE
    return np.exp(self.start_N[:, None] + above_NQ)

  def log_density(self, y_NQ: np.ndarray) -> np.ndarray:
    """In nats per unit of y, [N, Q]."""
    found = mixtures.log_density(self.mixture, self._value(y_NQ))
    return np.asarray(found) + np.log(VALUE_SCALE) - np.log(y_NQ)

  def cdf(self, y_NQ: np.ndarray) -> np.ndarray:
    """Probability of no more than y, [N, Q]."""
    return np.asarray(mixtures.cdf(self.mixture, self._value(y_NQ)))

  def _value(self, y_NQ: np.ndarray) -> np.ndarray:
    """What the network calls y."""
    return np.float32(to_value(np.log(y_NQ), self.start_N[:, None]))


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
    return cls(*weights.load(path))

  def predict(
    self,
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    at: np.ndarray,
  ) -> ScalingForecast:
    """Forecasts of y at several x after what is seen.

    Args:
      curves: x and y of what is seen of each, x ascending, both positive.
      at: x to forecast, [N, Q].
    """
    seen = [
      merged(np.log(np.asarray(x_T, float)), np.log(np.asarray(y_T, float)))
      for x_T, y_T in curves
    ]
    start_N = np.array([log_y_T[0] for _, log_y_T in seen])
    shown = [
      (TIME_LAST * np.exp(u_T - u_T[-1]), to_value(log_y_T, log_y_T[0]))
      for u_T, log_y_T in seen
    ]
    last_N1 = np.array([[u_T[-1]] for u_T, _ in seen])
    time_NQ = TIME_LAST * np.exp(np.log(np.asarray(at, float)) - last_N1)
    rows = len(seen)
    columns = time_NQ.shape[1]
    spare = (0, room(rows) - rows), (0, room(columns) - columns)
    time_NQ = np.pad(time_NQ, spare, mode='edge')
    mixture = forecast_behind(
      self.model, self.params, *packed(shown), np.float32(time_NQ)
    )
    return ScalingForecast(
      jax.tree.map(lambda leaf: leaf[:rows, :columns], mixture), start_N
    )


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
