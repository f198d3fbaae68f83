"""Mass-conserving fully connected units, additive and multiplicative.

Shape key: B examples, I inputs, O outputs, C cells (outputs, then trash cells).
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.models.units.base import UNITS, Unit
from extrap.models.units.multiplicative import EPSILON, nmu
from extrap.models.weights import Param, Weights, dot


def conserved(
  x_BI: jax.Array, junction_IC: jax.Array, gate_1C: jax.Array, outputs: int
) -> jax.Array:
  """What the gates let out of the cells among which inputs are shared.

  Args:
    x_BI: inputs.
    junction_IC: share of each input that goes to each cell; rows sum to 1.
    gate_1C: share of each cell that is let out.
    outputs: how many of the cells are not trash.

  Returns:
    [B, O].
  """
  return (dot(x_BI, junction_IC) * gate_1C)[:, :outputs]


@UNITS.register('mcfc')
@dataclasses.dataclass(frozen=True, kw_only=True)
class MCFC(Unit):
  """The mass-conserving layer of MC-LSTM (Hoedt et al., arXiv 2101.05186).

  Initial parameters and the penalty, which grows the parameters until gates
  and shares saturate, are those of the authors' repository, hoedt/stable-nalu.
  A lone output takes all of every input unless there is a trash cell.
  """

  trash_cells: int = option(
    0, 'cells beyond the outputs, for inputs that are of no use', minimum=0
  )

  operations: ClassVar[frozenset[str]] = frozenset(('add',))

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    init = jax.nn.initializers
    cells = outputs + self.trash_cells
    return {
      'junction': param('junction', _junction, (inputs, cells)),
      'gate': param('gate', init.orthogonal(), (1, cells)),
      'gate_bias': param('gate_bias', init.zeros, (1, cells)),
    }

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    del key
    outputs = weights['gate'].shape[1] - self.trash_cells
    return conserved(x_BI, *self.matrices(weights), outputs)

  def matrices(self, weights: Weights) -> tuple[jax.Array, ...]:
    gate_1C = jax.nn.sigmoid(weights['gate'] + weights['gate_bias'])
    return jax.nn.softmax(weights['junction'], axis=1), gate_1C

  def penalty(self, weights: Weights) -> jax.Array:
    names = ('junction', 'gate', 'gate_bias')
    return -sum(jnp.mean(weights[name] ** 2) for name in names)


@UNITS.register('mul_mcfc')
@dataclasses.dataclass(frozen=True, kw_only=True)
class MulMCFC(MCFC):
  """An MCFC of logarithms, and a factor of its own for each output.

  Where the original has no logarithm, at 0 and below, this one has that of the
  magnitude; the sign of iNALU is Mistry et al.'s 2022 (arXiv 2101.09530).
  """

  trash_cells: int = option(
    1, 'cells beyond the outputs, for inputs that are of no use', minimum=0
  )
  sign: Literal['none', 'inalu'] = option(
    'none', "the output's: none (always positive), or as in iNALU"
  )

  operations: ClassVar[frozenset[str]] = frozenset(('mul', 'root', 'squared'))

  def declare(self, param: Param, inputs: int, outputs: int) -> Weights:
    zeros = jax.nn.initializers.zeros
    bias_1O = param('bias', zeros, (1, outputs))
    return {**super().declare(param, inputs, outputs), 'bias': bias_1O}

  def apply(
    self, weights: Weights, x_BI: jax.Array, key: jax.Array | None
  ) -> jax.Array:
    logarithm_BI = jnp.log(jnp.maximum(jnp.abs(x_BI), EPSILON))
    sum_BO = super().apply(weights, logarithm_BI, key)
    product_BO = jnp.exp(sum_BO + weights['bias'])
    if self.sign == 'none':
      return product_BO
    junction_IC, _ = self.matrices(weights)
    sign_BC = nmu(jnp.sign(x_BI), junction_IC)
    return product_BO * sign_BC[:, : product_BO.shape[1]]


def _junction(
  key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike
) -> jax.Array:
  """The identity of as many cells as inputs, otherwise orthogonal."""
  if shape[0] == shape[1]:
    return jnp.eye(shape[0], dtype=dtype)
  return jax.nn.initializers.orthogonal()(key, shape, dtype)
