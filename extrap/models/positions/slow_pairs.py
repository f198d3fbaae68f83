"""Rotary encodings whose slow pairs are slower still, or do not turn at all.

A pair whose wavelength is beyond the trained length has not been seen at the
angles that longer sequences turn it by; a pair that stands still is compared
by its content alone.

Shape key: D head width, F = D / 2 pairs, fastest first.
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from extrap.config import option
from extrap.models.positions.position import POSITIONS
from extrap.models.positions.rotary import Rotary


@POSITIONS.register('power')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerBasis(Rotary):
  """Giraffe's power basis (Pal et al. 2023, arXiv 2308.10882).

  The rate of pair j of F is multiplied by (1 - j / F)^k, so that the slowest
  shrink most.
  """

  power: float = option(0.5, 'exponent k', minimum=0.0)

  paper: ClassVar[str] = '2308.10882'

  def rates(self, width: int) -> np.ndarray:
    pairs = width // 2
    return super().rates(width) * (1 - np.arange(pairs) / pairs) ** self.power


@POSITIONS.register('truncated')
@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncatedBasis(Rotary):
  """Giraffe's truncated basis (Pal et al. 2023, arXiv 2308.10882).

  Pairs that turn at least once in the trained length L keep their rate; those
  that take more than `still` times L for a turn stand still; those between
  turn once in `slow` times L. The paper leaves all limits free; in its code
  (abacusai/Long-Context, interpolate.py) `still` and `slow` are fixed.
  """

  trained: int = option(
    2048, 'length L of the training sequences', unit='tokens', minimum=1
  )
  still: float = option(
    8.0,
    'pairs that need more than this for a turn stand still',
    unit='trained lengths',
    minimum=1.0,
  )
  slow: float = option(
    16.0,
    'what a turn takes the pairs between those and the fast ones',
    unit='trained lengths',
    minimum=1.0,
  )

  paper: ClassVar[str] = '2308.10882'

  def rates(self, width: int) -> np.ndarray:
    rate_F = super().rates(width)
    once = 2 * math.pi / self.trained
    slow_F = np.where(rate_F < once / self.still, 0.0, once / self.slow)
    return np.where(rate_F < once, slow_F, rate_F)


@POSITIONS.register('hope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class HoPE(Rotary):
  """High-frequency rotary positions (Chen et al. 2024, arXiv 2410.21216).

  Pairs that do not complete a turn in the trained length stand still. The
  limit is as DaRoPE restates it (Levy et al. 2026, equation 2).
  """

  trained: int = option(
    2048, 'length of the training sequences', unit='tokens', minimum=1
  )

  paper: ClassVar[str] = '2410.21216'

  def rates(self, width: int) -> np.ndarray:
    rate_F = super().rates(width)
    return np.where(rate_F < 2 * math.pi / self.trained, 0.0, rate_F)


@POSITIONS.register('p_rotary')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PRotary(Rotary):
  """p-RoPE (Barbero et al. 2024, arXiv 2410.06205).

  The fastest pairs, a fraction p of all and rounded down, keep their rates;
  the others stand still.
  """

  fraction: float = option(
    0.75, 'fraction p of the pairs that turn', minimum=0.0, maximum=1.0
  )

  paper: ClassVar[str] = '2410.06205'

  def rates(self, width: int) -> np.ndarray:
    kept = int(self.fraction * (width // 2))
    return np.where(np.arange(width // 2) < kept, super().rates(width), 0.0)


def turning_share(trained: int, head_width: int) -> float:
  """Share of the pairs of `Rotary` that turn at least once in a length.

  Args:
    trained: the length, in tokens.
    head_width: D.

  Returns:
    A `fraction` for `PRotary`, with which exactly these pairs turn.
  """
  rate_F = Rotary().rates(head_width)
  turning = np.count_nonzero(rate_F >= 2 * math.pi / trained)
  # Up to the next that is exact in binary, so that rounding down the number of
  # pairs loses none: 15 / 22 * 22 is less than 15.
  return math.ceil(4096 * turning / len(rate_F)) / 4096


@POSITIONS.register('partial_rotary')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PartialRotary(Rotary):
  """Rotary positions in a part of each head (GPT-NeoX, arXiv 2204.06745).

  Of F pairs, K turn, at rates base^(-j/K) from the fastest to the slowest;
  p-RoPE leaves out the slowest instead.
  """

  fraction: float = option(
    0.25,
    'fraction of the pairs that turn; rounded down',
    minimum=0.0,
    maximum=1.0,
  )

  paper: ClassVar[str] = '2204.06745'

  def rates(self, width: int) -> np.ndarray:
    kept = int(self.fraction * (width // 2))
    return np.pad(super().rates(2 * kept), (0, width // 2 - kept))
