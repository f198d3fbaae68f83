"""Keys in line with the queries (CoCA), so that scores only fall at first."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.positions.position import POSITIONS, Param
from extrap.models.positions.turned import Turned
from extrap.tasks.task import Structure


@POSITIONS.register('coca')
@dataclasses.dataclass(frozen=True, kw_only=True)
class CoCA(Turned):
  """Collinear constrained attention (Zhu et al. 2023, arXiv 2309.08646).

  In place of a key a token gives a number t_j >= 0 for each pair j of
  coordinates, and the key that a query meets is the query itself times t. The
  strict form scores

    sum_j t_mj |q_nj|^2 cos((n - m) theta_j),

  which is the rotary product of (|q_j|^2, 0) and (t_j, 0). The slack form is
  sum_d q_nd R(q_n, n)_d R(t_m, m)_d, the product of q * R(q, n) and R(t, m); it
  is not a function of n - m alone, though the authors' code computes it.

  As in codefuse-ai/Collinear-Constrained-Attention, t is the relu of the mean
  of a pair's two coordinates. Unlike there, both forms are products of one
  query and one key, not sums of three factors. Their dynamic NTK scaling is
  another base.
  """

  form: Literal['strict', 'slack'] = option(
    'strict',
    'strict: a function of distance, of squared queries; slack: what the '
    "paper's code computes",
  )

  paper: ClassVar[str] = '2309.08646'
  cost: ClassVar[str] = 'A'

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    if self.form == 'slack':
      return query_BTHD * super().query_map(query_BTHD, ids, param)
    first, second = jnp.split(query_BTHD, 2, axis=-1)
    square = first**2 + second**2
    pairs_BTHD = jnp.concatenate([square, jnp.zeros_like(square)], axis=-1)
    return super().query_map(pairs_BTHD, ids, param)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    first, second = jnp.split(key_BTHD, 2, axis=-1)
    factor = jax.nn.relu((first + second) / 2)
    other = factor if self.form == 'slack' else jnp.zeros_like(factor)
    pairs_BTHD = jnp.concatenate([factor, other], axis=-1)
    return super().key_map(pairs_BTHD, ids, param)
