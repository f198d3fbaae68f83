"""How programs are compiled and dispatched that are no training steps."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

PyTree = TypeVar('PyTree')


def jit_once(function: Callable, **options: object) -> Callable:
  """`jax.jit` for initialisation and sampling of test sets.

  On a CPU the compiler takes seconds to make such a program some milliseconds
  faster; it is told not to.
  """
  if jax.default_backend() == 'cpu':
    options['compiler_options'] = {'xla_backend_optimization_level': 0}
  return jax.jit(function, **options)


@jax.jit
def copied(tree: PyTree) -> PyTree:
  """A copy of every array, made by one program instead of one an array."""
  return jax.tree.map(jnp.copy, tree)
