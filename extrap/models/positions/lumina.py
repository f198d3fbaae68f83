"""Lumina-Next's rotary positions on a grid, for larger images than trained on.

Shape key: B examples, T tokens, D head width, A = D / 4 pairs of an axis.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS
from extrap.models.positions.rotary import Rotary
from extrap.tasks.task import Structure


@POSITIONS.register('lumina')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Lumina(Rotary):
  """Axial rotary positions, scaled by frequency or by time (arXiv 2406.18583).

  Half of the pairs turn by a token's row, which is its run, and half by its
  column, which is its place in it, both at rates base^(-4i/D). At scale s:

  frequency: the base becomes base s^(D/d) with d = D log_base(L / 2 pi), the
    dimension whose wavelength is the trained side L.
  time: the base becomes base s^(D/d) with d = (D - 1) t + 1. At t = 0, noise,
    pairs are interpolated; at t = 1, data, the base is base s.
  switch: rates are divided by s while t < watershed; then the base is base s.

  The first two never turn a pair more slowly than interpolation, base^(-4i/D)
  / s. The paper has those (Zhuo et al. 2024); the code that was released with
  it (Lumina-T2X, lumina_next_t2i/models/model.py) has the switch.
  """

  scale: float = option(
    2.0,
    'how much longer than in training sides are: root of the ratio of areas',
    minimum=1.0,
  )
  rule: Literal['frequency', 'time', 'switch'] = option(
    'time', 'what the scaling of a pair depends on'
  )
  trained: int = option(
    64,
    'side L of the training images, for frequency',
    unit='tokens',
    minimum=7,
  )
  time: float = option(
    1.0,
    'time t of the flow, from 0, noise, to 1, data; not for frequency',
    minimum=0.0,
    maximum=1.0,
  )
  watershed: float = option(0.3, 'time of the switch', minimum=0.0, maximum=1.0)

  reads: ClassVar[tuple[str, ...]] = ('run', 'place')
  rung: ClassVar[str] = 'L5 place-relative'
  paper: ClassVar[str] = '2406.18583'

  def check(self, heads: int, head_width: int) -> None:
    del heads
    if head_width % 4:
      raise UsageError(
        f'--model.position={self.name} needs a head width that is a multiple '
        f'of 4, not {head_width}: change --model.width or --model.heads'
      )

  def rates(self, width: int) -> np.ndarray:
    """How far the pairs of an axis turn, [A], in radians a row or column."""
    fraction_A = np.arange(0, width, 4) / width
    plain_A = self.base**-fraction_A
    slowest_A = plain_A / self.scale
    if self.rule == 'switch' and self.time < self.watershed:
      return slowest_A
    stretched_A = plain_A * self.scale ** -(fraction_A * self._power(width))
    if self.rule == 'switch':
      return stretched_A
    return np.maximum(stretched_A, slowest_A)

  def _power(self, width: int) -> float:
    """Power of the scale that the base is multiplied by."""
    if self.rule == 'frequency':
      return math.log(self.base) / math.log(self.trained / (2 * math.pi))
    if self.rule == 'time':
      return width / ((width - 1) * self.time + 1)
    return 1.0

  def angles(self, ids: Structure, width: int) -> jax.Array:
    rate_A = jnp.asarray(self.rates(width))[None, None]
    axes = [axis[..., None] * rate_A for axis in (ids.run, ids.place)]
    return jnp.concatenate(axes, axis=-1)
