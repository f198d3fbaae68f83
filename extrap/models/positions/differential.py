"""The difference of two attentions, in which what both attend to cancels.

Shape key: B examples, T tokens, Q queries, K keys, H heads, D head width,
F = D / 2.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS, Pairs, Param
from extrap.models.positions.wrapped import Wrapped
from extrap.tasks.task import Structure

EPSILON = 1e-5  # of the norm of a head, as in the authors' code


@POSITIONS.register('differential')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Differential(Wrapped):
  """Differential attention (Ye et al. 2024, arXiv 2410.05258).

  The two halves of a head's queries and keys give two softmaxes, and the head
  reads (softmax_1 - lambda softmax_2) V, normalised and times 1 - start, with

    lambda = exp(q1 . k1) - exp(q2 . k2) + start

  of four learned vectors that the heads of a layer share. The base acts on each
  half. Logits are over sqrt(D / 2), as halves are that wide; the paper takes
  half as many heads, of twice the width.

  The paper's start grows with depth, as 0.8 - 0.6 exp(-0.3 l) in layer l = 0,
  1, ..; an encoding does not know its layer, so here it is one for all of them.
  Both softmaxes have all pairs in memory.
  """

  start: float = option(0.8, 'where lambda starts', minimum=0.0, maximum=0.99)

  paper: ClassVar[str] = '2410.05258'
  cost: ClassVar[str] = 'D'

  def check(self, heads: int, head_width: int) -> None:
    if head_width % 2:
      raise UsageError(
        f'--model.position={self.name} needs an even head width, '
        f'not {head_width}: change --model.width or --model.heads'
      )
    super().check(heads, head_width // 2)
    if len(self.base.key_shape(head_width // 2)) > 1:
      raise UsageError(
        f'--model.position.base={self.base.name} has two kinds of scores '
        f'itself, as --model.position={self.name} has'
      )

  def key_shape(self, head_width: int) -> tuple[int, ...]:
    return (2, *self.base.key_shape(head_width // 2))

  def common(
    self, ids: Structure, param: Param, head_width: int
  ) -> dict[str, jax.Array]:
    return super().common(ids, param, head_width // 2)

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    query = super().query_map(_halves(query_BTHD), ids, param)
    return _paired(query) * jnp.asarray(2**0.5, query.dtype)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return _paired(super().key_map(_halves(key_BTHD), ids, param))

  def weights(self, pairs: Pairs, param: Param) -> jax.Array:
    first = super().weights(_half(pairs, 0), param)
    second = super().weights(_half(pairs, 1), param)
    return first - self._share(pairs.value.shape[-1] // 2, param) * second

  def _share(self, width: int, param: Param) -> jax.Array:
    """lambda."""
    init = jax.nn.initializers.normal(0.1)
    names = ('lambda_q1', 'lambda_k1', 'lambda_q2', 'lambda_k2')
    q1_F, k1_F, q2_F, k2_F = (param(name, init, (width,)) for name in names)
    first, second = jnp.sum(q1_F * k1_F), jnp.sum(q2_F * k2_F)
    return jnp.exp(first) - jnp.exp(second) + self.start

  def attend(self, pairs: Pairs, param: Param) -> jax.Array:
    read_BQHD = super().attend(pairs, param)
    init = jax.nn.initializers.ones
    scale_D = param('norm', init, read_BQHD.shape[-1:])[None, None, None]
    exact_BQHD = read_BQHD.astype(scale_D.dtype)
    square_BQH1 = jnp.mean(exact_BQHD**2, axis=-1, keepdims=True)
    exact_BQHD *= jax.lax.rsqrt(square_BQH1 + EPSILON) * scale_D
    return (exact_BQHD * (1 - self.start)).astype(read_BQHD.dtype)


def _halves(x_BTHD: jax.Array) -> jax.Array:
  """Each half a head of its own, [B, T, 2 H, D / 2]."""
  *tokens, heads, width = x_BTHD.shape
  return x_BTHD.reshape(*tokens, 2 * heads, width // 2)


def _paired(x: jax.Array) -> jax.Array:
  """Two kinds of a head, [B, T, H, 2, ..], of mapped halves."""
  *tokens, heads, width = x.shape
  return x.reshape(*tokens, heads // 2, 2, width)


def _half(pairs: Pairs, nth: int) -> Pairs:
  """The pairs of one of the two softmaxes."""
  query, key = (x[..., nth, :] for x in (pairs.query, pairs.key))
  return pairs.replace(query=query, key=key)
