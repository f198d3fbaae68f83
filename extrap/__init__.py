"""extrap: what learned models do outside the region they were trained on.

The names below are imported when they are first used.
"""

from typing import TYPE_CHECKING

from extrap.lazy import getter

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


__getattr__ = getter(__name__, _HOMES)
