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
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import mixtures, weights
from extrap.curves.bounded import BoundedForecast
from extrap.curves.causal_pfn import CausalPFN, fresh
from extrap.curves.forecast import quantile
from extrap.curves.lcpfn import forecast_behind, packed, room
from extrap.curves.mixtures import Mixture
from extrap.curves.normalise import Normalisation, loss_from
from extrap.curves.pfn_problem import Examples, mean_loss
from extrap.curves.pretrained import Pretrained
from extrap.curves.scaling_prior import (
  AHEAD,
  PRIOR,
  WIDEST,
  ScalingPrior,
)
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
FURTHEST = math.floor(math.exp(AHEAD))  # Times the last x, likewise.


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
  """Distributions of y by how far it is from the best that it can be.

  Attributes:
    mixture: of `to_value`, [N, Q].
    start_N1: logarithm of the first distance.
    best_N1: float64, from where distances are.
    sign_N1: 1 where y is above that, -1 where it is below.
  """

  mixture: Mixture
  start_N1: np.ndarray
  best_N1: np.ndarray
  sign_N1: np.ndarray

  def unbounded(self, p: float) -> np.ndarray:
    """Quantiles [N, Q] that know of no bounds."""
    p_N1 = np.where(self.sign_N1 > 0, p, 1 - p)
    p_NQ = np.broadcast_to(np.float32(p_N1), self.step_NQ.shape)
    value_NQ = np.asarray(quantile(self.mixture, p_NQ), np.float64)
    log_NQ = self.start_N1 + (value_NQ - VALUE_START) / VALUE_SCALE
    return self.best_N1 + self.sign_N1 * np.exp(log_NQ)

  def log_density(self, y_NQ: np.ndarray) -> np.ndarray:
    """In nats per unit of y, [N, Q]; minus infinity beyond the best."""
    value_NQ, log_NQ, there_NQ = self._value(y_NQ)
    found_NQ = np.asarray(mixtures.log_density(self.mixture, value_NQ))
    found_NQ = found_NQ + np.log(VALUE_SCALE) - log_NQ
    return np.where(there_NQ, found_NQ, -np.inf)

  def below(self, value: np.ndarray | float) -> np.ndarray:
    """Probability [N, Q] of no more than a value, or than [N, Q]."""
    nearer_NQ, further_NQ = self._shares(value)
    return np.where(self.sign_N1 > 0, nearer_NQ, further_NQ)

  def above(self, value: np.ndarray | float) -> np.ndarray:
    """Probability [N, Q] of more than a value, or than [N, Q]."""
    nearer_NQ, further_NQ = self._shares(value)
    return np.where(self.sign_N1 > 0, further_NQ, nearer_NQ)

  def _shares(self, value: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of being nearer to the best, and further from it."""
    y_NQ = np.broadcast_to(np.asarray(value, float), self.step_NQ.shape)
    value_NQ, _, there_NQ = self._value(y_NQ)
    nearer_NQ = np.asarray(mixtures.cdf(self.mixture, value_NQ))
    further_NQ = mixtures.probability_above(self.mixture, value_NQ)
    return (
      np.where(there_NQ, np.minimum(nearer_NQ, 1.0), 0.0),
      np.where(there_NQ, np.minimum(further_NQ, 1.0), 1.0),
    )

  def _value(
    self, y_NQ: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the network calls y, log distances, and whether there are any."""
    distance_NQ = self.sign_N1 * (y_NQ - self.best_N1)
    there_NQ = distance_NQ > 0
    log_NQ = np.log(np.where(there_NQ, distance_NQ, 1.0))
    return np.float32(to_value(log_NQ, self.start_N1)), log_NQ, there_NQ

  def of_row(self, row: int) -> Self:
    """The forecast of one curve."""
    one = slice(row, row + 1)
    return dataclasses.replace(
      self,
      step_NQ=self.step_NQ[one],
      normalisation_N=self.normalisation_N[one],
      mixture=jax.tree.map(lambda leaf: leaf[one], self.mixture),
      start_N1=self.start_N1[one],
      best_N1=self.best_N1[one],
      sign_N1=self.sign_N1[one],
    )


class ScalingPFN(Pretrained):
  """Forecasts scaling curves in one pass."""

  shipped = SHIPPED
  kind = weights.SCALING

  def predict(
    self,
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    at_NQ: np.ndarray,
    normalisations: Normalisation | Sequence[Normalisation] | None = None,
  ) -> ScalingForecast:
    """Forecasts of y at several x after what is seen.

    Args:
      curves: x and y of what is seen of each, three points at least; x positive
        and ascending. Points at less than a thousandth of the last x are left
        out, as they are in training.
      at_NQ: x to forecast, up to 49 times the last that is seen.
      normalisations: of the metric, one for all curves or one each, of which
        the finite best bound is what y comes near to; without any, y falls
        towards 0.

    Raises:
      UsageError: a curve is none that can be forecast, in one line.
    """
    at_NQ = np.asarray(at_NQ, float)
    how_N = _of_each(normalisations, len(curves))
    _check(curves, at_NQ)
    seen = [
      merged(*recent(x_T, y_T, how, f'curve {number}: '))
      for number, ((x_T, y_T), how) in enumerate(
        zip(curves, how_N, strict=True), start=1
      )
    ]
    mixture = self._mixture(seen, np.log(at_NQ))
    return ScalingForecast(
      step_NQ=at_NQ,
      normalisation_N=how_N,
      mixture=mixture,
      start_N1=np.array([[log_T[0]] for _, log_T in seen]),
      best_N1=np.array([[best_of(how)[0]] for how in how_N]),
      sign_N1=np.array([[best_of(how)[1]] for how in how_N]),
    )

  def _mixture(
    self, seen: Sequence[tuple[np.ndarray, np.ndarray]], asked_NQ: np.ndarray
  ) -> Mixture:
    """Of log x and log distances, one pass; padded to few shapes."""
    shown = [
      (TIME_LAST * np.exp(u_T - u_T[-1]), to_value(log_T, log_T[0]))
      for u_T, log_T in seen
    ]
    last_N1 = np.array([[u_T[-1]] for u_T, _ in seen])
    time_NQ = TIME_LAST * np.exp(asked_NQ - last_N1)
    rows, columns = time_NQ.shape
    spare = (0, room(rows) - rows), (0, room(columns) - columns)
    time_NQ = np.pad(time_NQ, spare, mode='edge')
    mixture = forecast_behind(
      self.model, self.params, *packed(shown), np.float32(time_NQ)
    )
    return jax.tree.map(lambda leaf: leaf[:rows, :columns], mixture)


def _of_each(
  normalisations: Normalisation | Sequence[Normalisation] | None, count: int
) -> list[Normalisation]:
  """The normalisation of every curve."""
  if normalisations is None:
    normalisations = loss_from(1.0)
  if isinstance(normalisations, Normalisation):
    return [normalisations] * count
  if len(normalisations) != count:
    raise UsageError(
      f'{count} curves, but {len(normalisations)} normalisations'
    )
  return list(normalisations)


def _check(
  curves: Sequence[tuple[np.ndarray, np.ndarray]], at_NQ: np.ndarray
) -> None:
  """Refuses what cannot be forecast."""
  if not at_NQ.size or at_NQ.ndim != 2 or len(at_NQ) != len(curves):
    raise UsageError(
      f'x to forecast have the shape {at_NQ.shape}, not that of a row for each '
      f'of {len(curves)} curves'
    )
  for number, (x_T, y_T) in enumerate(curves, start=1):
    if reason := unfit(np.asarray(x_T, float), y_T, at_NQ[number - 1]):
      raise UsageError(f'curve {number} {reason}')


def unfit(x_T: np.ndarray, y_T: np.ndarray, at_Q: np.ndarray) -> str:
  """Why a curve cannot be forecast, or nothing."""
  if len(x_T) != len(y_T):
    return f'has {len(y_T)} values at {len(x_T)} x'
  if not len(x_T):
    return 'has no points'
  if not all(np.isfinite(each).all() for each in (x_T, y_T, at_Q)):
    return 'has a number that is not finite'
  if x_T[0] <= 0 or (np.diff(x_T) < 0).any():
    return 'has x that are not positive and ascending'
  if (count := int(near(x_T).sum())) < LEAST_SEEN:
    where = 'from a thousandth of its last x on'
    return f'has {count} points {where}; {LEAST_SEEN} are needed'
  if at_Q.min() < x_T[-1]:
    return f'is seen up to {x_T[-1]:g}, beyond {at_Q.min():g}, which is asked'
  if at_Q.max() > FURTHEST * x_T[-1]:
    return (
      f'is asked for at {at_Q.max():g}, more than {FURTHEST} times as far as '
      'it is seen, which no network of scaling laws was trained for'
    )
  return ''


def near(x_T: np.ndarray) -> np.ndarray:
  """Which points are no further from the last than curves of training go."""
  return x_T >= x_T[-1] * math.exp(-WIDEST)


def recent(
  x_T: np.ndarray, y_T: np.ndarray, how: Normalisation, name: str = ''
) -> tuple[np.ndarray, np.ndarray]:
  """Log x and log distance of those points.

  Raises:
    UsageError: a value is none that a scaling law has; begins with the name.
  """
  kept_T = near(np.asarray(x_T, float))
  try:
    log_T = log_distance(np.asarray(y_T, float)[kept_T], how)
  except UsageError as error:
    raise UsageError(f'{name}{error}') from None
  return np.log(np.asarray(x_T, float)[kept_T]), log_T


def best_of(how: Normalisation) -> tuple[float, float]:
  """What a metric comes near to, and 1 if it is above that, else -1.

  Raises:
    UsageError: it has no bound there.
  """
  best, sign = (how.hard_low, 1.0) if how.minimise else (how.hard_up, -1.0)
  if not np.isfinite(best):
    which = (
      'falls without a lower' if how.minimise else 'rises without an upper'
    )
    raise UsageError(f'it {which} bound, which a scaling law has')
  return best, sign


def log_distance(y_T: np.ndarray, how: Normalisation) -> np.ndarray:
  """Logarithm of how far y is from its best.

  Raises:
    UsageError: a value is at its best or beyond, or there is none.
  """
  best, sign = best_of(how)
  distance_T = sign * (np.asarray(y_T, float) - best)
  if not (distance_T > 0).all():
    raise UsageError(f'it is at or beyond {best:g}, where no scaling law comes')
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
