"""extrap: what learned models do outside the region they were trained on.

The names below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from extrap.evaluation.grid import Suite, evaluate
  from extrap.sequence import SequenceProblem
  from extrap.training import TrainConfig, fit

_HOMES = {
  'SequenceProblem': 'extrap.sequence',
  'Suite': 'extrap.evaluation.grid',
  'TrainConfig': 'extrap.training',
  'evaluate': 'extrap.evaluation.grid',
  'fit': 'extrap.training',
}

__all__ = ['SequenceProblem', 'Suite', 'TrainConfig', 'evaluate', 'fit']


def __getattr__(name: str) -> object:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_HOMES[name]), name)
