"""Rows of tokens, joined from parts whose widths differ from row to row.

Shape key: B examples, T tokens, P parts, L tokens of a part, X of all parts,
Q answer queries.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

from extrap.tasks.task import Batch


@struct.dataclass
class Part:
  """Tokens of a row, of which the first ones count.

  Attributes:
    tokens: int32 [B, L].
    width: int32 [B], how many of them count.
  """

  tokens: jax.Array
  width: jax.Array

  def reversed(self) -> 'Part':
    """The same tokens, last one first."""
    rank_BL = (self.width - 1)[:, None] - jnp.arange(self.tokens.shape[1])[None]
    tokens_BL = jnp.take_along_axis(self.tokens, rank_BL, axis=1, mode='clip')
    return self.replace(tokens=tokens_BL)

  def only(self, there_B: jax.Array) -> 'Part':
    """Nothing in the rows where `there_B` is false."""
    return self.replace(width=jnp.where(there_B, self.width, 0))


def symbol(token: int, rows: int) -> Part:
  """One token, the same in all rows."""
  return Part(jnp.full((rows, 1), token), jnp.ones(rows, jnp.int32))


def join(
  parts: Sequence[Part], length: int, pad: int
) -> tuple[jax.Array, jax.Array]:
  """Puts parts one after another.

  Args:
    parts: at least one.
    length: T; what does not fit is cut off.
    pad: the token after the last part.

  Returns:
    tokens int32 [B, T], and where each part begins, int32 [B, P].
  """
  width_BP = jnp.stack([part.width for part in parts], axis=1)
  end_BP = jnp.cumsum(width_BP, axis=1)
  start_BP = end_BP - width_BP
  token_T = jnp.arange(length)
  # How many parts lie wholly before a token is the number of its own.
  part_BT = jnp.sum(token_T[None, :, None] >= end_BP[:, None], axis=-1)
  lengths = [part.tokens.shape[1] for part in parts]
  first_P = jnp.array([sum(lengths[:p]) for p in range(len(parts))])
  shift_BT = jnp.take_along_axis(
    first_P[None] - start_BP, part_BT, axis=1, mode='clip'
  )
  tokens_BX = jnp.concatenate([part.tokens for part in parts], axis=1)
  tokens_BT = jnp.take_along_axis(
    tokens_BX, token_T[None] + shift_BT, axis=1, mode='clip'
  )
  return jnp.where(part_BT < len(parts), tokens_BT, pad), start_BP


def ask(
  tokens_BT: jax.Array, answer_B: jax.Array, most: int, pad: int
) -> Batch:
  """The batch whose answers begin at answer_B and reach up to the padding.

  Args:
    tokens_BT: whole rows.
    answer_B: the first token of each answer.
    most: Q, tokens of the longest answer, its end included.
    pad: the token of the padding.
  """
  queries_BQ = answer_B[:, None] - 1 + jnp.arange(most)[None]
  targets_BQ = jnp.take_along_axis(
    tokens_BT, queries_BQ + 1, axis=1, mode='fill', fill_value=pad
  )
  return Batch(tokens_BT, queries_BQ, targets_BQ, targets_BQ != pad)
