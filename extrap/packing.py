"""Rows that are filled with examples, one after another.

As in the code of Jelassi et al. 2024 (arXiv 2402.01032; sjelassi/
transformers_ssm_copy): what an answer needs has to be told from what came
before, and hardly any of a row is padding.

Shape key: N examples, X tokens and Q queries of one, B rows, M examples drawn
for each, T tokens of a row.
"""

import dataclasses

import jax
import jax.numpy as jnp

from extrap.encoding_limits import check_ids, check_reads
from extrap.errors import UsageError
from extrap.sequence import SequenceProblem
from extrap.tasks.layout import Part, join
from extrap.tasks.task import Batch
from extrap.training.problem import Context

# What encodings may read: these ids go on through a row, all others are counted
# within an example and would be others behind other examples.
READS = ('position', 'length')


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedProblem(SequenceProblem):
  """A sequence problem whose training rows are filled with examples.

  Where examples are counted, in costs and as exact matches in training, these
  are rows; all whole answers of a row have to be right.

  Attributes:
    context: T, tokens of a row; see `packed`.
    batch_size: rows a step.
  """

  context: int

  def __post_init__(self) -> None:
    super().__post_init__()
    longest = self.task.token_length(self.max_size)
    if self.context < longest:
      raise UsageError(
        f'rows of {self.context} tokens: the longest example has {longest}'
      )
    position = self.model.config.position
    check_reads(position, READS, 'in rows of many examples')
    largest = dict.fromkeys(READS, self.context - 1)
    check_ids(position, largest, f'a row of {self.context} tokens', train=True)

  @property
  def trained_tokens(self) -> int:
    return self.context

  def sample(self, ctx: Context) -> Batch:
    # Of uniform sizes from 1 on examples are half as long as the longest, in
    # the mean: half of these fill a row, and one row in 2000 is not full.
    longest = self.task.token_length(self.max_size)
    count = self.batch_size * -(-4 * self.context // longest)
    batch = self._draw(ctx.key, count, self.min_size, self.max_size)
    return packed(batch, self.batch_size, self.context, self.task.pad)


def packed(batch: Batch, rows: int, length: int, pad: int) -> Batch:
  """Puts examples one after another until a row is full.

  The last one of a row is cut off where the row ends, and nothing of it counts:
  what counts is of short examples a little more often than of long ones.

  Args:
    batch: the examples, M times as many as rows.
    rows: B.
    length: T.
    pad: the token that fills up an example.

  Returns:
    Rows in which every token but the last is a query; those of whole answers
    count.
  """
  token_X = jnp.arange(batch.tokens.shape[1])
  at_NQX = batch.queries[..., None] == token_X[None, None]
  width_BM = jnp.sum(batch.tokens != pad, axis=1).reshape(rows, -1)
  fits_BM = jnp.cumsum(width_BM, axis=1) <= length

  def joined(part_NX: jax.Array, fill: int) -> jax.Array:
    part_MBX = part_NX.reshape(*width_BM.shape, -1).swapaxes(0, 1)
    parts = map(Part, part_MBX, width_BM.T)
    return join(list(parts), length, fill)[0]

  tokens_BT = joined(batch.tokens, pad)
  counts_NX = jnp.any(at_NQX & batch.mask[..., None], axis=1)
  counts_NX &= fits_BM.reshape(-1, 1)
  counts_BT = joined(counts_NX.astype(jnp.int32), 0) > 0
  queries_BT = jnp.broadcast_to(jnp.arange(length - 1), (rows, length - 1))
  return Batch(tokens_BT, queries_BT, tokens_BT[:, 1:], counts_BT[:, :-1])
