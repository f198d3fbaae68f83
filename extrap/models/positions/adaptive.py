"""Logits that a small network adapts to each other, across heads and keys.

Shape key: B examples, Q queries, K keys, H heads, X twice H, F hidden units,
W keys in a window.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.distance import KERPLE
from extrap.models.positions.position import (
  POSITIONS,
  Pairs,
  Param,
  matmul_precision,
)
from extrap.models.positions.relative import pairs_at_once, uniform_within


@POSITIONS.register('dape')
@dataclasses.dataclass(frozen=True, kw_only=True)
class DAPE(KERPLE):
  """Data-adaptive encoding (Zheng et al. 2024, arXiv 2405.14722).

  A + B + f([A; B]) with scaled products A, KERPLE's bias B and f a network over
  the 2H numbers of each pair, a hidden layer of leaky ReLU. All pairs are in
  memory. As in the authors' code, but for the biases of its outputs: what all
  keys have in common changes nothing.
  """

  hidden: int = option(32, 'hidden units of the network', minimum=1)
  leak: float = option(0.01, 'slope of the leaky ReLU below 0', minimum=0.0)

  paper: ClassVar[str] = '2405.14722'
  cost: ClassVar[str] = 'D'

  @property
  def window(self) -> int:
    """Keys that the network reads at a time."""
    return 1

  def scores(self, pairs: Pairs, param: Param) -> jax.Array:
    score_BHQK = super().scores(pairs.replace(bias=None), param)
    bias_BHQK = jnp.broadcast_to(pairs.bias, score_BHQK.shape)
    both_BXQK = jnp.concatenate([score_BHQK, bias_BHQK], axis=1)
    adapted_BHQK = self._network(both_BXQK, pairs.mask, param)
    return score_BHQK + bias_BHQK + adapted_BHQK

  def _network(
    self, both_BXQK: jax.Array, mask: jax.Array, param: Param
  ) -> jax.Array:
    """f([A; B]), [B, H, Q, K]; what a query does not see reads as zero."""
    wide = both_BXQK.shape[1]
    shape = self.window, wide, self.hidden
    within = uniform_within(1 / math.sqrt(self.window * wide))
    in_WXF = param('mix_in', within, shape)
    bias_F = param('mix_bias', within, shape[2:])
    within = uniform_within(1 / math.sqrt(self.window * self.hidden))
    shape = self.window, self.hidden, wide // 2
    out_WFH = param('mix_out', within, shape)

    def adapt(both_BXQK: jax.Array, mask_B1QK: jax.Array) -> jax.Array:
      hidden_BFQK = _across(jnp.where(mask_B1QK, both_BXQK, 0), in_WXF)
      hidden_BFQK += bias_F.reshape(1, -1, 1, 1)
      hidden_BFQK = jax.nn.leaky_relu(hidden_BFQK, self.leak)
      return _across(jnp.where(mask_B1QK, hidden_BFQK, 0), out_WFH)

    mask_B1QK = jnp.broadcast_to(mask, both_BXQK[:, :1].shape)
    most = pairs_at_once(self.hidden)
    return _by_queries(adapt, both_BXQK, mask_B1QK, most)


@POSITIONS.register('dape2')
@dataclasses.dataclass(frozen=True, kw_only=True)
class DAPE2(DAPE):
  """DAPE whose layers are convolutions over keys (arXiv 2410.04798).

  Each reads a key and its neighbours, zero where the query does not see them
  (Zheng et al. 2024). The authors' code clears keys after the query before the
  first layer alone, so that how a query reads its own token depends on whether
  other tokens follow; here they are cleared before both, and it does not.
  """

  kernel: int = option(3, 'keys that a layer reads at a time', minimum=1)

  paper: ClassVar[str] = '2410.04798'

  def __post_init__(self) -> None:
    if self.kernel % 2 == 0:
      raise UsageError(
        f'--model.position.kernel={self.kernel} is not odd: as many keys are '
        'read on either side'
      )

  @property
  def window(self) -> int:
    return self.kernel


def _by_queries(
  rule: Callable[[jax.Array, jax.Array], jax.Array],
  both_BXQK: jax.Array,
  mask_B1QK: jax.Array,
  most: int,
) -> jax.Array:
  """A rule for each query by itself, of at most so many pairs at a time.

  Hidden units of all pairs of a long row would not stay in a CPU's caches.
  """
  rows, _, queries, keys = both_BXQK.shape
  size = max(1, most // (rows * keys))
  if size >= queries:
    return rule(both_BXQK, mask_B1QK)

  def of_query(part: tuple[jax.Array, jax.Array]) -> jax.Array:
    return rule(*(x_BXK[:, :, None] for x_BXK in part))[:, :, 0]

  by_query = [jnp.moveaxis(x, 2, 0) for x in (both_BXQK, mask_B1QK)]
  made_QBHK = jax.lax.map(of_query, tuple(by_query), batch_size=size)
  return jnp.moveaxis(made_QBHK, 0, 2)


def _across(x_BXQK: jax.Array, kernel_WXF: jax.Array) -> jax.Array:
  """A convolution over keys, zero beyond the first and last, [B, F, Q, K]."""
  window, keys = len(kernel_WXF), x_BXQK.shape[-1]
  side = window // 2
  padded = jnp.pad(x_BXQK, [(0, 0), (0, 0), (0, 0), (side, side)])
  return sum(
    jnp.einsum(
      'BXQK,XF->BFQK',
      padded[..., first : first + keys],
      kernel_WXF[first],
      precision=matmul_precision(x_BXQK.dtype),
    )
    for first in range(window)
  )
