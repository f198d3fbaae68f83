"""A spectrum of few lines, found by gradient descent.

More sines than any signal needs start one in each bin of the Fourier series of
the trained range. Their frequencies are learned, not only their amplitudes; a
group lasso makes all but a few fade, and fades itself as training goes on. The
idea is that of sparse measures: with enough particles, gradient descent on
positions and weights minimises a convex loss with such a penalty (Chizat 2021,
arXiv 1907.10300), and lines far enough apart are its minimum (Candes and
Fernandez-Granda 2014, arXiv 1203.5871).

What it assumes: that the signal goes on as a sum of few sines. Periods need not
be commensurate, and no period is given. It has no trend, no amplitude that
grows, and of a form with jumps it has the lines within its band alone. Lines
closer than about a bin merge.

Shape key: B examples, L lines.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.models.weights import Weights, dot, parameters


def fourier_bins(
  key: jax.Array, shape: tuple[int, int], dtype: jax.typing.DTypeLike
) -> jax.Array:
  """One frequency a bin of the range -1..1, at a random place in all, [1, L].

  Bins are half a cycle over a unit of the input, which is the resolution of
  that range; the random place is where in its bin every line starts.
  """
  place = jax.random.uniform(key, (), dtype)
  bins_1L = jnp.broadcast_to(jnp.arange(shape[1], dtype=dtype), shape)
  return math.pi * (bins_1L + place)


class LineSpectrum(nn.Module):
  """Sines of learned frequencies, amplitudes and phases, and a constant.

  Attributes:
    lines: how many; there are twice as many features.
    learned: whether the frequencies are.
    dtype: type of the parameters.
  """

  lines: int = 32
  learned: bool = True
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_B1: jax.Array) -> jax.Array:
    """[B, 1] of inputs whose trained range is -1..1."""
    param = parameters(self, self.dtype)
    zeros = jax.nn.initializers.zeros
    frequency_1L = param('frequency', fourier_bins, (1, self.lines))
    if not self.learned:
      frequency_1L = jax.lax.stop_gradient(frequency_1L)
    angle_BL = dot(x_B1, frequency_1L)
    y_B1 = dot(jnp.cos(angle_BL), param('cosine', zeros, (self.lines, 1)))
    y_B1 += dot(jnp.sin(angle_BL), param('sine', zeros, (self.lines, 1)))
    return y_B1 + param('bias', zeros, (1, 1))

  @nn.nowrap
  def penalty(self, params: Weights) -> jax.Array:
    """The group lasso: the sum of all amplitudes."""
    return jnp.sum(amplitudes(params))


def amplitudes(params: Weights) -> jax.Array:
  """Amplitude of each line, [L, 1]; the gradient is 0 where it is 0."""
  square_L1 = params['cosine'] ** 2 + params['sine'] ** 2
  return jnp.sqrt(square_L1 + 1e-8)
