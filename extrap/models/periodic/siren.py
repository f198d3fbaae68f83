"""Sines of a high frequency, with initial weights that keep their spread.

Shape key: B examples, O outputs.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.periodic.activation import ACTIVATIONS, Activation
from extrap.models.weights import Initializer, Weights, uniform


def siren_limit(inputs: int, first: bool, omega: float) -> float:
  """Largest initial weight of a layer before a sine of frequency omega."""
  return 1 / inputs if first else math.sqrt(6 / inputs) / omega


@ACTIVATIONS.register('siren')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Siren(Activation):
  """SIREN (Sitzmann et al. 2020, arXiv 2006.09661).

  Biases are drawn as in the authors' repository, vsitzmann/siren. The linear
  map behind the last of these layers has the weights of `kernel`, too.
  """

  omega: float = option(30.0, 'frequency of the sine', minimum=1e-6)

  def apply(self, weights: Weights, x_BO: jax.Array) -> jax.Array:
    del weights
    return jnp.sin(self.omega * x_BO)

  def kernel(self, inputs: int, first: bool) -> Initializer:
    limit = siren_limit(inputs, first, self.omega)
    return uniform(-limit, limit)

  def bias(self, inputs: int) -> Initializer:
    limit = 1 / math.sqrt(inputs)
    return uniform(-limit, limit)
