"""Neural status registers: comparisons of learned operands.

Shape key: B examples, I inputs, R redundant pairs of operands, '1' a scalar's
axes, 2 the answer and its negation.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.weights import GLOROT_NORMAL, Initializer, Weights, dot


def difference(
  x_BI: jax.Array, first_IR: jax.Array, second_IR: jax.Array
) -> jax.Array:
  """First operand less the second, [B, R]; each is a mean of the inputs.

  Args:
    x_BI: inputs.
    first_IR: logits of the first operands' shares of the inputs.
    second_IR: of the second's.
  """
  share_IR = jax.nn.softmax(first_IR, axis=0) - jax.nn.softmax(
    second_IR, axis=0
  )
  # Shares sum to zero, so any number may be taken from all inputs. Between
  # large inputs that are close together it saves the digits that differ.
  return dot(x_BI - x_BI[:, :1], share_IR)


def status_bits(
  difference_BR: jax.Array, scale: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
  """Sign bit (-1, 0, 1) and zero bit (1 at zero, -1 far from it), [B, R].

  Args:
    difference_BR: of the operands.
    scale: of the differences that the bits resolve; a large one tells small
      differences apart, and leaves large ones without a gradient.
  """
  sign_BR = jnp.tanh(scale * difference_BR)
  return sign_BR, 1 - 2 * sign_BR**2


class StatusRegister(nn.Module):
  """Neural status register (Faber and Wattenhofer 2020, arXiv 2004.07085).

  As the paper defines it: redundant pairs of operands whose weighted bits are
  summed before the sigmoid.

  Attributes:
    redundancy: pairs of operands.
    scale: factor of the differences, lambda.
    dtype: type of the parameters.
  """

  redundancy: int = 10
  scale: float = 1.0
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x_BI: jax.Array,
    scale: jax.Array | float | None = None,
    sharpness: jax.Array | float = 1.0,
  ) -> jax.Array:
    """Probability that the comparison holds, and that it does not, [B, 2].

    Args:
      x_BI: inputs.
      scale: in place of the attribute, where it is traced.
      sharpness: factor of the operands' logits; 1 in the paper. A large one
        leaves each operand a single input.
    """
    operands = (x_BI.shape[1], self.redundancy)
    first_IR = sharpness * self._param('first', operands)
    second_IR = sharpness * self._param('second', operands)
    difference_BR = difference(x_BI, first_IR, second_IR)
    scale = self.scale if scale is None else scale
    sign_BR, zero_BR = status_bits(difference_BR, scale)
    logit_B1 = self._param('bias', (1, 1), jax.nn.initializers.zeros)
    logit_B1 += dot(sign_BR, self._param('sign', (self.redundancy, 1)))
    logit_B1 += dot(zero_BR, self._param('zero', (self.redundancy, 1)))
    return jax.nn.sigmoid(jnp.concatenate([logit_B1, -logit_B1], axis=1))

  @nn.nowrap
  def project(self, params: Weights) -> Weights:
    """Parameters as they are after an update: none is clipped."""
    return params

  @nn.nowrap
  def penalty(self, params: Weights) -> jax.Array:
    """The regulariser; there is none."""
    del params
    return jnp.zeros(())

  def _param(
    self,
    name: str,
    shape: tuple[int, ...],
    initializer: Initializer = GLOROT_NORMAL,
  ) -> jax.Array:
    return self.param(name, initializer, shape, self.dtype)


def leak(params: Weights, sharpness: jax.Array | float = 1.0) -> jax.Array:
  """What operands take of inputs other than their largest, a mean of shares.

  Pairs count by the weights of their bits. At the magnitude M a leak moves a
  difference by about as much of M; a type of precision eps has no such leak
  once it is below eps.

  Args:
    params: of a `StatusRegister`.
    sharpness: as in its call.
  """
  share_KIR = jax.nn.softmax(
    sharpness * jnp.stack([params['first'], params['second']]), axis=1
  )
  # Not one less the largest, which could not be smaller than a rounding.
  rest_KIR = jnp.where(
    share_KIR == jnp.max(share_KIR, axis=1, keepdims=True), 0.0, share_KIR
  )
  weight_R = jnp.abs(params['sign'])[:, 0] + jnp.abs(params['zero'])[:, 0]
  leak_R = jnp.sum(rest_KIR, axis=(0, 1)) / 2
  return jnp.sum(weight_R * leak_R) / jnp.sum(weight_R)
