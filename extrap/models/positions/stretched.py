"""Randomised positions: training meets positions of longer sequences.

Shape key: B examples, T tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import Position
from extrap.randomness import named
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretched(Position):
  """Randomised positions (Ruoss et al. 2023, arXiv 2305.16843).

  Training spreads the tokens of each example at random, in order; elsewhere
  they follow one another.
  """

  stretch: int = option(
    0,
    'training spreads the tokens at random over so many positions, in order '
    '(0: they follow one another)',
    unit='tokens',
    minimum=0,
  )

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    ids = super().prepare(ids, key, train)
    if not (self.stretch and train and key is not None):
      return ids
    drawn_BT = ordered_subset(named(key, 'stretch'), ids, self.stretch)
    return ids.replace(position=drawn_BT)


def ordered_subset(key: jax.Array, ids: Structure, among: int) -> jax.Array:
  """Positions [B, T]: for each example T of 0 .. among - 1, in order."""
  examples, tokens = ids.index.shape
  check_room(tokens, among)
  draw = lambda key: jax.random.permutation(key, among)[:tokens]  # noqa: E731
  drawn_BT = jax.vmap(draw)(jax.random.split(key, examples))
  return jnp.sort(drawn_BT, axis=-1)


def check_room(tokens: int, among: int) -> None:
  """Refuses more tokens than there are positions."""
  if tokens > among:
    raise UsageError(
      f'--model.position.stretch={among} is less than the {tokens} tokens of '
      'a sequence'
    )
