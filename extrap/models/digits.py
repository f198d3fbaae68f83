"""A convolutional network that reads a number from the image of a digit.

Shape key: B images, H rows, W columns, C channels, X places of all images, I
inputs, O outputs, D digits, '1' a bias's axis.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.weights import dot, parameters, uniform
from extrap.randomness import named

FIELD = 3  # Side of what a convolution sees.
# Of the pixels of MNIST, of which the largest is 1.
MEAN, DEVIATION = 0.1307, 0.3081


class DigitReader(nn.Module):
  """Two convolutions, two layers, and the mean digit of a softmax over ten.

  The network that Faber and Wattenhofer took (lukasjf/neural_status_register),
  PyTorch's example for MNIST, drawn as PyTorch draws it. All that goes on of an
  image is that mean, a number in 0..9.

  Attributes:
    channels: of the two convolutions.
    hidden: units of the layer.
    digits: D.
    dropped: share of channels, and of hidden units, that a training step does
      without.
    dtype: type of pixels and parameters.
  """

  channels: tuple[int, int] = (32, 64)
  hidden: int = 128
  digits: int = 10
  dropped: tuple[float, float] = (0.25, 0.5)
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, image_BHW: jax.Array, key: jax.Array | None = None
  ) -> jax.Array:
    """The number that each image shows, [B].

    Args:
      image_BHW: pixels, 0..255.
      key: of what is dropped; None drops nothing.
    """
    x_BHWC = (image_BHW[..., None].astype(self.dtype) / 255 - MEAN) / DEVIATION
    x_BHWC = nn.relu(self._convolution('first', x_BHWC, self.channels[0]))
    x_BHWC = self._convolution('second', x_BHWC, self.channels[1])
    x_BHWC = nn.max_pool(x_BHWC, (2, 2), (2, 2))
    batch, _, _, channels = x_BHWC.shape
    if key is not None:
      kept = (batch, 1, 1, channels)
      x_BHWC = drop(named(key, 'channels'), x_BHWC, self.dropped[0], kept)
    x_BI = x_BHWC.reshape(batch, -1)
    x_BI = nn.relu(self._affine('hidden', x_BI, self.hidden))
    if key is not None:
      x_BI = drop(named(key, 'hidden'), x_BI, self.dropped[1], x_BI.shape)
    share_BD = jax.nn.softmax(self._affine('digits', x_BI, self.digits))
    number_D1 = jnp.arange(self.digits, dtype=self.dtype)[:, None]
    return dot(share_BD, number_D1)[:, 0]

  def _convolution(
    self, name: str, x_BHWC: jax.Array, channels: int
  ) -> jax.Array:
    """A product of patches: replicas side by side are a batch of products."""
    patch_BHWI = patches(x_BHWC)
    *shape, inputs = patch_BHWI.shape
    y_XO = self._affine(name, patch_BHWI.reshape(-1, inputs), channels)
    return y_XO.reshape(*shape, channels)

  def _affine(self, name: str, x_XI: jax.Array, outputs: int) -> jax.Array:
    bound = x_XI.shape[1] ** -0.5
    param, draw = parameters(self, self.dtype), uniform(-bound, bound)
    weight_IO = param(name, draw, (x_XI.shape[1], outputs))
    return dot(x_XI, weight_IO) + param(f'{name}_bias', draw, (1, outputs))


def patches(x_BHWC: jax.Array) -> jax.Array:
  """The square around each place that has all of it, along the last axis."""
  rows, columns = (size + 1 - FIELD for size in x_BHWC.shape[1:3])
  return jnp.concatenate(
    [
      x_BHWC[:, row : row + rows, column : column + columns]
      for row, column in itertools.product(range(FIELD), repeat=2)
    ],
    axis=-1,
  )


def drop(
  key: jax.Array, x: jax.Array, share: float, shape: tuple[int, ...]
) -> jax.Array:
  """Zeros in place of a share of x, the rest larger so that means stay.

  Args:
    key: of what is dropped.
    x: an array.
    share: of those of `shape`, which x is broadcast from.
  """
  kept = jax.random.bernoulli(key, 1 - share, shape)
  return jnp.where(kept, x / (1 - share), 0)
