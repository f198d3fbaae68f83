"""Induction: what came after this symbol the last time?

A row reads `.. a b .. ? a b <end>` (Olsson et al. 2022, arXiv 2209.11895; as a
task in H3, Fu et al. 2023, arXiv 2212.14052, and Mamba, Gu and Dao 2023, arXiv
2312.00752, where `a` is one special symbol; trained at 256 tokens, 16 symbols,
tested up to 2^20).

Where it differs. `a` is any symbol or the special one; it stands in the context
once, and b is another symbol. A '?' stands before it where it is asked for.

Stress: 'crowded', all other symbols of the context are alike, so that the most
frequent symbol, and the last one, are wrong; and depths, `at_depth`. Chance: 1
in the number of symbols; the others of them in the row are no better.

In the length study: trained at 64 or 128 tokens with symbols=16, tested at 1 to
16 times the length and eleven depths.

Shape key: B examples, N tokens of the longest context.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.randomness import named
from extrap.tasks.haystack import HaystackTask, place
from extrap.tasks.layout import Part
from extrap.tasks.symbols import Instance, Tokens, whole
from extrap.tasks.task import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Induction(HaystackTask):
  """The task of repeating what followed; see the module's docstring."""

  symbols: int = option(16, 'symbols there are', minimum=3)
  trigger: Literal['any', 'special'] = option(
    'any', 'which symbol stands twice: any of them, or one beside them'
  )
  crowded: bool = option(False, 'all other symbols of a row are alike')

  @property
  def alphabet(self) -> dict[str, int]:
    return {'symbol': self.symbols, 'trigger': 1}

  @property
  def shortest(self) -> int:
    return 2

  @property
  def question(self) -> int:
    return 1

  @property
  def longest(self) -> int:
    return 1

  @property
  def stress(self) -> dict[str, 'Induction']:
    return {'crowded': dataclasses.replace(self, crowded=True)}

  def chance(self, length: int) -> float:
    return 1 / self._others

  @property
  def _others(self) -> int:
    """Symbols beside the one that stands twice."""
    return self.symbols - (self.trigger == 'any')

  def hide(
    self,
    key: jax.Array,
    length_B: jax.Array,
    max_size: int,
    share_B: jax.Array | None,
  ) -> Batch:
    first_B1, next_B1 = self._pair(key, len(length_B))
    other_BN = self._fill(key, first_B1, next_B1, max_size)
    at_B1 = place(named(key, 'place'), length_B - 1, share_B)[:, None]
    token_1N = jnp.arange(max_size)[None]
    tokens_BN = jnp.where(token_1N == at_B1, first_B1, other_BN)
    tokens_BN = jnp.where(token_1N == at_B1 + 1, next_B1, tokens_BN)
    return self.row(Part(tokens_BN, length_B), first_B1, whole(next_B1))

  def _pair(self, key: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """What stands twice, and what follows it, [B, 1]."""
    if self.trigger == 'special':
      first_B1 = jnp.full((rows, 1), self.token('trigger'))
    else:
      first_B1 = self.random(named(key, 'first'), 'symbol', (rows, 1))
    return first_B1, self._beside(named(key, 'next'), first_B1, 1)

  def _beside(self, key: jax.Array, first_B1: jax.Array, n: int) -> jax.Array:
    """Symbols other than those in first_B1, [B, n]."""
    shape = (len(first_B1), n)
    symbol_BN = jax.random.randint(key, shape, 0, self._others)
    # The special one comes after all symbols: none is skipped.
    return symbol_BN + (symbol_BN >= first_B1)

  def _fill(
    self, key: jax.Array, first_B1: jax.Array, next_B1: jax.Array, n: int
  ) -> jax.Array:
    """The rest of a context, [B, N]."""
    if not self.crowded:
      return self._beside(named(key, 'fill'), first_B1, n)
    # Neither of the pair: the symbol that is some steps on among the others.
    step_B1 = jax.random.randint(
      named(key, 'fill'), first_B1.shape, 1, self._others
    )
    rank_B1 = next_B1 - (next_B1 > first_B1)
    crowd_B1 = (rank_B1 + step_B1) % self._others
    crowd_B1 += crowd_B1 >= first_B1
    return jnp.broadcast_to(crowd_B1, (len(first_B1), n))

  def oracle(self, instance: Instance) -> Tokens:
    """What comes after the symbol in the context."""
    context, (first,) = instance
    return (context[context.index(first) + 1],)
