"""Training: one loop for every problem."""

from extrap.training.config import TrainConfig
from extrap.training.loop import Fit, fit
from extrap.training.problem import Context, Problem
from extrap.training.sharding import MeshConfig, ShardingRules, make_mesh

__all__ = [
  'Context',
  'Fit',
  'MeshConfig',
  'Problem',
  'ShardingRules',
  'TrainConfig',
  'fit',
  'make_mesh',
]
