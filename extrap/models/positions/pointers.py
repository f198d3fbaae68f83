"""Tokens that a task tells what to read, and that read nothing else."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.errors import UsageError
from extrap.models.positions.position import Param, Position, lookup
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pointers(Position):
  """A learned bias per head and slot of the few tokens in `Structure.see`.

  Tokens' roles are embedded, so that what one has read can tell which other to
  read. For traces of algorithms, whose control flow is thereby given: what a
  query sees does not depend on the length of the problem. It is no value of
  --model.position: few tasks say what to read.
  """

  reads: ClassVar[tuple[str, ...]] = ('see', 'role')
  rung: ClassVar[str] = 'L7 trace, pointers'

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    if not ids.see:
      raise UsageError('pointers: this task does not say what to read')
    return super().prepare(ids, key, train)

  def embed(self, ids: Structure, param: Param, width: int) -> jax.Array:
    init = jax.nn.initializers.normal(1.0)
    return lookup(param('roles', init, (ids.roles, width)), ids.role)

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    init = jax.nn.initializers.normal(0.1)
    table_WH = param('slots', init, (len(query.see), heads))
    slot = sum(w * (at == key.index) for w, at in enumerate(query.see))
    return jnp.moveaxis(lookup(table_WH, slot[:, 0]), -1, 1)

  def visible(self, query: Structure, key: Structure) -> jax.Array:
    seen = query.see[0] == key.index
    for at in query.see[1:]:
      seen |= at == key.index
    return seen

  def neighbours(self, ids: Structure) -> jax.Array:
    return jnp.stack(ids.see, axis=-1)
