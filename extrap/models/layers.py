"""Layers of a transformer: attention, then a feed-forward network.

Shape key: B examples, T tokens, Q queries, E model width, F feed-forward
width.
"""

import jax
from flax import linen as nn

from extrap.models.attention import Attention, Cache, Shared, View, gather
from extrap.models.config import TransformerConfig
from extrap.models.product import product


def spread(x: jax.Array, *axes: str | None) -> jax.Array:
  """Names the axes of an activation, for the rules of a mesh if there is one.

  Parameters that are spread over the batch's devices are then brought
  together; otherwise the compiler may well move the activations.
  """
  return nn.with_logical_constraint(x, axes)


class FeedForward(nn.Module):
  """GELU, or gated by GELU or SiLU (Shazeer 2020, arXiv 2002.05202)."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x_BTE: jax.Array) -> jax.Array:
    config = self.config
    hidden_BTF = dense('in', config.ffn_width, ('embed', 'ffn'))(x_BTE)
    hidden_BTF = spread(hidden_BTF, 'batch', None, 'ffn')
    if config.ffn == 'gelu':
      hidden_BTF = jax.nn.gelu(hidden_BTF)
    else:
      gate_BTF = dense('gate', config.ffn_width, ('embed', 'ffn'))(x_BTE)
      act = jax.nn.gelu if config.ffn == 'geglu' else jax.nn.silu
      hidden_BTF = hidden_BTF * act(gate_BTF)
    out_BTE = dense('out', config.width, ('ffn', 'embed'))(hidden_BTF)
    return spread(out_BTE, 'batch', None, None)


class Dense(nn.Module):
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


def dense(name: str, width: int, axes: tuple[str, str]) -> Dense:
  """`Dense`, the name of its parameters first."""
  return Dense(width, axes, name=name)


def final_norm(config: TransformerConfig) -> nn.Module:
  """What stands before the logits."""
  return norm(config, 'norm')


def ffn_names(config: TransformerConfig) -> list[str]:
  """The feed-forward networks of a layer: ffn, ffn_2, ffn_3, .."""
  return ['ffn', *(f'ffn_{n + 2}' for n in range(config.ffn_depth - 1))]


def norm(config: TransformerConfig, name: str) -> nn.Module:
  """The normalisation of a model, by the name of its parameters."""
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
      source_BTE = norm(self.config, 'attention_norm')(x_BTE)
    asking_BQE, x_BQE = source_BTE, x_BTE
    if queries_BQ is not None:
      view = view.at(queries_BQ)
      asking_BQE, x_BQE = (gather(y, queries_BQ) for y in (source_BTE, x_BTE))
    read_BQE, cache = Attention(self.config, name='attention')(
      asking_BQE, source_BTE, view, cache, shared
    )
    x_BQE = spread(x_BQE + read_BQE, 'batch', None, None)
    if post:
      x_BQE = norm(self.config, 'attention_post_norm')(x_BQE)
    for name in ffn_names(self.config):
      inner_BQE = x_BQE
      if pre:
        inner_BQE = norm(self.config, f'{name}_norm')(x_BQE)
      x_BQE = x_BQE + FeedForward(self.config, name=name)(inner_BQE)
      if post:
        x_BQE = norm(self.config, f'{name}_post_norm')(x_BQE)
    return x_BQE, cache
