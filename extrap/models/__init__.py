"""Models: linen modules over pure functions."""

from extrap.models.config import TWO_NETWORKS, TransformerConfig
from extrap.models.shift_average import ShiftAverage
from extrap.models.transformer import Transformer

__all__ = ['TWO_NETWORKS', 'ShiftAverage', 'Transformer', 'TransformerConfig']
