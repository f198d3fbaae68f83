"""How programs are compiled and dispatched that are no training steps."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.reporting.environment import cores

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


def default_workers() -> int:
  """Calls at a time: one a core, as far as that was seen to help, or two."""
  return min(cores(), 4) if jax.default_backend() == 'cpu' else 2


def in_order(
  call: Callable[[int], jax.Array], given: Iterable[int], workers: int
) -> Iterator[np.ndarray]:
  """What a function gives for each of some numbers, in their order.

  Args:
    call: a compiled program; the context managers of jax's settings that its
      caller is in do not reach it in another thread.
    given: the numbers.
    workers: threads that call and wait; 0: this thread calls, and no other.
  """
  pending: collections.deque[Callable[[], np.ndarray]] = collections.deque()
  with futures.ThreadPoolExecutor(max(workers, 1)) as pool:
    for number in given:
      if workers:
        waits = pool.submit(lambda number=number: np.asarray(call(number)))
        pending.append(waits.result)
      else:
        pending.append(functools.partial(np.asarray, call(number)))
      if len(pending) > workers + 2:  # Bounds what is in flight.
        yield pending.popleft()()
    while pending:
      yield pending.popleft()()
