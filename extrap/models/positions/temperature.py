"""Logits that grow with the number of tokens, so that attention stays sharp.

Biases of the base are not multiplied.

Shape key: B examples, T tokens, H heads, D head width.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import choice, option
from extrap.models.positions.position import POSITIONS, Param, Position
from extrap.models.positions.wrapped import Wrapped
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sharper(Wrapped):
  """Logits of a query grow with the number of tokens up to it."""

  cost: ClassVar[str] = 'A'

  def factor(self, tokens_BT: jax.Array) -> jax.Array:
    """Factor of the logits of a query that is the n-th token."""
    raise NotImplementedError

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    mapped = super().query_map(query_BTHD, ids, param)
    factor_BT = self.factor(ids.index + 1.0)
    factor = jnp.expand_dims(factor_BT, tuple(range(2, mapped.ndim)))
    return (mapped * factor).astype(mapped.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logarithmic(Sharper):
  """log(a + n) / log(a + L) from the trained length L on, 1 before."""

  offset: float
  trained: int

  def factor(self, tokens_BT: jax.Array) -> jax.Array:
    beyond_BT = jnp.maximum(tokens_BT, self.trained) + self.offset
    return jnp.log(beyond_BT) / jnp.log(self.trained + self.offset)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stepwise(Sharper):
  """1 + g log(floor(n / f) + 1), a step every f tokens."""

  growth: float
  floor: int

  def factor(self, tokens_BT: jax.Array) -> jax.Array:
    return 1 + self.growth * jnp.log1p(jnp.floor(tokens_BT / self.floor))


@POSITIONS.register('log_n')
@dataclasses.dataclass(frozen=True, kw_only=True)
class LogN(Sharper):
  """Logits times s log n for a query that sees n tokens, or max(1, log_L n).

  ssmax is the scalable softmax of Nakanishi 2025 (arXiv 2501.19399), with s
  learned for each head; su (Su 2021, kexue.fm/archives/8823) has no parameters,
  acts beyond the trained length L alone, and may be put around a trained model.
  With p-RoPE as the base, ssmax finds needles far beyond the trained length;
  with rotary itself it does not (arXiv 2505.17083).
  """

  form: Literal['ssmax', 'su'] = option(
    'ssmax', 'ssmax: s log n, s learned; su: max(1, log_L n)'
  )
  start: float = option(0.43, 'where s starts, of ssmax', minimum=0.0)
  trained: int = option(512, 'L, of su', unit='tokens', minimum=2)

  paper: ClassVar[str] = '2501.19399'

  def __post_init__(self) -> None:
    self.refuse_itself()

  def factor(self, tokens_BT: jax.Array) -> jax.Array:
    log_BT = jnp.log(tokens_BT)
    if self.form == 'ssmax':
      return log_BT
    return jnp.maximum(1.0, log_BT / np.log(self.trained))

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    mapped = super().query_map(query_BTHD, ids, param)
    if self.form == 'su':
      return mapped
    init = jax.nn.initializers.constant(self.start)
    s_H = param('log_n', init, query_BTHD.shape[2:3])
    axes = (0, 1, *range(3, mapped.ndim))
    return (mapped * jnp.expand_dims(s_H, axes)).astype(mapped.dtype)


@POSITIONS.register('llama4_temperature')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama4Temperature(Stepwise):
  """Logits times 1 + 0.1 log(floor(n / 8192) + 1) for a query that sees n.

  The temperature of Llama 4 (AI-Hypercomputer/maxtext, attentions.py), which
  has it in its layers without an encoding alone: by default the base is none.
  """

  base: Position = choice(POSITIONS, 'none', 'the encoding that it changes')
  growth: float = option(0.1, 'factor of the logarithm', minimum=0.0)
  floor: int = option(
    8192, 'tokens from one such step to the next', unit='tokens', minimum=1
  )

  paper: ClassVar[str] = 'Llama 4'
