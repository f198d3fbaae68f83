"""Adam that sees what rows and columns of a gradient have in common.

The gradient of a matrix is a sum of errors times inputs. Where inputs lie close
together and far from 0, its rows are nearly alike, and so are its columns where
several outputs do the same work. What tells two inputs or two outputs apart is
a thousandth of it then, and Adam, who scales every element by itself, makes a
thousandth of a step of that. Here each common part is a coordinate, and has a
scale of its own:

- Over outputs: the eigenbasis of the gradient's second moment, in every step.
  This is SOAP (Vyas et al. 2024, arXiv 2409.11321) of that side alone.
- Over inputs: their mean, and how each differs from it. Elements without any
  gradient, as those at a bound have, are no part of the mean and do not move.

Shape key: I inputs, O outputs of a matrix, J = 1 + I its mean over inputs and
what is left; axes before them count matrices.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from extrap.errors import UsageError

Rate: TypeAlias = Callable[[jax.Array], jax.Array]

# Matrices of units by their names: gates of outputs alone have several axes,
# too, where runs are one of them.
MATRICES = (
  *('weight', 'w_hat', 'm_hat', 'w_hat_add', 'm_hat_add', 'w_hat_mul'),
  *('m_hat_mul', 'nau', 'nmu', 'exponent', 'imaginary', 'junction'),
)
MOST_OUTPUTS = 32  # Of a matrix that is rotated: eigenvectors cost their cube.
FEW = 4  # Outputs: sums of so few are several times as fast as products.
HIGHEST = jax.lax.Precision.HIGHEST
MEMORY = 0.99  # Decay of the second moment over outputs.
ROUNDING = 10.0  # Units of it, of the largest element: less is no gradient.


class State(NamedTuple):
  """Of the steps so far; the last three are trees as the parameters are.

  Attributes:
    count: steps.
    first: first moments; of matrices, [O, J].
    second: second moments; of matrices, likewise, in the eigenbasis.
    outputs: second moments over outputs, [O, O], of matrices; 0 of others.
  """

  count: jax.Array
  first: optax.Params
  second: optax.Params
  outputs: optax.Params


class Moments(NamedTuple):
  """The same of one leaf."""

  first: jax.Array
  second: jax.Array
  outputs: jax.Array


@dataclasses.dataclass(frozen=True)
class Adam:
  """Decays of both moments, and what is added to the root of the second."""

  b1: float
  b2: float
  eps: float

  @property
  def largest(self) -> float:
    """Update at a rate of 1 that no sequence of gradients can surpass."""
    shared = 1 - self.b1**2 / self.b2  # Of Cauchy and Schwarz.
    return (1 - self.b1) / ((1 - self.b2) * shared) ** 0.5

  def mean(self, moments: Moments, grad: jax.Array) -> jax.Array:
    """The first moment, with a gradient more."""
    return _mean(self.b1, moments.first, grad)

  def square(self, moments: Moments, grad: jax.Array) -> jax.Array:
    """The second moment, with a gradient more."""
    return _mean(self.b2, moments.second, grad**2)

  def update(
    self, first: jax.Array, second: jax.Array, count: jax.Array
  ) -> jax.Array:
    """At a rate of 1, after so many gradients."""
    root = jnp.sqrt(second / (1 - self.b2**count))
    return first / (1 - self.b1**count) / (root + self.eps)


def rotated_adam(rate: Rate, adam: Adam) -> optax.GradientTransformation:
  """The optimizer; what is no matrix of 2 to 32 outputs has Adam.

  Args:
    rate: the learning rate by step.
    adam: its constants.

  Raises:
    UsageError: there is no such matrix, when its state is made.
  """

  def init(params: optax.Params) -> State:
    params = nn.unbox(params)
    found = [_is_matrix(*each) for each in jax.tree.leaves_with_path(params)]
    if not any(found):
      raise UsageError(
        '--train.optimizer=rotated_adam: this model has no matrix of an '
        f'arithmetic unit with 2 to {MOST_OUTPUTS} outputs; choose adam'
      )
    trees = [
      jax.tree.map_with_path(
        lambda path, leaf, field=field: getattr(_none(path, leaf), field),
        params,
      )
      for field in Moments._fields
    ]
    return State(jnp.zeros((), jnp.int32), *trees)

  def update(
    grads: optax.Updates, state: State, params: optax.Params | None = None
  ) -> tuple[optax.Updates, State]:
    del params
    count, factor = state.count + 1, -rate(state.count)

    def one(path: tuple, grad: jax.Array, *of: jax.Array) -> Sequence:
      step = _of_matrix if _is_matrix(path, grad) else _of_others
      update, moments = step(adam, grad, Moments(*of), count)
      return (factor * update, *moments)

    leaves = jax.tree.map_with_path(one, grads, *state[1:])
    updates, *trees = jax.tree.transpose(
      jax.tree.structure(grads), jax.tree.structure((0,) * 4), leaves
    )
    return updates, State(count, *trees)

  return optax.GradientTransformation(init, update)


def _is_matrix(path: tuple, leaf: jax.Array) -> bool:
  named = getattr(path[-1], 'key', '') in MATRICES
  sides = leaf.shape[-2:]
  return (
    named and len(sides) == 2 and min(sides) > 1 and sides[1] <= MOST_OUTPUTS
  )


def _none(path: tuple, leaf: jax.Array) -> Moments:
  """Moments before the first step."""
  if not _is_matrix(path, leaf):
    zeros = jnp.zeros_like(leaf)
    return Moments(zeros, zeros, jnp.zeros((), leaf.dtype))
  *above, inputs, size = leaf.shape
  zeros = jnp.zeros((*above, size, 1 + inputs), leaf.dtype)
  return Moments(zeros, zeros, jnp.zeros((*above, size, size), leaf.dtype))


def _of_others(
  adam: Adam, grad: jax.Array, old: Moments, count: jax.Array
) -> tuple[jax.Array, Moments]:
  """Adam's update, and moments."""
  first, second = adam.mean(old, grad), adam.square(old, grad)
  new = Moments(first, second, old.outputs)
  return adam.update(first, second, count), new


def _of_matrix(
  adam: Adam, grad_IO: jax.Array, old: Moments, count: jax.Array
) -> tuple[jax.Array, Moments]:
  """The same in the coordinates that stand above."""
  # Inputs stand last: what follows runs along them, several times as fast.
  grad_OI = jnp.swapaxes(grad_IO, -2, -1)
  moving_OI = grad_OI != 0
  outputs_OO = _mean(MEMORY, old.outputs, _gram(grad_OI))
  basis_OO = _eigenbasis(outputs_OO)
  grad_OJ = parted(grad_OI, moving_OI)
  first_OJ = adam.mean(old, grad_OJ)
  second_OJ = adam.square(old, _turned(grad_OJ, basis_OO))
  floor = ROUNDING * jnp.finfo(second_OJ.dtype).eps
  largest = jnp.max(second_OJ, axis=(-2, -1), keepdims=True)
  update_OJ = adam.update(
    _turned(first_OJ, basis_OO),
    jnp.maximum(second_OJ, floor**2 * largest),
    count,
  )
  # Where two eigenvalues change places, so do the second moments, but later.
  update_OJ = jnp.clip(update_OJ, -adam.largest, adam.largest)
  update_OJ = _turned(update_OJ, jnp.swapaxes(basis_OO, -2, -1))
  update_IO = jnp.swapaxes(joined(update_OJ, moving_OI), -2, -1)
  return update_IO, Moments(first_OJ, second_OJ, outputs_OO)


def _mean(decay: float, old: jax.Array, new: jax.Array) -> jax.Array:
  return decay * old + (1 - decay) * new


def _eigenbasis(outputs_OO: jax.Array) -> jax.Array:
  """Eigenvectors as columns; of multiples of a matrix the same."""
  size = jnp.trace(outputs_OO, axis1=-2, axis2=-1)[..., None, None]
  tiny = jnp.finfo(outputs_OO.dtype).tiny
  return jnp.linalg.eigh(outputs_OO / jnp.maximum(size, tiny))[1]


def _gram(grad_OI: jax.Array) -> jax.Array:
  """[..., O, O]: the products of every two rows."""
  if grad_OI.shape[-2] > FEW:
    grad_IO = jnp.swapaxes(grad_OI, -2, -1)
    return jnp.matmul(grad_OI, grad_IO, precision=HIGHEST)
  return jnp.sum(grad_OI[..., :, None, :] * grad_OI[..., None, :, :], axis=-1)


def _turned(matrix_OJ: jax.Array, basis_OO: jax.Array) -> jax.Array:
  """Every column of a matrix in a basis of columns."""
  if matrix_OJ.shape[-2] > FEW:
    basis_OO = jnp.swapaxes(basis_OO, -2, -1)
    return jnp.matmul(basis_OO, matrix_OJ, precision=HIGHEST)
  return jnp.sum(matrix_OJ[..., :, None, :] * basis_OO[..., None], axis=-3)


def parted(matrix_OI: jax.Array, moving_OI: jax.Array) -> jax.Array:
  """The mean over inputs and what differs from it, [..., O, J].

  Args:
    matrix_OI: 0 where it does not move.
    moving_OI: bool, where it moves: the mean is over these.
  """
  mean_O1 = _mean_of(matrix_OI, moving_OI)
  rest_OI = jnp.where(moving_OI, matrix_OI - mean_O1, 0.0)
  return jnp.concatenate([mean_O1, rest_OI], axis=-1)


def joined(parts_OJ: jax.Array, moving_OI: jax.Array) -> jax.Array:
  """The matrix, [..., O, I], of a mean and differences from it.

  What differences have in common is not theirs to say, and is left out.
  """
  mean_O1, rest_OI = parts_OJ[..., :1], parts_OJ[..., 1:]
  rest_OI = rest_OI - _mean_of(rest_OI, moving_OI)
  return jnp.where(moving_OI, mean_O1 + rest_OI, 0.0)


def _mean_of(matrix_OI: jax.Array, moving_OI: jax.Array) -> jax.Array:
  total_O1 = jnp.sum(matrix_OI, axis=-1, where=moving_OI, keepdims=True)
  return total_O1 / jnp.maximum(jnp.sum(moving_OI, axis=-1, keepdims=True), 1)
