"""Selective copying: the symbols among the blanks, in their order.

A row reads `_ x1 _ _ x2 .. ? x1 x2 .. xM <end>`, with the symbols anywhere in
the context (Gu and Dao 2023, "Mamba", arXiv 2312.00752, after Jing et al. 2019,
arXiv 1706.02761; state-spaces/s4, src/dataloaders/datasets/copying.py with
`variable`).

Where it differs. The answer is written symbol by symbol, each one read back,
where the source has M markers to answer all at once. There is an end to it.

Published: 4096 tokens, 16 symbols to copy, 14 or so to choose from. Copying of
whole strings (Jelassi et al. 2024, arXiv 2402.01032) is `Copying(base=26)`.

Stress: 'early' and 'late', all symbols together at an end of the context;
'alike', two symbols alone, so that what follows a symbol does not tell where
one is. Chance: symbols^-M; of rows of two, one symbol M times is likelier.

In the length study: trained at 64 or 128 tokens with symbols=16 and count=8,
tested at 1 to 16 times the length.

Shape key: B examples, N tokens of the longest context, M symbols to copy.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import Part
from extrap.tasks.symbols import (
  Instance,
  QuestionTask,
  Tokens,
  distinct,
  marked,
  pick,
  whole,
)
from extrap.tasks.task import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectiveCopying(QuestionTask):
  """The task of copying some tokens; see the module's docstring."""

  symbols: int = option(16, 'symbols there are', minimum=1)
  count: int = option(16, 'tokens to copy', unit='tokens', minimum=1)
  used: int = option(
    0, 'symbols of a row; 0: any of them', unit='symbols', minimum=0
  )
  spread: Literal['anywhere', 'early', 'late'] = option(
    'anywhere', 'where the symbols stand: all at an end of the context, or not'
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.used > self.symbols:
      raise UsageError(
        f'--task.used={self.used}: there are {self.symbols} symbols '
        '(--task.symbols)'
      )

  @property
  def alphabet(self) -> dict[str, int]:
    return {'symbol': self.symbols, 'blank': 1}

  @property
  def shortest(self) -> int:
    return self.count

  @property
  def longest(self) -> int:
    return self.count

  @property
  def stress(self) -> dict[str, 'SelectiveCopying']:
    return {
      'early': dataclasses.replace(self, spread='early'),
      'late': dataclasses.replace(self, spread='late'),
      'alike': dataclasses.replace(self, used=min(2, self.symbols)),
    }

  def chance(self, length: int) -> float:
    """One symbol M times, if the row has it."""
    used = self.used or self.symbols
    return used / self.symbols * float(used) ** -self.count

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    self.check_size(max_size)
    length_B = self.lengths(size_BS)
    rows, blank = len(length_B), self.token('blank')
    symbol_BM = self._symbols(key, rows)
    there_BN = self._slots(key, length_B, max_size)
    rank_BN = jnp.cumsum(there_BN, axis=1) - 1
    tokens_BN = jnp.where(there_BN, pick(symbol_BM, rank_BN), blank)
    nothing_B0 = jnp.zeros((rows, 0), jnp.int32)
    return self.row(Part(tokens_BN, length_B), nothing_B0, whole(symbol_BM))

  def _symbols(self, key: jax.Array, rows: int) -> jax.Array:
    """What is copied, [B, M]."""
    used = self.used or self.symbols
    own_BX = distinct(named(key, 'used'), rows, used, self.symbols)
    shape = (rows, self.count)
    return pick(
      own_BX, jax.random.randint(named(key, 'symbols'), shape, 0, used)
    )

  def _slots(
    self, key: jax.Array, length_B: jax.Array, max_size: int
  ) -> jax.Array:
    """Which tokens are copied, bool [B, N]."""
    slot_1N, length_B1 = jnp.arange(max_size)[None], length_B[:, None]
    if self.spread == 'early':
      return jnp.broadcast_to(slot_1N < self.count, (len(length_B), max_size))
    if self.spread == 'late':
      back_BN = length_B1 - 1 - slot_1N
      return (back_BN >= 0) & (back_BN < self.count)
    inside_BN, rows = slot_1N < length_B1, len(length_B)
    slots = named(key, 'slots')
    index_BM = distinct(slots, rows, self.count, max_size, inside_BN)
    return marked(index_BM, jnp.full(rows, self.count), max_size)

  def oracle(self, instance: Instance) -> Tokens:
    """The context without its blanks."""
    blank = self.token('blank')
    return tuple(token for token in instance[0] if token != blank)
