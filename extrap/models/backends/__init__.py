"""Ways to compute attention: which pairs, in which order, by whose kernel.

`dense` is `Position.attend`, which an encoding may replace; `gathered` is the
same rule on gathered keys. The others are here, one file an idea, and `choose`
says which of them all serves a model on a machine.
"""

from extrap.models.backends.blockwise import PairRule, blockwise
from extrap.models.backends.choice import choose, row_bytes
from extrap.models.backends.kernels import KERNELS, fused, splash
from extrap.models.hardware import Hardware, hardware

__all__ = [
  'KERNELS',
  'Hardware',
  'PairRule',
  'blockwise',
  'choose',
  'fused',
  'hardware',
  'row_bytes',
  'splash',
]
