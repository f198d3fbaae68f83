"""Common and frequent words: which symbols are there most often?

Two tests of RULER (Hsieh et al. 2024, arXiv 2404.06654; NVIDIA/RULER,
scripts/data/synthetic): the answer is not at one place, it is in all of the
context. A row reads `w w w .. ? a1 .. ak <end>`.

CommonWords (CWE): 10 common words 30 times each, the others 3 times (6 and 1 in
contexts below 4096 tokens), as many of those as fill the context, in random
order. All common words are asked for, in the order in which they first stand in
the context.

FrequentWords (FWE): the word of rank r stands in a share r^-alpha / zeta(alpha)
of the context, alpha = 2, rounded down; that of rank 1 is noise, and what
rounding leaves. Ranks 2, 3 and 4 are asked for, in their order.

Where they differ. Words are single symbols, without numbers before them, and
there is no example in the prompt; answers have an order, where RULER takes any.
The last of CWE's other words may stand less often than the rest.

Stress: 'close', seldom one less than often; of FWE alpha = 1.5. Chance: the
words without repetition.

In the length study: CommonWords(common=3, often=6, seldom=1, words=2048) and
FrequentWords() trained at 64 or 128 tokens, tested at 1 to 16 times the
length (CWE needs a word for nearly every token then).

Shape key: B examples, N tokens of the longest context, K words asked for, R
ranks, X words.
"""

import collections
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import Part
from extrap.tasks.symbols import (
  Instance,
  QuestionTask,
  Tokens,
  pick,
  whole,
)
from extrap.tasks.task import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class _WordTask(QuestionTask):
  """Words in random order, some of which are asked for."""

  words: int = option(1024, 'words there are', minimum=1)

  def chance(self, length: int) -> float:
    return 1 / math.perm(self.words, self.longest)

  def shuffled(
    self, key: jax.Array, word_BN: jax.Array, length_B: jax.Array
  ) -> jax.Array:
    """The first words of a row in random order, [B, N]."""
    score_BN = jax.random.uniform(key, word_BN.shape)
    slot_1N = jnp.arange(word_BN.shape[1])[None]
    score_BN = jnp.where(slot_1N < length_B[:, None], score_BN, 2.0)
    return pick(word_BN, jnp.argsort(score_BN, axis=1))

  def asked(
    self, word_BN: jax.Array, length_B: jax.Array, answer_BK: jax.Array
  ) -> Batch:
    """The batch of given contexts and answers."""
    nothing_B0 = jnp.zeros((len(length_B), 0), jnp.int32)
    return self.row(Part(word_BN, length_B), nothing_B0, whole(answer_BK))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonWords(_WordTask):
  """The task of finding all common words; see the module's docstring."""

  common: int = option(10, 'common words of a row', minimum=1)
  often: int = option(30, 'times that a common word stands', minimum=2)
  seldom: int = option(3, 'times that another word stands', minimum=1)

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.seldom >= self.often:
      raise UsageError(
        f'--task.seldom={self.seldom}: not less than --task.often={self.often}'
      )

  @property
  def alphabet(self) -> dict[str, int]:
    return {'word': self.words}

  @property
  def shortest(self) -> int:
    return self.common * self.often

  @property
  def longest(self) -> int:
    return self.common

  @property
  def stress(self) -> dict[str, 'CommonWords']:
    return {'close': dataclasses.replace(self, seldom=self.often - 1)}

  def check_size(self, max_size: int) -> None:
    super().check_size(max_size)
    self.check_enough(max_size, self._different(max_size), 'words')

  def _different(self, max_size: int) -> int:
    """Words of the longest row."""
    return self.common - (self.shortest - max_size) // self.seldom

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    self.check_size(max_size)
    length_B, slot_N = self.lengths(size_BS), jnp.arange(max_size)
    other_N = self.common + (slot_N - self.shortest) // self.seldom
    which_N = jnp.where(slot_N < self.shortest, slot_N // self.often, other_N)
    rows = len(length_B)
    words, most = named(key, 'words'), self._different(max_size)
    word_BX = self.some(words, 'word', rows, most)
    word_BN = word_BX[:, which_N]
    word_BN = self.shuffled(named(key, 'order'), word_BN, length_B)
    common_BK = word_BX[:, : self.common]
    first_BK = jnp.argmax(word_BN[:, None] == common_BK[..., None], axis=-1)
    answer_BK = pick(common_BK, jnp.argsort(first_BK, axis=1))
    return self.asked(word_BN, length_B, answer_BK)

  def oracle(self, instance: Instance) -> Tokens:
    """Words by number, of which the first ones, as they come."""
    counts = collections.Counter(instance[0])
    most = {word for word, _ in counts.most_common(self.common)}
    return tuple(word for word in counts if word in most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrequentWords(_WordTask):
  """The task of ranking words; see the module's docstring."""

  words: int = option(128, 'words there are', minimum=1)
  alpha: float = option(2.0, 'power of ranks', minimum=1.25, maximum=4)
  top: int = option(3, 'words asked for', minimum=1)

  @property
  def alphabet(self) -> dict[str, int]:
    return {'word': self.words, 'noise': 1}

  @property
  def shortest(self) -> int:
    return shortest_ranked(self.alpha, self.top)

  @property
  def longest(self) -> int:
    return self.top

  @property
  def stress(self) -> dict[str, 'FrequentWords']:
    return {'close': dataclasses.replace(self, alpha=1.5)}

  def check_size(self, max_size: int) -> None:
    super().check_size(max_size)
    self.check_enough(max_size, self._ranks(max_size), 'words')

  def _ranks(self, max_size: int) -> int:
    """Words beside the noise in the longest row."""
    last = (max_size / zeta(self.alpha)) ** (1 / self.alpha)
    return max(int(last) - 1, self.top)

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    self.check_size(max_size)
    length_B, ranks = self.lengths(size_BS), self._ranks(max_size)
    share_R = (2.0 + np.arange(ranks)) ** -self.alpha / zeta(self.alpha)
    share_1R = jnp.asarray(share_R, jnp.float32)[None]
    count_BR = jnp.floor(length_B[:, None] * share_1R).astype(jnp.int32)
    last_B1R = jnp.cumsum(count_BR, axis=1)[:, None]
    slot_N = jnp.arange(max_size)[None, :, None]
    which_BN = jnp.sum(slot_N >= last_B1R, axis=-1)
    rows = len(length_B)
    word_BX = self.some(named(key, 'words'), 'word', rows, ranks)
    noise_BN = jnp.full(which_BN.shape, self.token('noise'))
    word_BN = jnp.where(which_BN < ranks, pick(word_BX, which_BN), noise_BN)
    word_BN = self.shuffled(named(key, 'order'), word_BN, length_B)
    return self.asked(word_BN, length_B, word_BX[:, : self.top])

  def oracle(self, instance: Instance) -> Tokens:
    """Words by number, without the noise."""
    noise = self.token('noise')
    counts = collections.Counter(w for w in instance[0] if w != noise)
    return tuple(word for word, _ in counts.most_common(self.top))


def zeta(alpha: float) -> float:
  """Riemann's zeta function, by a sum and the integral of its tail."""
  terms = 10_000
  total = math.fsum(r**-alpha for r in range(1, terms))
  tail = terms ** (1 - alpha) / (alpha - 1) + terms**-alpha / 2
  return total + tail


@functools.cache
def shortest_ranked(alpha: float, top: int) -> int:
  """From which length on the numbers of the top ranks, and the next, differ."""
  share_R = np.arange(2, top + 3) ** -alpha / zeta(alpha)
  # From here on two shares are a token apart.
  safe = math.ceil(1 / np.min(share_R[:-1] - share_R[1:]))
  length_N = np.arange(1, safe + 1)
  count_NR = np.floor(length_N[:, None] * share_R[None])
  tied_N = (count_NR[:, :-1] <= count_NR[:, 1:]).any(axis=1)
  return int(np.max(length_N[tied_N], initial=0)) + 1
