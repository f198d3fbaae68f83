"""Biases of attention logits by token distance."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.models.positions.position import (
  POSITIONS,
  Param,
  Position,
  matmul_precision,
)
from extrap.models.positions.stretched import Stretched
from extrap.tasks.task import Structure


def alibi_slopes(heads: int) -> np.ndarray:
  """2^(-8h/H); for other head counts the original's interleaved slopes."""
  power = 2 ** int(np.log2(heads))
  slopes = 2.0 ** (-8 * np.arange(1, power + 1) / power)
  between = 2.0 ** (-4 * np.arange(1, 2 * (heads - power), 2) / power)
  return np.concatenate([slopes, between])


@POSITIONS.register('alibi')
@dataclasses.dataclass(frozen=True, kw_only=True)
class ALiBi(Position):
  """A fixed slope a head (Press et al. 2021, arXiv 2108.12409)."""

  reads: ClassVar[tuple[str, ...]] = ('position',)
  paper: ClassVar[str] = '2108.12409'
  cost: ClassVar[str] = 'C'

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    del param
    slope = jnp.asarray(alibi_slopes(heads), jnp.float32)
    slope_1H11 = slope.reshape(1, heads, 1, 1)
    return -slope_1H11 * (query.position - key.position)


@POSITIONS.register('fire')
@dataclasses.dataclass(frozen=True, kw_only=True)
class FIRE(Stretched):
  """A small network of the relative distance (arXiv 2310.04418).

  bias(i, j) = MLP(log(1 + c (i - j)) / log(1 + c max(i, L))), with learned c
  and L, per head (Li et al. 2023).
  """

  hidden: int = option(32, 'hidden units of the network', minimum=1)
  threshold: float = option(
    512.0, 'start of the learned length threshold', unit='tokens', minimum=1.0
  )

  reads: ClassVar[tuple[str, ...]] = ('position',)
  rung: ClassVar[str] = 'L2 smooth relative'
  paper: ClassVar[str] = '2310.04418'
  cost: ClassVar[str] = 'C'

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    prepared = super().prepare(ids, key, train)
    if prepared.position is not ids.index:
      return prepared
    # All rows count their tokens alike: the network runs for one of them.
    return prepared.replace(position=ids.index[:1])

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    init = jax.nn.initializers
    scale = jnp.abs(param('log_scale', init.constant(0.1), ()))
    threshold = param('threshold', init.constant(self.threshold), ())
    # Keys after the query are masked later; keep their logarithm finite.
    distance = jnp.maximum(query.position - key.position, 0)
    length = jnp.maximum(query.position, jnp.abs(threshold))
    ratio = jnp.log1p(scale * distance) / (jnp.log1p(scale * length) + 1e-6)
    in_F = param('in_kernel', init.normal(1.0), (self.hidden,))
    bias_F = param('in_bias', init.normal(0.5), (self.hidden,))
    out_FH = param('out_kernel', init.lecun_normal(), (self.hidden, heads))
    line = (1, 1, 1, self.hidden)
    hidden = jax.nn.relu(
      ratio[:, 0, ..., None] * in_F.reshape(line) + bias_F.reshape(line)
    )
    return jnp.einsum(
      'BQKF,FH->BHQK', hidden, out_FH, precision=matmul_precision(out_FH.dtype)
    )
