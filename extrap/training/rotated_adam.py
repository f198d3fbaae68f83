"""Adam that sees what rows and columns of a gradient have in common.

The gradient of a matrix is a sum of errors times inputs. Where inputs lie close
together and far from 0, its rows are nearly alike, and so are its columns where
several outputs do the same work. What tells two inputs or two outputs apart is
a thousandth of it then, and Adam, who scales every element by itself, makes a
thousandth of a step of that. Here each common part is a coordinate, and has a
scale of its own:

- Over outputs: the eigenbasis of the gradient's second moment, in every step.
  This is SOAP (Vyas et al. 2024, arXiv 2409.11321) of that side alone.
- Over inputs: a reflection that makes their mean a coordinate. That one has the
  root of their number as a factor, so that all together move as under Adam.

Shape key: I inputs, O outputs of a matrix; axes before them count matrices.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

Rate: TypeAlias = Callable[[jax.Array], jax.Array]

# Matrices by their names: other leaves may have several axes, too.
MATRICES = ('kernel', 'weight', 'w_hat', 'm_hat', 'exponent')
MOST_OUTPUTS = 32  # Of a matrix that is rotated: eigenvectors cost their cube.
MEMORY = 0.99  # Decay of the second moment over outputs.
ROUNDING = 1e-6  # Of the largest element: what is below it is no gradient.
TINY = 1e-30


class State(NamedTuple):
  """Of the steps so far; the last three are trees as the parameters are.

  Attributes:
    count: steps.
    first: first moments; of matrices, [O, I], with their inputs reflected.
    second: second moments; of matrices, likewise, and in the eigenbasis.
    outputs: second moments over outputs, [O, O], of matrices; 0 of others.
  """

  count: jax.Array
  first: optax.Params
  second: optax.Params
  outputs: optax.Params


class Leaf(NamedTuple):
  """The same of one leaf, and what Adam makes of it at a rate of 1."""

  update: jax.Array
  first: jax.Array
  second: jax.Array
  outputs: jax.Array


@dataclasses.dataclass(frozen=True)
class Decays:
  """Of both moments, and what is added to the root of the second."""

  b1: float
  b2: float
  eps: float

  @property
  def largest_step(self) -> float:
    """Of Adam, at a rate of 1, where a gradient comes once and never again."""
    return max(1.0, (1 - self.b1) / (1 - self.b2) ** 0.5)


def rotated_adam(rate: Rate, decays: Decays) -> optax.GradientTransformation:
  """The optimizer; what is no matrix of 2 to 32 outputs has Adam.

  Args:
    rate: the learning rate by step.
    decays: of the moments.
  """

  def init(params: optax.Params) -> State:
    zeros = jax.tree.map_with_path(_no_moments, params)
    outputs = jax.tree.map_with_path(_no_outputs, params)
    return State(jnp.zeros((), jnp.int32), zeros, zeros, outputs)

  def update(
    grads: optax.Updates, state: State, params: optax.Params | None = None
  ) -> tuple[optax.Updates, State]:
    del params
    count = state.count + 1

    def one(path: tuple, grad: jax.Array, *moments: jax.Array) -> Leaf:
      step = _of_matrix if _is_matrix(path, grad) else _of_others
      return step(Leaf(grad, *moments), decays, count)

    leaves = jax.tree.map_with_path(one, grads, *state[1:])
    made = jax.tree.transpose(
      jax.tree.structure(grads), jax.tree.structure(Leaf(0, 0, 0, 0)), leaves
    )
    factor = -rate(state.count)
    updates = jax.tree.map(lambda update: factor * update, made.update)
    return updates, State(count, *made[1:])

  return optax.GradientTransformation(init, update)


def _is_matrix(path: tuple, leaf: jax.Array) -> bool:
  names = [getattr(part, 'key', '') for part in path]
  named = any(name in MATRICES for name in names)
  sides = leaf.shape[-2:]
  return (
    named and len(sides) == 2 and min(sides) > 1 and sides[1] <= MOST_OUTPUTS
  )


def _no_moments(path: tuple, leaf: jax.Array) -> jax.Array:
  zeros = jnp.zeros_like(leaf)
  return jnp.swapaxes(zeros, -2, -1) if _is_matrix(path, leaf) else zeros


def _no_outputs(path: tuple, leaf: jax.Array) -> jax.Array:
  if not _is_matrix(path, leaf):
    return jnp.zeros(())
  return jnp.zeros((*leaf.shape[:-2], leaf.shape[-1], leaf.shape[-1]))


def _of_others(leaf: Leaf, decays: Decays, count: jax.Array) -> Leaf:
  """Adam."""
  first = _mean(decays.b1, leaf.first, leaf.update)
  second = _mean(decays.b2, leaf.second, leaf.update**2)
  return leaf._replace(
    update=_adam(first, second, decays, count), first=first, second=second
  )


def _of_matrix(leaf: Leaf, decays: Decays, count: jax.Array) -> Leaf:
  """Adam in the coordinates that stand above."""
  # Inputs stand last: what follows runs along them, several times as fast.
  # Explicit sums, too, are faster than products of such small matrices.
  grad = reflected(jnp.swapaxes(leaf.update, -2, -1))
  product = jnp.sum(grad[..., :, None, :] * grad[..., None, :, :], axis=-1)
  outputs = _mean(MEMORY, leaf.outputs, product)
  size = jnp.trace(outputs, axis1=-2, axis2=-1)[..., None, None]
  _, basis = jnp.linalg.eigh(outputs / jnp.maximum(size, TINY))
  first = _mean(decays.b1, leaf.first, grad)
  second = _mean(decays.b2, leaf.second, _turned(grad, basis) ** 2)
  largest = jnp.max(second, axis=(-2, -1), keepdims=True)
  floored = jnp.maximum(second, ROUNDING**2 * largest)
  update = _adam(_turned(first, basis), floored, decays, count)
  # Where two eigenvalues change places, so do the second moments, but later.
  update = jnp.clip(update, -decays.largest_step, decays.largest_step)
  update = _turned(update, jnp.swapaxes(basis, -2, -1))
  update = update.at[..., 0].multiply(update.shape[-1] ** 0.5)
  return Leaf(jnp.swapaxes(reflected(update), -2, -1), first, second, outputs)


def _mean(decay: float, old: jax.Array, new: jax.Array) -> jax.Array:
  return decay * old + (1 - decay) * new


def _adam(
  first: jax.Array, second: jax.Array, decays: Decays, count: jax.Array
) -> jax.Array:
  root = jnp.sqrt(second / (1 - decays.b2**count))
  return first / (1 - decays.b1**count) / (root + decays.eps)


def _turned(matrix: jax.Array, basis: jax.Array) -> jax.Array:
  """Every column of [..., O, I] in a basis, [..., O, O], of columns."""
  return jnp.sum(matrix[..., :, None, :] * basis[..., None], axis=-3)


def reflected(matrix: jax.Array) -> jax.Array:
  """Rows reflected so that their mean, times the root of I, stands first.

  Householder's reflection: orthogonal, and its own inverse.

  Args:
    matrix: [..., O, I].
  """
  inputs = matrix.shape[-1]
  normal_I = np.full(inputs, inputs**-0.5) - np.eye(1, inputs)[0]
  normal_I /= np.linalg.norm(normal_I)
  normal = jnp.broadcast_to(jnp.asarray(normal_I, matrix.dtype), matrix.shape)
  along = jnp.sum(normal * matrix, axis=-1, keepdims=True)
  return matrix - 2 * normal * along
