"""Arithmetic as a problem: several models and operations learn on one stream.

A replica is a seed: all its runs, one for each model and operation, share its
inputs and its subsets, as in the original protocol; seeds share nothing. One
program trains them all, so that the inputs are drawn once for all runs.

Each arm may have a learning rate that falls, a limit of its gradients and a
schedule of its regulariser of its own: the updates of optimizers such as Adam's
do not mix runs, so that a factor of the updates is one of the learning rate.

Shape key: B examples, I inputs, K = 2 subsets, O operations of an arm.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from extrap.factors import UNREGULARISED, Fading, Growth, Ramp
from extrap.guarded_gradients import (
  UNLIMITED,
  Limits,
  Projected,
  Weights,
  bounded,
  guarded,
  pinned,
)
from extrap.models.units.base import FUNCTIONS
from extrap.randomness import named
from extrap.tasks.arithmetic import OPERATIONS, Arithmetic, Range, scaled
from extrap.training.problem import Context, Metrics

# Of numpy's generators of the held-out sets of all runs (stable-nalu).
HELD_OUT = {'validation': 43953907, 'test': 8689336}

# The range that each is drawn from.
SPLITS = {'validation': 'trained', 'test': 'tested'}

Params = dict[str, dict[str, object]]


class Model(Projected, Protocol):
  """A linen module of arithmetic units; see `extrap.models.units`."""

  def products(self, params: Weights) -> Mapping[str, jax.Array]:
    """What inputs are multiplied by, [I, X], by a function of `FUNCTIONS`."""

  def finish(
    self,
    params: Weights,
    product: Mapping[str, jax.Array],
    key: jax.Array | None = None,
  ) -> jax.Array:
    """What the model makes of the products, [B, 1]."""

  def penalty(self, params: Weights) -> jax.Array:
    """The regulariser."""

  def sparsity_error(self, params: Weights) -> jax.Array:
    """Largest distance of a weight from -1, 0 or 1."""


@dataclasses.dataclass(frozen=True)
class ArithmeticArm:
  """One model, which learns each of some operations by itself.

  Attributes:
    model: the model.
    operations: what it learns.
    ramp: of its regulariser.
    ramps: of single operations, in its place.
    below: error of a batch from which on a run has no regulariser.
    rate: factor of the learning rate.
    decay: a factor that changes with the step, or none.
    limits: of a run's gradient.
    like: what names its initial weights, by default its own name; arms of one
      model that are like the same begin alike.
  """

  model: Model
  operations: tuple[str, ...]
  ramp: Ramp | Growth = UNREGULARISED
  ramps: Mapping[str, Ramp | Growth] = dataclasses.field(default_factory=dict)
  below: float = math.inf
  rate: float = 1.0
  decay: Fading | None = None
  limits: Limits = UNLIMITED
  like: str = ''

  @property
  def schedules(self) -> list[Ramp | Growth]:
    """One an operation."""
    return [self.ramps.get(op, self.ramp) for op in self.operations]

  @property
  def regularised(self) -> bool:
    """Whether any operation has a regulariser."""
    return any(schedule.factor for schedule in self.schedules)

  def factors(self, step: jax.Array, error_O: jax.Array) -> jax.Array:
    """Of the regulariser in every operation, [O], given the batch's errors."""
    factor_O = jnp.stack([schedule.at(step) for schedule in self.schedules])
    return jnp.where(error_O < self.below, factor_O, 0.0)

  def rate_at(self, step: jax.Array) -> jax.Array | float:
    """The factor of the learning rate at a step."""
    return self.rate if self.decay is None else self.rate * self.decay.at(step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArithmeticProblem:
  """All arms of a seed.

  `hparams['offset']` says where the subsets of a seed begin. Ranges are the
  task's; or, so that one program serves several, `data['trained']` and
  `data['tested']` are, the limits of two intervals each (`halves`).

  A run whose error passes 1e30, or of whose gradient anything is not finite,
  has failed, for good: its gradient is 0 from then on, its errors are nan, and
  the others go on.

  Attributes:
    task: what is learned.
    arms: by name.
    batch_size: examples a step, of all runs of a seed.
    held_out: examples of the validation and of the test set.
    pinned: whether a weight at a bound that its gradient points beyond has no
      gradient. For optimizers that mix the elements of a matrix: what is cut
      off after a step would have moved all others, too.
  """

  task: Arithmetic
  arms: Mapping[str, ArithmeticArm]
  batch_size: int = 128
  held_out: int = 10_000
  pinned: bool = False

  def hparams(self, seeds: Sequence[int]) -> dict[str, list[int]]:
    """Where the subsets of each seed begin."""
    return {'offset': [self.task.offset(seed) for seed in seeds]}

  def init(self, key: jax.Array) -> Params:
    """Weights of every arm, a leading axis of operations; all alive."""
    x_BI = jnp.ones((1, self.task.inputs))

    def one(key: jax.Array, model: Model) -> Weights:
      return model.init(key, x_BI)['params']

    params = {}
    for name, arm in self.arms.items():
      runs = len(arm.operations)
      # As in the original, a model begins alike in all operations of a seed.
      weights = jax.tree.map(
        lambda leaf, runs=runs: jnp.repeat(leaf[None], runs, axis=0),
        one(named(key, arm.like or name), arm.model),
      )
      params[name] = {'weights': weights, 'alive': jnp.ones(runs)}
    return params

  def sample(self, ctx: Context) -> jax.Array:
    """Inputs, [B, I]."""
    interval = self._interval('trained', ctx)
    return self.task.sample(ctx.key, self.batch_size, interval)

  def loss(
    self, params: Params, x_BI: jax.Array, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """The sum over all runs; their gradients do not mix."""
    weights = {
      name: jax.vmap(functools.partial(self._watched, self.arms[name]))(of)
      for name, of in params.items()
    }
    total = jnp.zeros(())
    for name, error_O in self._errors(weights, x_BI, ctx, ctx.key).items():
      arm = self.arms[name]
      if arm.regularised:
        penalty_O = jax.vmap(arm.model.penalty)(weights[name])
        error_O += arm.factors(ctx.step, error_O) * penalty_O
      total += jnp.sum(bounded(error_O))
    return total, {}

  def _watched(self, arm: ArithmeticArm, run: Mapping[str, object]) -> Weights:
    """The weights of a run, whose gradient is looked after."""
    weights = run['weights']
    if self.pinned:
      weights = pinned(arm.model, weights)
    return guarded(arm.limits, weights, run['alive'])

  def _errors(
    self,
    weights: Mapping[str, Weights],
    x_BI: jax.Array,
    ctx: Context,
    key: jax.Array | None,
  ) -> dict[str, jax.Array]:
    """Mean squared errors of every arm, [O]."""
    matrices = {
      name: jax.vmap(self.arms[name].model.products)(of)
      for name, of in weights.items()
    }
    subsets_IK = self.task.subsets(ctx.hparams['offset'])
    products = joined(x_BI, matrices | {'': {'x': subsets_IK[None]}})
    sums_KB = jax.lax.stop_gradient(products['']['x'][0].T)
    errors = {}
    for name, arm in self.arms.items():
      target_OB = jnp.stack([OPERATIONS[op](*sums_KB) for op in arm.operations])
      y_OB = outputs_of(arm.model, weights[name], x_BI, products[name], key)
      errors[name] = jnp.mean((y_OB - target_OB) ** 2, axis=1)
    return errors

  def scale_updates(self, updates: Params, ctx: Context) -> Params:
    """Updates of every arm, times its factor of the learning rate."""
    scaled = {}
    for name, of in updates.items():
      rate = self.arms[name].rate_at(ctx.step)
      weights = jax.tree.map(lambda leaf, rate=rate: rate * leaf, of['weights'])
      # What marks the end of a run has its whole update, however small the
      # rate is: the mark would round to 1 again.
      scaled[name] = of | {'weights': weights}
    return scaled

  def project(self, params: Params, ctx: Context) -> Params:
    """Weights of every arm clipped to where they belong."""
    del ctx
    return {
      name: of
      | {'weights': jax.vmap(self.arms[name].model.project)(of['weights'])}
      for name, of in params.items()
    }

  def evaluate(self, params: Params, ctx: Context) -> Metrics:
    """Held-out errors and sparsity of every run, and the sum as the loss."""
    weights = {name: of['weights'] for name, of in params.items()}
    metrics = {}
    for split, interval in SPLITS.items():
      x_BI = self.held_out_inputs(split, self._interval(interval, ctx))
      for name, error_O in self._errors(weights, x_BI, ctx, None).items():
        alive_O = params[name]['alive'] == 1
        error_O = jnp.where(alive_O, error_O, jnp.nan)
        metrics |= by_operation(split, name, self.arms[name], error_O)
    for name, arm in self.arms.items():
      far_O = jax.vmap(arm.model.sparsity_error)(weights[name])
      metrics |= by_operation('sparsity', name, arm, far_O)
    errors = [v for k, v in metrics.items() if k.startswith('validation/')]
    finite = [jnp.where(jnp.isfinite(v), v, 0.0) for v in errors]
    return metrics | {'loss': jnp.sum(jnp.stack(finite))}

  def _interval(self, name: str, ctx: Context) -> Range | tuple[jax.Array, ...]:
    if ctx.data is None:
      return getattr(self.task, name)
    return tuple(ctx.data[name])

  def held_out_inputs(
    self, split: str, interval: Range | tuple[jax.Array, ...]
  ) -> jax.Array:
    """Of the same numbers for every seed, constants of the program; [B, I].

    Args:
      split: of `SPLITS`.
      interval: the range.
    """
    rng = np.random.RandomState(HELD_OUT[split])
    share_BI = rng.uniform(size=(self.held_out, self.task.inputs))
    return scaled(share_BI.astype(np.float32), interval)


def outputs_of(
  model: Model,
  weights: Weights,
  x_BI: jax.Array,
  product: Mapping[str, jax.Array],
  key: jax.Array | None,
) -> jax.Array:
  """What each run of an arm makes of the inputs, [O, B]."""
  if product:
    finish = functools.partial(model.finish, key=key)
    return jax.vmap(finish)(weights, product)[:, :, 0]

  def apply(weights: Weights) -> jax.Array:
    return model.apply({'params': weights}, x_BI, key)[:, 0]

  return jax.vmap(apply)(weights)


def joined(
  x_BI: jax.Array, matrices: Mapping[str, Mapping[str, jax.Array]]
) -> dict[str, dict[str, jax.Array]]:
  """One product for each function of the inputs, whatever the models.

  Args:
    x_BI: inputs.
    matrices: [O, I, X] of every model, by the name of the function.

  Returns:
    Products, [O, B, X], likewise.
  """
  products: dict[str, dict[str, jax.Array]] = {name: {} for name in matrices}
  for function, of_inputs in FUNCTIONS.items():
    given = {n: m[function] for n, m in matrices.items() if function in m}
    if not given:
      continue
    flat = [
      jnp.swapaxes(matrix_OIX, 1, 2).reshape(-1, x_BI.shape[1])
      for matrix_OIX in given.values()
    ]
    # Examples stand last: what follows runs along them, twice as fast.
    product_XB = jax.lax.dot_general(
      jnp.concatenate(flat),
      of_inputs(x_BI),
      (((1,), (1,)), ((), ())),
      precision=jax.lax.Precision.HIGHEST,
    )
    ends = np.cumsum([len(part) for part in flat])[:-1]
    parts = jnp.split(product_XB, ends)
    for (name, matrix_OIX), part_XB in zip(given.items(), parts, strict=True):
      part_OXB = part_XB.reshape(len(matrix_OIX), -1, len(x_BI))
      products[name][function] = jnp.swapaxes(part_OXB, 1, 2)
  return products


def by_operation(
  what: str, name: str, arm: ArithmeticArm, value_O: jax.Array
) -> Metrics:
  """One metric a run: 'test/nmu/mul'."""
  return {
    f'{what}/{name}/{op}': value_O[o] for o, op in enumerate(arm.operations)
  }
