"""A decoder transformer: standard, with input injection, or looped.

Loops are of a fixed number or grow with length (`extrap.models.loops`).

Shape key: B examples, T tokens, Q queries, E model width, V vocabulary, L
layers, R recurrences.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models.attention import (
  Cache,
  Shared,
  View,
  declare_pairs,
  empty_cache,
  gather,
)
from extrap.models.backends import choose, hardware
from extrap.models.config import TransformerConfig
from extrap.models.layers import Layer, dense, final_norm, spread
from extrap.models.loops import (
  carry,
  most_loops,
  neighbours_of,
  noise,
  takes_part,
)
from extrap.models.positions.position import Position, lookup
from extrap.randomness import named
from extrap.tasks.task import Structure

Params = dict[str, 'jax.Array | Params']
Loops = tuple[jax.Array, jax.Array]
Caches = tuple[Cache, ...]  # one for each layer of a period


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
    cache: Caches | None = None,
    key: jax.Array | None = None,
    train: bool = False,
    loops: Loops | None = None,
  ) -> jax.Array | tuple[jax.Array, Caches]:
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
    config = self.config
    read_BQ = structure.index
    if cache is not None:
      read_BQ = read_BQ if queries_BQ is None else queries_BQ
      tokens_BT, queries_BQ = gather(tokens_BT, read_BQ), None
    shift_key = None if key is None else named(key, 'position')
    structure = self._measured(structure, read_BQ)
    views = []
    for position in config.position.layers:
      ids = position.prepare(structure, shift_key, train)
      if cache is None:
        views.append(self._view(position, ids))
      else:
        views.append(View(ids, ids.take(read_BQ)))
    x_BTE = self._embed(tokens_BT, views[0].queries)
    if config.loops == 'fixed':
      x_BQE, cache = self._layers(x_BTE, views, cache, queries_BQ, loops)
    else:
      noise_key = named(key, 'carry') if train else None
      x_BQE = self._growing(x_BTE, views[0].ids, queries_BQ, noise_key)
    x_BQE = final_norm(config)(x_BQE)
    logits_BQV = dense('logits', self.vocab_size, ('embed', 'vocab'))(x_BQE)
    logits_BQV = spread(logits_BQV, 'batch', None, 'vocab')
    logits_BQV = logits_BQV.astype(jnp.promote_types(config.dtype, 'float32'))
    return logits_BQV if cache is None else (logits_BQV, cache)

  def empty_cache(self, examples: int, tokens: int) -> Caches:
    """A cache with room for `tokens` tokens.

    Raises:
      UsageError: the number of loops, each with a cache, is not fixed.
    """
    config = self.config
    if config.loops != 'fixed':
      raise UsageError(
        f'--model.loops={config.loops}: loops that grow have no cache'
      )
    configs = self._configs()
    applied = (config.recurrences, config.depth // len(configs))
    return tuple(empty_cache(c, applied, (examples, tokens)) for c in configs)

  def _configs(self) -> list[TransformerConfig]:
    """The settings of the layers of one period: encodings may differ."""
    return [
      dataclasses.replace(self.config, position=position, depth=1)
      for position in self.config.position.layers
    ]

  def _measured(self, structure: Structure, read_BQ: jax.Array) -> Structure:
    """With the number of tokens read so far, for encodings that ask for it."""
    if all('length' not in p.reads for p in self.config.position.layers):
      return structure
    length_B1 = jnp.max(read_BQ, axis=1, keepdims=True) + 1
    shape = structure.index.shape
    return structure.replace(length=jnp.broadcast_to(length_B1, shape))

  def _view(self, position: Position, ids: Structure) -> View:
    """Every token looks at all keys that it may see."""
    tokens, neighbours = ids.index.shape[1], position.neighbours(ids)
    config = dataclasses.replace(self.config, position=position, depth=1)
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

  def _shared(self, position: Position, ids: Structure, nth: int = 0) -> Shared:
    """What all layers with the nth encoding of a period read."""
    config = self.config
    prefix = f'{nth}_' if nth else ''

    def param(
      name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
    ) -> jax.Array:
      return self._param(prefix + name, init, shape)

    shared = position.common(ids, param, config.head_width)
    if config.share_position:
      shared |= declare_pairs(position, ids, param, config.heads)
    return shared

  def _layers(
    self,
    x_BTE: jax.Array,
    views: Sequence[View],
    caches: Caches | None,
    queries_BQ: jax.Array | None,
    loops: Loops | None,
  ) -> tuple[jax.Array, Caches | None]:
    """Applies `depth` layers `recurrences` times, a period in each step.

    The very last application stands alone, so that it computes the queries
    only; the others are scanned.
    """
    config, configs = self.config, self._configs()
    period = len(configs)
    layers = [Layer(c, parent=None) for c in configs]
    shared = [
      self._shared(c.position, view.ids, nth)
      for nth, (c, view) in enumerate(zip(configs, views, strict=True))
    ]

    def apply(
      nth: int,
      x_BTE: jax.Array,
      params: Params,
      index: jax.Array | int,
      cache: Cache | None,
      queries_BQ: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache | None]:
      x_BTE = self._inject(x_BTE, input_BTE, index)
      return layers[nth].apply(
        {'params': params}, x_BTE, views[nth], cache, shared[nth], queries_BQ
      )

    input_BTE = x_BTE
    if config.inject_every:
      x_BTE = jnp.zeros_like(x_BTE)
    remat = jax.checkpoint if config.remat else lambda apply: apply
    applies = [remat(functools.partial(apply, nth)) for nth in range(period)]
    params_PL = self._layer_params(layers, views, shared)

    def once(
      x_BTE: jax.Array, step: tuple[list[Params], Caches | None, jax.Array]
    ) -> tuple[jax.Array, Caches | None]:
      params_P, caches_P, index = step
      caches = []
      for nth in range(period):
        old = caches_P[nth] if caches_P else None
        x_BTE, cache = applies[nth](x_BTE, params_P[nth], index + nth, old)
        caches.append(cache)
      return x_BTE, tuple(caches) if caches_P else None

    def stack(
      x_BTE: jax.Array, caches: Caches | None, periods: int
    ) -> tuple[jax.Array, Caches | None]:
      part = jax.tree.map(lambda p: p[:periods], (params_PL, caches))
      return jax.lax.scan(once, x_BTE, (*part, jnp.arange(periods) * period))

    def once_more(x_BTE: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
      new_BTE, _ = stack(x_BTE, None, periods)
      return _counted(x_BTE, new_BTE, index, loops), None

    periods, last = config.depth // period, config.recurrences - 1
    if caches is not None:
      return jax.lax.scan(lambda x, c: stack(x, c, periods), x_BTE, caches)
    if last:
      x_BTE, _ = jax.lax.scan(once_more, x_BTE, jnp.arange(last))
    before_BQE = x_BTE
    if loops is not None and queries_BQ is not None:
      before_BQE = gather(x_BTE, queries_BQ)
    if periods > 1:
      x_BTE, _ = stack(x_BTE, None, periods - 1)
    final_P = jax.tree.map(lambda p: p[-1], params_PL)
    for nth in range(period):
      asked_BQ = queries_BQ if nth == period - 1 else None
      index = config.depth - period + nth
      x_BTE, _ = applies[nth](x_BTE, final_P[nth], index, None, asked_BQ)
    return _counted(before_BQE, x_BTE, last, loops), None

  def _growing(
    self,
    x_BTE: jax.Array,
    ids: Structure,
    queries_BQ: jax.Array | None,
    key: jax.Array | None,
  ) -> jax.Array:
    """Applies `depth` layers as often as the place of each token asks."""
    config, position = self.config, self.config.position
    shared = self._shared(position, ids)
    layer, view = Layer(config, parent=None), View(ids, ids)
    (params_L,) = self._layer_params([layer], [view], [shared])
    input_BTE, index_L = x_BTE, jnp.arange(config.depth)

    def loop(x_BTE: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
      view = self._view(position, neighbours_of(config.loops, ids, number))

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

  def _layer_params(
    self,
    layers: Sequence[Layer],
    views: Sequence[View],
    shared: Sequence[Shared],
  ) -> list[Params]:
    """Parameters of the layers of a period, each stacked over periods."""

    def init(key: jax.Array) -> Params:
      keys = jax.random.split(key, len(layers)) if len(layers) > 1 else [key]
      made = zip(keys, layers, views, shared, strict=True)
      params_P = [self._init_layer(*parts) for parts in made]
      if len(layers) == 1:
        return params_P[0]
      return {str(nth): params for nth, params in enumerate(params_P)}

    params = self.param('layers', init)
    if len(layers) == 1:
      return [params]
    return [params[str(nth)] for nth in range(len(layers))]

  def _init_layer(
    self, key: jax.Array, layer: Layer, view: View, shared: Shared
  ) -> Params:
    """Independent parameters of a layer in each period, stacked."""
    ids = view.ids
    one = ids.take(jnp.zeros((ids.index.shape[0], 1), jnp.int32))
    x_BTE = jnp.zeros((*one.index.shape, self.config.width), self.config.dtype)

    def init(key: jax.Array) -> Params:
      return layer.init(key, x_BTE, View(one, one), None, shared)['params']

    periods = self.config.depth // len(self.config.position.layers)
    params_L = jax.vmap(init)(jax.random.split(key, periods))
    return nn.meta.add_axis(params_L, 0, {nn.PARTITION_NAME: 'layers'})
