"""Exact match from one forward pass.

Greedy decoding spells the right answer exactly when, fed the right answer, the
model's most likely token is right everywhere in it: the two part ways at the
first wrong token, which teacher forcing meets too.

Shape key: B examples, Q answer queries, V vocabulary.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import jax

  from extrap.tasks.task import Batch


def exact_match(logits_BQV: 'jax.Array', batch: 'Batch') -> 'jax.Array':
  """bool [B]: every token of the answer, its end included, is the argmax.

  Logits that are not finite are wrong.
  """
  import jax.numpy as jnp

  right_BQ = right_tokens(logits_BQV, batch)
  return jnp.all(right_BQ | ~batch.mask, axis=-1)


def first_match(logits_BQV: 'jax.Array', batch: 'Batch') -> 'jax.Array':
  """bool [B]: the answer's first token is right, whatever follows.

  Of sorting it is the least number's tag, "minimum only" in McLeish et al. 2024
  (arXiv 2405.17399).
  """
  return right_tokens(logits_BQV, batch)[:, 0]


def token_accuracy(logits_BQV: 'jax.Array', batch: 'Batch') -> 'jax.Array':
  """The share of the answers' tokens, their ends included, that are right."""
  import jax.numpy as jnp

  right_BQ = right_tokens(logits_BQV, batch) & batch.mask
  return jnp.sum(right_BQ) / jnp.sum(batch.mask)


def value_match(logits_BQV: 'jax.Array', batch: 'Batch') -> 'jax.Array':
  """bool [B]: the answer is right up to its end, which is not asked for.

  For answers of one length, so that the last query is for the end: of a model
  that goes on where a test stops.
  """
  return right_tokens(logits_BQV, batch)[:, :-1].all(axis=1)


def right_tokens(logits_BQV: 'jax.Array', batch: 'Batch') -> 'jax.Array':
  """bool [B, Q]: the token asked for is the argmax; logits are finite."""
  # Here: the package imports this module, and launchers import the package.
  import jax.numpy as jnp

  right_BQ = jnp.argmax(logits_BQV, axis=-1) == batch.targets
  return right_BQ & jnp.isfinite(logits_BQV).all(axis=-1)
