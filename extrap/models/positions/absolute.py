"""No encoding, and absolute ones added to the token embeddings."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import (
  POSITIONS,
  Param,
  Position,
  lookup,
)
from extrap.models.positions.stretched import Stretched
from extrap.tasks.task import Structure


@POSITIONS.register('none')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPosition(Position):
  """The causal mask alone (Kazemnejad et al. 2023, arXiv 2305.19466)."""

  paper: ClassVar[str] = '2305.19466'
  cost: ClassVar[str] = 'A'


@POSITIONS.register('sinusoidal')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sinusoidal(Position):
  """Fixed waves (Vaswani et al. 2017, arXiv 1706.03762)."""

  wavelength: float = option(
    10_000.0, 'longest wavelength over 2 pi', unit='tokens', minimum=1.0
  )

  reads: ClassVar[tuple[str, ...]] = ('position',)
  paper: ClassVar[str] = '1706.03762'
  cost: ClassVar[str] = 'E'

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    del param
    waves = (width + 1) // 2
    rate_E = self.wavelength ** (-jnp.arange(waves) / waves)
    angle_BTE = ids.position[..., None] * rate_E[None, None]
    wave_BTE = jnp.concatenate([jnp.sin(angle_BTE), jnp.cos(angle_BTE)], -1)
    return wave_BTE[..., :width]


@POSITIONS.register('learned')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned(Stretched):
  """A learned row for each position, as in GPT-2 (Radford et al. 2019).

  There is none beyond the table. Of the ways to go on, `interpolate` is that of
  vision transformers (Dosovitskiy et al. 2020, arXiv 2010.11929), in a line: T
  tokens spread over all rows, and read between two of them.
  """

  max_size: int = option(128, 'rows of the table', unit='tokens', minimum=1)
  beyond: Literal['refuse', 'clip', 'wrap', 'interpolate'] = option(
    'refuse',
    'what a longer sequence does. clip: the last row goes on; wrap: they begin '
    'again; interpolate: all lie evenly among the tokens, padding included',
  )

  def __post_init__(self) -> None:
    if self.stretch > self.max_size:
      raise UsageError(
        f'--model.position.stretch={self.stretch} goes beyond the table, '
        f'--model.position.max_size={self.max_size}'
      )

  reads: ClassVar[tuple[str, ...]] = ('position',)
  table: ClassVar[str | None] = 'position'
  paper: ClassVar[str] = 'GPT-2'
  cost: ClassVar[str] = 'E'

  @property
  def max_id(self) -> int | None:
    return self.max_size - 1 if self.beyond == 'refuse' else None

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    ids = super().prepare(ids, key, train)
    tokens, last = ids.index.shape[1], self.max_size - 1
    if self.beyond == 'clip':
      return ids.replace(position=jnp.minimum(ids.position, last))
    if self.beyond == 'wrap':
      return ids.replace(position=ids.position % self.max_size)
    if self.beyond == 'interpolate' and tokens > self.max_size:
      return ids.replace(position=ids.position * (last / (tokens - 1)))
    return ids

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    init = jax.nn.initializers.normal(1.0)
    table_NE = param('table', init, (self.max_size, width))
    if jnp.issubdtype(ids.position.dtype, jnp.integer):
      return lookup(table_NE, ids.position)
    row_BT = jnp.floor(ids.position).astype(jnp.int32)
    part_BT1 = (ids.position - row_BT)[..., None]
    next_BT = jnp.minimum(row_BT + 1, self.max_size - 1)
    here_BTE, next_BTE = (lookup(table_NE, row) for row in (row_BT, next_BT))
    return here_BTE + part_BT1 * (next_BTE - here_BTE)
