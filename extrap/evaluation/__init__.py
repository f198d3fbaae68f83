"""Evaluation: how far beyond its training region a model still works.

The names below are imported when they are first used: a launcher needs the
statistics, and must not import jax.
"""

import importlib
from typing import TYPE_CHECKING

# At once: later, the module of that name would stand in the function's place.
from extrap.evaluation.exact_match import exact_match

if TYPE_CHECKING:
  from extrap.evaluation.certificate import certify
  from extrap.evaluation.decoding import greedy_decode
  from extrap.evaluation.grid import Suite, evaluate
  from extrap.evaluation.statistics import across_replicas, wilson

_HOMES = {
  'Suite': 'extrap.evaluation.grid',
  'across_replicas': 'extrap.evaluation.statistics',
  'certify': 'extrap.evaluation.certificate',
  'evaluate': 'extrap.evaluation.grid',
  'greedy_decode': 'extrap.evaluation.decoding',
  'wilson': 'extrap.evaluation.statistics',
}

__all__ = [
  'Suite',
  'across_replicas',
  'certify',
  'evaluate',
  'exact_match',
  'greedy_decode',
  'wilson',
]


def __getattr__(name: str) -> object:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_HOMES[name]), name)
