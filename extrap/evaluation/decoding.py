"""Greedy decoding with cached keys and values.

The grid does not need it (see `exact_match`); users who want the text do.

Shape key: B examples, T tokens, Q answer queries, V vocabulary.
"""

import jax
import jax.numpy as jnp

from extrap.models.transformer import Params, Transformer
from extrap.tasks.task import Batch, Task


def prompts(batch: Batch) -> jax.Array:
  """The tokens [B, T] up to the first query; nothing of the answer after it."""
  given_BT = jnp.arange(batch.tokens.shape[1])[None] <= batch.queries[:, :1]
  return jnp.where(given_BT, batch.tokens, batch.tokens[:, :1])


def greedy_decode(
  model: Transformer, params: Params, task: Task, batch: Batch
) -> jax.Array:
  """Decodes the answers of a batch, one token a step.

  Nothing after the first query is read: those tokens are overwritten by the
  model's own, whose structure is worked out from what it wrote.

  Args:
    model: a transformer; params: its parameters, without replica axis.
    task: gives the structure of what was written.
    batch: the prompts; rows may have prompts of different lengths.

  Returns:
    int32 [B, Q], the token that the model put after each query. What follows
    the end token is meaningless.
  """
  examples, tokens = batch.tokens.shape
  row_B = jnp.arange(examples)
  tokens_BT = prompts(batch)

  def apply(tokens_BT: jax.Array, queries_BQ: jax.Array | None, cache: object):
    return model.apply(
      {'params': params},
      tokens_BT,
      task.structure(tokens_BT),
      queries_BQ,
      cache,
    )

  def step(carry: tuple, query_B: jax.Array) -> tuple[tuple, jax.Array]:
    tokens_BT, cache = carry
    logits_B1V, cache = apply(tokens_BT, query_B[:, None], cache)
    next_B = jnp.argmax(logits_B1V[:, 0], axis=-1).astype(tokens_BT.dtype)
    tokens_BT = tokens_BT.at[row_B, query_B + 1].set(next_B, mode='drop')
    return (tokens_BT, cache), next_B

  _, cache = apply(tokens_BT, None, model.empty_cache(examples, tokens))
  _, decoded_QB = jax.lax.scan(step, (tokens_BT, cache), batch.queries.T)
  return decoded_QB.T


def decoded_match(decoded_BQ: jax.Array, batch: Batch) -> jax.Array:
  """bool [B]: the decoded answer is right, its end included."""
  return jnp.all((decoded_BQ == batch.targets) | ~batch.mask, axis=-1)
