"""Projections of tokens that encodings read beside queries, keys and values.

Gates are summed over many tokens, so all of it is in float32 at least, whatever
the type of the activations.

Shape key: B examples, T tokens, E model width, X whatever a token contributes.
"""

import jax
import jax.numpy as jnp

from extrap.models.positions.position import Param, matmul_precision


def exact(x: jax.Array) -> jax.Array:
  """x in float32 at least."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def contract(spec: str, *factors: jax.Array) -> jax.Array:
  """An einsum, exact in the type of its factors."""
  return jnp.einsum(
    spec, *factors, precision=matmul_precision(factors[0].dtype)
  )


def linear(
  x_BTE: jax.Array,
  param: Param,
  name: str,
  shape: tuple[int, ...],
  init: jax.nn.initializers.Initializer | None = None,
) -> jax.Array:
  """A projection of tokens, [B, T, *shape], in float32 at least."""
  init = init or jax.nn.initializers.lecun_normal(
    in_axis=0, out_axis=tuple(range(1, 1 + len(shape)))
  )
  kernel_EX = param(name, init, (x_BTE.shape[-1], *shape))
  x_BTE = exact(x_BTE)
  return jnp.tensordot(
    x_BTE, kernel_EX, 1, precision=matmul_precision(x_BTE.dtype)
  )


def affine(
  x_BTE: jax.Array,
  param: Param,
  name: str,
  shape: tuple[int, ...],
  bias: float,
) -> jax.Array:
  """Such a projection with a bias, which starts at `bias`."""
  init = jax.nn.initializers.constant(bias)
  projected_BTX = linear(x_BTE, param, f'{name}_kernel', shape)
  return projected_BTX + param(f'{name}_bias', init, shape)[None, None]
