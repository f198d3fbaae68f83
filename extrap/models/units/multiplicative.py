"""Units that multiply: NAC* in three forms, NMU and sNMU.

Shape key: B examples, I inputs, O outputs.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.units.additive import declare_nac, nac_weight
from extrap.models.units.base import EPSILON, UNITS, Bounded, Bounds, Unit
from extrap.models.weights import GLOROT_NORMAL, Param, Weights


def nmu(x_BI: jax.Array, weight_IO: jax.Array) -> jax.Array:
  """The product of inputs of weight 1; those of weight 0 are 1, [B, O]."""
  weight_IO1 = weight_IO[:, :, None]
  # Grouped so that a weight of 1 leaves its input as it is, to the last bit.
  # Examples stand last: the gradient sums over them, several times as fast.
  factor_IOB = weight_IO1 * x_BI.T[:, None] + (1 - weight_IO1)
  return jnp.prod(factor_IOB, axis=0).T


class Powers:
  """The product of the powers of the inputs' magnitudes."""

  def products(self, weights: Weights) -> dict[str, jax.Array]:
    (exponent_IO,) = self.matrices(weights)
    return {'log': exponent_IO}

  def finish(
    self, weights: Weights, product: Mapping[str, jax.Array]
  ) -> jax.Array:
    del weights
    return jnp.exp(product['log'])


@UNITS.register('nac_mul')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NACMul(Powers, Unit):
  """Powers, with the weights of a NAC (Trask et al. 2018, arXiv 1808.00508)."""

  operations: ClassVar[frozenset[str]] = frozenset(
    ('mul', 'div', 'root', 'squared')
  )

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    return declare_nac(param, inputs, outputs)

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return (nac_weight(**weights),)


@UNITS.register('nac_mul_sigma')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NACMulSigma(Powers, Unit):
  """Powers between 0 and 1 (Madsen and Johansen 2020, arXiv 2001.05016)."""

  operations: ClassVar[frozenset[str]] = frozenset(('mul', 'root', 'squared'))

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    return {'w_hat': param('w_hat', GLOROT_NORMAL, (inputs, outputs))}

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    return (jax.nn.sigmoid(weights['w_hat']),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Product(Bounded):
  """Base of units whose weights say which inputs are multiplied."""

  bounds: ClassVar[Bounds] = Bounds(0.0, 1.0)

  def initial(self, inputs: int, outputs: int) -> Bounds:
    del inputs, outputs
    return Bounds(0.25, 0.75)


@UNITS.register('nac_mul_nmu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NACMulNMU(Powers, _Product):
  """Powers, with the weights of an NMU.

  Madsen and Johansen 2020, arXiv 2001.05016.
  """

  operations: ClassVar[frozenset[str]] = frozenset(('mul', 'root', 'squared'))


@UNITS.register('nmu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NMU(_Product):
  """Neural multiplication unit.

  Madsen and Johansen 2020, arXiv 2001.05016.
  """

  operations: ClassVar[frozenset[str]] = frozenset(('mul', 'squared'))

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    return nmu(x_BI, weights['weight'])


@UNITS.register('snmu')
@dataclasses.dataclass(frozen=True, kw_only=True)
class SNMU(NMU):
  """Stochastic NMU: noise that is multiplied in and divided out again.

  Only right weights undo it (Mistry, Farrahi and Hare 2022, arXiv 2211.05624).
  Evaluation has no noise.
  """

  largest: float = option(
    5.0, 'largest factor of the noise, drawn from U[1, largest]', minimum=1.0
  )
  by_batch: bool = option(
    False, 'the largest factor is 1 + 1 / std of all inputs of a batch instead'
  )

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    weight_IO = weights['weight']
    if key is None:
      return nmu(x_BI, weight_IO)
    noise_BI = jax.random.uniform(
      key, x_BI.shape, x_BI.dtype, 1.0, self.noise_limit(x_BI)
    )
    return nmu(x_BI * noise_BI, weight_IO) / nmu(noise_BI, weight_IO)

  def noise_limit(self, x_BI: jax.Array) -> jax.Array | float:
    """The largest factor of the noise, a constant to the gradient."""
    if not self.by_batch:
      return self.largest
    spread = jnp.maximum(jnp.std(x_BI, ddof=1), EPSILON)
    return jax.lax.stop_gradient(1 + 1 / spread)
