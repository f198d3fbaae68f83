"""CLEX: how fast rotary pairs turn is learned, for any stretch of the length.

Shape key: B examples, T tokens, H heads, D head width, F = D / 2 pairs,
X hidden units, N stretches, K steps of the solver.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import (
  POSITIONS,
  Param,
  matmul_precision,
)
from extrap.models.positions.rotary import Rotary, rotate
from extrap.models.positions.scaled_rotary import ntk_exponents
from extrap.randomness import named
from extrap.tasks.task import Structure

Known = tuple[jax.Array, jax.Array, jax.Array]

ACTIVATIONS = {'tanh': jnp.tanh, 'silu': jax.nn.silu}


@POSITIONS.register('clex')
@dataclasses.dataclass(frozen=True, kw_only=True)
class CLEX(Rotary):
  """Continuous length extrapolation (Chen et al. 2024, arXiv 2310.16450).

  Log rates z(t) at a stretch t of the trained length L start at those of rotary
  positions, z(1), and follow

    dz/dt = act((z + log ntk(t)) U) V + d/dt log ntk(t),

  where ntk(t) are the rates of NTK-aware scaling by 2t - 1. V starts at zero,
  and the rates at ntk(t). All layers share U and V. Sequences of T tokens are
  read at t = ceil(T / L), `scale` at most.

  Training draws t from 1 .. scale and spreads the T tokens, at most L, over t T
  positions: the first and the last, and the others at random in order.

  The authors' code (DAMO-NLP-SG/CLEX, clex_layer.py) solves for z by
  Runge-Kutta of order 4 in steps of 0.01. Here it is solved for z - log ntk,
  whose slope has no steep part: 4 steps from one whole t to the next come
  within 1e-5. Its longer training sequences, at real-valued positions, are
  refused.
  """

  scale: int = option(16, 'largest stretch of the trained length', minimum=1)
  trained: int = option(
    4096, 'length L of the training sequences', unit='tokens', minimum=1
  )
  expansion: int = option(
    1, 'hidden units of the network over the head width', minimum=1
  )
  activation: Literal['tanh', 'silu'] = option('tanh', 'act')
  steps: int = option(
    4, 'steps of the solver from one whole t to the next', minimum=1
  )

  reads: ClassVar[tuple[str, ...]] = ('position', 'length')
  paper: ClassVar[str] = '2310.16450'
  late: ClassVar[bool] = True

  def prepare(
    self, ids: Structure, key: jax.Array | None, train: bool
  ) -> Structure:
    ids = super().prepare(ids, key, train)
    if not train or key is None:
      return ids
    tokens = ids.index.shape[1]
    if tokens > self.trained:
      raise UsageError(
        f'--model.position.trained={self.trained} is less than the {tokens} '
        'tokens of a training sequence'
      )
    stretch = jax.random.randint(named(key, 'stretch'), (), 1, self.scale + 1)
    position_T = spread(named(key, 'spread'), tokens, stretch, self.scale)
    return ids.replace(
      position=position_T[None],
      length=jnp.full_like(ids.index, self.trained) * stretch,
    )

  def common(
    self, ids: Structure, param: Param, head_width: int
  ) -> dict[str, jax.Array]:
    """The rates of each example, [B, 1, F]."""
    whole_B1 = -(-ids.length[:, :1] // self.trained)
    rates_NF = self.stretched(param, head_width)
    return {'rates': jnp.take(rates_NF, whole_B1 - 1, axis=0, mode='clip')}

  def stretched(self, param: Param, width: int) -> jax.Array:
    """Rates at t = 1, 2, .. scale, [N, F], in radians a token."""
    drift_NF = self._drift(param, width)[:: self.steps]
    ntk_NF = np.exp(self._log_ntk(np.arange(1, self.scale + 1), width))
    return jnp.exp(drift_NF) * jnp.asarray(ntk_NF)

  def _log_ntk(self, at_N: np.ndarray, width: int) -> np.ndarray:
    """Logarithm of the rates of NTK-aware scaling by 2t - 1, [N, F]."""
    growth_NF = np.log(2 * at_N - 1)[:, None] * ntk_exponents(width)
    return np.log(self.rates(width)) - growth_NF

  def _drift(self, param: Param, width: int) -> jax.Array:
    """z - log ntk after each step of the solver, from t = 1 on, [K + 1, F]."""
    pairs, hidden = width // 2, self.expansion * width
    init = jax.nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform')
    up_FX = param('up', init, (pairs, hidden))
    down_XF = param('down', jax.nn.initializers.zeros, (hidden, pairs))
    count = (self.scale - 1) * self.steps
    at_K = 1 + np.arange(2 * count + 1) / (2 * self.steps)
    # z + log ntk is the drift and twice log ntk, which is known beforehand.
    known_KX = _product(jnp.asarray(2 * self._log_ntk(at_K, width)), up_FX)
    act = ACTIVATIONS[self.activation]

    def slope(drift_F: jax.Array, known_X: jax.Array) -> jax.Array:
      return _product(act(_product(drift_F, up_FX) + known_X), down_XF)

    def step(drift_F: jax.Array, known: Known) -> tuple[jax.Array, jax.Array]:
      drift_F = runge_kutta(slope, drift_F, known, 1 / self.steps)
      return drift_F, drift_F

    start_F = jnp.zeros(pairs, known_KX.dtype)
    known = (known_KX[:-1:2], known_KX[1::2], known_KX[2::2])
    _, drift_KF = jax.lax.scan(step, start_F, known)
    return jnp.concatenate([start_F[None], drift_KF])

  def query_map(
    self, query_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return self._turned(query_BTHD, ids, param)

  def key_map(
    self, key_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    return self._turned(key_BTHD, ids, param)

  def _turned(
    self, x_BTHD: jax.Array, ids: Structure, param: Param
  ) -> jax.Array:
    # `common` gives it: nothing is declared here.
    rate_B1F = param('rates', jax.nn.initializers.zeros, ())
    return rotate(x_BTHD, ids.position[..., None] * rate_B1F)


def runge_kutta(
  slope: Callable[[jax.Array, jax.Array], jax.Array],
  state: jax.Array,
  known: Known,
  size: float,
) -> jax.Array:
  """The state a step later, to the fourth order.

  Args:
    slope: (state, what is known) to the derivative of the state.
    state: at the start.
    known: at the start, the middle and the end of the step.
    size: of the step.
  """
  first, middle, last = known
  a = slope(state, first)
  b = slope(state + size / 2 * a, middle)
  c = slope(state + size / 2 * b, middle)
  d = slope(state + size * c, last)
  return state + size / 6 * (a + 2 * b + 2 * c + d)


def spread(
  key: jax.Array, tokens: int, stretch: jax.Array, most: int
) -> jax.Array:
  """Positions [T] among 0 .. stretch T - 1: both ends, and others in order.

  Args:
    key: of the draw.
    tokens: T.
    stretch: traced, from 1 to `most`.
    most: plain Python, fixes the work.
  """
  place = jnp.arange(most * tokens)
  last = stretch * tokens - 1
  rank = jax.random.uniform(key, place.shape)
  rank = jnp.where((place == 0) | (place == last), -1.0, rank)
  rank = jnp.where(place > last, 2.0, rank)
  return jnp.sort(jnp.argsort(rank)[:tokens])


def _product(x: jax.Array, kernel_XY: jax.Array) -> jax.Array:
  return jnp.matmul(x, kernel_XY, precision=matmul_precision(kernel_XY.dtype))
