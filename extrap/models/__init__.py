"""Models: linen modules over pure functions."""

from extrap.models.config import TWO_NETWORKS, EvaluatedModel, TransformerConfig
from extrap.models.shift_average import ShiftAverage
from extrap.models.transformer import Transformer

__all__ = [
  'TWO_NETWORKS',
  'EvaluatedModel',
  'ShiftAverage',
  'Transformer',
  'TransformerConfig',
]
