"""Rotary encodings: queries and keys turned by angles of their position.

Shape key: B examples, T tokens, H heads, D head width, F = D / 2 pairs.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS, Position
from extrap.tasks.task import Structure


def rotate(
  x_BTHD: jax.Array,
  angle_BTF: jax.Array,
  magnitude: float | jax.Array = 1.0,
) -> jax.Array:
  """Turns pair (i, i + D/2) of every head by angle_BTF[..., i].

  Args:
    x_BTHD: queries or keys.
    angle_BTF: in radians.
    magnitude: factor of each pair, [B, T, F], or of all.
  """
  first, second = jnp.split(x_BTHD, 2, axis=-1)
  cos = (magnitude * jnp.cos(angle_BTF))[:, :, None]
  sin = (magnitude * jnp.sin(angle_BTF))[:, :, None]
  turned = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(turned, axis=-1).astype(x_BTHD.dtype)


@POSITIONS.register('rotary')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary(Position):
  """RoPE (Su et al. 2021, arXiv 2104.09864): pair j turns by n base^(-2j/D).

  What differs from it by other rates overrides `rates`; where they depend on
  the token or on the length, `angles`.
  """

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

  @property
  def magnitude(self) -> float:
    """Factor of turned queries and of turned keys: logits get its square."""
    return 1.0

  def rates(self, width: int) -> np.ndarray:
    """How far each pair turns, [F], in radians a token and in float64."""
    return self.base ** (-np.arange(0, width, 2) / width)

  def angles(self, ids: Structure, width: int) -> jax.Array:
    """How far each pair of each token is turned, [B, T, F], in radians."""
    return ids.position[..., None] * jnp.asarray(self.rates(width))[None, None]

  def rotate(self, x_BTHD: jax.Array, ids: Structure) -> jax.Array:
    angle_BTF = self.angles(ids, x_BTHD.shape[-1])
    return rotate(x_BTHD, angle_BTF, self.magnitude)
