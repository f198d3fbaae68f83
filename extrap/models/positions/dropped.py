"""An encoding that serves in training and is dropped at its end."""

import dataclasses
import math
from typing import ClassVar

import jax

from extrap.config import option
from extrap.models.positions.absolute import NoPosition
from extrap.models.positions.position import POSITIONS, Param, Position
from extrap.models.positions.wrapped import Wrapped
from extrap.tasks.task import Structure


@POSITIONS.register('drope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class DroPE(Wrapped):
  """The base as long as it is not dropped, then no encoding at all.

  DroPE (Gelberg et al. 2025, arXiv 2512.12167), in three runs of a study:

    --model.position=drope                 most of training: 14 of 16 billion
                                           tokens in the paper
    --model.position=drope --init_from=.. --model.position.dropped
                                           the rest, at the same length; of a
                                           long recalibration the paper says
                                           that it needs --model.qk_norm
    --eval.position.scale=4                a test at four times that length

  Once dropped, logits are multiplied by 1 + `growth` ln `scale`. The paper fits
  that factor at each length: .412 is for its model of 494M parameters, .103 for
  SmolLM. Parameters of the base are dropped with it, so that a base that has
  any cannot be started from.
  """

  dropped: bool = option(False, 'whether the base is dropped')
  scale: float = option(
    1.0, 'tokens in tests over those in training', minimum=1.0
  )
  growth: float = option(
    0.412, 'growth of logits with the logarithm of the scale', minimum=0.0
  )

  paper: ClassVar[str] = '2512.12167'
  cost: ClassVar[str] = 'F'

  @property
  def inside(self) -> Position:
    return NoPosition() if self.dropped else self.base

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    mapped = super().query_map(query_BTHD, ids, param)
    if not self.dropped:
      return mapped
    return mapped * (1 + self.growth * math.log(self.scale))
