"""What comparisons make of a list: its least number, a count of equals.

Shape key: B lists, I numbers of each, 2 a pair and what is said of it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Of pairs [B, 2]: shares of the first and of the second, [B, 2].
Compare = Callable[[jax.Array], jax.Array]
# Of lists [B, I]: a number for each.
Function = Callable[[Compare, jax.Array], jax.Array]


def minimum(compare: Compare, x_BI: jax.Array) -> jax.Array:
  """What remains of a list, [B], number by number.

  The number kept so far and the next are weighed by what the comparison says
  of them, and their mean is kept (Faber and Wattenhofer 2020, arXiv
  2004.07085).
  """

  def keep(kept_B: jax.Array, next_B: jax.Array) -> tuple[jax.Array, None]:
    share_B2 = compare(jnp.stack([kept_B, next_B], axis=1))
    # Not a sum of products: one of two equal numbers stays as it is.
    return kept_B + share_B2[:, 1] * (next_B - kept_B), None

  return jax.lax.scan(keep, x_BI[:, 0], x_BI[:, 1:].T)[0]


def count(compare: Compare, x_BI: jax.Array) -> jax.Array:
  """Of how many later numbers and the first a comparison holds, [B]."""
  first_BI = jnp.broadcast_to(x_BI[:, :1], x_BI[:, 1:].shape)
  pair_BI2 = jnp.stack([first_BI, x_BI[:, 1:]], axis=2)
  share_X2 = compare(pair_BI2.reshape(-1, 2))
  return jnp.sum(share_X2[:, 0].reshape(first_BI.shape), axis=1)
