"""Multi-head attention that any position encoding can steer.

Shape key: B examples, T tokens, Q queries, K keys, W neighbours, H heads,
D head width, E model width.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from extrap.models.backends import KERNELS, PairRule, blockwise
from extrap.models.config import TransformerConfig
from extrap.models.positions.position import Param, Position
from extrap.models.product import product
from extrap.tasks.task import Structure

Shared = dict[str, jax.Array]


@struct.dataclass
class View:
  """Which tokens attend to which, in one forward pass.

  Attributes:
    ids: structure of all keys, [B, K].
    queries: structure of the tokens that ask, [B, Q].
    neighbours: int32 [B, Q, W], the keys that each query may see (K: none), or
      None where each query looks at all keys.
    backend: how to compute it, one of `extrap.models.backends`.
    in_order: the queries are all tokens, in order.
  """

  ids: Structure
  queries: Structure
  neighbours: jax.Array | None = None
  backend: str = struct.field(pytree_node=False, default='dense')
  in_order: bool = struct.field(pytree_node=False, default=False)

  def at(self, index_BQ: jax.Array) -> 'View':
    """The same view, for the queries at these tokens alone."""
    neighbours = self.neighbours
    if neighbours is not None:
      neighbours = gather(neighbours, index_BQ)
    # The kernels' causal mask is that of all tokens.
    backend = 'blockwise' if self.backend in KERNELS else self.backend
    return View(self.ids, self.ids.take(index_BQ), neighbours, backend)


@struct.dataclass
class Cache:
  """Keys, values and gates of the tokens read so far, [B, K, H, ...]."""

  key: jax.Array
  value: jax.Array
  gate: jax.Array | None

  def write(self, new: 'Cache', index_BQ: jax.Array) -> 'Cache':
    """Stores what the tokens at index_BQ contribute."""
    row_B1 = jnp.arange(index_BQ.shape[0])[:, None]
    return jax.tree.map(
      lambda old, new: old.at[row_B1, index_BQ].set(new, mode='drop'), self, new
    )


def gather(x_BTX: jax.Array, index: jax.Array) -> jax.Array:
  """Rows of x at index, [B, Q] or [B, Q, W], along the token axis."""
  trailing = x_BTX.shape[2:]
  flat = index.reshape(index.shape[0], -1, *[1] * len(trailing))
  picked = jnp.take_along_axis(x_BTX, flat, axis=1, mode='clip')
  return picked.reshape(*index.shape, *trailing)


def declare_pairs(
  position: Position, ids: Structure, param: Param, heads: int
) -> Shared:
  """Declares an encoding's pairwise parameters, on a single pair."""
  declared: Shared = {}

  def declare(
    name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
  ) -> jax.Array:
    declared[name] = param(name, init, shape)
    return declared[name]

  one = ids.take(jnp.zeros((ids.index.shape[0], 1), jnp.int32))
  position.pair_bias(one.expand(1, 3), one.expand(1, 2), declare, heads)
  return declared


class Attention(nn.Module):
  """Attention of a view's queries to its keys."""

  config: TransformerConfig

  @nn.compact
  def __call__(
    self,
    x_BQE: jax.Array,
    source_BKE: jax.Array,
    view: View,
    cache: Cache | None = None,
    shared: Shared | None = None,
  ) -> tuple[jax.Array, Cache | None]:
    """Attends.

    Args:
      x_BQE: normalised states of the queries.
      source_BKE: normalised states of the keys; with a cache, of the queries.
      view: who sees whom.
      cache: what was read before; the queries are added to it.
      shared: pairwise position parameters, where all layers share them.

    Returns:
      What each query read, [B, Q, E], and the cache with the queries in it.
    """
    config, position = self.config, self.config.position
    keys = view.queries if cache is not None else view.ids
    query_BQHD = self._heads('query', x_BQE)
    key_BKHD = self._heads('key', source_BKE)
    if config.qk_norm:
      query_BQHD = nn.RMSNorm(name='query_norm', dtype=x_BQE.dtype)(query_BQHD)
      key_BKHD = nn.RMSNorm(name='key_norm', dtype=x_BQE.dtype)(key_BKHD)
    query_BQHD = position.rotate(query_BQHD, view.queries)
    read = Cache(
      key=position.rotate(key_BKHD, keys),
      value=self._heads('value', source_BKE),
      gate=position.gate(source_BKE, self._param, config.heads),
    )
    if cache is not None:
      read = cache = cache.write(read, view.queries.index)
    out_BQHD = self._read(query_BQHD, read, view, shared)
    out_BQE = self._project_out(out_BQHD)
    return out_BQE, cache

  def _read(
    self,
    query_BQHD: jax.Array,
    read: Cache,
    view: View,
    shared: Shared | None,
  ) -> jax.Array:
    """What the queries read, by the view's backend."""
    if view.backend in ('dense', 'gathered'):
      return self._read_pairs(query_BQHD, read, view, shared)
    scale_BQH1 = self._scale(view.queries.expand(1, 3)).swapaxes(1, 2)
    query_BQHD = (query_BQHD * scale_BQH1).astype(query_BQHD.dtype)
    if view.backend == 'blockwise':
      return self._read_blocks(query_BQHD, read, view, shared)
    return KERNELS[view.backend](query_BQHD, read.key, read.value)

  def _read_blocks(
    self,
    query_BQHD: jax.Array,
    read: Cache,
    view: View,
    shared: Shared | None,
  ) -> jax.Array:
    """Attention a block at a time, of queries that are scaled already."""
    position, heads = self.config.position, self.config.heads
    if shared is None:
      shared = declare_pairs(position, view.ids, self._param, heads)
    bias_BKH = None
    if read.gate is not None:
      bias_BKH = position.key_bias(view.ids, read.gate)
    return blockwise(
      PairRule(position, heads),
      shared,
      query_BQHD,
      read.key,
      read.value,
      bias_BKH,
      view.queries,
      view.ids,
      in_order=view.in_order,
    )

  def _read_pairs(
    self,
    query_BQHD: jax.Array,
    read: Cache,
    view: View,
    shared: Shared | None,
  ) -> jax.Array:
    """Bias, mask and attention, over all keys or over gathered ones."""
    position, index = self.config.position, view.neighbours
    key, value, gate = read.key, read.value, read.gate
    query_ids = view.queries.expand(1, 3)
    if index is None:
      key_ids, present = view.ids.expand(1, 2), True
    else:
      present = (index < key.shape[1])[:, None]
      key, value = gather(key, index), gather(value, index)
      key_ids = view.ids.take(index).expand(1)
    mask = key_ids.index <= query_ids.index
    mask &= position.visible(query_ids, key_ids) & present
    param = self._param
    if shared is not None:
      param = lambda name, init, shape: shared[name]  # noqa: E731
    bias = position.pair_bias(query_ids, key_ids, param, self.config.heads)
    if gate is not None:
      bias_BKH = position.key_bias(view.ids, gate)
      if index is None:
        bias_BHQK = bias_BKH.swapaxes(1, 2)[:, :, None]
      else:
        bias_BHQK = jnp.moveaxis(gather(bias_BKH, index), -1, 1)
      bias = bias_BHQK if bias is None else bias + bias_BHQK
    scale = self._scale(query_ids)
    return position.attend(query_BQHD, key, value, bias, mask, scale)

  def _scale(self, query_ids: Structure) -> jax.Array:
    """Factor of the logits, broadcastable to [B, H, Q, K]."""
    config = self.config
    scale = jnp.full((1, 1, 1, 1), config.head_width**-0.5)
    if config.logit_scale == 'constant':
      return scale * config.logit_gain
    init = nn.initializers.constant(config.logit_gain)
    gain_H = self.param('logit_scale', init, (config.heads,))
    scale = scale * gain_H.reshape(1, -1, 1, 1)
    if config.logit_scale == 'learned':
      return scale
    return scale * jnp.log(query_ids.index + 2.0)

  def _heads(self, name: str, x_BTE: jax.Array) -> jax.Array:
    config = self.config
    init = nn.with_logical_partitioning(
      nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2)),
      ('embed', 'heads', 'head'),
    )
    shape = (x_BTE.shape[-1], config.heads, config.head_width)
    kernel_EHD = self.param(name, init, shape).astype(x_BTE.dtype)
    return product(x_BTE, kernel_EHD)

  def _project_out(self, x_BQHD: jax.Array) -> jax.Array:
    config = self.config
    init = nn.with_logical_partitioning(
      nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2),
      ('heads', 'head', 'embed'),
    )
    shape = (config.heads, config.head_width, config.width)
    kernel_HDE = self.param('out', init, shape).astype(x_BQHD.dtype)
    return product(x_BQHD, kernel_HDE, 2)

  def _param(
    self,
    name: str,
    init: nn.initializers.Initializer,
    shape: tuple[int, ...],
  ) -> jax.Array:
    return self.param(f'position_{name}', init, shape)


def empty_cache(
  config: TransformerConfig, examples: int, keys: int, gated: bool
) -> Cache:
  """A cache for every layer application, leading axes [recurrences, depth]."""
  shape = (config.recurrences, config.depth, examples, keys, config.heads)
  zeros = jnp.zeros((*shape, config.head_width), config.dtype)
  gate = jnp.zeros(shape, config.dtype) if gated else None
  return Cache(zeros, zeros, gate)
