"""Logits of queries that are carried back over the tokens before them.

The logit of query n and key m is k_m . A_m+1 A_m+2 .. A_n q_n: each token from
the query back to the key, the key's own left out, changes the query by a matrix
that it brings along. The keys are gone through in chunks, the last chunk first,
by all queries at once; what a query is by then is all that is kept of the way.
A chunk is computed anew in the backward pass.

Shape key: B examples, T tokens, Q queries, K keys, N chunks, C keys of a chunk,
H heads, D head width, E model width, X whatever else, or nothing.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from extrap.config import option
from extrap.models.positions.forgetting import kept_after
from extrap.models.positions.position import Pairs, Param, Position
from extrap.models.positions.projections import affine
from extrap.tasks.task import Structure

Gates = dict[str, jax.Array]
# Carries queries [B, H, Q, D] back over a chunk: (queries after the chunk,
# its slots [C], its keys) -> (queries before it, logits [B, H, Q, C]).
Meet = Callable[[jax.Array, jax.Array, Gates], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Carried(Position):
  """Base of encodings whose tokens change a query on its way back.

  Subclasses write `carried`, and `gate` with what it needs of the tokens.
  """

  forget: bool = option(
    False,
    'also a forget gate a head (arXiv 2503.02130): log f of each token passed '
    'is added to the logit',
  )

  forget_bias: ClassVar[float] = 0.0
  cost: ClassVar[str] = 'D'

  def carried(self, pairs: Pairs, param: Param) -> jax.Array:
    """Products of carried queries and keys, [B, H, Q, K]."""
    raise NotImplementedError

  def gate(self, x_BTE: jax.Array, param: Param, heads: int) -> Gates:
    if not self.forget:
      return {}
    gate_BTH = affine(x_BTE, param, 'forget', (heads,), self.forget_bias)
    return {'forget': jax.nn.log_sigmoid(gate_BTH)}

  def key_bias(self, ids: Structure, gate: Gates) -> jax.Array | None:
    del ids
    return kept_after(gate['forget']) if self.forget else None

  def scores(self, pairs: Pairs, param: Param) -> jax.Array:
    logits_BHQK = self.carried(pairs, param) * pairs.scale
    return logits_BHQK if pairs.bias is None else logits_BHQK + pairs.bias


def carry_back(
  meet: Meet, query_BHQD: jax.Array, chunks: Gates, tokens: int
) -> jax.Array:
  """Goes through chunks of keys from last to first.

  Args:
    meet: what happens in a chunk.
    query_BHQD: queries as they set out.
    chunks: [N, B, H, C, ..] each, as `in_chunks` gives them.
    tokens: number of keys.

  Returns:
    Logits [B, H, Q, K], without scale, in the queries' type.
  """
  count, _, _, size = next(iter(chunks.values())).shape[:4]
  slot_NC = jnp.arange(count * size).reshape(count, size)
  step = jax.checkpoint(
    lambda query, chunk: meet(query, *chunk), prevent_cse=False
  )
  _, logits_NBHQC = lax.scan(step, query_BHQD, (slot_NC, chunks), reverse=True)
  logits_BHQNC = jnp.moveaxis(logits_NBHQC, 0, 3)
  logits_BHQK = logits_BHQNC.reshape(*logits_BHQNC.shape[:3], -1)
  return logits_BHQK[..., :tokens]


def in_chunks(x_BKHX: jax.Array, most: int) -> jax.Array:
  """[N, B, H, C, X], C at most `most`; zeros fill the last chunk."""
  examples, tokens, *trailing = x_BKHX.shape
  size = chunk_size(tokens, most)
  pad = [(0, 0)] * x_BKHX.ndim
  pad[1] = (0, -tokens % size)
  x_BNCHX = jnp.pad(x_BKHX, pad).reshape(examples, -1, size, *trailing)
  return x_BNCHX.transpose(1, 0, 3, 2, *range(4, x_BNCHX.ndim))


def chunk_size(tokens: int, most: int) -> int:
  """Keys of a chunk: as many in each, as far as that goes."""
  return math.ceil(tokens / math.ceil(tokens / most))
