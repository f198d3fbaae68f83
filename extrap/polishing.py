"""Arithmetic models polished by least squares, in float64.

Adam's steps are as large at the end as they were in the beginning; and where a
product or a ratio of sums is nearly linear, what tells the right weights from
others is a millionth of the gradient. Where training has come to is a start for
Levenberg-Marquardt, which knows the curvature, on one sample of the range of
training that has at least twice as many rows as a model has weights. All models
and operations of a seed have the same sample; seeds share nothing. Runs that
have failed, or were frozen, stay failed. It is done on the CPU: accelerators
have float64 late or not at all.

Shape key: B examples, I inputs, P weights, R replicas.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from extrap.evaluation.arithmetic_criterion import Solved, solved
from extrap.evaluation.results import Provenance
from extrap.guarded_gradients import bounds_of
from extrap.levenberg_marquardt import minimise
from extrap.randomness import named
from extrap.regression import (
  SPLITS,
  ArithmeticProblem,
  Model,
  Params,
  Weights,
)
from extrap.reporting.progress import Progress
from extrap.tasks.arithmetic import OPERATIONS, Arithmetic
from extrap.training import distributed

ROWS = 512  # At least.


class Polished(NamedTuple):
  """What came of the runs of one model and operation, each array [R].

  Attributes:
    validation: mean squared error on the range of training.
    test: likewise, on that of the test.
    sparsity: largest distance of a weight from -1, 0 or 1.
    seconds: of the polish.
    rows: of the sample.
    flops: of the polish of one run.
  """

  validation: np.ndarray
  test: np.ndarray
  sparsity: np.ndarray
  seconds: np.ndarray
  rows: int
  flops: float

  def source(self, trained: Provenance, steps: int) -> Provenance:
    """What the runs have cost, with what they had been trained by."""
    notes = {'as_published': False, 'polish': steps, 'rows': self.rows}
    return dataclasses.replace(
      trained,
      hparams=json.dumps(json.loads(trained.hparams) | notes),
      arm=f'{trained.arm}, polished',
      checkpoint='last',
      steps=tuple(done + steps for done in trained.steps),
      samples=tuple(seen + self.rows for seen in trained.samples),
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
  finite_R: np.ndarray,
  seeds: Sequence[int],
  steps: int,
  label: str,
  check: Callable[[], None],
) -> dict[tuple[str, str], Polished]:
  """Every run of a population, by model and operation.

  Args:
    problem: what was trained.
    params: the population's, on the host.
    finite_R: false of a replica that was frozen.
    seeds: of the replicas.
    steps: of Levenberg-Marquardt.
    label: of the progress lines.
    check: called before each run; may end the whole by an error.
  """
  arms = problem.arms.items()
  cells = [(name, op) for name, arm in arms for op in arm.operations]
  number, shown = len(cells) * len(seeds), distributed.is_first()
  rows = max(ROWS, 2 * max(_count(problem, params, arm) for arm in params))
  polished: dict[tuple[str, str], Polished] = {}
  with (
    jax.enable_x64(True),
    jax.default_device(jax.local_devices(backend='cpu')[0]),
    Progress(number, label, unit='runs', shown=shown) as progress,
  ):
    held_out = held_out_sets(problem)
    samples = [sample(problem.task, seed, rows) for seed in seeds]
    for name, operation in cells:
      arm, of_arm = problem.arms[name], params[name]
      place = arm.operations.index(operation)
      solve = jax.jit(Run(problem.task, arm.model, operation, steps).polish)
      found = []
      for replica, seed in enumerate(seeds):
        check()
        began = time.perf_counter()
        weights = _doubled(of_arm['weights'], (replica, place))
        given = problem.task.offset(seed), samples[replica], *held_out
        errors = jax.device_get(solve(weights, *given))
        found.append((*errors, time.perf_counter() - began))
        progress.update(len(polished) * len(seeds) + len(found))
      values = np.array(found, float)
      values[~(finite_R & (of_arm['alive'][:, place] == 1)), :3] = np.nan
      cost = flops(_count(problem, params, name), rows, steps)
      polished[name, operation] = Polished(*values.T, rows, cost)
  return polished


def _doubled(weights: Weights, at: tuple[int, int]) -> Weights:
  """Those of a replica and a run, in float64."""
  return jax.tree.map(lambda leaf: np.asarray(leaf[at], np.float64), weights)


def _count(problem: ArithmeticProblem, params: Params, name: str) -> int:
  """How many weights a run of an arm has."""
  leaves = jax.tree.leaves(params[name]['weights'])
  runs = len(problem.arms[name].operations)
  return sum(leaf[0].size for leaf in leaves) // runs


def held_out_sets(problem: ArithmeticProblem) -> list[np.ndarray]:
  """Validation and test inputs, as they are in training."""
  ranges = {split: getattr(problem.task, of) for split, of in SPLITS.items()}
  sets = [problem.held_out_inputs(*each) for each in ranges.items()]
  return [np.asarray(x_BI, np.float64) for x_BI in sets]


def sample(task: Arithmetic, seed: int, rows: int) -> np.ndarray:
  """The inputs that all runs of a seed are solved on, [B, I]."""
  key = named(jax.random.key(seed), 'polish')
  return np.asarray(task.sample(key, rows), np.float64)


def flops(weights: int, rows: int, steps: int) -> float:
  """Of a run: the Jacobian, its square and its solution in every step."""
  return steps * (4 * rows * weights**2 + 2 / 3 * weights**3)
