"""Forecasts that are renewed after every step of runs, for next to nothing.

What the network has made of earlier points is kept, so that one more takes a
pass over that point alone. Of more than a hundred steps every second is kept,
or every third and so on, beside the latest.

Shape key: N curves, T points, Q steps asked for.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves.causal_pfn import LAST, CausalPFN, Memory
from extrap.curves.forecast import Forecast
from extrap.curves.lcpfn import LCPFN, MOST
from extrap.curves.mixtures import Mixture
from extrap.curves.normalise import Normalisation, unit
from extrap.errors import UsageError
from extrap.training.problem import Params


class Follower:
  """Follows curves of the same length, step by step."""

  def __init__(
    self,
    model: LCPFN,
    values_NT: np.ndarray,
    horizon: int,
    normalisation: Normalisation | None = None,
    most: int = MOST,
  ) -> None:
    """Begins with what is seen so far.

    Args:
      model: the forecaster.
      values_NT: of each curve at steps 1..T, at least one.
      horizon: the step at which training is to end. Beyond 100 steps times are
        scaled as by `LCPFN.predict`, and every k-th step is kept, k being the
        hundredth part of the horizon, rounded up: after few of many steps that
        is less than `predict` sees.
      normalisation: of the metric; by default values lie in 0..1 and rise.
      most: steps that are forecast at most, evenly over those that are left,
        the horizon included; more take longer.

    Raises:
      UsageError: there are no values, one is not finite, or the horizon leaves
        nothing to forecast.
    """
    values_NT = np.asarray(values_NT, float)
    if values_NT.ndim != 2 or not values_NT.size:
      raise UsageError('what is followed has a row of values a curve')
    if not np.isfinite(values_NT).all():
      raise UsageError('what is followed has a value that is not finite')
    if horizon <= values_NT.shape[1] + 1:
      raise UsageError(
        f'a horizon of {horizon}: more than one step after the '
        f'{values_NT.shape[1]} seen'
      )
    self.horizon, self.steps = horizon, values_NT.shape[1]
    self._asked = min(horizon - self.steps - 1, max(most, 1))
    self._model, self._normalisation = model, normalisation or unit()
    self._stride, self._scale = -(-horizon // MOST), LAST / max(horizon, LAST)
    kept_NT = values_NT[:, :: self._stride]
    seen_NT = self._normalisation.forward(kept_NT).astype(np.float32)
    step_T = np.arange(1, self.steps + 1, self._stride)
    time_NT = np.broadcast_to(self._scale * step_T, seen_NT.shape)
    self._memory = _begin(
      model.model, model.params, np.float32(time_NT), seen_NT
    )

  def add(self, value_N: np.ndarray) -> Forecast:
    """One more value each; forecasts of steps that are left, [N, Q].

    In time there are fewer steps than Q, and some are there more than once: all
    forecasts have one shape, and programs that read them are compiled once.

    Raises:
      UsageError: a value is not finite, or no step is left to forecast.
    """
    if self.steps + 1 >= self.horizon:
      raise UsageError(
        f'after step {self.steps + 1} nothing is left to forecast'
      )
    value_N, count = np.asarray(value_N, float), len(self._memory.latest)
    if value_N.shape != (count,):
      raise UsageError(f'{count} curves are followed: give a value of each')
    if not np.isfinite(value_N).all():
      raise UsageError(f'a value of step {self.steps + 1} is not finite')
    seen_N = self._normalisation.forward(value_N).astype(np.float32)
    # Backwards, so that a single one is the horizon.
    step_Q = np.linspace(self.horizon, self.steps + 2, self._asked)[
      ::-1
    ].round()
    given = (
      self._memory,
      np.float32(self._scale * (self.steps + 1)),
      seen_N,
      np.float32(self._scale * step_Q),
    )
    if self.steps % self._stride:
      mixture = _look(self._model.model, self._model.params, *given)
    else:
      self._memory, mixture = _go_on(
        self._model.model, self._model.params, *given
      )
    self.steps += 1
    step_NQ = np.broadcast_to(step_Q, (count, self._asked))
    return Forecast(step_NQ, mixture, [self._normalisation] * len(value_N))


@functools.partial(jax.jit, static_argnums=0)
def _begin(
  model: CausalPFN, params: Params, time_NT: jax.Array, value_NT: jax.Array
) -> Memory:
  return model.apply(
    {'params': params}, time_NT, value_NT, MOST + 1, method='remember'
  )


def _one_more(
  model: CausalPFN,
  params: Params,
  memory: Memory,
  time: jax.Array,
  value_N: jax.Array,
  asked_Q: jax.Array,
) -> tuple[Memory, Mixture]:
  """What is known now, and mixtures at the times asked for."""
  bound = model.bind({'params': params})
  time_N = jnp.full(value_N.shape, time)
  memory, state_NE, level_N = bound.append(memory, time_N, value_N)
  asked_NQ = jnp.broadcast_to(asked_Q, (len(value_N), len(asked_Q)))
  return memory, bound.forecast(state_NE, level_N, time_N, asked_NQ)


# Where the latest point is kept what was known before is not needed any more.
_go_on = jax.jit(_one_more, static_argnums=0, donate_argnums=2)
_look = jax.jit(lambda *given: _one_more(*given)[1], static_argnums=0)
