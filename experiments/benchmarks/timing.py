"""CPU time of calls on one core."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import numpy as np


@contextlib.contextmanager
def one_core() -> Iterator[None]:
  """Threads that start in here stay on one core, where the system lets them."""
  if not hasattr(os, 'sched_setaffinity'):
    yield
    return
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {max(before)})
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)


def seconds(call: Callable[[], object]) -> float:
  """CPU time of a call."""
  began = time.process_time()
  call()
  return time.process_time() - began


def median_seconds(call: Callable[[], object], repeats: int) -> float:
  """Median CPU time of a call."""
  return float(np.median([seconds(call) for _ in range(repeats)]))
