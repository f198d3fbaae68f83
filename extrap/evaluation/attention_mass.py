"""Where attention goes: its share on digits near a place, and far from it.

Shape key: B examples, Q answer queries, K keys, H heads, A applications of a
layer (depth times recurrences).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from extrap.errors import UsageError
from extrap.models.transformer import Params, Transformer
from extrap.tasks.task import Batch, Structure, Task


def attention_weights(
  model: Transformer, params: Params, tokens_BT: jax.Array, ids: Structure
) -> list[jax.Array]:
  """The attention of all tokens to all, [B, H, T, T] an applied layer.

  Runs operation by operation, for a look at few and short sequences.

  Args:
    model: the model, of any backend; params: of one replica.
    tokens_BT: sequences.
    ids: their structure.

  Raises:
    UsageError: the layers have encodings of their own.
  """
  seen = []
  position = model.config.position
  if len(position.layers) > 1:
    raise UsageError(
      f'--model.position={position.name}: attention is looked at where all '
      'layers have one encoding'
    )

  class Watched(type(position)):
    """The same encoding, which notes what it is asked for."""

    def weights(self, pairs, param):
      weights = super().weights(pairs, param)
      # Flax also traces the initialiser, to check the parameters' shapes.
      if not isinstance(weights, jax.core.Tracer):
        seen.append(weights)
      return weights

  fields = dataclasses.fields(position)
  watched = Watched(**{f.name: getattr(position, f.name) for f in fields})
  config = dataclasses.replace(
    model.config, position=watched, attention='dense'
  )
  with jax.disable_jit():
    Transformer(config, model.vocab_size).apply(
      {'params': params}, tokens_BT, ids
    )
  return seen


def far_mass(
  model: Transformer, params: Params, task: Task, batch: Batch
) -> np.ndarray:
  """Share of attention on digits more than one place away, [A, H].

  The mean over the queries that the answer is read from. Delimiters and the
  query itself are not counted.

  Args:
    model: the model; params: of one replica.
    task: gives the structure.
    batch: few examples: memory is quadratic in length.
  """
  return _mass(model, params, task, batch, near=False)


def near_mass(
  model: Transformer, params: Params, task: Task, batch: Batch
) -> np.ndarray:
  """Share of attention on digits at most one place away, as `far_mass`."""
  return _mass(model, params, task, batch, near=True)


def _mass(
  model: Transformer, params: Params, task: Task, batch: Batch, near: bool
) -> np.ndarray:
  ids = jax.jit(task.structure)(batch.tokens)
  asking, keys = ids.take(batch.queries).expand(2), ids.expand(1)
  counted_BQK = (jnp.abs(keys.place - asking.place) <= 1) == near
  counted_BQK &= keys.digit & (keys.anchor == 0) & (keys.index != asking.index)
  share = []
  for weight_BHTK in attention_weights(model, params, batch.tokens, ids):
    index_BHQK = batch.queries[:, None, :, None]
    weight_BHQK = jnp.take_along_axis(weight_BHTK, index_BHQK, axis=2)
    mass_BHQ = jnp.sum(weight_BHQK * counted_BQK[:, None], axis=-1)
    mask_BHQ = batch.mask[:, None]
    total_H = jnp.sum(mass_BHQ * mask_BHQ, axis=(0, 2))
    share.append(total_H / jnp.sum(batch.mask))
  return np.asarray(share)
