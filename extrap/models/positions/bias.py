"""Biases of attention logits by token distance."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS, Param, Position
from extrap.models.positions.relative import Relative, network
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
class ALiBi(Relative):
  """A fixed slope a head (Press et al. 2021, arXiv 2108.12409).

  The slope times the key's position would do, as what all keys have in common
  changes nothing. In blocks it is no faster, and at 16,384 tokens in float32
  a thousand times less exact.
  """

  paper: ClassVar[str] = '2108.12409'

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    del param
    slope = jnp.asarray(alibi_slopes(heads), jnp.float32)
    slope_1H11 = slope.reshape(1, heads, 1, 1)
    return -slope_1H11 * (query.position - key.position)


@POSITIONS.register('hard_alibi')
@dataclasses.dataclass(frozen=True, kw_only=True)
class HardALiBi(Position):
  """A window of tokens a head (Jelassi et al. 2024, arXiv 2402.01032).

  A bias of -inf from w tokens back on, w of each head; other heads see all
  tokens and know no distance. By default windows are of 1, 2, .. H/2 tokens in
  the first half of the heads, as in the authors' code.
  """

  windows: tuple[int, ...] = option(
    (),
    'tokens that each head sees, itself included (0: all); empty: 1, 2, .. in '
    'the first half of the heads, all in the others',
    unit='tokens',
    minimum=0,
  )

  rung: ClassVar[str] = 'L2 smooth relative'
  paper: ClassVar[str] = '2402.01032'
  cost: ClassVar[str] = 'F'

  def check(self, heads: int, head_width: int) -> None:
    del head_width
    if self.windows and len(self.windows) != heads:
      given = ','.join(map(str, self.windows))
      raise UsageError(
        f'--model.position.windows={given}: give one to each of '
        f'--model.heads={heads}'
      )

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    del param
    half = heads // 2
    windows = self.windows or (*range(1, half + 1), *[0] * (heads - half))
    window_1H11 = jnp.asarray(windows).reshape(1, -1, 1, 1)
    # Of tokens, however far training spreads their positions.
    seen = (window_1H11 == 0) | (query.index - key.index < window_1H11)
    return jnp.where(seen, 0, -jnp.inf)


@POSITIONS.register('fire')
@dataclasses.dataclass(frozen=True, kw_only=True)
class FIRE(Relative, Stretched):
  """A small network of the relative distance (arXiv 2310.04418).

  bias(i, j) = MLP(log(1 + c (i - j)) / log(1 + c max(i, L))), with learned c
  and L, per head (Li et al. 2023).
  """

  hidden: int = option(32, 'hidden units of the network', minimum=1)
  threshold: float = option(
    512.0, 'start of the learned length threshold', unit='tokens', minimum=1.0
  )

  paper: ClassVar[str] = '2310.04418'

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
    return network([ratio], in_F[None], bias_F, out_FH)
