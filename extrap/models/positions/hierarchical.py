"""Positions of two levels: of tokens, and of the functions they are in."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.positions.near_far import NearFar, once
from extrap.models.positions.position import POSITIONS, Param
from extrap.tasks.task import Structure

Map = Callable[[jax.Array, Structure, Param], jax.Array]


@POSITIONS.register('hirope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class HiRoPE(NearFar):
  """Hierarchical rotary encoding (Zhang et al. 2024, arXiv 2403.19115).

  Fast pairs of coordinates turn by the token's position; slow ones, whose
  waves are longer than what was trained on, by its level: which function or
  class it is of, or floor(position / 128) where the task has no such thing.
  Pairs of tokens nearer than the window turn by position alone; beyond it
  window - 1 is added to the distance of levels. Without a window (0) there is
  one kind of scores, and no rule for pairs.
  """

  window: int = option(
    512,
    'distances below this are of positions alone (0: none are)',
    unit='tokens',
    minimum=0,
  )
  split: float = option(
    0.5,
    'share of pairs, the fast ones, that turn by position',
    minimum=0.0,
    maximum=1.0,
  )
  divisor: int = option(
    128, 'tokens of a level in tasks without levels', unit='tokens', minimum=1
  )

  paper: ClassVar[str] = '2403.19115'

  @property
  def reads(self) -> tuple[str, ...]:
    return ('level', *super().reads)

  def acts(self, hook: str) -> bool:
    return super().acts(hook) and (self.window > 0 or hook != 'combine')

  def key_shape(self, head_width: int) -> tuple[int, ...]:
    shape = super().key_shape(head_width)
    return shape if self.window else shape[1:]

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    if not self.window:
      return self.far_query(query_BTHD, ids, param)
    return super().query_map(query_BTHD, ids, param)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    if not self.window:
      return self.far_key(key_BTHD, ids, param)
    return super().key_map(key_BTHD, ids, param)

  def far_query(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    meet = max(self.window - 1, 0)
    return self._by_level(self.base.query_map, query_BTHD, ids, param, meet)

  def far_key(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return self._by_level(self.base.key_map, key_BTHD, ids, param)

  def _by_level(
    self,
    turn: Map,
    x_BTHD: jax.Array,
    ids: Structure,
    param: Param,
    meet: int = 0,
  ) -> jax.Array:
    """Turned pairs (i, i + D/2): the first by position, others by level."""
    level = ids.position // self.divisor if ids.level is None else ids.level
    param = once(param)
    fast_BTHD = turn(x_BTHD, ids, param)
    slow_BTHD = turn(x_BTHD, ids.replace(position=level + meet), param)
    pairs = fast_BTHD.shape[-1] // 2
    is_fast_D = jnp.arange(2 * pairs) % pairs < int(self.split * pairs)
    return jnp.where(is_fast_D[None, None, None], fast_BTHD, slow_BTHD)

  def combine(
    self, score: jax.Array, query: Structure, key: Structure
  ) -> jax.Array:
    return super().combine(score, query, key) if self.window else score
