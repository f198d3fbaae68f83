"""Addition of several numbers, at once or by a trace of running sums.

A row reads `a + b + c = s <end>`, or with a trace `a + b + c = r > s <end>`,
where r = a + b: each running sum takes one more number (Cho et al. 2025, arXiv
2410.15787). Numbers have no leading zeros; of those of a row one has the full
length, the others any length up to it.

Shape key: B examples, T tokens, K numbers of a row, N places (least significant
first, whatever the order of the tokens), M places of a sum, S = 1 size axis.
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
from extrap.tasks.layout import Part, ask, join, symbol
from extrap.tasks.numbers import NumberTask
from extrap.tasks.operation import add, digits_of
from extrap.tasks.task import Batch, Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summation(NumberTask):
  """The task of adding up several numbers; see the module's docstring."""

  fewest: int = option(2, 'fewest numbers of a row', minimum=2)
  operands: int = option(
    3, 'most numbers of a row; how many is drawn uniformly', minimum=2
  )
  trace: bool = option(False, 'write the running sums before the last one')
  roles: Literal['shared', 'own'] = option(
    'shared',
    'whether the numbers have one role, so that their order need not matter, '
    'or each its own',
  )

  alike: float = option(
    0.0,
    'chance that a drawn digit repeats that of the number before (0 where it '
    'has ended): many equal digits at one place are rare otherwise',
    minimum=0.0,
    maximum=1.0,
  )
  alike_varies: bool = option(
    False,
    'draw that chance for each row, uniformly around --task.alike: rows of '
    'which nearly all digits are equal are common then',
  )
  alike_lengths: float = option(
    0.0,
    'chance that a number is as long as the one before was drawn, before one '
    'of them is given the full length: rows of which most numbers end at one '
    'place are rare otherwise',
    minimum=0.0,
    maximum=1.0,
  )

  axes = ('digits',)
  separators: ClassVar[tuple[str, ...]] = ('+', '=', '>')
  seen: ClassVar[tuple[str, ...]] = ('=',)

  def __post_init__(self) -> None:
    if self.fewest > self.operands:
      raise UsageError(
        f'at least --task.fewest={self.fewest} numbers, but at most '
        f'--task.operands={self.operands}'
      )
    if self.alike_varies and self.alike > 0.5:
      raise UsageError(
        f'--task.alike={self.alike:g}: a chance that varies is uniform in 0 to '
        'twice that, at most 1'
      )

  @property
  def sums(self) -> int:
    """Most sums that a row writes."""
    return self.operands - 1 if self.trace else 1

  @property
  def runs(self) -> int:
    """Most numbers of a row, sums included."""
    return self.operands + self.sums

  def longest(self, max_size: int) -> int:
    """M: the carry out of the top is less than the numbers are many."""
    extra = 1
    while self.base**extra < self.operands:
      extra += 1
    return max_size + extra

  def token_length(self, max_size: int) -> int:
    """Each number and sum with the delimiter or end after it."""
    written = self.operands * max_size + self.sums * self.longest(max_size)
    return written + self.runs

  def largest_ids(self, max_size: int) -> dict[str, int]:
    digit_roles = 2 if self.roles == 'shared' else self.operands + 1
    return {
      'position': self.token_length(max_size) - 1,
      'place': self.longest(max_size) - 1,
      'role': digit_roles + len(self.separators) + 1,
      'run': self.runs,
    }

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform numbers, the longest of exactly the given length.

    Row contents do not depend on max_size when B is 1.
    """
    rows, most = size_BS.shape[0], self.operands
    count_B = jax.random.randint(
      named(key, 'count'), (rows,), self.fewest, most + 1
    )
    digits = size_BS[:, :1]
    shape = (rows, most)
    size_BK = jax.random.randint(named(key, 'sizes'), shape, 1, digits + 1)
    full_B = jax.random.randint(named(key, 'full'), (rows,), 0, count_B)
    operand_K = jnp.arange(most)[None]
    if self.alike_lengths:
      again_BK = jax.random.bernoulli(
        named(key, 'alike lengths'), self.alike_lengths, shape
      )
      # The last number up to each that is drawn anew gives its length.
      source_BK = jax.lax.cummax(jnp.where(again_BK, 0, operand_K), axis=1)
      size_BK = jnp.take_along_axis(size_BK, source_BK, axis=1)
    size_BK = jnp.where(operand_K == full_B[:, None], digits, size_BK)
    size_BK = jnp.where(operand_K < count_B[:, None], size_BK, 0)
    number_BKN = self.numbers(key, size_BK, max_size)
    if self.alike:
      number_BKN = self._repeated(named(key, 'alike'), number_BKN, size_BK)
    return self.encode(number_BKN, size_BK)

  def _repeated(
    self, key: jax.Array, number_BKN: jax.Array, size_BK: jax.Array
  ) -> jax.Array:
    """Numbers of which some digits are those of the number before."""
    rows, _, places = number_BKN.shape
    place_N = jnp.arange(places)[None]
    chance_B1 = jnp.full((rows, 1), self.alike)
    if self.alike_varies:
      share_B1 = jax.random.uniform(named(key, 'chance'), (rows, 1))
      chance_B1 = 2 * self.alike * share_B1

    def step(
      before_BN: jax.Array, given: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, jax.Array]:
      rank, number_BN, size_B = given
      again_BN = jax.random.bernoulli(
        named(key, 'number', rank), chance_B1, (rows, places)
      )
      # A number keeps its length: its first digit may not become a 0.
      leads_BN = place_N == size_B[:, None] - 1
      again_BN &= (place_N < size_B[:, None]) & ~(leads_BN & (before_BN == 0))
      number_BN = jnp.where(again_BN & (rank > 0), before_BN, number_BN)
      return number_BN, number_BN

    number_KBN, size_KB = number_BKN.swapaxes(0, 1), size_BK.T
    given = (jnp.arange(len(number_KBN)), number_KBN, size_KB)
    _, number_KBN = jax.lax.scan(step, number_KBN[0], given)
    return number_KBN.swapaxes(0, 1)

  def running_sums(self, number_BKN: jax.Array) -> jax.Array:
    """Digits [B, K, M] of the sum of the first 1, 2, .. K numbers."""
    extra = self.longest(0)
    padded_BKM = jnp.pad(number_BKN, ((0, 0), (0, 0), (0, extra)))

    def step(
      sum_BM: jax.Array, number_BM: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
      sum_BM = add(sum_BM, number_BM, self.base)
      return sum_BM, sum_BM

    number_KBM = jnp.moveaxis(padded_BKM, 1, 0)
    _, sum_KBM = jax.lax.scan(step, jnp.zeros_like(number_KBM[0]), number_KBM)
    return jnp.moveaxis(sum_KBM, 0, 1)

  def encode(self, number_BKN: jax.Array, size_BK: jax.Array) -> Batch:
    """The batch of given digits; numbers of size 0 are not there."""
    rows, _, max_size = number_BKN.shape
    there_BK = size_BK > 0
    parts: list[Part] = []
    for k in range(self.operands):
      sign = symbol(self.token('+'), rows).only(there_BK[:, k])
      parts += [sign] * (k > 0)
      parts.append(self.part(number_BKN[:, k], size_BK[:, k]))
    parts.append(symbol(self.token('='), rows))
    sum_BKM = self.running_sums(number_BKN)
    # Numbers that are not there add nothing: the last sum is everyone's.
    first = 1 if self.trace else self.operands - 1
    for k in range(first, self.operands):
      there_B = there_BK[:, k] | (k == first)
      sign = symbol(self.token('>'), rows).only(there_B)
      parts += [sign] * (k > first)
      parts.append(self._trimmed(sum_BKM[:, k]).only(there_B))
    parts.append(symbol(self.end, rows))
    tokens_BT, start_BP = join(parts, self.token_length(max_size), self.pad)
    most = self.sums * (self.longest(max_size) + 1)
    return ask(tokens_BT, start_BP[:, 2 * self.operands], most, self.pad)

  def _trimmed(self, digit_BM: jax.Array) -> Part:
    """A number without leading zeros."""
    return self.part(digit_BM, digits_of(digit_BM))

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Roles: that of the numbers, or one each; that of sums; delimiters'."""
    structure = super().structure(tokens_BT)
    kinds = len(self.separators) + 2
    kind_BT = jnp.maximum(tokens_BT - self.base, 0)
    summed_BT = jnp.cumsum(tokens_BT == self.token('='), axis=1) > 0
    if self.roles == 'shared':
      total, number_BT = 1, jnp.zeros_like(tokens_BT)
    else:
      total = self.operands
      number_BT = jnp.minimum(structure.run, total - 1)
    digit_BT = jnp.where(summed_BT, total, number_BT)
    role_BT = jnp.where(structure.digit, digit_BT, total + 1 + kind_BT)
    structure = structure.replace(role=role_BT, roles=total + 1 + kinds)
    return self._in_steps(structure, tokens_BT) if self.trace else structure

  def _in_steps(self, structure: Structure, tokens_BT: jax.Array) -> Structure:
    """Which step of the trace reads a token, and which one writes the next.

    A step adds one number to the sum before; the first one adds two. A '+' is
    an anchor, read by the step before its number: it says that one follows. So
    is the sign that a step begins with, for that step: attention is a mean, and
    of equal digits alone it cannot tell how many there are.
    """
    plus_BT = tokens_BT == self.token('+')
    begins_BT = (tokens_BT == self.token('=')) | (tokens_BT == self.token('>'))
    number_BT = jnp.cumsum(plus_BT, axis=1)
    step_BT = jnp.cumsum(begins_BT, axis=1)
    given_BT = jnp.where(plus_BT, number_BT - 1, jnp.maximum(number_BT, 1))
    written_BT = jnp.where(begins_BT, step_BT, step_BT + 1)
    return structure.replace(
      asks=step_BT,
      read=jnp.where(step_BT > 0, written_BT, given_BT),
      anchor=(plus_BT | begins_BT).astype(jnp.int32),
      anchors=self.operands - 1 + self.sums,
      most_read=2,
    )

  def from_integers(
    self, rows: Sequence[Sequence[int]], max_size: int | None = None
  ) -> Batch:
    """The batch of given lists of non-negative Python integers.

    Raises:
      UsageError: a number does not fit, or a row has too many or too few.
    """
    for row in rows:
      if not 2 <= len(row) <= self.operands:
        raise UsageError(f'{len(row)} numbers; a row has 2 to {self.operands}')
    number_BKN, size_BK = self.spelt(rows, self.operands, max_size)
    return self.encode(jnp.asarray(number_BKN), jnp.asarray(size_BK))

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Numbers, and the sums written (None if one is no number)."""
    tokens = [int(token) for token in np.asarray(tokens_T)]
    equals = tokens.index(self.token('='))
    numbers, _ = self.split(tokens[:equals])
    sums, ends = self.split(tokens[equals + 1 :])
    values = tuple(self.value(x) for x in sums)
    complete = ends and None not in values
    return tuple(self.value(x) for x in numbers), values if complete else None

  def oracle(self, instance: tuple[int, ...]) -> tuple[int, ...]:
    """The sums that are written, in Python integers."""
    running = [sum(instance[:k]) for k in range(2, len(instance) + 1)]
    return tuple(running) if self.trace else (running[-1],)
