"""Units of real powers of any sign: NPU and RealNPU.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.models.units.base import UNITS, Unit, clamp
from extrap.models.weights import Param, Weights, dot

# That of float32, whatever the type.
EPSILON = float(np.finfo(np.float32).eps)


def polar(x_BI: jax.Array, gate_I: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Logarithm of the magnitude, and angle, of gated inputs, both [B, I].

  An input whose gate is 0 counts as 1.
  """
  gate_1I = clamp(gate_I, 0.0, 1.0)[None]
  magnitude_BI = gate_1I * (jnp.abs(x_BI) + EPSILON) + (1 - gate_1I)
  return jnp.log(magnitude_BI), gate_1I * jnp.where(x_BI < 0, math.pi, 0.0)


def real_npu(
  x_BI: jax.Array, exponent_IO: jax.Array, gate_I: jax.Array
) -> jax.Array:
  """Real part of the product of real powers, [B, O]."""
  logarithm_BI, angle_BI = polar(x_BI, gate_I)
  angle_BO = dot(angle_BI, exponent_IO)
  return jnp.exp(dot(logarithm_BI, exponent_IO)) * jnp.cos(angle_BO)


def npu(
  x_BI: jax.Array,
  exponent_IO: jax.Array,
  imaginary_IO: jax.Array,
  gate_I: jax.Array,
) -> jax.Array:
  """Real part of the product of complex powers, [B, O]."""
  logarithm_BI, angle_BI = polar(x_BI, gate_I)
  logarithm_BO = dot(logarithm_BI, exponent_IO) - dot(angle_BI, imaginary_IO)
  angle_BO = dot(angle_BI, exponent_IO) + dot(logarithm_BI, imaginary_IO)
  return jnp.exp(logarithm_BO) * jnp.cos(angle_BO)


@UNITS.register('real_npu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class RealNPU(Unit):
  """Real neural power unit (Heim, Pevný and Šmídl 2020, arXiv 2006.01681).

  The penalty is the L1 norm of all parameters; nothing is clipped but the
  gate, in use.
  """

  operations: ClassVar[frozenset[str]] = frozenset(
    ('mul', 'div', 'root', 'squared')
  )

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    init = jax.nn.initializers
    shape = (inputs, outputs)
    return {
      'exponent': param('exponent', init.glorot_uniform(), shape),
      'gate': param('gate', init.constant(0.5), (inputs,)),
    }

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    return real_npu(x_BI, weights['exponent'], weights['gate'])

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return (weights['exponent'],)

  def penalty(self, weights: Weights) -> jax.Array:
    return sum(jnp.sum(jnp.abs(weight)) for weight in weights.values())


@UNITS.register('npu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NPU(RealNPU):
  """Neural power unit, whose exponents are complex; the same paper."""

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    zeros = jax.nn.initializers.zeros
    imaginary_IO = param('imaginary', zeros, (inputs, outputs))
    return {
      **super().declare(param, inputs, outputs),
      'imaginary': imaginary_IO,
    }

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    exponents = weights['exponent'], weights['imaginary']
    return npu(x_BI, *exponents, weights['gate'])

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return weights['exponent'], weights['imaginary']
