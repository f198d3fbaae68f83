"""What tasks on strings of symbols share: `x1 .. xn = y1 .. ym <end>`.

Symbols are the tokens 0 .. base - 1; the answer is as long as the string, or
shorter where a task says so.

Shape key: B examples, T tokens, N places, S = 1 size axis.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import Part, ask, join, symbol
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class StringTask(NumberTask):
  """A string of symbols and what becomes of it."""

  axes: ClassVar[tuple[str, ...]] = ('length',)
  separators: ClassVar[tuple[str, ...]] = ('=',)
  seen: ClassVar[tuple[str, ...]] = ('=',)
  runs = 2

  def answer(self, symbol_BN: jax.Array, length_B: jax.Array) -> jax.Array:
    """Symbols of the answer, [B, at most N]."""
    raise NotImplementedError

  def oracle(self, instance: tuple[int, ...]) -> tuple[int, ...]:
    """The answer, by a loop in Python."""
    raise NotImplementedError

  def longest(self, max_size: int) -> int:
    """Symbols of the longest answer."""
    return max_size

  def width(self, length_B: jax.Array) -> jax.Array:
    """Symbols of each answer, [B]."""
    return length_B

  def token_length(self, max_size: int) -> int:
    """The string, '=', the answer and the end."""
    return max_size + self.longest(max_size) + 2

  def largest_ids(self, max_size: int) -> dict[str, int]:
    return {
      'position': self.token_length(max_size) - 1,
      'place': max_size - 1,
      'role': self.runs + len(self.separators) + 1,
      'run': self.runs,
    }

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform strings; see `Task.sample`.

    Row contents do not depend on max_size when B is 1.
    """
    shape = (size_BS.shape[0], max_size)
    symbol_BN = jax.random.randint(named(key, 'symbols'), shape, 0, self.base)
    return self.encode(symbol_BN, size_BS)

  def encode(self, symbol_BN: jax.Array, size_BS: jax.Array) -> Batch:
    """The batch of given symbols; those beyond a string's length do not count.

    Symbols are cleared there, so that an answer cannot depend on them.
    """
    rows, max_size = symbol_BN.shape
    length_B = size_BS[:, 0]
    inside_BN = jnp.arange(max_size)[None] < length_B[:, None]
    symbol_BN = jnp.where(inside_BN, symbol_BN, 0)
    parts = (
      Part(symbol_BN, length_B),
      symbol(self.token('='), rows),
      Part(self.answer(symbol_BN, length_B), self.width(length_B)),
      symbol(self.end, rows),
    )
    tokens_BT, start_BP = join(parts, self.token_length(max_size), self.pad)
    most = self.longest(max_size) + 1
    return ask(tokens_BT, start_BP[:, 2], most, self.pad)

  def from_strings(
    self, strings: Sequence[Sequence[int]], max_size: int | None = None
  ) -> Batch:
    """The batch of given strings of symbols.

    Raises:
      UsageError: a string does not fit or has other symbols.
    """
    needed = max(map(len, strings))
    places = needed if max_size is None else max_size
    if needed > places:
      raise UsageError(f'a string of {needed} symbols where {places} fit')
    symbol_BN = np.zeros((len(strings), places), np.int32)
    for row, string in enumerate(strings):
      if not string or not all(0 <= x < self.base for x in string):
        raise UsageError(f'{string} is no string of symbols 0..{self.base - 1}')
      symbol_BN[row, : len(string)] = string
    size_BS = np.array([[len(string)] for string in strings], np.int32)
    return self.encode(jnp.asarray(symbol_BN), jnp.asarray(size_BS))

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """String and answer (None if it has no end) that a row spells."""
    parts, ends = self.split(tokens_T)
    complete = ends and len(parts) == 2
    return tuple(parts[0]), tuple(parts[1]) if complete else None
