"""Series as a problem: values at known times, and nothing of what follows.

Shape key: R replicas, B examples.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from extrap.factors import UNPENALISED, Fading
from extrap.training.problem import Context, Metrics, Params

Examples = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SeriesProblem:
  """The mean squared error on all points of a series in every step.

  Numbers of a replica: 'series', which one it learns; 'scale', what times are
  multiplied by before the model sees them.

  Attributes:
    model: of one input and one output; where there is a factor, its `penalty`
      is a function of its parameters.
    time_B: float32, -1..1.
    value_RB: float32, all series.
    factor: of the penalty.
  """

  model: nn.Module
  time_B: np.ndarray
  value_RB: np.ndarray
  factor: Fading = UNPENALISED

  def hparams(self, seeds: Sequence[int]) -> dict[str, list[float]]:
    """One series after the other, and times as they are."""
    return {'series': list(range(len(seeds))), 'scale': [1.0] * len(seeds)}

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters."""
    return self.model.init(key, jnp.zeros((1, 1)))['params']

  def sample(self, ctx: Context) -> Examples:
    """All times and values, each [B, 1]."""
    row = jnp.int32(ctx.hparams['series'])
    value_B = jnp.asarray(self.value_RB)[row]
    return jnp.asarray(self.time_B)[:, None], value_B[:, None]

  def loss(
    self, params: Params, batch: Examples, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """The mean squared error, and the penalty by its factor."""
    time_B1, value_B1 = batch
    found_B1 = self.predict(params, time_B1, ctx.hparams['scale'])
    error = jnp.mean((found_B1 - value_B1) ** 2)
    if not (self.factor.first or self.factor.last):
      return error, {'error': error}
    penalty = self.model.penalty(params)
    return error + self.factor.at(ctx.step) * penalty, {'error': error}

  def predict(
    self, params: Params, time_B1: jax.Array, scale: jax.Array
  ) -> jax.Array:
    """[B, 1], at any times."""
    return self.model.apply({'params': params}, scale * time_B1)
