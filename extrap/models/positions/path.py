"""PaTH: each token reflects the queries that pass it.

Shape key: B examples, T tokens, Q queries, K keys, N chunks, C and S keys of a
chunk, H heads, D head width, E model width, R rank.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.positions.carried import (
  Carried,
  Gates,
  carry_back,
  in_chunks,
)
from extrap.models.positions.position import POSITIONS, Pairs, Param
from extrap.models.positions.projections import (
  affine,
  contract,
  exact,
  linear,
)

# Keys that many queries pass together, about a head's width. One query, as in
# decoding, passes a fourth: what a chunk costs by itself grows with its square.
CHUNK = 64


@POSITIONS.register('path')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PaTH(Carried):
  """Products of Householder-like matrices (Yang et al. 2025, arXiv 2505.16381).

  The logit of query n and key m is k_m . H_m+1 H_m+2 .. H_n q_n / sqrt(D), with
  H_s = I - beta_s w_s w_s^T, beta_s = 2 sigmoid(b . x_s + c) in (0, 2), and w_s
  a projection of x_s of low rank, then a causal convolution of each channel,
  SiLU and division by the norm. `forget` makes it PaTH-FoX.

  All that is as in the authors' fla/layers/path_attn.py, but for how parameters
  are drawn and two things more. There log f of PaTH-FoX is divided by sqrt(D)
  like the products; here it is added whole, as in FoX. And there decoding
  changes the cached keys whenever a token comes; here keys stay, and a query is
  carried back over w (before its convolution) and beta, cached beside them.
  """

  rank: int = option(
    32, 'rank of the projection to w (0: no limit, one matrix)', minimum=0
  )
  conv: int = option(
    3,
    'tokens that the convolution of w sees (0: neither it nor SiLU)',
    unit='tokens',
    minimum=0,
  )

  paper: ClassVar[str] = '2505.16381'

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> Gates:
    shape = (heads, x_BTE.shape[-1] // heads)
    if self.rank:
      low_BTR = linear(x_BTE, param, 'w_down', (self.rank,))
      w_BTHD = linear(low_BTR, param, 'w_up', shape)
    else:
      w_BTHD = linear(x_BTE, param, 'w', shape)
    beta_BTH = 2 * jax.nn.sigmoid(affine(x_BTE, param, 'beta', (heads,), 0.0))
    return super().gate(x_BTE, param, heads) | {'w': w_BTHD, 'beta': beta_BTH}

  def carried(self, pairs: Pairs, param: Param) -> jax.Array:
    query_BHQD = exact(pairs.query).swapaxes(1, 2)
    keys = {
      'key': exact(pairs.key),
      'w': self.directions(pairs.gate['w'], param),
      'beta': pairs.gate['beta'],
    }
    most = CHUNK if query_BHQD.shape[2] > 1 else math.ceil(CHUNK / 4)
    chunks = {name: in_chunks(x, most) for name, x in keys.items()}
    index_B1Q1 = pairs.query_ids.index

    def meet(
      query_BHQD: jax.Array, slot_C: jax.Array, chunk: Gates
    ) -> tuple[jax.Array, jax.Array]:
      return _meet(query_BHQD, slot_C[None, None, None] <= index_B1Q1, chunk)

    return carry_back(meet, query_BHQD, chunks, pairs.key.shape[1])

  def directions(self, w_BKHD: jax.Array, param: Param) -> jax.Array:
    """w of each token, of norm 1, from the projections of all."""
    if self.conv:
      init = jax.nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
      kernel_CHD = param('conv', init, (self.conv, *w_BKHD.shape[2:]))
      w_BKHD = jax.nn.silu(_convolved(w_BKHD, kernel_CHD))
    square_BKH1 = jnp.sum(w_BKHD**2, axis=-1, keepdims=True)
    return w_BKHD * jax.lax.rsqrt(square_BKH1 + 1e-6)


def _convolved(x_BKHD: jax.Array, kernel_CHD: jax.Array) -> jax.Array:
  """Each channel's sum over the last tokens; row 0 is for the token itself."""
  tokens, before = x_BKHD.shape[1], len(kernel_CHD) - 1
  padded_BKHD = jnp.pad(x_BKHD, [(0, 0), (before, 0), (0, 0), (0, 0)])
  return sum(
    row_HD[None, None] * padded_BKHD[:, before - ago : before - ago + tokens]
    for ago, row_HD in enumerate(kernel_CHD)
  )


def _meet(
  query_BHQD: jax.Array, passed_B1QC: jax.Array, chunk: Gates
) -> tuple[jax.Array, jax.Array]:
  """Carries queries over the tokens that they pass in a chunk.

  Over the tokens s from its own down a query loses c_s w_s in turn, with
  c_s = beta_s w_s . (q - sum over r > s of c_r w_r): a triangular system, the
  same for all queries but for where they begin (the UT transform).
  """
  w_BHCD, beta_BHC1 = chunk['w'], chunk['beta'][..., None]
  overlap_BHCS = contract('BHCD,BHSD->BHCS', w_BHCD, w_BHCD)
  solution_BHCS = unit_inverse(beta_BHC1 * overlap_BHCS)
  solution_BHCS *= beta_BHC1.swapaxes(2, 3)
  along_BHQC = contract('BHQD,BHCD->BHQC', query_BHQD, w_BHCD)
  along_BHQC = jnp.where(passed_B1QC, along_BHQC, 0)
  lost_BHQC = contract('BHQS,BHCS->BHQC', along_BHQC, solution_BHCS)
  logits_BHQC = contract('BHQD,BHCD->BHQC', query_BHQD, chunk['key'])
  seen_BHCS = contract('BHCD,BHSD->BHCS', w_BHCD, chunk['key'])
  # Key s sees what the query lost to the tokens after it alone.
  logits_BHQC -= contract('BHQC,BHCS->BHQS', lost_BHQC, jnp.tril(seen_BHCS, -1))
  query_BHQD -= contract('BHQC,BHCD->BHQD', lost_BHQC, w_BHCD)
  return query_BHQD, logits_BHQC


def unit_inverse(x_BHCS: jax.Array) -> jax.Array:
  """The inverse of I + what lies above the diagonal, by products alone.

  Of two neighbouring blocks with inverses A and D, and with B between them, the
  inverse has -A B D there; blocks grow from 1 by doubling. Nothing exceeds the
  inverse itself, as powers of x would.
  """
  block_C = jnp.arange(x_BHCS.shape[-1])
  eye_CS = jnp.eye(len(block_C), dtype=x_BHCS.dtype)
  inverse_BHCS = jnp.broadcast_to(eye_CS, x_BHCS.shape)
  for _ in range((len(block_C) - 1).bit_length()):
    even_C1 = (block_C % 2 == 0)[:, None]
    between_CS = even_C1 & (block_C[None] == block_C[:, None] + 1)
    between_BHCS = jnp.where(between_CS[None, None], x_BHCS, 0)
    inverse_BHCS -= contract(
      'BHCX,BHXY,BHYS->BHCS', inverse_BHCS, between_BHCS, inverse_BHCS
    )
    block_C //= 2
  return inverse_BHCS
