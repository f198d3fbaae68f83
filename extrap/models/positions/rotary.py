"""Rotary encodings: queries and keys turned by angles of their position."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS, Position
from extrap.tasks.task import Structure


def rotate(x_BTHD: jax.Array, angle_BTF: jax.Array) -> jax.Array:
  """Turns pair (i, i + D/2) of every head by angle_BTF[..., i]."""
  first, second = jnp.split(x_BTHD, 2, axis=-1)
  cos, sin = jnp.cos(angle_BTF)[:, :, None], jnp.sin(angle_BTF)[:, :, None]
  turned = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(turned, axis=-1).astype(x_BTHD.dtype)


@POSITIONS.register('rotary')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary(Position):
  """RoPE (Su et al. 2021, arXiv 2104.09864)."""

  base: float = option(
    10_000.0, 'longest wavelength over 2 pi', unit='tokens', minimum=1.0
  )

  reads: ClassVar[tuple[str, ...]] = ('position',)
  paper: ClassVar[str] = '2104.09864'
  cost: ClassVar[str] = 'A'

  def check(self, heads: int, head_width: int) -> None:
    del heads
    if head_width % 2:
      raise UsageError(
        f'--model.position={self.name} needs an even head width, '
        f'not {head_width}: change --model.width or --model.heads'
      )

  def rotate(self, x_BTHD: jax.Array, ids: Structure) -> jax.Array:
    width = x_BTHD.shape[-1]
    rate_F = self.base ** (-jnp.arange(0, width, 2) / width)
    return rotate(x_BTHD, ids.position[..., None] * rate_F[None, None])
