"""Wall attention: each token fades the channels of queries that pass it.

Shape key: B examples, T tokens, Q queries, K keys, N chunks, C keys of a chunk,
H heads, D head width, E model width.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from extrap.config import option
from extrap.models.positions.carried import (
  Carried,
  Gates,
  Meet,
  carry_back,
  chunk_size,
  in_chunks,
)
from extrap.models.positions.position import POSITIONS, Pairs, Param
from extrap.models.positions.projections import (
  affine,
  contract,
  exact,
)

# Keys of a chunk. A query's own chunk is computed a channel at a time, so that
# large ones are slow; small ones are many.
CHUNK = 32


@POSITIONS.register('wall')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Wall(Carried):
  """A forget gate for every channel (Tilde Research 2026, 'Wall Attention').

  The logit of query n and key m is sum over channels c of q_n,c k_m,c
  exp(P_n,c - P_m,c) / sqrt(D), with P the cumulative sum of log decays
  g = log sigmoid(W x + b). `forget` adds a gate for the whole head (the
  original's scalar gate), which starts at the same bias.

  As in the original, fla/layers/wall_attn.py, without its output gate, windows
  and sinks. Its kernels cut exponents off between keys of a block, where they
  would overflow: what follows a strong decay in the same block is misread. Here
  no exponent is positive, and no sum of decays reaches beyond a chunk.
  """

  bias: float = option(8.0, 'bias at which the gates start, before sigmoid')

  paper: ClassVar[str] = 'Tilde Research 2026'

  @property
  def forget_bias(self) -> float:
    return self.bias

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> Gates:
    shape = (heads, x_BTE.shape[-1] // heads)
    gate_BTHD = affine(x_BTE, param, 'decay', shape, self.bias)
    decay_BTHD = jax.nn.log_sigmoid(gate_BTHD)
    return super().gate(x_BTE, param, heads) | {'decay': decay_BTHD}

  def carried(self, pairs: Pairs, param: Param) -> jax.Array:
    del param
    query_BQHD, key_BKHD = exact(pairs.query), exact(pairs.key)
    tokens = key_BKHD.shape[1]
    index_BQ = pairs.query_ids.index[:, 0, :, 0]
    start_BQ = index_BQ - index_BQ % chunk_size(tokens, CHUNK)
    # Log decays from the beginning of a chunk to each of its keys.
    decay_NBHCD = jnp.cumsum(in_chunks(pairs.gate['decay'], CHUNK), axis=3)
    decay_BKHD = _in_a_row(decay_NBHCD)
    own_BQHD = _rows(decay_BKHD, index_BQ)

    def near(slot: jax.Array) -> jax.Array:
      """Products with one of the keys of each query's own chunk, [B, Q, H]."""
      at_BQ = start_BQ + slot
      # Above 0 are keys that come after the query, which nobody sees.
      fade_BQHD = jnp.minimum(own_BQHD - _rows(decay_BKHD, at_BQ), 0)
      key_BQHD = _rows(key_BKHD, at_BQ)
      return jnp.sum(query_BQHD * jnp.exp(fade_BQHD) * key_BQHD, axis=-1)

    near_CBQH = lax.map(
      jax.checkpoint(near, prevent_cse=False), jnp.arange(decay_NBHCD.shape[3])
    )
    return carry_back(
      _meet(start_BQ, near_CBQH),
      (query_BQHD * jnp.exp(own_BQHD)).swapaxes(1, 2),
      {'key': in_chunks(key_BKHD, CHUNK), 'decay': decay_NBHCD},
      tokens,
    )


def _meet(start_BQ: jax.Array, near_CBQH: jax.Array) -> Meet:
  """Carries queries of later chunks over a whole one.

  Args:
    start_BQ: where each query's own chunk begins; it sets out from there.
    near_CBQH: products with the keys of that chunk.
  """
  start_B1Q1 = start_BQ[:, None, :, None]
  near_BHQC = near_CBQH.transpose(1, 3, 2, 0)

  def meet(
    query_BHQD: jax.Array, slot_C: jax.Array, chunk: Gates
  ) -> tuple[jax.Array, jax.Array]:
    whole_BH1D = chunk['decay'][..., -1:, :]
    key_BHCD = chunk['key'] * jnp.exp(whole_BH1D - chunk['decay'])
    far_BHQC = contract('BHQD,BHCD->BHQC', query_BHQD, key_BHCD)
    before_BHQD = query_BHQD * jnp.exp(whole_BH1D)
    return (
      jnp.where(start_B1Q1 > slot_C[0], before_BHQD, query_BHQD),
      jnp.where(start_B1Q1 == slot_C[0], near_BHQC, far_BHQC),
    )

  return meet


def _in_a_row(x_NBHCD: jax.Array) -> jax.Array:
  """[B, N C, H, D], the inverse of `in_chunks` but for what fills up."""
  x_BNCHD = x_NBHCD.transpose(1, 0, 3, 2, 4)
  return x_BNCHD.reshape(x_BNCHD.shape[0], -1, *x_BNCHD.shape[3:])


def _rows(x_BKHD: jax.Array, index_BQ: jax.Array) -> jax.Array:
  """[B, Q, H, D]; the last row where the index lies beyond."""
  index_BQ11 = index_BQ[..., None, None]
  return jnp.take_along_axis(x_BKHD, index_BQ11, axis=1, mode='clip')
