"""Units that divide: NRU and NMRU.

Shape key: B examples, I inputs, O outputs, J inputs and then their reciprocals.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.models.units.additive import Signed
from extrap.models.units.base import UNITS
from extrap.models.units.multiplicative import EPSILON, NMU, nmu
from extrap.models.units.power import EPSILON as RECIPROCAL_EPSILON
from extrap.models.weights import Weights, dot

STEEPNESS = 1000.0


def nru(x_BI: jax.Array, weight_IO: jax.Array) -> jax.Array:
  """The product of signed powers; an input of weight 0 is 1, [B, O]."""
  used_IO = jnp.tanh(STEEPNESS * weight_IO) ** 2
  # The floor keeps reciprocals of zeros, and their gradients, finite.
  logarithm_BI = jnp.log(jnp.maximum(jnp.abs(x_BI), EPSILON))
  # Examples stand last: the gradient sums over them, several times as fast.
  power_IOB = jnp.exp(logarithm_BI.T[:, None] * weight_IO[:, :, None])
  signed_IOB = jnp.sign(x_BI).T[:, None] * power_IOB
  factor_IOB = signed_IOB * used_IO[:, :, None] + (1 - used_IO)[:, :, None]
  return jnp.prod(factor_IOB, axis=0).T


def nmru(x_BI: jax.Array, weight_JO: jax.Array) -> jax.Array:
  """The product of inputs and of reciprocals of weight 1, [B, O]."""
  # Away from zero on either side, so that no input divides by zero.
  away_BI = jnp.where(x_BI < 0, -RECIPROCAL_EPSILON, RECIPROCAL_EPSILON)
  value_BJ = jnp.concatenate([x_BI, 1 / (x_BI + away_BI)], axis=1)
  angle_BO = dot(jnp.where(value_BJ < 0, math.pi, 0.0), weight_JO)
  return nmu(jnp.abs(value_BJ), weight_JO) * jnp.cos(angle_BO)


@UNITS.register('nru')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NRU(Signed):
  """Neural reciprocal unit (Mistry, Farrahi and Hare 2021, arXiv 2110.05177).

  Weights, bounds and regulariser are an NAU's.
  """

  operations: ClassVar[frozenset[str]] = frozenset(
    ('mul', 'div', 'root', 'squared')
  )

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    return nru(x_BI, weights['weight'])


@UNITS.register('nmru')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NMRU(NMU):
  """Neural multiplicative reciprocal unit; the same paper.

  Weights, bounds and regulariser are an NMU's, of twice as many inputs.
  """

  operations: ClassVar[frozenset[str]] = frozenset(('mul', 'div', 'squared'))

  def rows(self, inputs: int) -> int:
    return 2 * inputs

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    return nmru(x_BI, weights['weight'])
