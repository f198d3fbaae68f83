"""xPos: rotary positions whose products decay with distance.

Shape key: B examples, T tokens, H heads, D head width, F = D / 2 pairs.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.models.positions.position import POSITIONS, Limit, Param
from extrap.models.positions.rotary import Rotary, rotate
from extrap.tasks.task import Structure

LARGEST = 84.0  # exp of it, and of its negative, are well inside float32


@POSITIONS.register('xpos')
@dataclasses.dataclass(frozen=True, kw_only=True)
class XPos(Rotary):
  """xPos (Sun et al. 2022, arXiv 2212.10554).

  Pair j of a product over distance t is multiplied by zeta_j^(t/g), with
  zeta_j = (2j/D + gamma) / (1 + gamma): queries by zeta_j^((n - c)/g) and keys
  by its inverse. c cancels. It is the middle of what has been read, as in
  `torchscale`, so that both factors stay near 1 in short sequences and within
  float32 in long ones; keys are therefore cached as they are.
  """

  decay: float = option(
    512.0,
    'distance g in which pair j decays by zeta_j',
    unit='tokens',
    minimum=1.0,
  )
  gamma: float = option(
    0.4, 'how much of it the fastest pair keeps: g / (1 + g)', minimum=0.01
  )

  reads: ClassVar[tuple[str, ...]] = ('position', 'length')
  paper: ClassVar[str] = '2212.10554'
  late: ClassVar[bool] = True

  @property
  def limits(self) -> tuple[Limit, ...]:
    """As far as both factors of the fastest pair are within float32."""
    longest = 2 * LARGEST * self.decay / -self._log_zeta(2)[0]
    return (Limit('position', int(longest) - 1, 0, 'decay'),)

  def _log_zeta(self, width: int) -> np.ndarray:
    fraction_F = np.arange(0, width, 2) / width
    return np.log((fraction_F + self.gamma) / (1 + self.gamma))

  def _grown(self, x_BTHD: jax.Array, ids: Structure, sign: int) -> jax.Array:
    """Turned, and multiplied by zeta^(sign (n - c) / g)."""
    width = x_BTHD.shape[-1]
    rate_F = jnp.asarray(sign * self._log_zeta(width) / self.decay)
    middle_BT1 = (ids.position - ids.length // 2)[..., None]
    factor_BTF = jnp.exp(middle_BT1 * rate_F[None, None])
    return rotate(x_BTHD, self.angles(ids, width), factor_BTF)

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    del param
    return self._grown(query_BTHD, ids, 1)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    del param
    return self._grown(key_BTHD, ids, -1)
