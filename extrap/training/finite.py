"""Whether what was computed is finite."""

import jax
import jax.numpy as jnp


def all_finite(tree: object) -> jax.Array:
  """Whether every number of every array is finite, a scalar.

  Zero times a number is nan unless it is finite. A sum of these is a fast
  reduction; to ask each number takes a CPU as long as a step of a tiny model.

  It needs IEEE arithmetic: not with XLA's fast math.

  Args:
    tree: of arrays.
  """
  sums = (jnp.sum(0.0 * leaf) for leaf in jax.tree.leaves(tree))
  return sum(sums, start=jnp.zeros(())) == 0
