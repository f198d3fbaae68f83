"""Gradients of arithmetic units that stay within bounds, or end their run.

Shape key: O runs of an arm.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from extrap.training.finite import all_finite

FAILED = 1e30  # An error from which on a run has failed; sums stay finite.

Weights = Mapping[str, object]


class Projected(Protocol):
  """A model whose weights have bounds."""

  def project(self, params: Weights) -> Weights:
    """Weights clipped to where they belong."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Of the gradient of a run; that beyond them is cut off, or scaled down.

  Attributes:
    element: largest size of an element.
    norm: largest norm.
  """

  element: float = math.inf
  norm: float = math.inf


UNLIMITED = Limits()


def bounds_of(model: Projected, weights: Weights) -> tuple[Weights, Weights]:
  """The least and the largest weights; infinite where there is no bound."""

  def farthest(limit: float) -> Weights:
    far = jax.tree.map(lambda leaf: jnp.full_like(leaf, limit), weights)
    return model.project(far)

  return farthest(-jnp.inf), farthest(jnp.inf)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def pinned(model: Projected, weights: Weights) -> Weights:
  """The weights; at a bound, no gradient that would lead beyond it."""
  del model
  return weights


def _pin(model: Projected, weights: Weights) -> tuple[Weights, Weights]:
  del model
  return weights, weights


def _stay(model: Projected, weights: Weights, grads: Weights) -> tuple[Weights]:
  def within(
    grad: jax.Array, weight: jax.Array, low: jax.Array, high: jax.Array
  ) -> jax.Array:
    beyond = ((weight <= low) & (grad > 0)) | ((weight >= high) & (grad < 0))
    return jnp.where(beyond, 0.0, grad)

  return (jax.tree.map(within, grads, weights, *bounds_of(model, weights)),)


pinned.defvjp(_pin, _stay)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def guarded(limits: Limits, weights: Weights, alive: jax.Array) -> Weights:
  """The weights of a run; what is not finite in their gradient ends the run.

  The gradient is 0 then, and that of `alive` 1: an optimizer moves it from 1,
  to which it never comes back. Otherwise it is kept within its limits.
  """
  del limits, alive
  return weights


def _guard(
  limits: Limits, weights: Weights, alive: jax.Array
) -> tuple[Weights, jax.Array]:
  del limits
  return weights, alive


def _pass_on(
  limits: Limits, alive: jax.Array, grads: Weights
) -> tuple[Weights, jax.Array]:
  goes = all_finite(grads) & (alive == 1)
  grads = _limited(grads, limits)
  grads = jax.tree.map(lambda leaf: jnp.where(goes, leaf, 0.0), grads)
  return grads, jnp.where(goes, 0.0, 1.0)


def _limited(grads: Weights, limits: Limits) -> Weights:
  """A gradient within its limits."""
  if limits.element < math.inf:
    most = limits.element
    grads = jax.tree.map(lambda leaf: jnp.clip(leaf, -most, most), grads)
  if limits.norm < math.inf:
    share = limits.norm / jnp.maximum(optax.tree.norm(grads), limits.norm)
    grads = jax.tree.map(lambda leaf: share * leaf, grads)
  return grads


guarded.defvjp(_guard, _pass_on)


@jax.custom_vjp
def bounded(error_O: jax.Array) -> jax.Array:
  """Errors, but 0 of a run that has failed, and nan its gradient."""
  return jnp.where(error_O < FAILED, error_O, 0.0)


def _bound(error_O: jax.Array) -> tuple[jax.Array, jax.Array]:
  return bounded(error_O), error_O < FAILED


def _end(below_O: jax.Array, grad_O: jax.Array) -> tuple[jax.Array]:
  return (jnp.where(below_O, grad_O, jnp.nan),)


bounded.defvjp(_bound, _end)
