"""Fourier analysis networks: a quarter cosines, a quarter sines, the rest GELU.

Shape key: B examples, I inputs, O outputs, P periodic frequencies, G outputs
that are not periodic.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.weights import dot, uniform


def fan(
  x_BI: jax.Array,
  periodic_IP: jax.Array,
  weight_IG: jax.Array,
  bias_1G: jax.Array,
) -> jax.Array:
  """Cosines and sines of the same angles, then GELU, [B, O]."""
  angle_BP = dot(x_BI, periodic_IP)
  plain_BG = jax.nn.gelu(dot(x_BI, weight_IG) + bias_1G, approximate=False)
  return jnp.concatenate([jnp.cos(angle_BP), jnp.sin(angle_BP), plain_BG], 1)


class FANLayer(nn.Module):
  """FAN layer (Dong et al. 2024, arXiv 2410.02675).

  Initial parameters are U[-1, 1] over the root of the inputs.

  Attributes:
    outputs: width of the layer; a quarter of it is the number of frequencies.
    dtype: type of the parameters.
  """

  outputs: int
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_BI: jax.Array) -> jax.Array:
    """[B, O]."""
    inputs = x_BI.shape[1]
    frequencies = self.outputs // 4
    plain = self.outputs - 2 * frequencies
    limit = 1 / math.sqrt(inputs)
    initial = uniform(-limit, limit)
    shapes = {
      'periodic': (inputs, frequencies),
      'kernel': (inputs, plain),
      'bias': (1, plain),
    }
    return fan(
      x_BI,
      *(
        self.param(name, initial, shape, self.dtype)
        for name, shape in shapes.items()
      ),
    )
