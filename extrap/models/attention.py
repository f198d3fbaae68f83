"""Multi-head attention that any position encoding can steer.

Shape key: B examples, T tokens, Q queries, K keys, W neighbours, H heads,
D head width, E model width.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from extrap.models.backends import KERNELS, PairRule, blockwise
from extrap.models.config import TransformerConfig
from extrap.models.positions.position import Gate, Pairs, Param, Position
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
  """Keys, values [B, K, H, ...] and gates [B, K, ...] of the tokens so far."""

  key: jax.Array
  value: jax.Array
  gate: Gate

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
    position.check(config.heads, config.head_width)
    param = self._param(shared or {})
    keys = view.queries if cache is not None else view.ids
    query = self._heads('query', x_BQE)
    key = self._heads('key', source_BKE)
    if config.qk_norm:
      query = nn.RMSNorm(name='query_norm', dtype=x_BQE.dtype)(query)
      key = nn.RMSNorm(name='key_norm', dtype=x_BQE.dtype)(key)
    query = position.query_map(query, view.queries, param)
    if not position.late:
      key = position.key_map(key, keys, param)
    read = Cache(
      key=key,
      value=self._heads('value', source_BKE),
      gate=position.gate(source_BKE, param, config.heads),
    )
    if cache is not None:
      read = cache = cache.write(read, view.queries.index)
    if position.late:
      read = read.replace(key=position.key_map(read.key, view.ids, param))
    out_BQHD = self._read(query, read, view, param)
    out_BQE = self._project_out(out_BQHD)
    return out_BQE, cache

  def _read(
    self, query: jax.Array, read: Cache, view: View, param: Param
  ) -> jax.Array:
    """What the queries read, by the view's backend."""
    if view.backend in ('dense', 'gathered'):
      return self._read_pairs(query, read, view, param)
    scale = self._scale(view.queries.expand(1, 3)).swapaxes(1, 2)
    scale = jnp.expand_dims(scale, tuple(range(4, query.ndim)))
    query = (query * scale).astype(query.dtype)
    if view.backend == 'blockwise':
      return self._read_blocks(query, read, view, param)
    return KERNELS[view.backend](query, read.key, read.value)

  def _read_blocks(
    self, query: jax.Array, read: Cache, view: View, param: Param
  ) -> jax.Array:
    """Attention a block at a time, of queries that are scaled already."""
    position, heads = self.config.position, self.config.heads
    return blockwise(
      PairRule(position, heads),
      declare_pairs(position, view.ids, param, heads),
      query,
      read.key,
      read.value,
      position.key_bias(view.ids, read.gate),
      view.queries,
      view.ids,
      in_order=view.in_order,
    )

  def _read_pairs(
    self, query: jax.Array, read: Cache, view: View, param: Param
  ) -> jax.Array:
    """Bias, mask and attention, over all keys or over gathered ones."""
    position, index = self.config.position, view.neighbours
    query_ids = view.queries.expand(1, 3)
    bias_BKH = position.key_bias(view.ids, read.gate)
    if index is None:
      key_ids, present = view.ids.expand(1, 2), True
    else:
      present = (index < read.key.shape[1])[:, None]
      read = jax.tree.map(lambda x: gather(x, index), read)
      key_ids = view.ids.take(index).expand(1)
    mask = key_ids.index <= query_ids.index
    mask &= position.visible(query_ids, key_ids) & present
    bias = position.pair_bias(query_ids, key_ids, param, self.config.heads)
    if bias_BKH is not None:
      bias_BHQK = _of_keys(bias_BKH, index)
      bias = bias_BHQK if bias is None else bias + bias_BHQK
    scale = self._scale(query_ids)
    pairs = Pairs(
      *(query, read.key, read.value, bias, mask, scale, query_ids, key_ids),
      gate=read.gate,
    )
    return position.attend(pairs, param)

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

  def _param(self, shared: Shared) -> Param:
    """Parameters of the encoding: shared by all layers, or its own."""

    def param(
      name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
    ) -> jax.Array:
      if name in shared:
        return shared[name]
      return self.param(f'position_{name}', init, shape)

    return param


def _of_keys(bias_BKH: jax.Array, index: jax.Array | None) -> jax.Array:
  """Bias of keys for each query, [B, H, Q or 1, K or W]."""
  if index is None:
    return bias_BKH.swapaxes(1, 2)[:, :, None]
  return jnp.moveaxis(gather(bias_BKH, index), -1, 1)


def empty_cache(
  config: TransformerConfig, applied: Sequence[int], size: Sequence[int]
) -> Cache:
  """A cache with axes of applied layers, examples and tokens, then the rest."""
  position, heads, width = config.position, config.heads, config.head_width
  key_shape = (width,) if position.late else position.key_shape(width)

  def zeros(shape: Sequence[int], dtype: str = config.dtype) -> jax.Array:
    return jnp.zeros((*applied, *size, *shape), dtype)

  gate = jax.eval_shape(
    lambda x_BTE: position.gate(x_BTE, _no_param, heads),
    jax.ShapeDtypeStruct((*size, config.width), config.dtype),
  )
  return Cache(
    zeros((heads, *key_shape)),
    zeros((heads, width)),
    jax.tree.map(lambda x: zeros(x.shape[2:], x.dtype), gate),
  )


def _no_param(
  name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
) -> jax.Array:
  """Stands for parameters where only shapes matter."""
  del name, init
  return jnp.zeros(shape)
