"""Writing a string down once more, forwards or backwards.

A row reads `x1 .. xn = y1 .. yn <end>` over an alphabet of `base` symbols, with
`begin` there is a `$` before it.

As a test of memory (Jelassi et al. 2024, arXiv 2402.01032; sjelassi/
transformers_ssm_copy) strings of 26 letters are trained on up to 50 and tested
on up to 1000. A symbol and its copy have one place, so that an encoding that
reads places is told what to copy; theirs read positions, and a `$` stands
before the string. So it is in the length study (`experiments/copy_length.py`):
base=26, trained on up to 50 symbols (103 tokens), tested on 1 to 20 or 40 times
as many. Chance: base^-n.

Shape key: B examples, T tokens, N places, S = 1 size axis.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.tasks.strings import StringTask
from extrap.tasks.task import Batch, Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copying(StringTask):
  """The task of copying; see the module's docstring."""

  backwards: bool = option(False, 'write the string from its end')
  begin: bool = option(False, "a token before the string, '$'")

  axes: ClassVar[tuple[str, ...]] = ('length',)

  @property
  def separators(self) -> tuple[str, ...]:
    return ('=', '$') if self.begin else ('=',)

  def token_length(self, max_size: int) -> int:
    return super().token_length(max_size) + self.begin

  def largest_ids(self, max_size: int) -> dict[str, int]:
    largest = super().largest_ids(max_size)
    return largest | {'place': largest['place'] + self.backwards}

  def encode(self, symbol_BN: jax.Array, size_BS: jax.Array) -> Batch:
    batch = super().encode(symbol_BN, size_BS)
    if not self.begin:
      return batch
    begin_B1 = jnp.full((len(size_BS), 1), self.token('$'))
    tokens_BT = jnp.concatenate([begin_B1, batch.tokens[:, :-1]], axis=1)
    return batch.replace(tokens=tokens_BT, queries=batch.queries + 1)

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    return super().read(tokens_T[int(self.begin) :])

  def answer(self, symbol_BN: jax.Array, length_B: jax.Array) -> jax.Array:
    if not self.backwards:
      return symbol_BN
    rank_BN = length_B[:, None] - 1 - jnp.arange(symbol_BN.shape[1])[None]
    return jnp.take_along_axis(symbol_BN, rank_BN, axis=1, mode='clip')

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """A symbol and its copy share a place.

    Backwards, the copy counts down from the string's last place, which is
    known once the string has ended. Its delimiter has the place above that,
    from where the first copied symbol lies one place down. What begins a row is
    to encodings what fills it up: it does not make the string another run.
    """
    if self.begin:
      begins_BT = tokens_BT == self.token('$')
      tokens_BT = jnp.where(begins_BT, self.pad, tokens_BT)
    structure = super().structure(tokens_BT)
    if not self.backwards:
      return structure
    equals_BT = tokens_BT == self.token('=')
    after_BT = jnp.cumsum(equals_BT, axis=1) > 0
    length_BT = jnp.where(equals_BT, structure.index - self.begin, 0)
    length_BT = jax.lax.cummax(length_BT, axis=1)
    down_BT = length_BT - 1 - structure.place
    return structure.replace(
      place=jnp.where(after_BT, jnp.maximum(down_BT, -1), structure.place)
    )

  def oracle(self, instance: tuple[int, ...]) -> tuple[int, ...]:
    return instance[::-1] if self.backwards else instance
