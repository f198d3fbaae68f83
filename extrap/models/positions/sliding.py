"""A window that slides along with the query, and hides what lies before it."""

import dataclasses

import jax

from extrap.config import option
from extrap.models.positions.position import POSITIONS
from extrap.models.positions.rotary import Rotary
from extrap.tasks.task import Structure


@POSITIONS.register('sliding_rotary')
@dataclasses.dataclass(frozen=True, kw_only=True)
class SlidingRotary(Rotary):
  """Rotary attention to the last tokens alone (Beltagy 2020, arXiv 2004.05150).

  A model of several layers still hears of earlier ones, a window a layer. The
  parameters are those of rotary: at a window of the training length it is what
  its nets were trained as.
  """

  window: int = option(
    64, 'tokens that a query sees, itself the last', unit='tokens', minimum=1
  )

  def visible(self, query: Structure, key: Structure) -> jax.Array:
    return query.index - key.index < self.window
