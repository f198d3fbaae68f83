"""The one contract that training knows: what a study must provide.

Shape key: R replicas. A problem sees a single replica; the loop vmaps it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import jax
from flax import struct

PyTree = TypeVar('PyTree')
Params = TypeVar('Params')
Examples = TypeVar('Examples')
Metrics = dict[str, jax.Array]


@struct.dataclass
class Context:
  """Everything that a draw may depend on; no other randomness exists.

  Attributes:
    key: of this replica, purpose and step.
    step: int32 scalar, steps done before this one.
    hparams: float scalars of this replica ('learning_rate' and so on).
    data: stored arrays that all replicas read, or None.
  """

  key: jax.Array
  step: jax.Array
  hparams: Mapping[str, jax.Array]
  data: jax.Array | dict | None = None


class Problem(Protocol[Params, Examples]):
  """What is minimised.

  Six members are optional: `evaluate(params, ctx) -> metrics` runs inside
  the program every `evaluate_every` steps; `scale_updates(updates, ctx) ->
  updates` comes before the update (learning rates of parts);
  `project(params, ctx) -> params` follows it (clipping of units);
  `stream(replica) -> int` says which replicas share their data (none, by
  default); `hparams(seeds) -> mapping` gives further numbers of each replica
  that it reads in `ctx.hparams`;
  `weight(batch) -> scalar` is what a part of a batch counts in its mean loss
  (its number of rows, by default), for gradient accumulation.
  """

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters; leaves may be boxed with logical axis names."""

  def sample(self, ctx: Context) -> Examples:
    """A training batch, a pure function of ctx.key."""

  def loss(
    self, params: Params, batch: Examples, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """The scalar loss and further scalars to log."""


class BatchProblem(Problem[Params, Examples], Protocol[Params, Examples]):
  """A problem that says how many examples a batch has."""

  @property
  def batch_size(self) -> int:
    """Examples a step and replica."""


def own_hparams(
  problem: Problem, seeds: Sequence[int]
) -> Mapping[str, Sequence[float]]:
  """Numbers that a problem reads beside the optimizer's, one a replica."""
  make = optional(problem, 'hparams')
  return make(seeds) if make else {}


def optional(problem: Problem, name: str) -> Callable | None:
  """An optional member of a problem, or None."""
  return getattr(problem, name, None)
