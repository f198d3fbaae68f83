"""Models: linen modules over pure functions."""

from extrap.models.config import TransformerConfig
from extrap.models.transformer import Transformer

__all__ = ['Transformer', 'TransformerConfig']
