"""A decoder transformer: standard, with input injection, or looped.

Loops are of a fixed number or grow with length (`extrap.models.loops`).

Shape key: B examples, T tokens, Q queries, E model width, F feed-forward
width, V vocabulary, L layers, R recurrences.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models.attention import (
  Attention,
  Cache,
  Shared,
  View,
  declare_pairs,
  empty_cache,
  gather,
)
from extrap.models.backends import choose, hardware
from extrap.models.config import TransformerConfig
from extrap.models.loops import (
  carry,
  most_loops,
  neighbours_of,
  noise,
  takes_part,
)
from extrap.models.positions.position import Position, lookup
from extrap.models.product import product
from extrap.randomness import named
from extrap.tasks.task import Structure

Params = dict[str, 'jax.Array | Params']
Loops = tuple[jax.Array, jax.Array]


def spread(x: jax.Array, *axes: str | None) -> jax.Array:
  """Names the axes of an activation, for the rules of a mesh if there is one.

  Parameters that are spread over the batch's devices are then brought
  together; otherwise the compiler may well move the activations.
  """
  return nn.with_logical_constraint(x, axes)


def _counted(
  before: jax.Array,
  after: jax.Array,
  index: jax.Array | int,
  loops: Loops | None,
) -> jax.Array:
  """What the index-th application of the stack leaves behind.

  All of them are computed, so that the numbers of loops may be traced.
  """
  if loops is None:
    return after
  cut, trained = loops
  after = jnp.where(index < cut, jax.lax.stop_gradient(after), after)
  return jnp.where(index < cut + trained, after, before)


class FeedForward(nn.Module):
  """GELU, or gated by GELU or SiLU (Shazeer 2020, arXiv 2002.05202)."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x_BTE: jax.Array) -> jax.Array:
    config = self.config
    hidden_BTF = _dense('in', config.ffn_width, ('embed', 'ffn'))(x_BTE)
    hidden_BTF = spread(hidden_BTF, 'batch', None, 'ffn')
    if config.ffn == 'gelu':
      hidden_BTF = jax.nn.gelu(hidden_BTF)
    else:
      gate_BTF = _dense('gate', config.ffn_width, ('embed', 'ffn'))(x_BTE)
      act = jax.nn.gelu if config.ffn == 'geglu' else jax.nn.silu
      hidden_BTF = hidden_BTF * act(gate_BTF)
    out_BTE = _dense('out', config.width, ('ffn', 'embed'))(hidden_BTF)
    return spread(out_BTE, 'batch', None, None)


class _Dense(nn.Module):
  """A bias-free product with named axes, exact in float32."""

  width: int
  axes: tuple[str, str]

  @nn.compact
  def __call__(self, x_BTX: jax.Array) -> jax.Array:
    init = nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), self.axes
    )
    kernel_XY = self.param('kernel', init, (x_BTX.shape[-1], self.width))
    return product(x_BTX, kernel_XY.astype(x_BTX.dtype))


def _dense(name: str, width: int, axes: tuple[str, str]) -> _Dense:
  return _Dense(width, axes, name=name)


def final_norm(config: TransformerConfig) -> nn.Module:
  """What stands before the logits."""
  return _norm(config, 'norm')


def ffn_names(config: TransformerConfig) -> list[str]:
  """The feed-forward networks of a layer: ffn, ffn_2, ffn_3, .."""
  return ['ffn', *(f'ffn_{n + 2}' for n in range(config.ffn_depth - 1))]


def _norm(config: TransformerConfig, name: str) -> nn.Module:
  kind = nn.RMSNorm if config.norm == 'rmsnorm' else nn.LayerNorm
  return kind(name=name, dtype=config.dtype, epsilon=1e-6)


class Layer(nn.Module):
  """Attention and feed-forward with residuals, for the queries of a view."""

  config: TransformerConfig

  @nn.compact
  def __call__(
    self,
    x_BTE: jax.Array,
    view: View,
    cache: Cache | None = None,
    shared: Shared | None = None,
    queries_BQ: jax.Array | None = None,
  ) -> tuple[jax.Array, Cache | None]:
    """States of the queries after this layer (all tokens where None)."""
    pre = self.config.norm_placement != 'post'
    post = self.config.norm_placement != 'pre'
    source_BTE = x_BTE
    if pre:
      source_BTE = _norm(self.config, 'attention_norm')(x_BTE)
    asking_BQE, x_BQE = source_BTE, x_BTE
    if queries_BQ is not None:
      view = view.at(queries_BQ)
      asking_BQE, x_BQE = (gather(y, queries_BQ) for y in (source_BTE, x_BTE))
    read_BQE, cache = Attention(self.config, name='attention')(
      asking_BQE, source_BTE, view, cache, shared
    )
    x_BQE = spread(x_BQE + read_BQE, 'batch', None, None)
    if post:
      x_BQE = _norm(self.config, 'attention_post_norm')(x_BQE)
    for name in ffn_names(self.config):
      inner_BQE = x_BQE
      if pre:
        inner_BQE = _norm(self.config, f'{name}_norm')(x_BQE)
      x_BQE = x_BQE + FeedForward(self.config, name=name)(inner_BQE)
      if post:
        x_BQE = _norm(self.config, f'{name}_post_norm')(x_BQE)
    return x_BQE, cache


class Transformer(nn.Module):
  """Token logits at the queries; see `TransformerConfig` for the forms.

  Attributes:
    config: depth, width, encoding and so on.
    vocab_size: number of token values.
  """

  config: TransformerConfig
  vocab_size: int

  @nn.compact
  def __call__(
    self,
    tokens_BT: jax.Array,
    structure: Structure,
    queries_BQ: jax.Array | None = None,
    cache: Cache | None = None,
    key: jax.Array | None = None,
    train: bool = False,
    loops: Loops | None = None,
  ) -> jax.Array | tuple[jax.Array, Cache]:
    """Predicts the token after each query.

    The last layer's queries, its feed-forward and the logits are computed at
    the queries alone.

    Args:
      tokens_BT: all tokens; those after a query do not matter.
      structure: the task's structure of tokens_BT.
      queries_BQ: indices of the tokens to predict from; None for all.
      cache: what earlier calls read. Only the queries are read then.
      key: of random position shifts and of noise; needed when train.
      train: whether encodings shift their ids, and loops add noise, at random.
      loops: how many times the stack is applied without, and then with, a
        gradient; None for `recurrences` times, all with it.

    Returns:
      Logits [B, Q, V] in float32 at least, and the cache if one was given.
    """
    config, position = self.config, self.config.position
    shift_key = None if key is None else named(key, 'position')
    ids = position.prepare(structure, shift_key, train)
    view = self._view(ids)
    if cache is not None:
      if queries_BQ is None:
        queries_BQ = structure.index
      view = View(ids, ids.take(queries_BQ))
      tokens_BT, queries_BQ = gather(tokens_BT, queries_BQ), None
    x_BTE = self._embed(tokens_BT, view.queries)
    if config.loops == 'fixed':
      x_BQE, cache = self._layers(x_BTE, view, cache, queries_BQ, loops)
    else:
      noise_key = named(key, 'carry') if train else None
      x_BQE = self._growing(x_BTE, view.ids, queries_BQ, noise_key)
    x_BQE = final_norm(config)(x_BQE)
    logits_BQV = _dense('logits', self.vocab_size, ('embed', 'vocab'))(x_BQE)
    logits_BQV = spread(logits_BQV, 'batch', None, 'vocab')
    logits_BQV = logits_BQV.astype(jnp.promote_types(config.dtype, 'float32'))
    return logits_BQV if cache is None else (logits_BQV, cache)

  def empty_cache(self, examples: int, tokens: int) -> Cache:
    """A cache with room for `tokens` tokens.

    Raises:
      UsageError: the number of loops, each with a cache, is not fixed.
    """
    if self.config.loops != 'fixed':
      raise UsageError(
        f'--model.loops={self.config.loops}: loops that grow have no cache'
      )
    gated = type(self.config.position).gate is not Position.gate
    return empty_cache(self.config, examples, tokens, gated)

  def _view(self, ids: Structure) -> View:
    """Every token looks at all keys that it may see."""
    config, tokens = self.config, ids.index.shape[1]
    neighbours = config.position.neighbours(ids)
    windowed = neighbours is not None
    backend = choose(config, hardware(), tokens, windowed=windowed)
    if backend != 'gathered':
      neighbours = None
    return View(ids, ids, neighbours, backend, in_order=True)

  def _embed(self, tokens_BT: jax.Array, ids: Structure) -> jax.Array:
    width = self.config.width
    init = nn.with_logical_partitioning(
      nn.initializers.normal(1.0), ('vocab', 'embed')
    )
    table_VE = self.param('embedding', init, (self.vocab_size, width))
    x_BTE = lookup(table_VE, tokens_BT)
    added_BTE = self.config.position.embed(ids, self._param, width)
    if added_BTE is not None:
      x_BTE = x_BTE + added_BTE
    x_BTE = spread(x_BTE, 'batch', None, None)
    return x_BTE.astype(self.config.dtype)

  def _param(
    self,
    name: str,
    init: nn.initializers.Initializer,
    shape: tuple[int, ...],
  ) -> jax.Array:
    return self.param(f'position_{name}', init, shape)

  def _shared(self, ids: Structure) -> Shared | None:
    """Pairwise parameters of all layers, declared on a single pair."""
    config = self.config
    if not config.share_position:
      return None
    return declare_pairs(config.position, ids, self._param, config.heads)

  def _layers(
    self,
    x_BTE: jax.Array,
    view: View,
    cache: Cache | None,
    queries_BQ: jax.Array | None,
    loops: Loops | None,
  ) -> tuple[jax.Array, Cache | None]:
    """Applies `depth` layers `recurrences` times.

    The very last application stands alone, so that it computes the queries
    only; the others are scanned.
    """
    config, shared = self.config, self._shared(view.ids)
    layer = Layer(config, parent=None)

    def apply(
      x_BTE: jax.Array,
      params: Params,
      index: jax.Array | int,
      cache: Cache | None,
      queries_BQ: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache | None]:
      x_BTE = self._inject(x_BTE, input_BTE, index)
      return layer.apply(
        {'params': params}, x_BTE, view, cache, shared, queries_BQ
      )

    input_BTE = x_BTE
    if config.inject_every:
      x_BTE = jnp.zeros_like(x_BTE)
    apply = jax.checkpoint(apply) if config.remat else apply
    params_L = self.param('layers', self._init_layers, layer, view.ids, shared)

    def stack(
      x_BTE: jax.Array, cache_L: Cache | None, first: int, last: int
    ) -> tuple[jax.Array, Cache | None]:
      part = jax.tree.map(lambda p: p[first:last], (params_L, cache_L))
      steps = jnp.arange(first, last)
      return jax.lax.scan(
        lambda x, step: apply(x, step[0][0], step[1], step[0][1]),
        x_BTE,
        (part, steps),
      )

    def once_more(x_BTE: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
      new_BTE, _ = stack(x_BTE, None, 0, depth)
      return _counted(x_BTE, new_BTE, index, loops), None

    depth, last = config.depth, config.recurrences - 1
    if cache is not None:
      return jax.lax.scan(
        lambda x, cache_L: stack(x, cache_L, 0, depth), x_BTE, cache
      )
    if last:
      x_BTE, _ = jax.lax.scan(once_more, x_BTE, jnp.arange(last))
    before_BQE = x_BTE
    if loops is not None and queries_BQ is not None:
      before_BQE = gather(x_BTE, queries_BQ)
    if depth > 1:
      x_BTE, _ = stack(x_BTE, None, 0, depth - 1)
    final = jax.tree.map(lambda p: p[-1], params_L)
    x_BQE, _ = apply(x_BTE, final, depth - 1, None, queries_BQ)
    return _counted(before_BQE, x_BQE, last, loops), None

  def _growing(
    self,
    x_BTE: jax.Array,
    ids: Structure,
    queries_BQ: jax.Array | None,
    key: jax.Array | None,
  ) -> jax.Array:
    """Applies `depth` layers as often as the place of each token asks."""
    config, shared = self.config, self._shared(ids)
    layer = Layer(config, parent=None)
    params_L = self.param('layers', self._init_layers, layer, ids, shared)
    input_BTE, index_L = x_BTE, jnp.arange(config.depth)

    def loop(x_BTE: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
      view = self._view(neighbours_of(config.loops, ids, number))

      def apply(
        x_BTE: jax.Array, step: tuple[Params, jax.Array]
      ) -> tuple[jax.Array, None]:
        x_BTE = self._inject(x_BTE, input_BTE, step[1])
        return layer.apply({'params': step[0]}, x_BTE, view, None, shared)

      new_BTE, _ = jax.lax.scan(apply, x_BTE, (params_L, index_L))
      here = None if key is None else jax.random.fold_in(key, number)
      noise_BTE = noise(here, config.carry_noise, new_BTE)
      new_BTE = carry(config.carry, new_BTE, noise_BTE)
      updated_BT1 = takes_part(config.loops, ids.index, number)[..., None]
      return jnp.where(updated_BT1, new_BTE, x_BTE), None

    loop = jax.checkpoint(loop) if config.remat else loop
    loops = most_loops(config.loops, ids.index.shape[1])
    x_BTE = carry(config.carry, x_BTE)
    x_BTE, _ = jax.lax.scan(loop, x_BTE, jnp.arange(loops))
    return x_BTE if queries_BQ is None else gather(x_BTE, queries_BQ)

  def _inject(
    self, x_BTE: jax.Array, input_BTE: jax.Array, index: jax.Array | int
  ) -> jax.Array:
    """The state as a layer finds it, with the input where it is added."""
    every = self.config.inject_every
    if not every:
      return x_BTE
    return x_BTE + jnp.where(index % every == 0, input_BTE, 0)

  def _init_layers(
    self, key: jax.Array, layer: Layer, ids: Structure, shared: Shared | None
  ) -> Params:
    """Independent parameters for each layer, stacked on a leading axis."""
    one = ids.take(jnp.zeros((ids.index.shape[0], 1), jnp.int32))
    x_BTE = jnp.zeros((*one.index.shape, self.config.width), self.config.dtype)

    def init(key: jax.Array) -> Params:
      return layer.init(key, x_BTE, View(one, one), None, shared)['params']

    params_L = jax.vmap(init)(jax.random.split(key, self.config.depth))
    return nn.meta.add_axis(params_L, 0, {nn.PARTITION_NAME: 'layers'})
