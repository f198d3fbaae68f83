"""Neural status registers: comparisons of learned operands.

Shape key: B examples, I inputs, R redundant pairs of operands, '1' a scalar's
axes, 2 the answer and its negation.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.weights import GLOROT_NORMAL, Initializer, dot


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
  difference_BR: jax.Array, scale: float
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
  def __call__(self, x_BI: jax.Array) -> jax.Array:
    """Probability that the comparison holds, and that it does not, [B, 2]."""
    operands = (x_BI.shape[1], self.redundancy)
    first_IR = self._param('first', operands)
    second_IR = self._param('second', operands)
    difference_BR = difference(x_BI, first_IR, second_IR)
    sign_BR, zero_BR = status_bits(difference_BR, self.scale)
    logit_B1 = self._param('bias', (1, 1), jax.nn.initializers.zeros)
    logit_B1 += dot(sign_BR, self._param('sign', (self.redundancy, 1)))
    logit_B1 += dot(zero_BR, self._param('zero', (self.redundancy, 1)))
    return jax.nn.sigmoid(jnp.concatenate([logit_B1, -logit_B1], axis=1))

  def _param(
    self,
    name: str,
    shape: tuple[int, ...],
    initializer: Initializer = GLOROT_NORMAL,
  ) -> jax.Array:
    return self.param(name, initializer, shape, self.dtype)
