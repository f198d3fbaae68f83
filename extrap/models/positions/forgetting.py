"""Forget gates: a decay of attention that depends on content.

Shape key: B examples, T tokens, H heads, E model width.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import (
  POSITIONS,
  Gate,
  Param,
  Position,
)
from extrap.models.positions.projections import linear
from extrap.tasks.task import Structure


def kept_after(gate_BTH: jax.Array) -> jax.Array:
  """Bias of each key: the sum of the log gates of all tokens after it."""
  return jax.lax.cumsum(gate_BTH, axis=1, reverse=True) - gate_BTH


@POSITIONS.register('forgetting')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Forgetting(Position):
  """FoX, the forgetting transformer (Lin et al. 2025, arXiv 2503.02130).

  The logit of query n and key m gains the sum of log f_k over m < k <= n, with
  a gate f_k = sigmoid(w x_k + b) a head and token. As a bias of keys: the sum
  over all k > m, of which what comes after the query is the same for all its
  keys. So counted, the last tokens' biases are small, and exact in float32.

  Gates start at a half, as the authors' do where they depend on content. With
  `shortest` and `longest` b starts where a head forgets all but 1/e in so many
  tokens, in geometric steps (the authors' rule for gates without content).
  """

  shortest: float = option(
    0.0,
    'in how many tokens the first head forgets at the start (0: gates of 1/2)',
    unit='tokens',
    minimum=0.0,
  )
  longest: float = option(
    0.0, 'likewise the last head', unit='tokens', minimum=0.0
  )

  paper: ClassVar[str] = '2503.02130'
  cost: ClassVar[str] = 'B'

  def __post_init__(self) -> None:
    alone = self.longest > 0 and not self.shortest
    if alone or self.shortest > self.longest:
      raise UsageError(
        f'--model.position.shortest={self.shortest:g} with '
        f'--model.position.longest={self.longest:g}: give both, the shortest '
        'no longer than the longest, or neither'
      )

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> jax.Array:
    """Logarithms of the gates, [B, T, H], in float32 at least."""
    init = jax.nn.initializers.normal(0.02)
    logit_BTH = linear(x_BTE, param, 'gate', (heads,), init)
    start_H = self._start(heads)
    bias_H = param('gate_bias', lambda key, shape: start_H, (heads,))
    return jax.nn.log_sigmoid(logit_BTH + bias_H[None, None])

  def _start(self, heads: int) -> jax.Array:
    """Where b starts: sigmoid(b) to the power of the decay time is 1/e."""
    if not self.shortest:
      return jnp.zeros(heads)
    ends = math.log(self.shortest), math.log(self.longest)
    decay_H = np.exp(np.linspace(*ends, heads))
    return jnp.asarray(-np.log(np.expm1(1 / decay_H)), jnp.float32)

  def key_bias(self, ids: Structure, gate: Gate) -> jax.Array:
    del ids
    return kept_after(gate)
