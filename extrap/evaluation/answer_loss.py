"""The loss of answers, as the grid's evaluation adds it up.

Shape key: B examples, Q answer queries, V vocabulary.
"""

import jax
import jax.numpy as jnp
import optax

from extrap.tasks.task import Batch


def answer_loss(logits_BQV: jax.Array, batch: Batch) -> jax.Array:
  """Mean cross-entropy of the tokens asked for in each row, [B], in nats.

  Not a number where logits are not finite. It stands in a `Suite` in place of
  a match; the sum over rows is then what `evaluate` gives.
  """
  loss_BQ = optax.softmax_cross_entropy_with_integer_labels(
    logits_BQV, batch.targets
  )
  loss_BQ = jnp.where(batch.mask, loss_BQ, 0)
  return jnp.sum(loss_BQ, axis=1) / jnp.sum(batch.mask, axis=1)


def value_loss(logits_BQV: jax.Array, batch: Batch) -> jax.Array:
  """`answer_loss` up to the end, which is the last query; see `value_match`."""
  value = batch.replace(
    queries=batch.queries[:, :-1],
    targets=batch.targets[:, :-1],
    mask=batch.mask[:, :-1],
  )
  return answer_loss(logits_BQV[:, :-1], value)
