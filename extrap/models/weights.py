"""What small models share: how weights are declared, drawn and multiplied.

Shape key: B examples, I inputs, O outputs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Weights = dict[str, jax.Array]
Initializer = jax.nn.initializers.Initializer
Param = Callable[[str, Initializer, tuple[int, ...]], jax.Array]

# jax's own glorot_normal is truncated.
GLOROT_NORMAL = jax.nn.initializers.variance_scaling(1.0, 'fan_avg', 'normal')


def parameters(module: nn.Module, dtype: jax.typing.DTypeLike) -> Param:
  """Declares parameters of that type in a linen module."""

  def param(
    name: str, initializer: Initializer, shape: tuple[int, ...]
  ) -> jax.Array:
    return module.param(name, initializer, shape, dtype)

  return param


def uniform(low: float, high: float) -> Initializer:
  """Draws from an interval."""

  def draw(
    key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike
  ) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, low, high)

  return draw


def normal(mean: float, deviation: float) -> Initializer:
  """Draws from a normal distribution."""

  def draw(
    key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike
  ) -> jax.Array:
    return mean + deviation * jax.random.normal(key, shape, dtype)

  return draw


def dot(x_BI: jax.Array, weight_IO: jax.Array) -> jax.Array:
  """The product, [B, O], exact in the wider type of the two.

  With TF32 no small model comes below the thresholds of success.
  """
  return jnp.matmul(x_BI, weight_IO, precision=lax.Precision.HIGHEST)
