"""Products of activations with a kernel, with gradients that are fast on a CPU.

Shape key: X axes that are summed over, Y axes that come out, '..' any others.
"""

import functools
import math

import jax
from jax import lax

from extrap.models.positions.position import matmul_precision

Residuals = tuple[jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, kernel: jax.Array, inputs: int = 1) -> jax.Array:
  """The sum over the last axes of x and the first of a kernel.

  What differs from `jnp.tensordot` is the kernel's gradient. The compiler would
  transpose the wider of its two factors, and on a CPU that takes as long as the
  product: here the narrower stands first and neither is copied. There is no
  forward mode (`jax.jvp`).

  Args:
    x: [.., X].
    kernel: [X, Y], of the same type.
    inputs: how many axes X is.

  Returns:
    [.., Y], exact in float32.
  """
  sums = range(x.ndim - inputs, x.ndim), range(inputs)
  return _dot(x, kernel, *sums)


def _forward(
  x: jax.Array, kernel: jax.Array, inputs: int
) -> tuple[jax.Array, Residuals]:
  return product(x, kernel, inputs), (x, kernel)


def _backward(inputs: int, residuals: Residuals, grad: jax.Array) -> Residuals:
  x, kernel = residuals
  others = x.ndim - inputs
  outs = range(others, grad.ndim), range(inputs, kernel.ndim)
  grad_x = _dot(grad, kernel, *outs)
  over = range(others), range(others)
  if math.prod(kernel.shape[:inputs]) <= math.prod(kernel.shape[inputs:]):
    return grad_x, _dot(x, grad, *over)
  # Without the barrier the compiler swaps the factors, to save a transposition
  # that is far smaller than either.
  grad_YX = lax.optimization_barrier(_dot(grad, x, *over))
  order = [*range(len(outs[1]), kernel.ndim), *range(len(outs[1]))]
  return grad_x, lax.transpose(grad_YX, order)


def _dot(a: jax.Array, b: jax.Array, of_a: range, of_b: range) -> jax.Array:
  """Sums over the named axes; the others follow each other."""
  axes = (tuple(of_a), tuple(of_b)), ((), ())
  return lax.dot_general(a, b, axes, precision=matmul_precision(a.dtype))


product.defvjp(_forward, _backward)
