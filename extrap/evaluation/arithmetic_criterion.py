"""When a model has solved an arithmetic task, and at which step.

A run has solved its task if its test error, where its *validation* error is
least, is below that of a model whose first layer is nearly perfect: weights of
1 - epsilon and epsilon in place of 1 and 0, and an exact second layer (Madsen
and Johansen 2019, arXiv 1910.01888). The published thresholds belong to subsets
of 26 inputs that share 13, one more each than those that are trained on; they
are the default, as every published success rate is by them.

A single module of two inputs has no first layer; there the nearly perfect model
has weights that are wrong by epsilon (Mistry, Farrahi and Hare 2022, arXiv
2101.09530), and its error has a closed form.

Shape key: B examples, I inputs, K = 2 subsets, N evaluations, R replicas.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from extrap.tasks.arithmetic import OPERATIONS, Arithmetic, Range, scaled

EPSILON = 1e-5
# AndreasMadsen/stable-nalu, of 100 inputs from U[2, 6].
PUBLISHED: Mapping[str, float] = {
  'add': 1.47862e-5,
  'sub': 1.38437e-8,
  'mul': 0.160011,
  'div': 4.93805e-12,
  'root': 8.95526e-9,
  'squared': 0.159474,
}
PART = 50_000  # Examples at a time: 40 MB.


@functools.cache
def nearly_perfect_error(
  task: Arithmetic,
  operation: str,
  rows: int = 1_000_000,
  epsilon: float = EPSILON,
) -> float:
  """Mean squared error on the test range of a nearly perfect first layer.

  Args:
    task: its subsets and its test range.
    operation: of `OPERATIONS`.
    rows: examples that are drawn, always the same.
    epsilon: how far weights are from 1 and 0.
  """
  rng, total = np.random.default_rng(0), 0.0
  exact_IK = np.asarray(task.subsets(0), np.float64)
  near_IK = np.abs(exact_IK - epsilon)
  apply = OPERATIONS[operation]
  for first in range(0, rows, PART):
    shape = (min(PART, rows - first), task.inputs)
    x_BI = scaled(rng.uniform(size=shape), task.tested)
    error_B = apply(*(x_BI @ near_IK).T) - apply(*(x_BI @ exact_IK).T)
    total += float(np.sum(error_B**2))
  return total / rows


def single_module_error(
  operation: str, interval: Range, epsilon: float = EPSILON
) -> float:
  """Mean squared error of a nearly perfect module of two inputs.

  Sums and differences are less by epsilon times the magnitude of each input,
  products have the factor (1 - epsilon)^2, and ratios (1 - epsilon) / (1 +
  epsilon), as in bmistry4/nalm-benchmark, which draws a million examples.

  Args:
    operation: 'add', 'sub', 'mul' or 'div'.
    interval: of the inputs, one or two of equal width, without 0.
    epsilon: 1e-5 in the benchmark's list of its settings, 1e-4 in the program
      that makes its thresholds.

  Raises:
    ValueError: 0 is inside an interval.
  """
  pairs = list(zip(interval[::2], interval[1::2], strict=True))
  if any(low <= 0 <= high for low, high in pairs):
    raise ValueError(f'{interval} has 0 inside')
  size = np.mean([abs(low + high) / 2 for low, high in pairs])
  square = np.mean([(a * a + a * b + b * b) / 3 for a, b in pairs])
  inverse = np.mean([1 / (a * b) for a, b in pairs])  # Mean of 1 / x^2.
  if operation in ('add', 'sub'):
    return float(epsilon**2 * 2 * (square + size**2))
  if operation == 'mul':
    return float(((1 - epsilon) ** 2 - 1) ** 2 * square**2)
  return float(((1 - epsilon) / (1 + epsilon) - 1) ** 2 * square * inverse)


@dataclasses.dataclass(frozen=True)
class Solved:
  """What the evaluations of replicas say, each array [R].

  Attributes:
    success: whether the test error of the chosen evaluation is small enough.
    step: of the first evaluation whose test error is; nan without success.
    test: test error of the chosen evaluation; nan of a failed run.
    sparsity: likewise, the largest distance of a weight from -1, 0 or 1.
  """

  success: np.ndarray
  step: np.ndarray
  test: np.ndarray
  sparsity: np.ndarray

  def where(self, whole_R: np.ndarray) -> 'Solved':
    """The same, but that other replicas have failed."""
    return Solved(
      success=self.success & whole_R,
      step=np.where(whole_R, self.step, np.nan),
      test=np.where(whole_R, self.test, np.nan),
      sparsity=np.where(whole_R, self.sparsity, np.nan),
    )


def solved(
  step_N: np.ndarray,
  validation_NR: np.ndarray,
  test_NR: np.ndarray,
  sparsity_NR: np.ndarray,
  threshold: float,
) -> Solved:
  """Applies the criterion to every replica.

  Args:
    step_N: steps before each evaluation.
    validation_NR, test_NR: mean squared errors; a run with any of validation
      that is not finite has failed (in the original: with a weight that is not
      a number).
    sparsity_NR: largest distances of a weight from -1, 0 or 1.
    threshold: of the test error.
  """
  whole_R = np.isfinite(validation_NR).all(axis=0)
  chosen_R = np.argmin(np.where(whole_R, validation_NR, 0.0), axis=0)
  replica_R = np.arange(len(chosen_R))
  test_R = np.where(whole_R, test_NR[chosen_R, replica_R], np.nan)
  success_R = test_R < threshold  # False of nan.
  first_R = step_N[np.argmax(test_NR < threshold, axis=0)]
  return Solved(
    success=success_R,
    step=np.where(success_R, first_R, np.nan),
    test=test_R,
    sparsity=np.where(whole_R, sparsity_NR[chosen_R, replica_R], np.nan),
  )
