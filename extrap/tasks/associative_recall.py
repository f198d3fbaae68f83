"""Multi-query associative recall (MQAR): pairs first, then their keys.

A row reads `k1 v1 .. kK vK`, and then has each key once more, at gaps from a
power law; what is asked for where a key stands again is its value (Arora et al.
2023, "Zoology", arXiv 2312.04927; HazyResearch/zoology,
zoology/data/multiquery_ar.py). Of the slots of two tokens behind the pairs,
slot g is chosen with probability in proportion to (g + 1)^(power - 1), without
replacement, one key after another; the key is the first of its two tokens.

Where it differs. Other tokens are blank or random values; there, random tokens
of all kinds, a key perhaps. Keys and values of a row differ among themselves,
as there. As there, too, the token after a query is not its value, so that what
is asked for never stands in the row again: these answers are scored by teacher
forcing alone.

Published: 8192 symbols, power 0.01; tokens and pairs 64 and 4, 128 and 8, 256
and 16 (Figure 2), one pair for 16 tokens; for extrapolation, training on up to
256 tokens and 64 pairs and tests on up to 1024 and 256.

Stress: 'random', random values between the queries; 'uniform', all gaps equally
likely, far ones too. Chance: of all K queries, the values without repetition;
one that answers any value of the row is right once in K times at each.

In the length study: trained at 64 or 128 tokens with symbols=256, tested at 1
to 16 times the length, with one pair for 16 tokens and with four in all. Two
layers take long to get beyond guessing among the values of the row.

Shape key: B examples, T tokens, S slots behind the pairs, K pairs.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.symbols import Instance, SymbolTask, Tokens, pick
from extrap.tasks.task import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssociativeRecall(SymbolTask):
  """The task of recalling values; see the module's docstring."""

  symbols: int = option(256, 'symbols there are, half of them keys', minimum=4)
  pairs: int = option(
    0, 'pairs of a row; 0: one for every `spacing` tokens', minimum=0
  )
  spacing: int = option(16, 'tokens for a pair', unit='tokens', minimum=4)
  power: float = option(0.01, 'of gaps; 1: all are equally likely', minimum=0)
  fill: Literal['blank', 'random'] = option(
    'blank', 'other tokens: blanks or random values'
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.symbols % 2:
      raise UsageError(
        f'--task.symbols={self.symbols}: half of them are keys, an even number'
      )

  @property
  def alphabet(self) -> dict[str, int]:
    half = self.symbols // 2
    return {'key': half, 'value': half, 'blank': 1}

  @property
  def shortest(self) -> int:
    """A pair and its query each have two tokens."""
    return 4 * max(self.pairs, 1)

  @property
  def stress(self) -> dict[str, 'AssociativeRecall']:
    return {
      'random': dataclasses.replace(self, fill='random'),
      'uniform': dataclasses.replace(self, power=1.0),
    }

  def chance(self, length: int) -> float:
    return 1 / math.perm(self.symbols // 2, self.count(length))

  def count(self, length: int) -> int:
    """Pairs of a row."""
    return self.pairs or max(length // self.spacing, 1)

  def check_size(self, max_size: int) -> None:
    super().check_size(max_size)
    if self.count(max_size) > self.symbols // 2:
      raise UsageError(
        f'a length of {max_size} needs {self.count(max_size)} keys; '
        f'--task.symbols={self.symbols}'
      )

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    self.check_size(max_size)
    length_B, most = self.lengths(size_BS), self.count(max_size)
    rows, count_B = len(length_B), self._counts(length_B)
    key_BK = self.some(named(key, 'keys'), 'key', rows, most)
    value_BK = self.some(named(key, 'values'), 'value', rows, most)
    gap_BK = self._gaps(key, length_B, count_B, max_size)[:, :most]
    asked_BK = jnp.arange(most)[None] < count_B[:, None]
    # Queries that are not there are put beyond the row, and dropped.
    query_BK = 2 * (count_B[:, None] + gap_BK)
    query_BK = jnp.where(asked_BK, query_BK, max_size)
    row_B1 = jnp.arange(rows)[:, None]
    tokens_BT = self._paired(key, key_BK, value_BK, count_B, max_size)
    tokens_BT = tokens_BT.at[row_B1, query_BK].set(key_BK, mode='drop')
    inside_BT = jnp.arange(max_size)[None] < length_B[:, None]
    tokens_BT = jnp.where(inside_BT, tokens_BT, self.pad)
    queries_BK = jnp.where(asked_BK, query_BK, 0)
    return Batch(tokens_BT, queries_BK, value_BK, asked_BK)

  def _counts(self, length_B: jax.Array) -> jax.Array:
    """Pairs of each row, [B]."""
    if self.pairs:
      return jnp.full_like(length_B, self.pairs)
    return jnp.maximum(length_B // self.spacing, 1)

  def _gaps(
    self,
    key: jax.Array,
    length_B: jax.Array,
    count_B: jax.Array,
    max_size: int,
  ) -> jax.Array:
    """Slots [B, S] in the order in which keys take them.

    The largest of Gumbel variables around the logarithms of probabilities are
    a draw without replacement.
    """
    slot_S = jnp.arange(max_size // 2)
    shape = (len(length_B), len(slot_S))
    noise_BS = jax.random.gumbel(named(key, 'gaps'), shape)
    score_BS = noise_BS + (self.power - 1) * jnp.log1p(slot_S)[None]
    room_B = (length_B - 2 * count_B) // 2
    there_BS = slot_S[None] < room_B[:, None]
    return jnp.argsort(jnp.where(there_BS, -score_BS, jnp.inf), axis=1)

  def _paired(
    self,
    key: jax.Array,
    key_BK: jax.Array,
    value_BK: jax.Array,
    count_B: jax.Array,
    max_size: int,
  ) -> jax.Array:
    """Tokens [B, T]: the pairs, then filler."""
    token_T, shape = jnp.arange(max_size), (len(count_B), max_size)
    filler_BT = jnp.full(shape, self.token('blank'))
    if self.fill == 'random':
      filler_BT = self.random(named(key, 'filler'), 'value', shape)
    pair_BK2 = jnp.stack([key_BK, value_BK], axis=-1)
    index_BT = jnp.broadcast_to(token_T[None], shape)
    pair_BT = pick(pair_BK2.reshape(shape[0], -1), index_BT)
    return jnp.where(token_T[None] < 2 * count_B[:, None], pair_BT, filler_BT)

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[Instance, Tokens | None]:
    """The row up to its padding; it does not spell the answers."""
    tokens = (int(token) for token in np.asarray(tokens_T))
    row = tuple(itertools.takewhile(lambda token: token != self.pad, tokens))
    return (row, ()), None

  def oracle(self, instance: Instance) -> Tokens:
    """The value of each key that stands again, in the order of the row."""
    (row, _), values, answer = instance, {}, []
    for at, token in enumerate(row):
      if self.index('key', token) is not None:
        if token in values:
          answer.append(values[token])
        else:
          values[token] = row[at + 1]
    return tuple(answer)
