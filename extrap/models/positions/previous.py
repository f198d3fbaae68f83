"""A hard window of two tokens: a token itself and one before it.

Nothing tells where a token stands: a rule that is learned here is local, and
the same everywhere.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.models.positions.position import (
  POSITIONS,
  Param,
  Position,
  lookup,
)
from extrap.tasks.task import Structure


@POSITIONS.register('previous')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Previous(Position):
  """Each token sees itself and the one `stride` tokens before it.

  The stride is 1 unless the model's loops double it.
  """

  reads: ClassVar[tuple[str, ...]] = ('role', 'stride')
  rung: ClassVar[str] = 'L6 hard window'
  paper: ClassVar[str] = 'this library'
  cost: ClassVar[str] = 'C'

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    init = jax.nn.initializers.normal(1.0)
    return lookup(param('roles', init, (ids.roles, width)), ids.role)

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    own = (key.index == query.index).astype(jnp.int32)
    init = jax.nn.initializers.normal(0.1)
    table_2H = param('bias', init, (2, heads))
    return jnp.moveaxis(lookup(table_2H, own[:, 0]), -1, 1)

  def visible(self, query: Structure, key: Structure) -> jax.Array:
    distance = query.index - key.index
    return (distance == 0) | (distance == _stride(query))

  def neighbours(self, ids: Structure) -> jax.Array:
    tokens = ids.index.shape[1]
    before_BT = ids.index - _stride(ids)
    before_BT = jnp.where(before_BT < 0, tokens, before_BT)
    return jnp.stack([ids.index, before_BT], axis=-1)


def _stride(ids: Structure) -> jax.Array | int:
  return 1 if ids.stride is None else ids.stride
