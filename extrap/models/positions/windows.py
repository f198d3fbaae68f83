"""Hard windows of tokens, around any encoding.

What a query sees does not depend on the length of the sequence; in blocks,
time is linear in it.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.positions.position import ALL_PAIRS, POSITIONS
from extrap.models.positions.wrapped import Wrapped
from extrap.tasks.task import Structure

# Keys of a wider window are not gathered: blocks need less memory.
NARROW = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Near(Wrapped):
  """Sees some of the last `span` tokens, itself included."""

  @property
  def span(self) -> int:
    raise NotImplementedError

  def near(self, query: Structure, key: Structure) -> jax.Array:
    """Which keys a query may see as far as the window goes."""
    raise NotImplementedError

  @property
  def token_window(self) -> int:
    return min(self.span, super().token_window or self.span)

  def visible(self, query: Structure, key: Structure) -> jax.Array:
    return self.near(query, key) & super().visible(query, key)

  def neighbours(self, ids: Structure) -> jax.Array | None:
    found_BTW = super().neighbours(ids)
    # Who has a rule for all pairs may count on keys in token order.
    ordered = any(map(self.inside.acts, ALL_PAIRS))
    if found_BTW is not None or self.span > NARROW or ordered:
      return found_BTW
    before_BTW = ids.index[..., None] - jnp.arange(self.span)[None, None]
    return jnp.where(before_BTW < 0, ids.index.shape[1], before_BTW)


@POSITIONS.register('window')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Window(_Near):
  """A sliding window: query n sees key m if 0 <= n - m < `window`.

  Beltagy et al. 2020, arXiv 2004.05150; with a rotary base it is the SWA-RoPE
  of hybrid models.
  """

  window: int = option(
    512, 'tokens that a query sees, itself included', unit='tokens', minimum=1
  )

  paper: ClassVar[str] = '2004.05150'
  cost: ClassVar[str] = 'F'

  @property
  def span(self) -> int:
    return self.window

  def near(self, query: Structure, key: Structure) -> jax.Array:
    return query.index - key.index < self.window


@POSITIONS.register('chunked')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunked(_Near):
  """Chunks that do not see each other: floor(n / `chunk`) = floor(m / `chunk`).

  The local layers of Llama 4, which says no more of them than its code.
  """

  chunk: int = option(8192, 'length of a chunk', unit='tokens', minimum=1)

  paper: ClassVar[str] = 'Llama 4'
  cost: ClassVar[str] = 'F'

  @property
  def span(self) -> int:
    return self.chunk

  def near(self, query: Structure, key: Structure) -> jax.Array:
    return query.index // self.chunk == key.index // self.chunk
