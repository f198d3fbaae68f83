"""Predictions averaged over shifts of the ids of places.

Shape key: B examples, T tokens, Q answer queries, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from extrap.models.config import TransformerConfig
from extrap.models.transformer import Params, Transformer
from extrap.tasks.task import Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftAverage:
  """A trained model that answers by the mean of its predictions at shifts.

  Training shifts the ids of places at random, so a model can be asked at any
  shift that keeps them among the ids it has met. Beyond the training length it
  errs at other digits at each shift, and the mean of the log-probabilities is
  right more often than each. One forward pass a shift; no more parameters, and
  no more training.

  Shifts are spread evenly from 0 to the largest that leaves room for the
  answer, by the numbers before the first query alone: no token of the answer
  has a part in it.

  For `extrap.evaluation.grid.evaluate`, which calls `apply`; it has no cache.

  Attributes:
    model: the model, whose encoding has a table of places.
    largest: the largest place met in training, its shift included.
    spare: places that an answer may have beyond the longest number before it.
    shifts: how many predictions are averaged.
  """

  model: Transformer
  largest: int
  spare: int
  shifts: int = 16

  @property
  def config(self) -> TransformerConfig:
    """That of the model."""
    return self.model.config

  def apply(
    self,
    variables: dict[str, Params],
    tokens_BT: jax.Array,
    structure: Structure,
    queries_BQ: jax.Array,
  ) -> jax.Array:
    """Mean log-probabilities, [B, Q, V]."""
    room_B1 = self.room(structure, queries_BQ)

    def at(step: jax.Array) -> jax.Array:
      shift_B1 = room_B1 * step // max(self.shifts - 1, 1)
      ids = self.config.position.shifted(structure, shift_B1)
      logits_BQV = self.model.apply(variables, tokens_BT, ids, queries_BQ)
      return jax.nn.log_softmax(logits_BQV)

    # One shift after the other, in one program.
    return jnp.mean(jax.lax.map(at, jnp.arange(self.shifts)), axis=0)

  def room(self, structure: Structure, queries_BQ: jax.Array) -> jax.Array:
    """The largest shift of each row, int32 [B, 1]."""
    asked = structure.digit & (structure.index <= queries_BQ[:, :1])
    place_BT = jnp.where(asked, structure.place, -1)
    longest_B1 = jnp.max(place_BT, axis=1, keepdims=True)
    return jnp.maximum(self.largest - self.spare - longest_B1, 0)
