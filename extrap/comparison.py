"""Comparisons as a problem: each replica learns one of them.

So that a run that fails stops no other, and that what scales a register can
differ from run to run of one program.

Shape key: B pairs, I inputs, S replicas.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.factors import AS_PUBLISHED, UNREGULARISED, Ramp, Sharpening
from extrap.models.comparators import Comparator, Params
from extrap.randomness import named
from extrap.tasks.comparisons import Comparisons, Pairs, Row
from extrap.training.problem import Context, Metrics

FAILED = 1.0  # The error of an answer that is not finite.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonProblem:
  """One comparison, learned by its mean absolute error.

  Numbers of a replica: 'comparison', its place in `COMPARISONS`; 'unit', what
  numbers are multiplied by; 'scale', the register's lambda; 'draw', an integer
  that fixes the unequal partners of = and != where they are fixed.

  Attributes:
    task: what is learned.
    head: what learns it.
    dtype: type of the inputs.
    sharpening: of a register's operands.
    ramp: the factor of the head's regulariser.
    fixed: whether the unequal pairs of = and != are drawn once for a run.
  """

  task: Comparisons
  head: Comparator
  dtype: jax.typing.DTypeLike = jnp.float32
  sharpening: Sharpening = AS_PUBLISHED
  ramp: Ramp = UNREGULARISED
  fixed: bool = False

  def hparams(self, seeds: Sequence[int]) -> dict[str, list[float]]:
    """The first comparison, of plain numbers, in every replica."""
    same = {'comparison': 0, 'unit': 1, 'scale': 1}
    each = {name: [value] * len(seeds) for name, value in same.items()}
    return each | {'draw': list(seeds)}

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters."""
    x_BI = jnp.ones((1, self.task.inputs), self.dtype)
    return self.head.init(key, x_BI)['params']

  def sample(self, ctx: Context) -> Pairs:
    """All pairs of training."""
    partners = ctx.key
    if self.fixed:
      draw = ctx.hparams['draw'].astype(jnp.uint32)
      partners = named(jax.random.key(0), draw)
    comparison = ctx.hparams['comparison'].astype(jnp.int32)
    pairs = self.task.sample(ctx.key, comparison, partners)
    return pairs._replace(x_BI=self.in_units(pairs.x_BI, ctx.hparams['unit']))

  def in_units(self, x_BI: jax.Array, unit: jax.Array) -> jax.Array:
    """Inputs of the problem's type, in multiples of a unit."""
    return jnp.asarray(x_BI, self.dtype) * jnp.asarray(unit, self.dtype)

  def loss(
    self, params: Params, pairs: Pairs, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """Mean absolute error, and the regulariser."""
    sharpness = self.sharpening.at(ctx.step)
    holds_B = self.answer(params, pairs.x_BI, ctx.hparams['scale'], sharpness)
    loss = jnp.sum(pairs.weight_B * jnp.abs(holds_B - pairs.target_B))
    if self.ramp.factor:
      loss += self.ramp.at(ctx.step) * self.head.penalty(params)
    return loss, {}

  def answer(
    self,
    params: Params,
    x_BI: jax.Array,
    scale: jax.Array,
    sharpness: jax.Array | float,
  ) -> jax.Array:
    """Probability that the comparison holds, [B]."""
    scale, sharpness = (
      jnp.asarray(factor, self.dtype) for factor in (scale, sharpness)
    )
    return self.head.apply({'params': params}, x_BI, scale, sharpness)[:, 0]

  def project(self, params: Params, ctx: Context) -> Params:
    """Weights clipped to where they belong."""
    del ctx
    return self.head.project(params)


class Group(NamedTuple):
  """Trained replicas that have learned the same comparison.

  Attributes:
    params: leading axis of replicas.
    finite_S: false where training has failed.
    unit_S: what numbers are multiplied by.
    scale_S: the register's lambda.
  """

  params: Params
  finite_S: np.ndarray
  unit_S: np.ndarray
  scale_S: np.ndarray


def far_errors(
  problem: ComparisonProblem, group: Group, rows: Sequence[Row]
) -> np.ndarray:
  """Mean absolute errors of replicas, [S]; a failed one errs as can be."""
  dtype = np.dtype(problem.dtype)
  x_BI = np.array([[dtype.type(x) for x in row.inputs] for row in rows])
  target_B = np.array([row.holds for row in rows], dtype)
  found_SB = _errors(
    problem, group.params, x_BI, target_B, group.unit_S, group.scale_S
  )
  return np.where(group.finite_S, np.asarray(found_SB).mean(axis=1), FAILED)


@functools.partial(jax.jit, static_argnums=0)
def _errors(
  problem: ComparisonProblem,
  params: Params,
  x_BI: jax.Array,
  target_B: jax.Array,
  unit_S: jax.Array,
  scale_S: jax.Array,
) -> jax.Array:
  """Absolute errors of every run and row, [S, B]."""
  final = problem.sharpening.final

  def error(params: Params, unit: jax.Array, scale: jax.Array) -> jax.Array:
    inputs_BI = problem.in_units(x_BI, unit)
    holds_B = problem.answer(params, inputs_BI, scale, final)
    error_B = jnp.abs(holds_B - target_B)
    return jnp.where(jnp.isfinite(error_B), error_B, FAILED)

  return jax.vmap(error)(params, unit_S, scale_S)
