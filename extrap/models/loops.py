"""Loops that grow with what was read: how often a token is updated.

A token takes part in as many loops as its place asks for and then stays as it
is, so that nothing depends on what follows it.

  length    token i takes part in i loops, enough for what stands at the start
            to come to it one token a loop.
  doubling  it takes part while there is a token 2^t before it, in about
            log2 i loops; and the distance between neighbours is 2^t in loop t
            (the parallel prefix sum of Hillis and Steele 1986).

Between two loops a state is carried as it is, with unit mean square, or as the
signs of its entries: then it has finitely many values, and errors cannot add
up.

Shape key: B examples, T tokens, E model width.
"""

import jax
import jax.numpy as jnp

from extrap.tasks.task import Structure


def most_loops(rule: str, tokens: int) -> int:
  """Loops of the last of so many tokens."""
  last = tokens - 1
  return last.bit_length() if rule == 'doubling' else last


def takes_part(rule: str, index_BT: jax.Array, loop: jax.Array) -> jax.Array:
  """Which tokens a loop updates, bool [B, T]; loops count from 0."""
  reach = 1 << loop if rule == 'doubling' else loop + 1
  return index_BT >= reach


def neighbours_of(rule: str, ids: Structure, loop: jax.Array) -> Structure:
  """The structure that encodings see in a loop."""
  if rule != 'doubling':
    return ids
  return ids.replace(stride=jnp.full_like(ids.index, 1 << loop))


def noise(
  key: jax.Array | None, largest: float, x_BTE: jax.Array
) -> jax.Array | float:
  """Uniform noise like x, none without a key.

  A model that is right in spite of it keeps its states apart: what one loop
  leaves of an error, the next one corrects.
  """
  if key is None or not largest:
    return 0.0
  shape, limits = x_BTE.shape, (-largest, largest)
  return jax.random.uniform(key, shape, x_BTE.dtype, *limits)


def carry(
  kind: str, x_BTE: jax.Array, noise_BTE: jax.Array | float = 0.0
) -> jax.Array:
  """A state as it enters the next loop; `sign` has a straight gradient."""
  if kind == 'plain':
    return x_BTE + noise_BTE
  square_BT1 = jnp.mean(jnp.square(x_BTE), axis=-1, keepdims=True)
  x_BTE = x_BTE * jax.lax.rsqrt(square_BT1 + 1e-6) + noise_BTE
  if kind == 'norm':
    return x_BTE
  # Entries far from 0 do not learn: they would only grow.
  straight_BTE = jnp.clip(x_BTE, -1.5, 1.5)
  sign_BTE = jnp.where(x_BTE > 0, 1.0, -1.0).astype(x_BTE.dtype)
  # In this order what is added is exactly 0.
  return sign_BTE + (straight_BTE - jax.lax.stop_gradient(straight_BTE))
