"""Models that hold a comparison: folds of lists and messages, and a choice.

Each is a frozen dataclass over pure functions, so that its parts can be called
inside `lax.scan`.

Shape key: B examples, I inputs, X pairs of all examples, '1' a unit's output, 2
a pair and what is said of it.
"""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

from extrap.models.comparators import Comparator, Factor, Params
from extrap.models.folds import Function, minimum
from extrap.models.units import Linear, Unit, UnitLayer
from extrap.models.weights import GLOROT_NORMAL, Initializer, Weights
from extrap.randomness import named

PIECES = ('holds', 'fails')


class Composite(Protocol):
  """What is made with a comparison."""

  def init(self, key: jax.Array, x_BI: jax.Array) -> Params:
    """Fresh parameters, of inputs like these."""

  def apply(
    self, params: Params, x_BI: jax.Array, sharpness: Factor
  ) -> jax.Array:
    """A number for each example, [B]."""

  def project(self, params: Params) -> Params:
    """Parameters clipped to where they belong, after an update."""

  def penalty(self, params: Params) -> jax.Array:
    """The regulariser."""


@dataclasses.dataclass(frozen=True)
class Fold:
  """A function of a list that compares two of its numbers at a time.

  Attributes:
    head: compares two numbers.
    fold: what is made of it, of `extrap.models.folds`.
  """

  head: Comparator
  fold: Function

  def init(self, key: jax.Array, x_BI: jax.Array) -> Params:
    """As `Composite`."""
    return self.head.init(key, x_BI[:, :2])['params']

  def apply(
    self, params: Params, x_BI: jax.Array, sharpness: Factor
  ) -> jax.Array:
    """As `Composite`."""

    def compare(pair_B2: jax.Array) -> jax.Array:
      return self.head.apply({'params': params}, pair_B2, None, sharpness)

    return self.fold(compare, x_BI)

  def project(self, params: Params) -> Params:
    """As `Composite`."""
    return self.head.project(params)

  def penalty(self, params: Params) -> jax.Array:
    """As `Composite`."""
    return self.head.penalty(params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message(Linear):
  """A linear map with a bias, whose initial weights are normal."""

  initial: ClassVar[Initializer] = staticmethod(GLOROT_NORMAL)


@dataclasses.dataclass(frozen=True)
class Relaxation:
  """The least message of a node's neighbours, each made from two numbers.

  Inputs are the distance of each neighbour and the weight of the edge to it.

  Attributes:
    head: compares two messages.
    unit: makes them.
  """

  head: Comparator
  unit: Unit = Message()

  def init(self, key: jax.Array, x_BI: jax.Array) -> Params:
    """As `Composite`."""
    pair_B2 = x_BI[:, :2]
    layer = UnitLayer(self.unit, 1, x_BI.dtype)
    message = layer.init(named(key, 'message'), pair_B2)['params']
    head = self.head.init(named(key, 'head'), pair_B2)['params']
    return {'head': head, 'message': message}

  def apply(
    self, params: Params, x_BI: jax.Array, sharpness: Factor
  ) -> jax.Array:
    """As `Composite`."""
    pair_X2 = x_BI.reshape(-1, 2)
    message_X1 = self.unit.apply(params['message'], pair_X2, None)
    fold = Fold(self.head, minimum)
    return fold.apply(
      params['head'], message_X1.reshape(len(x_BI), -1), sharpness
    )

  def project(self, params: Params) -> Params:
    """As `Composite`."""
    message = self.unit.project(params['message'])
    return {'head': self.head.project(params['head']), 'message': message}

  def penalty(self, params: Params) -> jax.Array:
    """As `Composite`: that of the head and that of the unit."""
    of_unit = self.unit.penalty(params['message'])
    return self.head.penalty(params['head']) + of_unit


@dataclasses.dataclass(frozen=True)
class Choice:
  """Two units with a bias each, weighed by a comparison of the same inputs.

  Attributes:
    head: compares.
    unit: what is done where the comparison holds, and where it does not.
  """

  head: Comparator
  unit: Unit

  def init(self, key: jax.Array, x_BI: jax.Array) -> Params:
    """As `Composite`."""
    layer = UnitLayer(self.unit, 1, x_BI.dtype)
    params = {'head': self.head.init(named(key, 'head'), x_BI)['params']}
    for name in PIECES:
      weights = layer.init(named(key, name), x_BI)['params']
      bias = jnp.zeros((1, 1), x_BI.dtype)
      params[name] = {'unit': weights, 'bias': bias}
    return params

  def apply(
    self, params: Params, x_BI: jax.Array, sharpness: Factor
  ) -> jax.Array:
    """As `Composite`."""
    share_B2 = self.head.apply(
      {'params': params['head']}, x_BI, None, sharpness
    )
    pieces = [self._piece(params[name], x_BI) for name in PIECES]
    return jnp.sum(share_B2 * jnp.concatenate(pieces, axis=1), axis=1)

  def _piece(self, params: Weights, x_BI: jax.Array) -> jax.Array:
    return self.unit.apply(params['unit'], x_BI, None) + params['bias']

  def project(self, params: Params) -> Params:
    """As `Composite`."""
    projected = {'head': self.head.project(params['head'])}
    for name in PIECES:
      of = params[name]
      projected[name] = of | {'unit': self.unit.project(of['unit'])}
    return projected

  def penalty(self, params: Params) -> jax.Array:
    """As `Composite`: that of the head and those of the units."""
    units = [self.unit.penalty(params[name]['unit']) for name in PIECES]
    return self.head.penalty(params['head']) + sum(units)
