"""Rotary rates that are parameters: one program reads nets at many rates.

Shape key: B examples, T tokens, H heads, D head width, F = D / 2 pairs,
R replicas.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from extrap.models.positions.position import Param, Position
from extrap.models.positions.rotary import Rotary, rotate
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenRates(Rotary):
  """Rotary positions at the rates of another encoding, see `given`.

  A constant in a program makes another program of it, which takes seconds to
  compile; tests at many scales would mostly wait for that.
  """

  def common(
    self, ids: Structure, param: Param, head_width: int
  ) -> dict[str, jax.Array]:
    """Rates [F] in radians a token, and the factor of turned vectors."""
    del ids
    zeros = nn.initializers.zeros
    return {
      'rates': param('given_rates', zeros, (head_width // 2,)),
      'factor': param('given_factor', zeros, ()),
    }

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return _turned(query_BTHD, ids, param)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return _turned(key_BTHD, ids, param)


def given(
  position: Position, head_width: int, replicas: int
) -> dict[str, jax.Array] | None:
  """Parameters [R, ..] that make `GivenRates` turn as an encoding does.

  Args:
    position: the encoding.
    head_width: D.
    replicas: R.

  Returns:
    What to add to those of a model; None of an encoding that is more than
    rates.
  """
  own = type(position)
  if not isinstance(position, Rotary) or any(
    getattr(own, hook) is not getattr(Rotary, hook)
    for hook in ('angles', 'rotate', 'query_map', 'key_map', 'prepare')
  ):
    return None
  rates_F = jnp.asarray(position.rates(head_width), jnp.float32)
  factor = np.float32(position.magnitude)
  return {
    'position_given_rates': jnp.tile(rates_F[None], (replicas, 1)),
    'position_given_factor': jnp.full(replicas, factor),
  }


def _turned(x_BTHD: jax.Array, ids: Structure, param: Param) -> jax.Array:
  # `common` gives both: nothing is declared here.
  rates_F, factor = (
    param(name, nn.initializers.zeros, ()) for name in ('rates', 'factor')
  )
  angle_BTF = ids.position[..., None] * rates_F[None, None]
  return rotate(x_BTHD, angle_BTF, factor)
