"""True distances in a window, and others beyond it, that training has met.

Two kinds of scores, of which the distance of a pair selects one: no new
parameters, so that a model trained with the base takes them as it is.

Shape key: B examples, T tokens, H heads, D head width, V = 2 kinds of scores.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.config import option
from extrap.models.positions.position import POSITIONS, Param
from extrap.models.positions.turned import Turned
from extrap.tasks.task import Structure


def once(param: Param) -> Param:
  """Parameters that may be asked for again: the same name is the same one."""
  made: dict[str, jax.Array] = {}

  def get(
    name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
  ) -> jax.Array:
    if name not in made:
      made[name] = param(name, init, shape)
    return made[name]

  return get


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearFar(Turned):
  """The base for pairs nearer than the window, and again for those beyond.

  An entry says what queries and keys become for those beyond.
  """

  window: int = option(
    512, 'distances below this are the true ones', unit='tokens', minimum=1
  )

  cost: ClassVar[str] = 'C'

  def key_shape(self, head_width: int) -> tuple[int, ...]:
    return (2, *self.base.key_shape(head_width))

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    param = once(param)
    near_BTHD = self.base.query_map(query_BTHD, ids, param)
    far_BTHD = self.far_query(query_BTHD, ids, param)
    return jnp.stack([near_BTHD, far_BTHD], axis=-2)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    param = once(param)
    near_BTHD = self.base.key_map(key_BTHD, ids, param)
    far_BTHD = self.far_key(key_BTHD, ids, param)
    return jnp.stack([near_BTHD, far_BTHD], axis=-2)

  def far_query(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    """What queries become for keys beyond the window."""
    return self.base.query_map(query_BTHD, ids, param)

  def far_key(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    """What keys become for queries beyond the window."""
    return self.base.key_map(key_BTHD, ids, param)

  def combine(
    self, score: jax.Array, query: Structure, key: Structure
  ) -> jax.Array:
    near = query.position - key.position < self.window
    return jnp.where(near, score[0], score[1])


@POSITIONS.register('self_extend')
@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfExtend(NearFar):
  """Far tokens in groups (Jin et al. 2024, arXiv 2401.01325).

  A distance of the window w or more is floor(n / G) - floor(m / G) +
  w - floor(w / G), for groups of G tokens: a model trained on L tokens reaches
  (L - w) G + w. The floor of w / G is the paper's; the authors' code
  (datamllab/LongLM) has it where it decodes, and not for all tokens at once.
  """

  window: int = option(
    1024, 'distances below this are the true ones', unit='tokens', minimum=1
  )
  group: int = option(8, 'tokens of a group', unit='tokens', minimum=1)

  paper: ClassVar[str] = '2401.01325'

  def far_query(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    meet = self.window - self.window // self.group
    ids = ids.replace(position=ids.position // self.group + meet)
    return super().far_query(query_BTHD, ids, param)

  def far_key(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    ids = ids.replace(position=ids.position // self.group)
    return super().far_key(key_BTHD, ids, param)


@POSITIONS.register('rerope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReRoPE(NearFar):
  """Distances that stop growing, or grow less (kexue.fm/archives/9708).

  A distance t of the window w or more is w, or w + leak (t - w) in the leaky
  form (Su 2023).
  The author's code (bojone/rerope) multiplies queries by max(1, log_L n), too:
  that is `log_n`, in its form su, around this one.
  """

  leak: float = option(
    0.0,
    'what a token beyond the window adds to a distance (1/16 in the code of '
    'the leaky form)',
    minimum=0.0,
    maximum=1.0,
  )

  paper: ClassVar[str] = 'Su 2023'

  def far_query(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    position = self.leak * ids.position + (1 - self.leak) * self.window
    ids = ids.replace(position=position)
    return super().far_query(query_BTHD, ids, param)

  def far_key(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    ids = ids.replace(position=self.leak * ids.position)
    return super().far_key(key_BTHD, ids, param)


@POSITIONS.register('lm_infinite')
@dataclasses.dataclass(frozen=True, kw_only=True)
class LMInfinite(NearFar):
  """A window and the first tokens, at bounded distances (arXiv 2308.16137).

  A query sees the keys of the window w, and the first few tokens of the
  sequence at distance w (Han et al. 2023). As where the authors' code
  (Glaciohound/LM-Infinite) converts a model, one number is both the window and
  the largest distance. What the paper adds in middle layers, the few keys of
  the largest scores, is left out.
  """

  window: int = option(
    4096,
    'distances that are seen, and the largest that is told',
    unit='tokens',
    minimum=1,
  )
  first: int = option(
    10,
    'first tokens of the sequence, which are always seen (10 to 100 in the '
    'paper)',
    unit='tokens',
    minimum=0,
  )

  paper: ClassVar[str] = '2308.16137'

  def far_query(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    ids = ids.replace(position=jnp.full_like(ids.position, self.window))
    return super().far_query(query_BTHD, ids, param)

  def far_key(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    ids = ids.replace(position=jnp.zeros_like(ids.position))
    return super().far_key(key_BTHD, ids, param)

  def visible(self, query: Structure, key: Structure) -> jax.Array:
    near = query.position - key.position < self.window
    return near | (key.index < self.first)
