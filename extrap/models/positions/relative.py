"""What biases by token distance have in common.

Shape key: B examples, or one where all count alike; Q queries, K keys, H heads,
F hidden units.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from extrap.models.hardware import hardware
from extrap.models.positions.position import (
  Param,
  Position,
  matmul_precision,
)
from extrap.tasks.task import Structure

# Hidden units of all pairs at once, a MiB of them, that a CPU's caches hold.
HELD = 2**18


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relative(Position):
  """A bias of pairs that reads token positions.

  Where all rows count their tokens alike it is computed for one of them.
  """

  reads: ClassVar[tuple[str, ...]] = ('position',)
  rung: ClassVar[str] = 'L2 smooth relative'
  cost: ClassVar[str] = 'C'

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    prepared = super().prepare(ids, key, train)
    if prepared.position is not ids.index:
      return prepared
    return prepared.replace(position=ids.index[:1], counted=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance(Relative):
  """A bias that is a function of the distance t = n - m alone.

  Where tokens are counted Q queries and K keys have but Q + K - 1 distances.
  """

  def of_distance(
    self, distance: jax.Array, param: Param, heads: int
  ) -> jax.Array:
    """Bias [B, H, Q, K or W] of distances [B, 1, Q, K or W], 0 or more.

    Each is that of its distance alone.
    """
    raise NotImplementedError

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    # Keys after the query are masked later; keep their bias finite.
    if not (query.counted and key.counted):
      distance = jnp.maximum(query.position - key.position, 0)
      return self.of_distance(distance, param, heads)
    queries, keys = query.position.shape[2], key.position.shape[3]
    first = query.position[:, :, :1] - key.position[..., :1]
    offset = queries - 1 - jnp.arange(queries + keys - 1).reshape(1, 1, 1, -1)
    distance = jnp.maximum(first + offset, 0)
    return along_diagonals(self.of_distance(distance, param, heads), queries)


def along_diagonals(x_BH1N: jax.Array, rows: int) -> jax.Array:
  """Spreads numbers over the diagonals of a matrix, the lowest first.

  Each row begins one number earlier than the one above it. So do rows that are
  read off the N numbers, over and over, N - 1 at a time: no index is needed,
  and the gradient is a sum of rows.

  Args:
    x_BH1N: a number for each diagonal.
    rows: Q, at least 1.

  Returns:
    [B, H, Q, K] of K = N - Q + 1 columns.
  """
  *lead, _, count = x_BH1N.shape
  if rows == 1:
    return x_BH1N
  flat = jnp.broadcast_to(x_BH1N, (*lead, rows, count)).reshape(*lead, -1)
  flat = flat[..., rows - 1 : rows * count - 1]
  return flat.reshape(*lead, rows, count - 1)[..., : count - rows + 1]


def network(
  features: Sequence[jax.Array],
  kernel_IF: jax.Array,
  bias_F: jax.Array,
  out_FH: jax.Array,
) -> jax.Array:
  """A hidden layer of ReLU over features of pairs, [B, H, Q, K].

  There is no bias of outputs: what all keys have in common changes nothing.

  Args:
    features: some numbers for each pair, [B, 1, Q, K] each.
    kernel_IF: what hidden units make of each of I features.
    bias_F: biases of hidden units.
    out_FH: from hidden units to heads.
  """
  dtype = jnp.result_type(*features, bias_F)
  batch, _, queries, keys = features[0].shape
  feature_NI = jnp.stack([x.astype(dtype).ravel() for x in features], axis=1)
  whole = functools.partial(_network, kernel_IF, bias_F, out_FH)
  out_NH = _in_parts(whole, feature_NI, pairs_at_once(bias_F.size))
  return jnp.moveaxis(out_NH.reshape(batch, queries, keys, -1), -1, 1)


def pairs_at_once(hidden: int) -> int:
  """Pairs whose hidden units a CPU's caches hold; elsewhere all of them."""
  if hardware().platform == 'cpu':
    return max(1, HELD // hidden)
  return sys.maxsize


def _in_parts(
  whole: Callable[[jax.Array], jax.Array], x_NI: jax.Array, most: int
) -> jax.Array:
  """The same, of so many rows after one another; the rest comes last."""
  parts = len(x_NI) // most
  if parts < 2:
    return whole(x_NI)
  first_XI, rest_NI = jnp.split(x_NI, [parts * most])
  first_PNH = jax.lax.map(whole, first_XI.reshape(parts, most, -1))
  first_NH = first_PNH.reshape(parts * most, -1)
  return jnp.concatenate([first_NH, whole(rest_NI)])


@jax.custom_vjp
def _network(
  kernel_IF: jax.Array,
  bias_F: jax.Array,
  out_FH: jax.Array,
  feature_NI: jax.Array,
) -> jax.Array:
  """Outputs [N, H] of N pairs; gradients are products, and remember nothing."""
  hidden_NF = jax.nn.relu(_hidden(kernel_IF, bias_F, feature_NI))
  return _product(hidden_NF, out_FH)


def _hidden(
  kernel_IF: jax.Array, bias_F: jax.Array, feature_NI: jax.Array
) -> jax.Array:
  """What hidden units have before they are cut off at 0."""
  terms = zip(feature_NI.T[..., None], kernel_IF[:, None], strict=True)
  return sum((x_N1 * kernel_1F for x_N1, kernel_1F in terms), bias_F[None])


def _product(x_NX: jax.Array, y_XY: jax.Array) -> jax.Array:
  return jnp.matmul(x_NX, y_XY, precision=matmul_precision(y_XY.dtype))


def _network_forward(*args: jax.Array) -> tuple[jax.Array, tuple]:
  return _network(*args), args


def _network_backward(args: tuple, grad_NH: jax.Array) -> tuple:
  kernel_IF, bias_F, out_FH, feature_NI = args
  hidden_NF = _hidden(kernel_IF, bias_F, feature_NI)
  grad_NF = jnp.where(hidden_NF > 0, _product(grad_NH, out_FH.T), 0)
  grads = (
    _product(feature_NI.T, grad_NF),
    grad_NF.sum(axis=0),
    _product(jax.nn.relu(hidden_NF).T, grad_NH),
    _product(grad_NF, kernel_IF.T),
  )
  return tuple(
    grad.astype(of.dtype) for grad, of in zip(grads, args, strict=True)
  )


_network.defvjp(_network_forward, _network_backward)


def uniform_within(bound: float) -> jax.nn.initializers.Initializer:
  """Uniform from -bound to bound, as PyTorch's linear layers start."""

  def init(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: jax.typing.DTypeLike = jnp.float32,
  ) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
