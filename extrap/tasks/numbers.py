"""What tasks on numbers share: digits, their drawing, spelling and reading.

Tokens are the digits 0 .. base - 1, then the task's separators, the end and the
padding. Numbers have no leading zeros unless a task pads them.

Shape key: B examples, T tokens, K numbers of a row, N places (least significant
first, whatever the order of the tokens).
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import Part
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberTask:
  """Numbers between separators.

  Attributes:
    separators: their names, in the order of their tokens.
    seen: names of the separators that a windowed encoding always sees.
    runs: most numbers of a row; each has a role of its own.
  """

  base: int = option(10, 'base of the digits', minimum=2, maximum=1000)
  order: Literal['lsb', 'msb'] = option(
    'lsb', 'which digit stands first: the least or the most significant'
  )

  separators: ClassVar[tuple[str, ...]] = ()
  seen: ClassVar[tuple[str, ...]] = ()
  runs: ClassVar[int] = 1

  @property
  def vocab_size(self) -> int:
    """Digits, separators, end and padding."""
    return self.base + len(self.separators) + 2

  @property
  def end(self) -> int:
    return self.base + len(self.separators)

  @property
  def pad(self) -> int:
    return self.end + 1

  @property
  def names(self) -> list[str]:
    """What each token is called."""
    marks = [f"'{name}'" for name in self.separators]
    return [*map(str, range(self.base)), *marks, 'the end', 'padding']

  def token(self, separator: str) -> int:
    """The token of a separator."""
    return self.base + self.separators.index(separator)

  def number(
    self, key: jax.Array, length_B: jax.Array, places: int
  ) -> jax.Array:
    """Uniform numbers of given lengths, [B, places]; 0 beyond a length."""
    shape = (length_B.shape[0], places)
    digit_BN = jax.random.randint(named(key, 'digits'), shape, 0, self.base)
    first_BN = jax.random.randint(named(key, 'first'), shape, 1, self.base)
    place_N = jnp.arange(places)[None]
    leading_BN = (place_N == length_B[:, None] - 1) & (place_N > 0)
    digit_BN = jnp.where(leading_BN, first_BN, digit_BN)
    return jnp.where(place_N < length_B[:, None], digit_BN, 0)

  def numbers(
    self, key: jax.Array, size_BK: jax.Array, places: int
  ) -> jax.Array:
    """Uniform numbers of given lengths, [B, K, places].

    Each has a key of its own: it does not depend on how many there are.
    """
    ranks_K = jnp.arange(size_BK.shape[1])
    key_K = jax.vmap(lambda rank: named(key, 'number', rank))(ranks_K)
    draw = jax.vmap(self.number, in_axes=(0, 1, None), out_axes=1)
    return draw(key_K, size_BK, places)

  def lengths(self, size_BS: jax.Array) -> jax.Array:
    """Digits of each number; more than the sizes where some are fixed."""
    return size_BS

  def part(self, digit_BN: jax.Array, width_B: jax.Array) -> Part:
    """The first `width_B` places of a number, in the task's order."""
    part = Part(digit_BN, width_B)
    return part if self.order == 'lsb' else part.reversed()

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Places counted within each number from its first token."""
    index_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    digit_BT = tokens_BT < self.base
    delimiter_BT = jnp.where(digit_BT, -1, index_BT)
    place_BT = index_BT - jax.lax.cummax(delimiter_BT, axis=1) - 1
    run_BT = jnp.cumsum(~digit_BT & (tokens_BT < self.end), axis=1)
    run_BT = jnp.where(digit_BT, jnp.minimum(run_BT, self.runs - 1), self.runs)
    kind_BT = tokens_BT - self.base + self.runs
    seen_BT = jnp.zeros_like(tokens_BT)
    for name in self.seen:
      seen_BT |= tokens_BT == self.token(name)
    return Structure(
      index=index_BT,
      position=index_BT,
      place=place_BT,
      role=jnp.where(digit_BT, run_BT, kind_BT),
      run=run_BT,
      anchor=seen_BT,
      runs=self.runs,
      roles=self.runs + len(self.separators) + 2,
      anchors=len(self.seen),
    )

  def digits(self, number: int) -> list[int]:
    """Digits of a non-negative Python integer, least significant first."""
    digits = []
    while number or not digits:
      number, digit = divmod(number, self.base)
      digits.append(digit)
    return digits

  def spelt(
    self, rows: Sequence[Sequence[int]], count: int, places: int | None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Given non-negative Python integers, digit by digit.

    Args:
      rows: at most `count` numbers each.
      count: K.
      places: N; as many as needed if None.

    Returns:
      Digits int32 [B, K, N], and their numbers int32 [B, K]; 0 for none.

    Raises:
      UsageError: a number does not fit.
    """
    digits = [[self.digits(number) for number in row] for row in rows]
    needed = max(len(number) for row in digits for number in row)
    places = needed if places is None else places
    if needed > places:
      raise UsageError(f'a number of {needed} digits where {places} fit')
    digit_BKN = np.zeros((len(rows), count, places), np.int32)
    size_BK = np.zeros((len(rows), count), np.int32)
    for b, row in enumerate(digits):
      for k, number in enumerate(row):
        digit_BKN[b, k, : len(number)] = number
        size_BK[b, k] = len(number)
    return digit_BKN, size_BK

  def value(self, tokens: Sequence[int]) -> int | None:
    """The number that tokens spell; None if they are none."""
    if not tokens or max(tokens) >= self.base:
      return None
    value = 0
    for digit in tokens if self.order == 'msb' else reversed(tokens):
      value = value * self.base + digit
    return value

  def split(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[list[list[int]], bool]:
    """A row cut at its separators, and whether its end is there."""
    tokens = [int(token) for token in np.asarray(tokens_T)]
    ends = self.end in tokens
    tokens = tokens[: tokens.index(self.end)] if ends else tokens
    parts: list[list[int]] = [[]]
    for token in tokens:
      if self.base <= token < self.end:
        parts.append([])
      else:
        parts[-1].append(token)
    return parts, ends
