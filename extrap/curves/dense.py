"""A linear layer in full float32, as the networks of curves have it."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.product import product


class Dense(nn.Module):
  """A product with a bias.

  Attributes:
    width: of what comes out.
    init: of the matrix.
    hidden: whether it stands between hidden layers; Muon is for those, not for
      what reads features.
  """

  width: int
  init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  hidden: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    name = 'kernel' if self.hidden else 'embedding'
    kernel = self.param(name, self.init, (x.shape[-1], self.width))
    bias = self.param('bias', nn.initializers.zeros, (self.width,))
    return product(x, kernel) + jnp.expand_dims(bias, range(x.ndim - 1))
