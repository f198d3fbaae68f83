"""What training carries from step to step, for one replica."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from extrap.training.problem import Params


@struct.dataclass
class Best:
  """Parameters at the lowest value of the declared held-out metric."""

  params: Params
  value: jax.Array
  step: jax.Array


@struct.dataclass
class TrainState:
  """Everything that a checkpoint holds.

  Attributes:
    step: int32, updates done; one that diverged or has learned stops counting.
    params: parameters after the last finite update.
    opt_state: optax state.
    finite: false from the first loss or gradient that is not finite.
    learned: true once the held-out exact match was enough.
    ema: running average of params, or None.
    best: by the declared rule, or None where nothing is held out.
  """

  step: jax.Array
  params: Params
  opt_state: optax.OptState
  finite: jax.Array
  learned: jax.Array
  ema: Params | None
  best: Best | None


def create_state(
  params: Params,
  optimizer: optax.GradientTransformation,
  *,
  ema: bool,
  best: bool,
) -> TrainState:
  """The state before the first step."""
  zero = jnp.zeros((), jnp.int32)
  return TrainState(
    step=zero,
    params=params,
    opt_state=optimizer.init(params),
    finite=jnp.ones((), bool),
    learned=jnp.zeros((), bool),
    ema=params if ema else None,
    best=Best(params, jnp.full((), jnp.inf), zero) if best else None,
  )
