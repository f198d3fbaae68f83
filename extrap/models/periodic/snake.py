"""Snake: the identity and a sine squared, which rises everywhere.

Shape key: B examples, O outputs.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.periodic.activation import ACTIVATIONS, Activation
from extrap.models.weights import Param, Weights

# Below it the limit is exact, and above it no square underflows in float32.
SMALLEST = 1e-12


def snake(x: jax.Array, a: jax.Array) -> jax.Array:
  """x + sin(a x)^2 / a, and the identity where a is 0.

  Args:
    x: of any shape.
    a: frequency, of any sign, broadcast against x by its shape.
  """
  small = jnp.abs(a) < SMALLEST
  divisor = jnp.where(small, 1.0, a)
  wave = jnp.sin(divisor * x) ** 2 / divisor
  # The limit's first term has the gradient that leads a away from 0.
  return x + jnp.where(small, a * x**2, wave)


def snake_mean(a: jax.Array) -> jax.Array:
  """Mean of snake(x, a) where x is N(0, 1)."""
  small = jnp.abs(a) < SMALLEST
  divisor = jnp.where(small, 1.0, a)
  return jnp.where(small, a, -jnp.expm1(-2 * divisor**2) / (2 * divisor))


def snake_variance(a: jax.Array) -> jax.Array:
  """Variance of snake(x, a) where x is N(0, 1); 1.2036 at most.

  Ziyin, Hartwig and Ueda 2020, arXiv 2006.08195.
  """
  small = jnp.abs(a) < SMALLEST
  divisor = jnp.where(small, 1.0, a)
  excess = (jnp.expm1(-4 * divisor**2) / divisor) ** 2 / 8
  return 1 + jnp.where(small, 2 * a**2, excess)


@ACTIVATIONS.register('snake')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Snake(Activation):
  """Snake (Ziyin, Hartwig and Ueda 2020, arXiv 2006.08195)."""

  a: float = option(1.0, 'frequency of the wave, or where it starts')
  learned: Literal['no', 'shared', 'channel'] = option(
    'no', 'whether the frequency is fixed, learned, or learned for each channel'
  )
  corrected: bool = option(
    False, 'divide by the standard deviation that unit normal inputs start with'
  )

  def declare(self, param: Param, width: int) -> Weights:
    if self.learned == 'no':
      return {}
    shape = (1, width if self.learned == 'channel' else 1)
    return {'a': param('a', jax.nn.initializers.constant(self.a), shape)}

  def apply(self, weights: Weights, x_BO: jax.Array) -> jax.Array:
    fixed_11 = jnp.full((1, 1), self.a, x_BO.dtype)
    y_BO = snake(x_BO, weights.get('a', fixed_11))
    if not self.corrected:
      return y_BO
    return y_BO / jnp.sqrt(snake_variance(fixed_11))
