"""Attention to what comes next, in an order that the model learns.

Dot products of a few coordinates do not tell the least key above a query: that
takes a logit which is greatest just above and falls off at once below. Here
heads have a score of their own for it.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.positions.position import (
  Pairs,
  Param,
  Position,
  lookup,
)
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recency(Position):
  """A learned slope a head, and a bias of its own for each short distance.

  Slopes start at `steepest` times 4^-h in the first half of the heads and at 0
  in the other, so that some see near tokens alone and others all. At a slope of
  2.3 = ln 10 a head reads the digits of a number as a decimal fraction.
  """

  near: int = option(
    4, 'distances below this have a bias', unit='tokens', minimum=0
  )
  steepest: float = option(2.3, "where the first head's slope starts")

  reads: ClassVar[tuple[str, ...]] = ('position',)
  rung: ClassVar[str] = 'L2 smooth relative'

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    start_H = self.steepest * 4.0 ** -jnp.arange(heads)
    start_H = jnp.where(jnp.arange(heads) < heads // 2, start_H, 0.0)
    slope_H = param('slope', lambda key, shape: start_H, (heads,))
    init = jax.nn.initializers.normal(0.1)
    table_XH = param('near', init, (self.near + 1, heads))
    distance = query.position - key.position
    row = jnp.clip(distance[:, 0], 0, self.near)
    bias = jnp.moveaxis(lookup(table_XH, row), -1, 1)
    return bias - jnp.abs(slope_H)[None, :, None, None] * distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordered(Recency):
  """Half of the heads compare the last coordinate of queries and keys.

  With z the key's less the query's, their logit gains g min(-z, steep z): most
  for the key just above the query, whatever lies farther on. g is `gain` times
  4^h, for heads of another resolution.
  """

  gain: float = option(2.0, 'gain of the first head that compares', minimum=0.0)
  steep: float = option(4.0, 'slope below over slope above', minimum=1.0)

  def scores(self, pairs: Pairs, param: Param) -> jax.Array:
    heads = pairs.query.shape[2]
    rank_H = jnp.arange(heads) - heads // 2
    gain_H = jnp.where(rank_H >= 0, self.gain * 4.0**rank_H, 0.0)
    query_BHQ1 = jnp.moveaxis(pairs.query[..., -1], -1, 1)[..., None]
    above = jnp.moveaxis(pairs.key[..., -1], -1, 1)
    above = (above if pairs.gathered else above[:, :, None]) - query_BHQ1
    order = jnp.minimum(-above, self.steep * above)
    order *= gain_H[None, :, None, None]
    # What is compared is not multiplied, too.
    query_BQHD = pairs.query.at[..., -1].set(0)
    return super().scores(pairs.replace(query=query_BQHD), param) + order
