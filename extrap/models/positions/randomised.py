"""Positions that training draws from those of longer sequences, for any base.

Shape key: B examples, T tokens, C chunks.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS, Limit
from extrap.models.positions.stretched import check_room, ordered_subset
from extrap.models.positions.wrapped import Wrapped
from extrap.randomness import named
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Drawn(Wrapped):
  """Training draws the positions that the base reads."""

  cost: ClassVar[str] = 'F'

  def drawn(self, key: jax.Array, ids: Structure) -> jax.Array:
    """Positions in training, [B, T], in order."""
    raise NotImplementedError

  def tested(self, ids: Structure) -> jax.Array:
    """Positions elsewhere, [B, T]."""
    return ids.position

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    if train and key is not None:
      position_BT = self.drawn(named(key, 'drawn'), ids)
    else:
      position_BT = self.tested(ids)
    return super().prepare(ids.replace(position=position_BT), key, train)

  def _check_whole(self) -> None:
    """Refuses bases that look up a row for each position."""
    if self.base.table == 'position':
      raise UsageError(
        f'--model.position={self.name} draws fractions, for which --model.'
        f'position.base={self.base.name} has no row'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Among(_Drawn):
  """Positions from a range that holds more than there are tokens."""

  stretch: int = option(
    2048, 'positions to draw from', unit='tokens', minimum=1
  )
  test: Literal['spaced', 'drawn', 'plain'] = option(
    'spaced',
    'positions outside training. spaced: evenly over the range; drawn: at '
    'random, always the same ones; plain: 0, 1, 2, .., which training hardly '
    'ever meets',
  )

  def spaced(self, ids: Structure) -> jax.Array:
    """Positions [T] that lie evenly in the range."""
    raise NotImplementedError

  def tested(self, ids: Structure) -> jax.Array:
    if self.test == 'plain':
      return ids.position
    if self.test == 'drawn':
      return self.drawn(named(jax.random.key(0), 'tested'), ids)
    return jnp.broadcast_to(self.spaced(ids)[None], ids.index.shape)


@POSITIONS.register('randomised')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Randomised(_Among):
  """Training draws, for each example, which of the positions its tokens have.

  They are T of 0 .. `stretch` - 1, in order (Ruoss et al. 2023, arXiv
  2305.16843). The paper's code draws them for a whole batch, and in tests, too.
  Outside training the distance of neighbours depends on the room for tokens,
  padding included.
  """

  paper: ClassVar[str] = '2305.16843'

  def __post_init__(self) -> None:
    for limit in self.base.limits:
      if limit.field == 'position' and self.stretch > limit.largest + 1:
        raise UsageError(
          f'--model.position.stretch={self.stretch} goes beyond the table, '
          f'--model.position.base.{limit.option}={limit.largest + 1}'
        )

  @property
  def limits(self) -> tuple[Limit, ...]:
    if self.test == 'plain':
      return super().limits
    own = Limit('position', self.stretch - 1, 0, 'stretch')
    return (*super().limits, own)

  def drawn(self, key: jax.Array, ids: Structure) -> jax.Array:
    return ordered_subset(key, ids, self.stretch)

  def spaced(self, ids: Structure) -> jax.Array:
    tokens = ids.index.shape[1]
    check_room(tokens, self.stretch)
    position_T = np.arange(tokens, dtype=np.int64) * self.stretch // tokens
    return jnp.asarray(position_T, jnp.int32)


@POSITIONS.register('random_float')
@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomFloat(_Among):
  """Training draws each example's positions from 0 .. `stretch`, fractions too.

  Random float sampling (Shimizu et al. 2026, arXiv 2602.14050): uniform numbers
  in order. Elsewhere they stand where such numbers are on average; the paper
  draws them in tests, too. Any number of tokens finds room.
  """

  paper: ClassVar[str] = '2602.14050'

  def __post_init__(self) -> None:
    self._check_whole()

  def drawn(self, key: jax.Array, ids: Structure) -> jax.Array:
    drawn_BT = jax.random.uniform(key, ids.index.shape, jnp.float32)
    return jnp.sort(drawn_BT, axis=-1) * self.stretch

  def spaced(self, ids: Structure) -> jax.Array:
    tokens = ids.index.shape[1]
    position_T = np.arange(1, tokens + 1) * self.stretch / (tokens + 1)
    return jnp.asarray(position_T, jnp.float32)


@POSITIONS.register('random_steps')
@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomSteps(_Drawn):
  """Training draws the steps between positions: p = cumsum(U(0, `largest`)).

  Giraffe's randomised positions (Pal et al. 2023, arXiv 2308.10882, as in its
  code). Where the last goes beyond the T tokens all are multiplied by T / p_T,
  hence no position is larger than in plain training: they lie between those.
  """

  largest: float = option(2.0, 'largest step', unit='tokens', minimum=0.0)

  paper: ClassVar[str] = '2308.10882'

  def __post_init__(self) -> None:
    self._check_whole()

  def drawn(self, key: jax.Array, ids: Structure) -> jax.Array:
    step_BT = jax.random.uniform(key, ids.index.shape, jnp.float32)
    position_BT = jnp.cumsum(self.largest * step_BT, axis=-1)
    tokens = ids.index.shape[1]
    return position_BT * (tokens / jnp.maximum(position_BT[:, -1:], tokens))


@POSITIONS.register('pose')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PoSE(_Drawn):
  """Training skips positions between `chunks` parts of each example.

  Positional skip-wise training (Zhu et al. 2023, arXiv 2309.10400). All parts
  but the last have 1 .. ceil(T / chunks) tokens; each part is shifted by
  u_i ~ U{u_(i-1) .. `stretch` - T}, the first one not at all, as in the paper's
  code, which has two. What is read is not skipped: parts follow one another in
  the text.
  """

  stretch: int = option(
    2048, 'positions among which to skip', unit='tokens', minimum=1
  )
  chunks: int = option(2, 'parts of a sequence', minimum=1)

  paper: ClassVar[str] = '2309.10400'

  def drawn(self, key: jax.Array, ids: Structure) -> jax.Array:
    examples, tokens = ids.index.shape
    check_room(tokens, self.stretch)
    most = -(-tokens // self.chunks)
    start_B1 = skip_B1 = jnp.zeros((examples, 1), jnp.int32)
    position_BT = ids.index
    for chunk in range(1, self.chunks):
      length_key, skip_key = jax.random.split(named(key, chunk))
      shape = start_B1.shape
      start_B1 += jax.random.randint(length_key, shape, 1, most + 1)
      end = self.stretch - tokens + 1
      skip_B1 = jax.random.randint(skip_key, shape, skip_B1, end)
      moved_BT = ids.index + skip_B1
      position_BT = jnp.where(ids.index < start_B1, position_BT, moved_BT)
    return position_BT
