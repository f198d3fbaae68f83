"""A trained network that forecasts learning curves, ready to use.

  from extrap.curves import LCPFN

  forecast = LCPFN.load().predict([[0.2, 0.35, 0.41, 0.44]], horizon=50)
  forecast.median(), forecast.interval(0.8), forecast.probability_better(0.6)

LC-PFN (Adriaensen et al. 2023, arXiv 2310.20447), retrained in the form of
`extrap.curves.causal_pfn`.

Shape key: N curves, T points, Q steps asked for.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import weights
from extrap.curves.causal_pfn import LAST, CausalPFN
from extrap.curves.forecast import Forecast
from extrap.curves.mixtures import Mixture
from extrap.curves.normalise import Normalisation, unit
from extrap.curves.pretrained import Pretrained
from extrap.errors import UsageError
from extrap.training.problem import Params

SHIPPED = Path(__file__).with_name('lcpfn.npz')
MOST = 100  # Points that the network was trained on; longer curves are thinned.
# Shapes that programs are compiled for, so that few curves share one.
LENGTHS = (10, 25, 50, MOST)

Values = Sequence[float] | np.ndarray


class LCPFN(Pretrained):
  """Forecasts any number of curves in one pass, from any of their points."""

  shipped = SHIPPED
  kind = weights.LEARNING

  def predict(
    self,
    curves: Sequence[Values] | np.ndarray,
    horizon: float,
    at: Values | Sequence[Values] | None = None,
    steps: Sequence[Values] | None = None,
    normalisation: Normalisation | Sequence[Normalisation] | None = None,
  ) -> Forecast:
    """Forecasts of values that follow what is seen of curves.

    Args:
      curves: what is seen, one row a curve; they may differ in length.
      horizon: the step at which training is to end. Up to 100 steps are the
        network's own times, more are scaled to that. To stretch fewer would be
        worse on the best runs of Taskset's tasks for choices, though a little
        better on all runs.
      at: steps to forecast, [Q] or a row for each curve, [N, Q], after what is
        seen of it; the horizon by default.
      steps: positive and increasing, those of the values seen; 1, 2, ... by
        default.
      normalisation: of the metric, one for all curves or one each; by default
        values lie in 0..1 and rise.

    Returns:
      Distributions [N, Q] of noisy values, each by itself.

    Raises:
      UsageError: a curve is empty, not finite, outside the hard bounds of its
        metric, or goes beyond the steps asked for, in one line that names it.
    """
    value_N = [np.asarray(curve, float) for curve in curves]
    _check_rows(value_N)
    step_N = _steps(value_N, steps)
    asked_NQ = _asked(len(value_N), horizon if at is None else at)
    _check(value_N, step_N, asked_NQ, horizon)
    normalisation = _of_each(value_N, normalisation)
    scale = LAST / max(horizon, LAST)
    seen = [
      _thinned(scale * step_T, np.asarray(each.forward(value_T)))
      for each, step_T, value_T in zip(
        normalisation, step_N, value_N, strict=True
      )
    ]
    rows, columns = asked_NQ.shape
    spare = (0, room(rows) - rows), (0, room(columns) - columns)
    time_NQ = np.pad(scale * asked_NQ, spare, mode='edge')
    mixture = forecast_behind(
      self.model, self.params, *packed(seen), np.float32(time_NQ)
    )
    mixture = jax.tree.map(lambda leaf: leaf[:rows, :columns], mixture)
    return Forecast(asked_NQ, mixture, normalisation)


def _check_rows(value_N: Sequence[np.ndarray]) -> None:
  """Refuses what are no rows of values."""
  if not value_N:
    raise UsageError('there is no curve to forecast')
  for number, value_T in enumerate(value_N, start=1):
    if value_T.ndim != 1 or not len(value_T):
      raise UsageError(f'curve {number} is not a row of at least one value')


def _of_each(
  value_N: Sequence[np.ndarray],
  normalisation: Normalisation | Sequence[Normalisation] | None,
) -> list[Normalisation]:
  """The normalisation of every curve, whose bounds its values are within.

  Without one, noise may leave 0..1, but not by more than that range.
  """
  if normalisation is None:
    for number, value_T in enumerate(value_N, start=1):
      if value_T.min() < -1 or value_T.max() > 2:
        raise UsageError(
          f'curve {number} is not in 0..1: give a normalisation, '
          'normalise.guess(values) for instance'
        )
    return [unit()] * len(value_N)
  if isinstance(normalisation, Normalisation):
    normalisation = [normalisation] * len(value_N)
  if len(normalisation) != len(value_N):
    raise UsageError(
      f'{len(value_N)} curves, but {len(normalisation)} normalisations'
    )
  for number, (value_T, each) in enumerate(
    zip(value_N, normalisation, strict=True), start=1
  ):
    each.check(value_T, f'curve {number}')
  return list(normalisation)


def _steps(
  value_N: Sequence[np.ndarray], steps: Sequence[Values] | None
) -> list[np.ndarray]:
  """Steps of each curve."""
  if steps is None:
    return [np.arange(1.0, len(value_T) + 1) for value_T in value_N]
  if len(steps) != len(value_N):
    raise UsageError(f'{len(value_N)} curves, but steps of {len(steps)}')
  return [np.asarray(step_T, float) for step_T in steps]


def _asked(count: int, at: Values | Sequence[Values] | float) -> np.ndarray:
  """Steps asked for, [N, Q]."""
  asked = np.atleast_1d(np.asarray(at, float))
  if not asked.size or asked.ndim > 2 or asked.shape[:-1] not in ((), (count,)):
    raise UsageError(
      f'steps to forecast have the shape {asked.shape}, not that of a row, or '
      f'of a row for each of {count} curves'
    )
  return np.broadcast_to(asked, (count, asked.shape[-1]))


def _check(
  value_N: Sequence[np.ndarray],
  step_N: Sequence[np.ndarray],
  asked_NQ: np.ndarray,
  horizon: float,
) -> None:
  """Refuses what cannot be forecast."""
  if not np.all(asked_NQ <= horizon) or not np.isfinite(horizon):
    raise UsageError(
      f'step {asked_NQ.max():g} is asked for, beyond the horizon, {horizon:g}'
    )
  for number, (value_T, step_T, asked_Q) in enumerate(
    zip(value_N, step_N, asked_NQ, strict=True), start=1
  ):
    where = f'curve {number}'
    if len(value_T) != len(step_T):
      raise UsageError(
        f'{where} has {len(value_T)} values at {len(step_T)} steps'
      )
    if not (np.isfinite(value_T).all() and np.isfinite(step_T).all()):
      raise UsageError(f'{where} has a number that is not finite')
    if step_T[0] <= 0 or (np.diff(step_T) <= 0).any():
      raise UsageError(f'steps of {where} are not positive and increasing')
    if asked_Q.min() <= step_T[-1]:
      raise UsageError(
        f'{where} is seen up to step {step_T[-1]:g}, beyond step '
        f'{asked_Q.min():g}, which is asked for'
      )


def _thinned(
  time_T: np.ndarray, value_T: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """At most so many points as the network knows, evenly, the last included."""
  if len(time_T) <= MOST:
    return time_T, value_T
  kept = np.round(np.linspace(0, len(time_T) - 1, MOST)).astype(int)
  return time_T[kept], value_T[kept]


def packed(
  seen: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Times and values [N, T], and how many are there; few shapes.

  What follows the points of a curve is no matter to them.
  """
  count_N = np.array([len(time_T) for time_T, _ in seen])
  length = next(each for each in LENGTHS if each >= count_N.max())
  rows = room(len(seen))
  time_NT = np.ones((rows, length), np.float32)
  value_NT = np.zeros((rows, length), np.float32)
  for row, (time_T, value_T) in enumerate(seen):
    time_NT[row, : len(time_T)] = time_T
    value_NT[row, : len(value_T)] = value_T
  spare = np.ones(rows - len(seen), count_N.dtype)
  return time_NT, value_NT, np.concatenate([count_N, spare])


def room(count: int) -> int:
  """The next power of two: few shapes, few programs."""
  return 1 << (count - 1).bit_length()


@functools.partial(jax.jit, static_argnums=0)
def forecast_behind(
  model: CausalPFN,
  params: Params,
  time_NT: jax.Array,
  value_NT: jax.Array,
  count_N: jax.Array,
  asked_NQ: jax.Array,
) -> Mixture:
  """Mixtures [N, Q, K] behind the last point of each curve."""
  bound = model.bind({'params': params})
  state_NTE, level_NT = bound.states(time_NT, value_NT)
  last_N = count_N - 1
  rows_N = jnp.arange(len(last_N))
  return bound.forecast(
    state_NTE[rows_N, last_N],
    level_NT[rows_N, last_N],
    time_NT[rows_N, last_N],
    asked_NQ,
  )
