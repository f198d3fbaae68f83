"""FLOPs of a function, counted in its jaxpr, loop bodies times their trips."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from extrap.training.config import TrainConfig
from extrap.training.optimizers import default_hparams, make_optimizer
from extrap.training.problem import (
  Context,
  Params,
  Problem,
  own_hparams,
)


def count_flops(function: Callable, *args: object) -> float:
  """Floating-point operations of matrix products in one call.

  A product of [m, k] by [k, n] counts 2 m k n. Of a condition the dearest
  branch counts; a while loop of unknown length counts once. Nothing runs.

  Args:
    function: traced with `args`, arrays or `jax.ShapeDtypeStruct`.
    *args: its arguments.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def count_step_flops(
  problem: Problem,
  params: Params,
  data: Mapping[str, np.ndarray] | None = None,
) -> float:
  """FLOPs of the loss of one batch and its gradient, for one replica.

  Args:
    problem: gives the batch.
    params: of a population, leading replica axis; shapes are enough.
    data: stored arrays that it reads.
  """
  one = _one(params)
  hparams = {name: of[0] for name, of in own_hparams(problem, (0,)).items()}
  ctx = Context(jax.random.key(0), jnp.int32(0), hparams, data)
  batch = jax.eval_shape(problem.sample, ctx)
  step = jax.grad(lambda params, batch: problem.loss(params, batch, ctx)[0])
  return count_flops(step, one, batch)


def count_update_flops(config: TrainConfig, params: Params) -> float:
  """FLOPs of the optimizer's products in one step, for one replica.

  Args:
    config: names the optimizer; but for Muon, and rotated Adam with five
      outputs or more, there are none.
    params: of a population, leading replica axis; shapes are enough.
  """
  optimizer = make_optimizer(config, default_hparams(config))

  def update(params: Params) -> object:
    return optimizer.update(params, optimizer.init(params), params)

  return count_flops(update, _one(params))


def _one(params: Params) -> Params:
  """Shapes of one replica's parameters."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params
  )


def _count(jaxpr: core.Jaxpr) -> float:
  return float(sum(map(_count_equation, jaxpr.eqns)))


def _count_equation(equation: core.JaxprEqn) -> float:
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracting, _), _ = params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    depth = np.prod([shape[axis] for axis in contracting])
    return 2.0 * float(depth) * float(np.prod(equation.outvars[0].aval.shape))
  inner = [_count(jaxpr) for jaxpr in _inner(params)]
  if name == 'cond':
    return max(inner)
  return sum(inner) * params.get('length', 1) if inner else 0.0


def _inner(params: dict[str, object]) -> list[core.Jaxpr]:
  """The jaxprs among an equation's parameters."""
  found = []
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        found.append(item.jaxpr)
      elif isinstance(item, core.Jaxpr):
        found.append(item)
  return found
