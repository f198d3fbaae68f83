"""A gate between the linear and the logarithmic domain of one signed sum.

Shape key: B examples, I inputs, O outputs, S selectors (I times O).
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.units.base import UNITS, Unit
from extrap.models.weights import Param, Weights, dot

SMALLEST = 1e-11  # Magnitude of a zero.
SIGN_WIDTH = 1e-4  # Sums of about this size have no clear sign.
LARGEST_LOGARITHM = 50.0
GATE_MARGIN = 1e-5  # Of a gate in training, from 0 and 1.
HEADS = ('size', 'sign', 'gate')


def domain_mixed(
  x_BI: jax.Array, selector_BIO: jax.Array, linear_BO: jax.Array
) -> jax.Array:
  """A sum where the gate is 1, a product of powers where it is 0, [B, O].

  Between them the signs are mixed, and the logarithms of the magnitudes.

  Args:
    x_BI: inputs.
    selector_BIO: factor of each input in the sum, exponent in the product.
    linear_BO: the gate.
  """
  x_BI1, size_BI1 = x_BI[:, :, None], jnp.abs(x_BI)[:, :, None]
  sum_BO = jnp.sum(selector_BIO * x_BI1, axis=1)
  logarithm_BI1 = jnp.log(jnp.maximum(size_BI1, SMALLEST))
  powers_BO = jnp.sum(selector_BIO * logarithm_BI1, axis=1)
  negative_BO = jnp.sum(jnp.abs(selector_BIO) * (x_BI1 < 0), axis=1)
  # Rounded off at zero, where a magnitude has no logarithm.
  size_BO = jnp.log(jnp.hypot(sum_BO, SIGN_WIDTH))
  mixed_BO = linear_BO * size_BO + (1 - linear_BO) * powers_BO
  sign_BO = linear_BO * jnp.tanh(sum_BO / SIGN_WIDTH)
  sign_BO += (1 - linear_BO) * jnp.cos(math.pi * negative_BO)
  limit = LARGEST_LOGARITHM
  return sign_BO * jnp.exp(jnp.clip(mixed_BO, -limit, limit))


@UNITS.register('dmu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class DMU(Unit):
  """The unit of Curry 2025 (arXiv 2509.08180), with learned selectors.

  The published results give it the selectors of the operation, (1, 1) or
  (1, -1), and learn the gate alone; here linear heads on the normalised inputs
  predict both, as in marict/nalm-benchmark where nothing is frozen: one step,
  one gate, initial parameters of Glorot and Bengio.

  Its sparsity error is that of its heads at inputs that normalise to their
  bias: what it selects depends on the inputs.
  """

  rounded: bool = option(
    True, 'evaluation rounds selectors to -1, 0 or 1 and the gate to 0 or 1'
  )

  operations: ClassVar[frozenset[str]] = frozenset(
    ('add', 'sub', 'mul', 'div', 'squared')
  )

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    init = jax.nn.initializers
    selectors = inputs * outputs
    weights = {
      'norm': param('norm', init.ones, (1, inputs)),
      'norm_bias': param('norm_bias', init.zeros, (1, inputs)),
    }
    for head, width in zip(HEADS, (selectors, selectors, outputs), strict=True):
      weights[head] = param(head, init.glorot_uniform(), (inputs, width))
      bias = f'{head}_bias'
      weights[bias] = param(bias, init.zeros, (1, width))
    return weights

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    scaled_BI = jax.nn.standardize(x_BI, axis=1, epsilon=1e-5)
    scaled_BI = scaled_BI * weights['norm'] + weights['norm_bias']
    selector_BIO, linear_BO = self.heads(weights, scaled_BI)
    if key is None and self.rounded:
      selector_BIO = jnp.clip(jnp.round(selector_BIO), -1, 1)
      linear_BO = jnp.round(linear_BO)
    return domain_mixed(x_BI, selector_BIO, linear_BO)

  def heads(
    self, weights: Weights, scaled_BI: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Selectors, [B, I, O], and the gate, [B, O]."""
    size_BS, sign_BS, gate_BO = (
      dot(scaled_BI, weights[head]) + weights[f'{head}_bias'] for head in HEADS
    )
    selector_BS = jnp.tanh(sign_BS) * jax.nn.softplus(size_BS)
    linear_BO = (1 - 2 * GATE_MARGIN) * jax.nn.sigmoid(gate_BO) + GATE_MARGIN
    shape = (*scaled_BI.shape, linear_BO.shape[1])
    return selector_BS.reshape(shape), linear_BO

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return self.heads(weights, weights['norm_bias'])
