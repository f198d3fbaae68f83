"""The flip-flop language: the bit that was last written.

A row reads `w x i x r x ..`: instructions with a bit each. 'w' writes its bit,
'i' ignores it, and the bit of 'r' is the one that was last written; those bits
are asked for (Liu et al. 2023, "Exposing attention glitches with flip-flop
language modeling", arXiv 2306.00946; data: synthseq/flipflop). The first
instruction writes and the last one reads; the others ignore with a probability,
and otherwise read or write, one as likely as the other. Other bits are random.

Where it differs. The loss is on read bits alone, where theirs is on all tokens.
Answers stand within the row: they are scored by teacher forcing alone.

Published: 512 tokens, ignore=0.8, tested with ignore=0.98 and 0.1 (their sparse
and dense splits, here `stress`): transformers glitch on the sparse ones, LSTM
and PaTH do not. Error is that of a read; exact match is of all reads of a row.

Chance: 1/2 a read. Of exact match it depends on how many writes are read: what
is read with no write between is one bit.

In the length study: trained at 64 or 128 tokens, tested at 1 to 16 times the
length, and sparse and dense ones.

Shape key: B examples, I instructions, '2' an instruction and its bit.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.randomness import named
from extrap.tasks.symbols import Instance, SymbolTask, Tokens, pick
from extrap.tasks.task import Batch

ASKED = -1  # Stands for a bit that is asked for, in instances.


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipFlop(SymbolTask):
  """The task of remembering a bit; see the module's docstring.

  A last token without a bit is left out where the length is odd.
  """

  ignore: float = option(
    0.8, 'probability that an instruction ignores', minimum=0, maximum=1
  )

  @property
  def alphabet(self) -> dict[str, int]:
    return {'bit': 2, 'write': 1, 'read': 1, 'ignore': 1}

  @property
  def shortest(self) -> int:
    return 4

  @property
  def stress(self) -> dict[str, 'FlipFlop']:
    return {
      'sparse': dataclasses.replace(self, ignore=0.98),
      'dense': dataclasses.replace(self, ignore=0.1),
    }

  def chance(self, length: int) -> float:
    """A half for each write that is read, over rows; see the module."""
    acts, unread, read = (1 - self.ignore) / 2, 1.0, 0.0
    for _ in range(length // 2 - 2):
      unread, read = (
        (1 - acts) * unread + acts * read,
        (1 - acts) * read + acts * unread / 2,
      )
    return unread / 2 + read

  def token_length(self, max_size: int) -> int:
    return max_size // 2 * 2

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    self.check_size(max_size)
    count_B1 = self.lengths(size_BS)[:, None] // 2
    step_1I = jnp.arange(max_size // 2)[None]
    shape = (len(count_B1), max_size // 2)
    kind_BI = self._instructions(key, count_B1, shape)
    bit_BI = jax.random.randint(named(key, 'bits'), shape, 0, 2)
    writes_BI = kind_BI == self.token('write')
    last_BI = jax.lax.cummax(jnp.where(writes_BI, step_1I, 0), axis=1)
    reads_BI = kind_BI == self.token('read')
    bit_BI = jnp.where(reads_BI, pick(bit_BI, last_BI), bit_BI)
    there_BI = step_1I < count_B1
    pair_BI2 = jnp.stack([kind_BI, bit_BI], axis=-1)
    pair_BI2 = jnp.where(there_BI[..., None], pair_BI2, self.pad)
    queries_BI = jnp.broadcast_to(2 * step_1I, shape)
    tokens_BT = pair_BI2.reshape(shape[0], -1)
    return Batch(tokens_BT, queries_BI, bit_BI, reads_BI & there_BI)

  def _instructions(
    self, key: jax.Array, count_B1: jax.Array, shape: tuple[int, int]
  ) -> jax.Array:
    draw_BI = jax.random.uniform(named(key, 'instructions'), shape)
    read, write = self.token('read'), self.token('write')
    acts_BI = jnp.where(draw_BI < (1 + self.ignore) / 2, read, write)
    kind_BI = jnp.where(draw_BI < self.ignore, self.token('ignore'), acts_BI)
    step_1I = jnp.arange(shape[1])[None]
    kind_BI = jnp.where(step_1I == 0, write, kind_BI)
    return jnp.where(step_1I == count_B1 - 1, read, kind_BI)

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[Instance, Tokens | None]:
    """The row with what it asks for as ASKED, and the bits that were read."""
    row = [int(token) for token in np.asarray(tokens_T) if token != self.pad]
    answer = []
    for at in range(0, len(row) - 1, 2):
      if row[at] == self.token('read'):
        answer.append(row[at + 1])
        row[at + 1] = ASKED
    return (tuple(row), ()), tuple(answer)

  def oracle(self, instance: Instance) -> Tokens:
    """A register, instruction by instruction."""
    (row, _), register, answer = instance, None, []
    for kind, bit in zip(row[::2], row[1::2], strict=True):
      if kind == self.token('write'):
        register = bit
      elif kind == self.token('read'):
        answer.append(register)
    return tuple(answer)
