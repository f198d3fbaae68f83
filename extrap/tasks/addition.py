"""Addition of two numbers, digit by digit, in any base.

A row reads `a + b = s <end>`. Digits stand least or most significant first;
operands have no leading zeros, or are padded with zeros to the longer of the
two (the sum to one digit more). Formats: reversed as in McLeish et al. 2024
(arXiv 2405.17399), zero-padded as in Cho et al. 2024 (arXiv 2405.20671), with
index hints as in Zhou et al. 2024 (arXiv 2402.09371), which write
`h a h a + h b h b = h s h s <end>`, see extrap/tasks/hints.py.

Shape key: B examples, T tokens, N places (least significant first, whatever
the order of the tokens), M places of the sum, S = 2 size axes.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.hints import hinted, hinted_structure, without_hints
from extrap.tasks.operation import PAD, Operation, add
from extrap.tasks.task import Batch, Structure

HINT = PAD + 1  # role


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition(Operation):
  """The task of adding two numbers; see the module's docstring."""

  hints: int = option(
    0,
    'write a symbol of its place before each digit, of so many, from a random '
    'one on (0: none); at least as many as the sum has digits',
    unit='symbols',
    minimum=0,
  )

  seen: ClassVar[tuple[str, ...]] = ('+', '=')

  @property
  def separators(self) -> tuple[str, ...]:
    return ('+', '=', *(f'hint {place}' for place in range(self.hints)))

  @property
  def digit_tokens(self) -> int:
    return 2 if self.hints else 1

  @property
  def plus(self) -> int:
    return self.token('+')

  def longest(self, max_size: int) -> int:
    """A sum has at most one digit more than its longer operand."""
    return max_size + 1

  def result(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    """Digits [B, N + 1] of the sum."""
    above = ((0, 0), (0, 1))
    return add(jnp.pad(a_BN, above), jnp.pad(b_BN, above), self.base)

  def width(self, size_BS: jax.Array, result_BM: jax.Array) -> jax.Array:
    longest_B = size_BS.max(axis=1)
    if self.zero_pad:
      return longest_B + 1
    carry_B = jnp.take_along_axis(result_BM, longest_B[:, None], 1)[:, 0] > 0
    return longest_B + carry_B

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform numbers of exactly the given lengths; see `Task.sample`."""
    if not self.hints:
      return super().sample(key, size_BS, max_size=max_size)
    numbers = [
      self.number(named(key, name), size_BS[:, rank], max_size)
      for rank, name in enumerate(('a', 'b'))
    ]
    return self.encode(*numbers, size_BS, named(key, 'hint'))

  def encode(
    self,
    a_BN: jax.Array,
    b_BN: jax.Array,
    size_BS: jax.Array,
    hint_key: jax.Array | None = None,
  ) -> Batch:
    """See `Operation.encode`.

    Args:
      a_BN, b_BN, size_BS: the operands.
      hint_key: draws each row's first hint, so that all of them fit; without it
        that is hint 0.

    Raises:
      UsageError: fewer hints than the longest sum has digits.
    """
    numbers, places = self.written(a_BN, b_BN, size_BS), a_BN.shape[1]
    if not self.hints:
      return self.row(numbers, places)
    self.check_size(places)
    width_B = numbers[-1].width
    first_B = jnp.zeros_like(width_B)
    if hint_key is not None:
      # Room for a carry, whether or not there is one: it would show otherwise.
      longest_B = size_BS.max(axis=1) + 1
      most_B = self.hints - longest_B + 1
      first_B = jax.random.randint(hint_key, width_B.shape, 0, most_B)
    hint = (self.token('hint 0') + first_B, self.order == 'lsb')
    return self.row([hinted(part, *hint) for part in numbers], places)

  def check_size(self, max_size: int) -> None:
    """Refuses sizes whose sums have more digits than there are hints."""
    if 0 < self.hints < self.longest(max_size):
      raise UsageError(
        f'sums of {self.longest(max_size)} digits need as many hints; '
        f'--task.hints={self.hints}'
      )

  def largest_ids(self, max_size: int) -> dict[str, int]:
    return super().largest_ids(max_size) | {'role': HINT if self.hints else PAD}

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, int], int | None]:
    """See `Operation.read`; an answer with other hints is none."""
    if not self.hints:
      return super().read(tokens_T)
    tokens = [int(token) for token in np.asarray(tokens_T)]
    plain, right = without_hints(self, tokens, self.token('hint 0'))
    instance, answer = super().read(plain)
    return instance, answer if right else None

  def oracle(self, instance: tuple[int, int]) -> int:
    a, b = instance
    return a + b

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Places counted within each number from its first token.

    Zero-padded and most significant digit first, the sum is one digit longer
    than its operands, so its count starts one place lower and stays aligned.
    """
    structure = super().structure(tokens_BT)
    if self.hints:
      structure = self._hinted(structure, tokens_BT)
    if self.order == 'lsb' or not self.zero_pad:
      return structure
    equals_BT = tokens_BT == self.equals
    return structure.replace(
      place=structure.place - (jnp.cumsum(equals_BT, axis=1) > 0)
    )

  def _hinted(self, structure: Structure, tokens_BT: jax.Array) -> Structure:
    """Hints have the place of their digit, and one role for all of them."""
    first = self.token('hint 0')
    hint_BT = (tokens_BT >= first) & (tokens_BT < self.end)
    delimiter_BT = (tokens_BT >= self.base) & (tokens_BT < first)
    structure = hinted_structure(structure, hint_BT, delimiter_BT)
    role_BT = jnp.where(structure.digit, structure.run, structure.role)
    # The end and the padding come after all hints.
    late_BT = tokens_BT >= self.end
    role_BT = jnp.where(late_BT, role_BT - self.hints, role_BT)
    return structure.replace(
      role=jnp.where(hint_BT, HINT, role_BT), roles=HINT + 1
    )
