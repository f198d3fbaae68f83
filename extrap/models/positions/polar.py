"""Magnitudes that tell what, and phases that tell where (PoPE).

Shape key: B examples, T tokens, H heads, D head width, P = 2 D.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.models.positions.position import POSITIONS, Param
from extrap.models.positions.turned import Turned
from extrap.tasks.task import Structure

LOWEST_PHASE = -2 * np.pi


@POSITIONS.register('pope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PoPE(Turned):
  """Polar coordinate position embedding (arXiv 2509.10534).

  Every coordinate c has a rate theta_c = base^(-c / D) and scores

    softplus(q_c) softplus(k_c) cos((m - n) theta_c + delta_c)

  for a query at n and a key at m, with a phase delta_c that is learned for each
  head and kept in [-2 pi, 0] (Gopalakrishnan et al. 2025). That is the rotary
  product, in twice the width, of pairs (softplus(q_c), 0) and
  softplus(k_c) (cos delta_c, sin delta_c): another base stretches it.

  As in lucidrains/x-transformers, phases start at 0 or anywhere, and one that a
  step takes outside counts as the end that it crossed.
  """

  start: Literal['zero', 'uniform'] = option(
    'zero', 'where phases start: at 0, or uniformly in [-2 pi, 0]'
  )

  paper: ClassVar[str] = '2509.10534'
  cost: ClassVar[str] = 'A'

  def __post_init__(self) -> None:
    super().__post_init__()
    self.refuse_itself()

  def check(self, heads: int, head_width: int) -> None:
    super().check(heads, 2 * head_width)

  def key_shape(self, head_width: int) -> tuple[int, ...]:
    return super().key_shape(2 * head_width)

  def common(
    self, ids: Structure, param: Param, head_width: int
  ) -> dict[str, jax.Array]:
    return super().common(ids, param, 2 * head_width)

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    size_BTHD = jax.nn.softplus(query_BTHD)
    pairs_BTHP = jnp.concatenate([size_BTHD, jnp.zeros_like(size_BTHD)], -1)
    return super().query_map(pairs_BTHP, ids, param)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    phase_HD = param('phase', self._phases, key_BTHD.shape[2:])[None, None]
    # At an end itself there is a gradient: phases start there.
    phase_HD = jnp.where(phase_HD > 0, 0, phase_HD)
    phase_HD = jnp.where(phase_HD < LOWEST_PHASE, LOWEST_PHASE, phase_HD)
    size_BTHD = jax.nn.softplus(key_BTHD)
    pairs_BTHP = jnp.concatenate(
      [size_BTHD * jnp.cos(phase_HD), size_BTHD * jnp.sin(phase_HD)], axis=-1
    )
    return super().key_map(pairs_BTHP.astype(key_BTHD.dtype), ids, param)

  def _phases(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if self.start == 'zero':
      return jnp.zeros(shape)
    return jax.random.uniform(key, shape, minval=LOWEST_PHASE, maxval=0.0)
