"""Compiling programs that run once, for the time that compiling takes."""

from collections.abc import Callable

import jax


def jit_once(function: Callable, **options: object) -> Callable:
  """`jax.jit` for initialisation and sampling of test sets.

  On a CPU the compiler takes seconds to make such a program some milliseconds
  faster; it is told not to.
  """
  if jax.default_backend() == 'cpu':
    options['compiler_options'] = {'xla_backend_optimization_level': 0}
  return jax.jit(function, **options)
