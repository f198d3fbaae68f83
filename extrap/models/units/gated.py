"""Units whose gate chooses between a sum and a product: NALU and its kin.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.models.units.additive import (
  NAU,
  declare_nac,
  nac_weight,
  nau,
)
from extrap.models.units.base import OPERATIONS, UNITS, Unit
from extrap.models.units.multiplicative import NMU, nmu
from extrap.models.weights import Param, Weights, dot

GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


def declare_gate(param: Param, inputs: int, outputs: int) -> jax.Array:
  """A gate's weights, without a bias."""
  glorot = jax.nn.initializers.glorot_uniform()
  return param('gate', glorot, (inputs, outputs))


def gated(
  gate_BO: jax.Array,
  sum_BO: jax.Array,
  product_BO: jax.Array,
  base: float = math.e,
) -> jax.Array:
  """The sum where the gate's sigmoid is 1, the product where it is 0."""
  share_BO = jax.nn.sigmoid(math.log(base) * gate_BO)
  return share_BO * sum_BO + (1 - share_BO) * product_BO


@UNITS.register('nalu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NALU(Unit):
  """Neural arithmetic logic unit (Trask et al. 2018, arXiv 1808.00508).

  The sum and the product have one weight in common. Initial parameters are
  those of Madsen and Johansen 2019, arXiv 1910.01888.

  Class attributes:
    base: of the powers in its sigmoid and tanh.
  """

  operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)
  base: ClassVar[float] = math.e

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    gate_IO = declare_gate(param, inputs, outputs)
    return {**declare_nac(param, inputs, outputs), 'gate': gate_IO}

  def products(self, weights: Weights) -> dict[str, jax.Array]:
    (weight_IO,) = self.matrices(weights)
    both_IX = jnp.concatenate([weight_IO, weights['gate']], axis=1)
    return {'x': both_IX, 'log': weight_IO}

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    del weights
    sum_BO, gate_BO = jnp.split(product['x'], 2, axis=1)
    return gated(gate_BO, sum_BO, jnp.exp(product['log']), self.base)

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return (nac_weight(weights['w_hat'], weights['m_hat'], self.base),)


@UNITS.register('g_nalu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class GNALU(NALU):
  """Golden-ratio NALU: flatter sigmoid and tanh (Mistry et al. 2022).

  As in 'A Primer for Neural Arithmetic Logic Modules', arXiv 2101.09530.
  """

  base: ClassVar[float] = GOLDEN_RATIO


@UNITS.register('gated_nau_nmu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedNAUNMU(Unit):
  """A NALU of an NAU and an NMU (Madsen and Johansen 2020, arXiv 2001.05016).

  Each has weights, bounds and a regulariser of its own.
  """

  operations: ClassVar[frozenset[str]] = NAU.operations | NMU.operations
  parts: ClassVar[dict[str, NAU | NMU]] = {'nau': NAU(), 'nmu': NMU()}

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    def part(name: str) -> jax.Array:
      unit = self.parts[name]
      named = unit.declare(
        lambda _, *described: param(name, *described), inputs, outputs
      )
      return named['weight']

    weights = {name: part(name) for name in self.parts}
    return {**weights, 'gate': declare_gate(param, inputs, outputs)}

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    both = nau(x_BI, weights['nau']), nmu(x_BI, weights['nmu'])
    return gated(dot(x_BI, weights['gate']), *both)

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return tuple(weights[name] for name in self.parts)

  def project(self, weights: Weights) -> Weights:
    clipped = {
      name: jnp.clip(weights[name], *unit.bounds)
      for name, unit in self.parts.items()
    }
    return {**weights, **clipped}

  def penalty(self, weights: Weights) -> jax.Array:
    return sum(
      unit.penalty({'weight': weights[name]})
      for name, unit in self.parts.items()
    )
