"""Attention that is alike at all scales of distance."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import choice, option
from extrap.models.positions.position import POSITIONS, Position
from extrap.models.positions.wrapped import Wrapped
from extrap.tasks.task import Structure


@POSITIONS.register('scale_invariant')
@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleInvariant(Wrapped):
  """Scale-invariant attention (Anson et al. 2025, arXiv 2505.17083).

  The logit of a pair at distance t with score S is a_t S + m_t, where

    a_t^2 = 2 log(1 + t / tau) + 1,  m_t = -2 log(1 + t / tau).

  If scores are normal with unit variance, tokens t to 10 t away hold about the
  same attention for every t, and ever fewer of them hold it. So queries and
  keys are to be normalised (--model.qk_norm), which is not checked here. A
  base's own biases are added as they are.
  """

  base: Position = choice(POSITIONS, 'p_rotary', 'the encoding that it changes')
  tau: float = option(
    10.0,
    'distance up to which attention is ordinary',
    unit='tokens',
    minimum=1e-3,
  )

  paper: ClassVar[str] = '2505.17083'
  cost: ClassVar[str] = 'C'

  @property
  def reads(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(('position', *super().reads)))

  @property
  def rung(self) -> str:
    rung = super().rung
    return 'L2 smooth relative' if rung == Position.rung else rung

  def combine(
    self, score: jax.Array, query: Structure, key: Structure
  ) -> jax.Array:
    # Keys after the query are masked later; keep their logarithm finite.
    distance = jnp.maximum(query.position - key.position, 0)
    spread = 2 * jnp.log1p(distance / self.tau)
    return jnp.sqrt(spread + 1) * super().combine(score, query, key) - spread
