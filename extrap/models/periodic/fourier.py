"""Fourier features: sines and cosines of random projections of the inputs.

Shape key: B examples, I inputs, F frequencies.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.weights import dot


def fourier_features(x_BI: jax.Array, frequency_IF: jax.Array) -> jax.Array:
  """Cosines, then sines, of 2 pi times the projections, [B, 2F]."""
  angle_BF = 2 * math.pi * dot(x_BI, frequency_IF)
  return jnp.concatenate([jnp.cos(angle_BF), jnp.sin(angle_BF)], axis=1)


class FourierFeatures(nn.Module):
  """Gaussian Fourier features (Tancik et al. 2020, arXiv 2006.10739).

  Frequencies that are not learned are parameters without a gradient: each
  replica has its own, and weight decay should leave them out.

  Attributes:
    frequencies: how many; there are twice as many features.
    deviation: of the frequencies, cycles over a unit of the inputs.
    learned: whether they are trained.
    dtype: type of the frequencies.
  """

  frequencies: int
  deviation: float = 1.0
  learned: bool = False
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_BI: jax.Array) -> jax.Array:
    """[B, 2F]."""
    frequency_IF = self.param(
      'frequency',
      jax.nn.initializers.normal(self.deviation),
      (x_BI.shape[1], self.frequencies),
      self.dtype,
    )
    if not self.learned:
      frequency_IF = jax.lax.stop_gradient(frequency_IF)
    return fourier_features(x_BI, frequency_IF)
