"""LC-PFN in its published form: one cutoff a pass, one token a time.

Adriaensen et al. 2023 (arXiv 2310.20447; automl/lcpfn where the paper is
silent). A token of the context has a time and a value, a token that asks a time
alone; all see the context and themselves. Post-norm, with dropout, and bins
that are as likely as each other under the prior (`extrap.curves.bars`). Times
and values are scaled as if they were uniform on 0..1.

As in the original, every token goes through the head, also those of the
context, of which nothing is asked.

Shape key: B curves, T times, E width, H heads, D width of a head, K bins.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.config import option
from extrap.curves.dense import Dense

UNIFORM_DEVIATION = (1 / 12) ** 0.5
# As torch starts its linear layers, and those that make queries, keys, values.
LINEAR = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
GLOROT = nn.initializers.glorot_uniform()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PFNConfig:
  """Sizes; the published ones are widths of 128 to 512 and 3 to 12 layers."""

  width: int = option(128, 'of the tokens', minimum=8)
  layers: int = option(3, 'of the transformer', minimum=1)
  bins: int = option(1000, 'of the forecast', minimum=2)
  dropout: float = option(0.2, 'share left out', minimum=0.0, maximum=1.0)

  @property
  def heads(self) -> int:
    """One for each 128 of width, as in the code; the paper says four."""
    return max(self.width // 128, 1)


class _Layer(nn.Module):
  """Attention and feed-forward, each normalised after it is added."""

  config: PFNConfig

  @nn.compact
  def __call__(
    self, x_BTE: jax.Array, seen_TT: jax.Array, train: bool
  ) -> jax.Array:
    drop = nn.Dropout(self.config.dropout, deterministic=not train)
    width, zeros = self.config.width, nn.initializers.zeros
    x_BTE = x_BTE + drop(self._attend(x_BTE, seen_TT, drop))
    x_BTE = nn.LayerNorm(epsilon=1e-5)(x_BTE)
    hidden = drop(
      jax.nn.gelu(Dense(2 * width, LINEAR)(x_BTE), approximate=False)
    )
    x_BTE = x_BTE + drop(Dense(width, zeros)(hidden))
    return nn.LayerNorm(epsilon=1e-5)(x_BTE)

  def _attend(
    self, x_BTE: jax.Array, seen_TT: jax.Array, drop: nn.Dropout
  ) -> jax.Array:
    heads = (*x_BTE.shape[:-1], self.config.heads, -1)
    query, key, value = (
      Dense(self.config.width, GLOROT, name=name)(x_BTE).reshape(heads)
      for name in ('query', 'key', 'value')
    )
    score = jnp.einsum('bthd,bshd->bhts', query, key)
    score = score * query.shape[-1] ** -0.5
    share = drop(jax.nn.softmax(jnp.where(seen_TT[None, None], score, -1e30)))
    mixed = jnp.einsum('bhts,bshd->bthd', share, value).reshape(x_BTE.shape)
    out = Dense(self.config.width, nn.initializers.zeros, name='out')
    return out(mixed)


class PFN(nn.Module):
  """Logits of the bins of a value at each time, given those up to a cutoff."""

  config: PFNConfig

  @nn.compact
  def __call__(
    self,
    time_T: jax.Array,
    value_BT: jax.Array,
    cutoff: jax.Array | int,
    train: bool = False,
  ) -> jax.Array:
    """Logits [B, T, K].

    Args:
      time_T: float32, 1..100.
      value_BT: float32; those after the cutoff are not read.
      cutoff: how many points are the context, traced.
      train: whether there is dropout, with a key of that name.
    """
    width = self.config.width
    known_T = jnp.arange(len(time_T)) < cutoff
    value_BT = jnp.where(known_T[None], value_BT, 0.5)
    time_1T1 = ((time_T / 101 - 0.5) / UNIFORM_DEVIATION)[None, :, None]
    value_BT1 = ((value_BT - 0.5) / UNIFORM_DEVIATION)[..., None]
    of_value_BTE = Dense(width, LINEAR)(value_BT1)
    x_BTE = Dense(width, LINEAR)(time_1T1) + jnp.where(
      known_T[None, :, None], of_value_BTE, 0
    )
    seen_TT = known_T[None] | jnp.eye(len(time_T), dtype=bool)
    for _ in range(self.config.layers):
      x_BTE = _Layer(self.config)(x_BTE, seen_TT, train)
    hidden = jax.nn.gelu(Dense(2 * width, LINEAR)(x_BTE), approximate=False)
    return Dense(self.config.bins, LINEAR)(hidden)
