"""The improved NALU: separate weights, a sign, a gate that sees no input.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.models.units.additive import nac_weight
from extrap.models.units.base import OPERATIONS, UNITS, Unit
from extrap.models.units.multiplicative import EPSILON, nmu
from extrap.models.weights import Param, Weights, dot, normal

LARGEST_LOGARITHM = 20.0
SATURATED = 20.0  # Parameters beyond it have no penalty.
# Mean and standard deviation of fresh parameters.
INITIAL = {'w_hat': (0.88, 0.2), 'm_hat': (0.5, 0.2), 'gate': (0.0, 0.2)}


def signed_powers(x_BI: jax.Array, exponent_IO: jax.Array) -> jax.Array:
  """The product of powers of magnitudes, with the sign of the product, [B, O].

  An input's sign counts as far as its exponent's size.
  """
  logarithm_BI = jnp.log(jnp.maximum(jnp.abs(x_BI), EPSILON))
  sum_BO = jnp.minimum(dot(logarithm_BI, exponent_IO), LARGEST_LOGARITHM)
  return jnp.exp(sum_BO) * nmu(jnp.sign(x_BI), jnp.abs(exponent_IO))


@UNITS.register('inalu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class INALU(Unit):
  """iNALU (Schlör, Ring and Hotho 2020, arXiv 2003.07629).

  Initial parameters are those of the authors' repository, daschloer/inalu. Its
  regulariser drives all parameters, the gate's too, beyond 20 in size.
  """

  operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    def draw(name: str, kind: str, shape: tuple[int, ...]) -> jax.Array:
      return param(name, normal(*INITIAL[kind]), shape)

    matrices = {
      f'{kind}_{path}': draw(f'{kind}_{path}', kind, (inputs, outputs))
      for path in ('add', 'mul')
      for kind in ('w_hat', 'm_hat')
    }
    return {**matrices, 'gate': draw('gate', 'gate', (outputs,))}

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    add_IO, mul_IO = self.matrices(weights)
    share_1O = jax.nn.sigmoid(weights['gate'])[None]
    product_BO = signed_powers(x_BI, mul_IO)
    return share_1O * dot(x_BI, add_IO) + (1 - share_1O) * product_BO

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return tuple(
      nac_weight(weights[f'w_hat_{path}'], weights[f'm_hat_{path}'])
      for path in ('add', 'mul')
    )

  def penalty(self, weights: Weights) -> jax.Array:
    return sum(
      jnp.mean(jax.nn.relu(SATURATED - jnp.abs(weight)))
      for weight in weights.values()
    )
