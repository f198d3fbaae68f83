"""Levenberg-Marquardt from one start, to be vmapped over many.

Levenberg 1944, Marquardt 1963. Bounds are kept by projection: a parameter at a
bound that the gradient points beyond is left out of a step (a sine of an
unbounded variable, as in MINUIT, has no slope at a bound).

Shape key: T residuals, P parameters.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

DAMPING = 1e-2  # At first; then it falls or grows by these factors.
FALLS, GROWS = 0.3, 4.0

Residual: TypeAlias = Callable[[jax.Array], jax.Array]
Bounds: TypeAlias = tuple[jax.Array, jax.Array]


def cost_of(residual_T: jax.Array) -> jax.Array:
  """Sum of squares, infinite where it is not a number."""
  cost = jnp.sum(residual_T**2)
  return jnp.where(jnp.isfinite(cost), cost, jnp.inf)


class _State(NamedTuple):
  """Where a start has come to, with residuals and their Jacobian there."""

  theta_P: jax.Array
  residual_T: jax.Array
  jacobian_PT: jax.Array
  cost: jax.Array
  damping: jax.Array


def minimise(
  residual: Residual, bounds: Bounds, steps: int, start_P: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Levenberg-Marquardt from one start.

  Args:
    residual: [T] of theta [P].
    bounds: the least and the largest of theta, [P] each.
    steps: how many; steps that do not help are among them.
    start_P: theta within the bounds.

  Returns:
    theta [P] and the sum of squares, infinite if it was never finite.
  """

  def at(theta_P: jax.Array, damping: jax.Array) -> _State:
    residual_T, push = jax.linearize(residual, theta_P)
    jacobian_PT = jax.vmap(push)(jnp.eye(theta_P.size, dtype=theta_P.dtype))
    cost = cost_of(residual_T)
    return _State(theta_P, residual_T, jacobian_PT, cost, damping)

  begin = at(start_P, jnp.asarray(DAMPING, start_P.dtype))
  end = jax.lax.fori_loop(
    0, steps, lambda _, state: _step(at, bounds, state), begin
  )
  return end.theta_P, end.cost


def _step(
  at: Callable[[jax.Array, jax.Array], _State], bounds: Bounds, state: _State
) -> _State:
  """One step, or the same place with more damping.

  Parameters at a bound that the gradient points beyond are left out of it.
  """
  theta_P, jacobian_PT = state.theta_P, state.jacobian_PT
  low_P, high_P = bounds
  slope_P = jacobian_PT @ state.residual_T
  stuck_P = ((theta_P <= low_P) & (slope_P > 0)) | (
    (theta_P >= high_P) & (slope_P < 0)
  )
  jacobian_PT = jnp.where(stuck_P[:, None], 0.0, jacobian_PT)
  square_PP = jacobian_PT @ jacobian_PT.T
  diagonal_P = jnp.diagonal(square_PP)
  tiny_P = jnp.where(diagonal_P > 0, 0.0, 1.0)
  damped_PP = square_PP + jnp.diag(state.damping * diagonal_P + tiny_P)
  step_P = jnp.linalg.solve(damped_PP, jnp.where(stuck_P, 0.0, slope_P))
  tried = at(jnp.clip(theta_P - step_P, low_P, high_P), state.damping * FALLS)
  stay = state._replace(damping=state.damping * GROWS)
  better = tried.cost < state.cost
  return jax.tree.map(lambda new, old: jnp.where(better, new, old), tried, stay)
