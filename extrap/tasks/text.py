"""Running text: bytes, of which each is to be predicted from those before it.

Shape key: B examples, T tokens.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True)
class RunningText:
  """What encodings may know of text: where a byte stands, and its level."""

  vocab_size: ClassVar[int] = 128
  reads: ClassVar[tuple[str, ...]] = ('index', 'position', 'length', 'level')

  def largest_ids(self, max_size: int) -> dict[str, int]:
    """Largest value of each structure field in max_size bytes."""
    return {'position': max_size - 1, 'level': max_size - 1}

  def structure(self, tokens_BT: jax.Array, level_BT: jax.Array) -> Structure:
    """All fields but these are those of tokens that are nothing special.

    Args:
      tokens_BT: bytes.
      level_BT: how many parts of the text have begun, from anywhere on; they
        are counted from the first byte here.
    """
    index_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    zero_BT = jnp.zeros_like(index_BT)
    return Structure(
      index=index_BT,
      position=index_BT,
      place=zero_BT,
      role=zero_BT,
      run=zero_BT + 1,  # Of no digits: there are no runs but number 0.
      anchor=zero_BT,
      level=level_BT - level_BT[:, :1],
    )
