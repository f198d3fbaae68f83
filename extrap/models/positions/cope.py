"""CoPE: positions that count the tokens which a query lets count.

Shape key: B examples, T tokens, Q queries, K keys, H heads, D head width,
E model width, N positions.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from extrap.config import option
from extrap.models.positions.position import (
  POSITIONS,
  Gate,
  Pairs,
  Param,
  Position,
  products,
)
from extrap.models.positions.projections import contract, exact, linear


@POSITIONS.register('cope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class CoPE(Position):
  """Contextual positions (Golovneva et al. 2024, arXiv 2405.18719).

  p_nm = sum over j = m .. n of sigmoid(q_n . k_j / sqrt(D)), cut off at
  `npos` - 1; the logit of query n and key m is q_n . (k_m + e[p_nm]) / sqrt(D).
  e is a table that heads share, linear between its rows; it starts at zero.

  As in the authors' code (facebookresearch/RAM, projects/cope), with its two
  variants of gates. The paper's listing does not divide q_n . e by sqrt(D):
  that is `divided` = False.
  """

  npos: int = option(
    64, 'rows of the table; positions end at one less', minimum=1
  )
  gates: Literal['keys', 'values', 'own'] = option(
    'keys',
    'what a query meets to let a token count: its key, its value, or a '
    'projection for that purpose alone',
  )
  divided: bool = option(
    True, 'logits of positions are scaled as those of contents are'
  )

  paper: ClassVar[str] = '2405.18719'
  cost: ClassVar[str] = 'D'

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> Gate:
    if self.gates != 'own':
      return None
    shape = (heads, x_BTE.shape[-1] // heads)
    return {'counted': linear(x_BTE, param, 'counted', shape)}

  def scores(self, pairs: Pairs, param: Param) -> jax.Array:
    query_BQHD = exact(pairs.query)
    table_ND = param(
      'table', jax.nn.initializers.zeros, (self.npos, query_BQHD.shape[-1])
    )
    each_BHQN = contract('BQHD,ND->BHQN', query_BQHD, table_ND)
    if self.divided:
      each_BHQN *= pairs.scale
    score_BHQK = products(query_BQHD, self._counted(pairs)) * pairs.scale
    # Computed anew in the backward pass: of all pairs the scores are kept.
    at_positions = jax.checkpoint(_at_positions)
    placed_BHQK = at_positions(score_BHQK, each_BHQN, pairs.mask)
    return super().scores(pairs, param) + placed_BHQK

  def _counted(self, pairs: Pairs) -> jax.Array:
    """What decides whether a token counts, [B, K, H, D]."""
    if self.gates == 'own':
      return pairs.gate['counted']
    return exact(pairs.key if self.gates == 'keys' else pairs.value)


def _at_positions(
  score_BHQK: jax.Array, each_BHQN: jax.Array, mask: jax.Array
) -> jax.Array:
  """Logits of positions, [B, H, Q, K], from those of each whole position."""
  counts_BHQK = jnp.where(mask, jax.nn.sigmoid(score_BHQK), 0)
  position_BHQK = lax.cumsum(counts_BHQK, axis=3, reverse=True)
  position_BHQK = jnp.minimum(position_BHQK, each_BHQN.shape[-1] - 1)
  below_BHQK = jnp.floor(position_BHQK)
  rise_BHQN = jnp.diff(each_BHQN, axis=-1, append=each_BHQN[..., -1:])
  # Looked up together: it is the gradient that takes long, and so does so once.
  at_BHQK2 = jnp.take_along_axis(
    jnp.stack([each_BHQN, rise_BHQN], axis=-1),
    below_BHQK.astype(jnp.int32)[..., None],
    axis=3,
  )
  return at_BHQK2[..., 0] + (position_BHQK - below_BHQK) * at_BHQK2[..., 1]
