"""Units that add and subtract: NAC+ and NAU.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from scipy import optimize

from extrap.models.units.base import UNITS, Bounded, Bounds, Unit, clamp
from extrap.models.weights import Param, Weights, dot, uniform


def nac_weight(
  w_hat: jax.Array, m_hat: jax.Array, base: float = math.e
) -> jax.Array:
  """tanh(w_hat) sigmoid(m_hat), drawn to -1, 0 and 1.

  Args:
    w_hat: parameters of any shape.
    m_hat: likewise.
    base: of the powers in both functions; e, but for the G-NALU.
  """
  rate = math.log(base)
  return jnp.tanh(rate * w_hat) * jax.nn.sigmoid(rate * m_hat)


def nac_variance(r: float) -> float:
  """Variance of a NAC's weight where both parameters are U[-r, r].

  Madsen and Johansen 2019, arXiv 1910.01888.
  """
  return (1 - math.tanh(r) / r) * (r - math.tanh(r / 2)) / (2 * r)


@functools.cache
def nac_range(inputs: int, outputs: int) -> float:
  """The r whose variance is that of Glorot and Bengio, 2 / (inputs + outputs).

  The variance stays below 1/2; fewer than five units count as five.
  """
  fan = max(inputs + outputs, 5)
  return optimize.brentq(lambda r: fan * nac_variance(r) - 2, 1e-3, 10.0)


def declare_nac(
  param: Param, inputs: int, outputs: int, suffix: str = ''
) -> Weights:
  """Parameters of a NAC's weight, w_hat and m_hat."""
  r = nac_range(inputs, outputs)
  names = (f'w_hat{suffix}', f'm_hat{suffix}')
  shape = (inputs, outputs)
  return {name: param(name, uniform(-r, r), shape) for name in names}


def nau(x_BI: jax.Array, weight_IO: jax.Array) -> jax.Array:
  """A sum with weights clipped to [-1, 1], [B, O]."""
  return dot(x_BI, clamp(weight_IO, -1.0, 1.0))


def nau_range(inputs: int, outputs: int) -> float:
  """The variance of Glorot and Bengio's, but 1/2 at most."""
  return min(0.5, math.sqrt(6.0 / (inputs + outputs)))


@UNITS.register('nac_add')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NACAdd(Unit):
  """Neural accumulator (Trask et al. 2018, arXiv 1808.00508).

  Initial parameters are those of Madsen and Johansen 2019, arXiv 1910.01888.
  """

  operations: ClassVar[frozenset[str]] = frozenset(('add', 'sub'))

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    return declare_nac(param, inputs, outputs)

  def products(self, weights: Weights) -> dict[str, jax.Array]:
    return {'x': nac_weight(**weights)}

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    del weights
    return product['x']

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return (nac_weight(**weights),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signed(Bounded):
  """Base of units whose weights are -1, 0 or 1, with the NAU's initial ones."""

  bounds: ClassVar[Bounds] = Bounds(-1.0, 1.0)

  def initial(self, inputs: int, outputs: int) -> Bounds:
    r = nau_range(inputs, outputs)
    return Bounds(-r, r)


@UNITS.register('nau')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NAU(Signed):
  """Neural addition unit (Madsen and Johansen 2020, arXiv 2001.05016)."""

  operations: ClassVar[frozenset[str]] = frozenset(('add', 'sub'))

  def products(self, weights: Weights) -> dict[str, jax.Array]:
    return {'x': clamp(weights['weight'], -1.0, 1.0)}

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    del weights
    return product['x']
