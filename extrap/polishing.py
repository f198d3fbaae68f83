"""Arithmetic models polished by least squares, in float64.

Adam's steps are as large at the end as they were in the beginning; and where a
product or a ratio of sums is nearly linear, what tells the right weights from
others is a millionth of the gradient. Where training has come to is a start for
Levenberg-Marquardt, which knows the curvature, on one sample of the range of
training that has more rows than a model of two outputs has weights. All models
and operations of a seed have the same sample; seeds share nothing.

Shape key: B examples, I inputs, P weights, R replicas.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from extrap.evaluation.arithmetic_criterion import Solved, solved
from extrap.evaluation.results import Provenance
from extrap.levenberg_marquardt import minimise
from extrap.randomness import named
from extrap.regression import (
  SPLITS,
  ArithmeticProblem,
  Model,
  Params,
  Weights,
  bounds_of,
)
from extrap.reporting.progress import Progress
from extrap.tasks.arithmetic import OPERATIONS, Arithmetic

ROWS = 512


class Polished(NamedTuple):
  """What came of the runs of one model and operation, each array [R].

  Attributes:
    validation: mean squared error on the range of training.
    test: likewise, on that of the test.
    sparsity: largest distance of a weight from -1, 0 or 1.
    seconds: of the polish.
    flops: of the polish of one run.
  """

  validation: np.ndarray
  test: np.ndarray
  sparsity: np.ndarray
  seconds: np.ndarray
  flops: float

  def source(self, trained: Provenance, steps: int) -> Provenance:
    """What the runs have cost, with what they had been trained by."""
    return dataclasses.replace(
      trained,
      arm=f'{trained.arm}, polished',
      checkpoint='last',
      steps=tuple(done + steps for done in trained.steps),
      samples=tuple(seen + ROWS for seen in trained.samples),
      flops=tuple(done + self.flops for done in trained.flops),
      seconds=trained.seconds + float(self.seconds.mean()),
    )

  def solved(self, step: int, threshold: float) -> Solved:
    """The criterion, where this is the only evaluation, after some steps."""
    errors = self.validation[None], self.test[None], self.sparsity[None]
    return solved(np.array([step]), *errors, threshold)


@dataclasses.dataclass(frozen=True)
class Run:
  """What one run is solved by.

  Attributes:
    task: where the subsets are.
    model: what is trained.
    operation: what it learns.
    steps: of Levenberg-Marquardt.
  """

  task: Arithmetic
  model: Model
  operation: str
  steps: int

  def error(self, weights: Weights, x_BI: jax.Array, offset: int) -> jax.Array:
    """What the model makes of inputs less what it ought to, [B]."""
    sums_BK = x_BI @ self.task.subsets(offset).astype(x_BI.dtype)
    target_B = OPERATIONS[self.operation](*sums_BK.T)
    return self.model.apply({'params': weights}, x_BI, None)[:, 0] - target_B

  def polish(
    self,
    weights: Weights,
    offset: int,
    sample_BI: jax.Array,
    validation_BI: jax.Array,
    test_BI: jax.Array,
  ) -> tuple[jax.Array, ...]:
    """The first three fields of `Polished`, of one replica."""
    start_P, shaped = ravel_pytree(weights)
    low_P, high_P = (
      ravel_pytree(bound)[0] for bound in bounds_of(self.model, weights)
    )
    found_P, _ = minimise(
      lambda weight_P: self.error(shaped(weight_P), sample_BI, offset),
      (low_P, high_P),
      self.steps,
      start_P,
    )
    found = shaped(found_P)
    errors = (self.error(found, x, offset) for x in (validation_BI, test_BI))
    squares = [jnp.mean(error_B**2) for error_B in errors]
    return *squares, self.model.sparsity_error(found)


def polish(
  problem: ArithmeticProblem,
  params: Params,
  seeds: Sequence[int],
  steps: int,
  label: str,
) -> dict[tuple[str, str], Polished]:
  """Every run of a population, by model and operation.

  Args:
    problem: what was trained.
    params: the population's, on the host.
    seeds: of the replicas.
    steps: of Levenberg-Marquardt.
    label: of the progress lines.
  """
  cells = [
    (name, op) for name, of in problem.arms.items() for op in of.operations
  ]
  number = len(cells) * len(seeds)
  polished = {}
  with jax.enable_x64(True), Progress(number, label, unit='runs') as progress:
    held_out = held_out_sets(problem)
    samples = [sample(problem.task, seed) for seed in seeds]
    for name, operation in cells:
      arm = problem.arms[name]
      run = Run(problem.task, arm.model, operation, steps)
      solve = jax.jit(run.polish)
      rows = []
      for replica, seed in enumerate(seeds):
        at = (replica, arm.operations.index(operation))
        weights = jax.tree.map(
          lambda leaf, at=at: np.asarray(leaf[at], np.float64),
          params[name]['weights'],
        )
        given = problem.task.offset(seed), samples[replica], *held_out
        began = time.perf_counter()
        found = jax.device_get(solve(weights, *given))
        rows.append((*found, time.perf_counter() - began))
        progress.update(len(polished) * len(seeds) + len(rows))
      polished[name, operation] = Polished(
        *np.array(rows, float).T, flops=flops(_count(weights), steps)
      )
  return polished


def _count(weights: Weights) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(weights))


def held_out_sets(problem: ArithmeticProblem) -> list[np.ndarray]:
  """Validation and test inputs, as they are in training."""
  ranges = {split: getattr(problem.task, of) for split, of in SPLITS.items()}
  sets = [problem.held_out_inputs(*each) for each in ranges.items()]
  return [np.asarray(x_BI, np.float64) for x_BI in sets]


def sample(task: Arithmetic, seed: int) -> np.ndarray:
  """The inputs that all runs of a seed are solved on, [B, I]."""
  key = named(jax.random.key(seed), 'polish')
  return np.asarray(task.sample(key, ROWS), np.float64)


def flops(weights: int, steps: int) -> float:
  """Of a run: the Jacobian, its square and its solution in every step."""
  jacobian, square = 2 * ROWS * weights**2, 2 * ROWS * weights**2
  return steps * (jacobian + square + 2 / 3 * weights**3)
