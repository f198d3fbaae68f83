"""LongChat-Lines: a record of lines, each with a name and a number.

A row reads `a n d1 .. d5 a n d1 .. d5 .. ? a n d1 .. d5 <end>`: lines `line
<adjective-noun>: REGISTER_CONTENT is <number>` of which one is asked for (Li et
al. 2023, DachengLi1/LongChat, longeval/utils.py; extended to 25,000 tokens by
Giraffe, arXiv 2308.10882, abacusai/Long-Context).

Where it differs. A line is its seven symbols: two of the name, five digits, any
of them; there, numbers are 1 .. 50,000. Lines fill the context; up to six
tokens of filler stand between them, for its preamble. Names differ as pairs.

Stress: 'shared', the names of a row are the pairs of as few adjectives and
nouns as there can be, so that one of the two tells little. Chance: 1e-5; a
number of any line is right once in as many lines as there are.

In the length study: trained at 64 or 128 tokens, 9 or 18 lines, with
words=32, tested at 1 to 16 times the length and eleven depths.

Shape key: B examples, N tokens of the longest context, K lines, X pairs of
names, W tokens of a line, '5' digits.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.haystack import HaystackTask, Items, hidden
from extrap.tasks.layout import Part
from extrap.tasks.symbols import Instance, Tokens, distinct, pick, whole
from extrap.tasks.task import Batch

DIGITS = 5
WIDTH = 2 + DIGITS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lines(HaystackTask):
  """The task of finding a line; see the module's docstring."""

  words: int = option(32, 'adjectives there are, and nouns', minimum=1)
  fillers: int = option(8, 'symbols of the filler', minimum=1)
  shared: bool = option(False, 'lines share as few adjectives as there can be')

  @property
  def alphabet(self) -> dict[str, int]:
    names = {'adjective': self.words, 'noun': self.words}
    return {'digit': 10} | names | {'filler': self.fillers}

  @property
  def shortest(self) -> int:
    return WIDTH

  @property
  def question(self) -> int:
    return 2

  @property
  def longest(self) -> int:
    return DIGITS

  @property
  def stress(self) -> dict[str, 'Lines']:
    return {'shared': dataclasses.replace(self, shared=True)}

  def chance(self, length: int) -> float:
    return 10.0**-DIGITS

  def check_size(self, max_size: int) -> None:
    super().check_size(max_size)
    most = max_size // WIDTH
    if most > self.words**2:
      raise UsageError(
        f'a length of {max_size} needs {most} pairs of words; '
        f'--task.words={self.words}'
      )

  def hide(
    self,
    key: jax.Array,
    length_B: jax.Array,
    max_size: int,
    share_B: jax.Array | None,
  ) -> Batch:
    rows, most, count_B = len(length_B), max_size // WIDTH, length_B // WIDTH
    name_BK2 = self._names(key, count_B, most)
    digits = (rows, most, DIGITS)
    digit_BK5 = self.random(named(key, 'digits'), 'digit', digits)
    line_BKW = jnp.concatenate([name_BK2, digit_BK5], axis=-1)
    there_BK = jnp.arange(most)[None] < count_B[:, None]
    items = Items(line_BKW, jnp.where(there_BK, WIDTH, 0))
    filler = named(key, 'filler')
    filler_BN = self.random(filler, 'filler', (rows, max_size))
    tokens_BN, _ = hidden(key, items, filler_BN, length_B, share_B)
    context = Part(tokens_BN, length_B)
    return self.row(context, name_BK2[:, 0], whole(digit_BK5[:, 0]))

  def _names(self, key: jax.Array, count_B: jax.Array, most: int) -> jax.Array:
    """Pairs of an adjective and a noun, [B, K, 2], no two alike."""
    rows, words = len(count_B), self.words
    allowed_BX = self._square(count_B, most) if self.shared else None
    pairs = named(key, 'pairs')
    pair_BK = distinct(pairs, rows, most, words**2, allowed_BX)
    adjective_BX = self.some(named(key, 'first'), 'adjective', rows, words)
    noun_BX = self.some(named(key, 'second'), 'noun', rows, words)
    adjective_BK = pick(adjective_BX, pair_BK // words)
    noun_BK = pick(noun_BX, pair_BK % words)
    return jnp.stack([adjective_BK, noun_BK], axis=-1)

  def _square(self, count_B: jax.Array, most: int) -> jax.Array:
    """Pairs of the fewest names that suffice for all lines, bool [B, X]."""
    side_K = jnp.array([math.isqrt(n) + 1 for n in range(most)])
    side_B1 = side_K[count_B - 1][:, None]
    pair_1X = jnp.arange(self.words**2)[None]
    return jnp.maximum(pair_1X // self.words, pair_1X % self.words) < side_B1

  def oracle(self, instance: Instance) -> Tokens:
    """The digits after the two symbols of the name."""
    context, name = instance
    for at in range(len(context)):
      if context[at : at + 2] == name:
        return context[at + 2 : at + WIDTH]
    raise ValueError(f'no line is called {name}')
