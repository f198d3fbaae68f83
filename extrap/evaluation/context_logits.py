"""What a model says to the one query of each context.

Shape key: R replicas, C contexts, V vocabulary, T tokens, B rows of a call, X
tokens that a query sees.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from extrap.evaluation.contexts import Contexts
from extrap.models.positions import PlaceWindow
from extrap.models.transformer import Params, Transformer
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Structure


def context_logits(
  model: Transformer,
  params: Params,
  task: NumberTask,
  contexts: Contexts,
  near: bool = True,
) -> np.ndarray:
  """Logits [R, C, V] of the one query asked in each context.

  Args:
    model: one layer, hard window of places.
    params: of all replicas.
    task: gives the structure.
    contexts: what is asked.
    near: leave out the tokens that the query does not see.
  """
  run = _program(model, task, near)
  rows = max(1, tokens_of_a_call() // contexts.tokens.shape[1])
  parts = []
  for first in range(0, len(contexts), rows):
    # The last call repeats a row, so that every call has the same shape.
    take = np.minimum(np.arange(first, first + rows), len(contexts) - 1)
    tokens_BT, query_B = contexts.tokens[take], contexts.query[take]
    parts.append(np.asarray(run(params, tokens_BT, query_B[:, None])))
  return np.concatenate(parts, axis=1)[:, : len(contexts)]


def tokens_of_a_call() -> int:
  """Of each replica: bounds memory, and fits the caches of a CPU's core."""
  return 1 << (13 if jax.default_backend() == 'cpu' else 15)


@functools.lru_cache(maxsize=8)
def _program(model: Transformer, task: NumberTask, near: bool) -> Callable:
  """(params of all replicas, tokens, query) -> logits [R, B, V]."""
  if near:  # Tokens that were left out would be missing from the gathered.
    model = variant(model, attention='dense')

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None, None))
  def run(params: Params, tokens_BT: jax.Array, query_B1: jax.Array):
    asked = tokens_BT, task.structure(tokens_BT), query_B1
    if near:
      asked = _near(model.config.position, *asked)
    return model.apply({'params': params}, *asked)[:, 0]

  return run


def _near(
  position: PlaceWindow,
  tokens_BT: jax.Array,
  structure: Structure,
  query_B1: jax.Array,
) -> tuple[jax.Array, Structure, jax.Array]:
  """The same rows without the tokens that the query does not see."""
  key, query = structure.expand(1), structure.take(query_B1).expand(2)
  seen_B1T = position.visible(query, key) & (key.index <= query.index)
  rank_X1 = jnp.arange(position.most_seen(structure))[None, :, None]
  is_it_BXT = seen_B1T & (jnp.cumsum(seen_B1T, axis=2) - 1 == rank_X1)
  token_BX, there_BX = jnp.argmax(is_it_BXT, axis=2), is_it_BXT.any(axis=2)
  near = structure.take(token_BX)
  # What is not there comes after the query, which then does not see it.
  index_BX = jnp.where(there_BX, near.index, tokens_BT.shape[1])
  tokens_BX = jnp.take_along_axis(tokens_BT, token_BX, axis=1)
  last_B1 = there_BX.sum(axis=1, keepdims=True) - 1
  return tokens_BX, near.replace(index=index_BX), last_B1


def variant(model: Transformer, **changes: str) -> Transformer:
  """The model with other settings."""
  config = dataclasses.replace(model.config, **changes)
  return model.clone(config=config)
