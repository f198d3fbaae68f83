"""Abacus embeddings beside an encoding of token positions (arXiv 2405.17399).

Each hook comes from the one parent that writes it.
"""

import dataclasses
from typing import ClassVar

from extrap.models.positions.bias import FIRE
from extrap.models.positions.digits import Abacus
from extrap.models.positions.position import POSITIONS
from extrap.models.positions.rotary import Rotary


@POSITIONS.register('abacus_fire')
@dataclasses.dataclass(frozen=True, kw_only=True)
class AbacusFIRE(Abacus, FIRE):
  """Abacus embeddings and FIRE's bias."""

  reads: ClassVar[tuple[str, ...]] = ('place', 'position')
  cost: ClassVar[str] = 'C'


@POSITIONS.register('abacus_rotary')
@dataclasses.dataclass(frozen=True, kw_only=True)
class AbacusRotary(Abacus, Rotary):
  """Abacus embeddings and rotary queries and keys."""

  reads: ClassVar[tuple[str, ...]] = ('place', 'position')
  cost: ClassVar[str] = 'A'
