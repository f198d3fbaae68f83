"""Stick-breaking: near tokens take their share of attention first.

Shape key: B examples, Q queries, K keys, H heads.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from extrap.config import option
from extrap.models.positions.position import (
  POSITIONS,
  Pairs,
  Param,
  Position,
)


@POSITIONS.register('stick_breaking')
@dataclasses.dataclass(frozen=True, kw_only=True)
class StickBreaking(Position):
  """Attention without softmax (Tan et al. 2024, arXiv 2410.17980).

  With logits l, the token m before query n gets the share
  sigmoid(l_m) prod over m < k < n of (1 - sigmoid(l_k)) of attention, and what
  is left in the end goes to the query's own value.

  The query's own key takes no part, as is the default of the authors' code
  (shawntan/stickbreaking-attention). In its models the same rest is given to
  the query's value; their normalisation of heads is left out.
  """

  current: bool = option(
    False, "the query's own key takes part, and takes its share first"
  )
  remainder: bool = option(
    True, "what is left goes to the query's own value (else it is lost)"
  )

  paper: ClassVar[str] = '2410.17980'
  cost: ClassVar[str] = 'D'

  def weights(self, pairs: Pairs, param: Param) -> jax.Array:
    logits_BHQK = self.scores(pairs, param)
    own = pairs.key_ids.index == pairs.query_ids.index
    seen = pairs.mask if self.current else pairs.mask & ~own
    passed_BHQK = jnp.where(seen, jax.nn.log_sigmoid(-logits_BHQK), 0)
    # Logarithms of the stick as each token leaves it, and as it finds it.
    leaves_BHQK = lax.cumsum(passed_BHQK, axis=3, reverse=True)
    finds_BHQK = jnp.pad(leaves_BHQK[..., 1:], [(0, 0)] * 3 + [(0, 1)])
    takes_BHQK = jnp.exp(jax.nn.log_sigmoid(logits_BHQK) + finds_BHQK)
    weights_BHQK = jnp.where(seen, takes_BHQK, 0)
    if not self.remainder:
      return weights_BHQK
    return weights_BHQK + jnp.where(own, jnp.exp(leaves_BHQK[..., :1]), 0)
