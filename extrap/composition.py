"""Functions that need comparisons as a problem, learned by mean absolute error.

Shape key: B examples, I numbers of each, R replicas.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.factors import AS_PUBLISHED, UNREGULARISED, Ramp, Sharpening
from extrap.models.comparators import Params
from extrap.models.composites import Composite
from extrap.randomness import named
from extrap.tasks.comparing_functions import Example, Task
from extrap.training.problem import Context, Metrics

Examples = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompositionProblem:
  """One function, on a training set that is drawn once.

  Attributes:
    task: what is learned.
    model: what learns it.
    dtype: type of inputs and answers.
    sharpening: of a register's operands.
    ramp: the factor of the regulariser.
  """

  task: Task
  model: Composite
  dtype: jax.typing.DTypeLike = jnp.float32
  sharpening: Sharpening = AS_PUBLISHED
  ramp: Ramp = UNREGULARISED

  def hparams(self, seeds: Sequence[int]) -> dict[str, list[int]]:
    """What names the training set of each replica."""
    return {'draw': list(seeds)}

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters."""
    return self.model.init(key, jnp.ones((1, self.task.numbers), self.dtype))

  def sample(self, ctx: Context) -> Examples:
    """The training set, inputs [B, I] and answers [B]."""
    draw = ctx.hparams['draw'].astype(jnp.uint32)
    x_BI, answer_B = self.task.sample(named(jax.random.key(0), 'set', draw))
    return x_BI.astype(self.dtype), answer_B.astype(self.dtype)

  def loss(
    self, params: Params, examples: Examples, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """Mean absolute error, and the regulariser."""
    x_BI, answer_B = examples
    y_B = self.answer(params, x_BI, self.sharpening.at(ctx.step))
    loss = jnp.mean(jnp.abs(y_B - answer_B))
    if self.ramp.factor:
      loss += self.ramp.at(ctx.step) * self.model.penalty(params)
    return loss, {}

  def answer(
    self, params: Params, x_BI: jax.Array, sharpness: jax.Array | float
  ) -> jax.Array:
    """What the model makes of the inputs, [B]."""
    return self.model.apply(params, x_BI, jnp.asarray(sharpness, self.dtype))

  def project(self, params: Params, ctx: Context) -> Params:
    """Weights clipped to where they belong."""
    del ctx
    return self.model.project(params)


def mean_errors(
  problem: CompositionProblem, params: Params, examples: Sequence[Example]
) -> np.ndarray:
  """Mean absolute error of each replica, [R]; inf where it is not finite."""
  dtype = np.dtype(problem.dtype)
  x_BI = np.array([example.inputs for example in examples], dtype)
  answer_B = np.array([example.answer for example in examples], dtype)
  return np.asarray(_mean_errors(problem, params, x_BI, answer_B))


@functools.partial(jax.jit, static_argnums=0)
def _mean_errors(
  problem: CompositionProblem,
  params: Params,
  x_BI: jax.Array,
  answer_B: jax.Array,
) -> jax.Array:
  final = problem.sharpening.final

  def error(params: Params) -> jax.Array:
    return jnp.mean(jnp.abs(problem.answer(params, x_BI, final) - answer_B))

  error_R = jax.vmap(error)(params)
  return jnp.where(jnp.isfinite(error_R), error_R, jnp.inf)
