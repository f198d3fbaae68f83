"""Functions of token distance: buckets, kernels, waves and a network.

Shape key: N buckets, F hidden units or waves, I features, H heads.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import (
  POSITIONS,
  Param,
  lookup,
  matmul_precision,
)
from extrap.models.positions.relative import (
  Distance,
  Relative,
  network,
  uniform_within,
)
from extrap.tasks.task import Structure

LARGEST_POWER = 2.0  # of a distance, for which -t^p is a kernel (KERPLE)


@POSITIONS.register('t5')
@dataclasses.dataclass(frozen=True, kw_only=True)
class T5(Distance):
  """A learned bias a bucket of distances (arXiv 1910.10683).

  Of N buckets one each for distances below N/2, the others in geometric steps
  up to `max_distance`, from where on all share the last (Raffel et al. 2019).
  The original shares the biases between layers (--model.share_position) and
  does not scale its logits.
  """

  buckets: int = option(32, 'biases of each head', minimum=2)
  max_distance: int = option(
    128,
    'where the last bucket starts, about; buckets that training does not reach '
    'stay as they were drawn, so no more than the trained length',
    unit='tokens',
    minimum=1,
  )

  paper: ClassVar[str] = '1910.10683'

  def __post_init__(self) -> None:
    if self.max_distance <= self.buckets // 2:
      raise UsageError(
        f'--model.position.max_distance={self.max_distance} is not beyond the '
        f'{self.buckets // 2} single distances of --model.position.buckets='
        f'{self.buckets}'
      )

  @property
  def first_N(self) -> np.ndarray:
    """The smallest distance of each bucket."""
    near = self.buckets // 2
    step_N = np.arange(self.buckets - near) / (self.buckets - near)
    far_N = near * (self.max_distance / near) ** step_N
    return np.concatenate([np.arange(near), far_N])

  def of_distance(
    self, distance: jax.Array, param: Param, heads: int
  ) -> jax.Array:
    init = jax.nn.initializers.normal(0.1)
    table_NH = param('bias', init, (self.buckets, heads))
    first_N = jnp.asarray(self.first_N, jnp.float32).reshape(1, 1, 1, -1)
    bucket = jnp.sum(distance[:, 0, ..., None] >= first_N, axis=-1) - 1
    return jnp.moveaxis(lookup(table_NH, bucket), -1, 1)


@POSITIONS.register('kerple')
@dataclasses.dataclass(frozen=True, kw_only=True)
class KERPLE(Distance):
  """Kernels of distance, learned a head (Chi et al. 2022, arXiv 2205.09921).

  log: -p log(1 + a t); power: -a t^p with p at most 2. Both p and a are clamped
  from below. As in the authors' code, which clamps the parameters themselves,
  a gradient can lift a parameter that has fallen below.
  """

  form: Literal['log', 'power'] = option('log', 'the kernel')
  floor: float = option(0.01, 'least p and a', minimum=1e-6)

  paper: ClassVar[str] = '2205.09921'

  def of_distance(
    self, distance: jax.Array, param: Param, heads: int
  ) -> jax.Array:
    init, shape = jax.nn.initializers.uniform, (1, heads, 1, 1)
    power_H = param('p', init(2.0), (heads,))
    rate_H = param('a', init(1.0), (heads,))
    rate_1H11 = _clamped(rate_H, self.floor, None).reshape(shape)
    if self.form == 'log':
      factor_1H11 = _clamped(power_H, self.floor, None).reshape(shape)
      return -factor_1H11 * jnp.log1p(rate_1H11 * distance)
    power_1H11 = _clamped(power_H, self.floor, LARGEST_POWER).reshape(shape)
    return -rate_1H11 * distance**power_1H11


def _clamped(x: jax.Array, low: float, high: float | None) -> jax.Array:
  """x within bounds, with the gradient of x itself."""
  return x + jax.lax.stop_gradient(jnp.clip(x, low, high) - x)


@POSITIONS.register('sandwich')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sandwich(Relative):
  """Products of sinusoidal embeddings (Chi et al. 2022, arXiv 2212.10356).

  sum_j cos(t base^(-2j/D)) / (compression h / H), heads h = 1 .. H, j from 0 to
  D/2 - 1, as dot products of D numbers a token and not D/2 cosines a pair.
  """

  width: int = option(128, 'D, two numbers a wave', minimum=2)
  base: float = option(
    10_000.0, 'longest wavelength over 2 pi', unit='tokens', minimum=1.0
  )
  compression: float = option(
    8.0, 'what the sum is divided by in the last head', minimum=1e-3
  )

  paper: ClassVar[str] = '2212.10356'

  def __post_init__(self) -> None:
    if self.width % 2:
      raise UsageError(f'--model.position.width={self.width} is not even')

  def pair_bias(
    self, query: Structure, key: Structure, param: Param, heads: int
  ) -> jax.Array:
    del param
    # Counted from these queries, angles of near keys are small and exact.
    origin = query.position[:, :, :1]
    similar = jnp.einsum(
      'BXQKF,BXQKF->BXQK',
      self._waves(query.position - origin),
      self._waves(key.position - origin),
      precision=matmul_precision(jnp.float32),
    )
    ratio_H = self.compression * np.arange(1, heads + 1) / heads
    return similar / jnp.asarray(ratio_H, jnp.float32).reshape(1, -1, 1, 1)

  def _waves(self, position: jax.Array) -> jax.Array:
    rate_F = self.base ** (-2 * np.arange(self.width // 2) / self.width)
    line = (1,) * position.ndim + (-1,)
    angle = position[..., None] * jnp.asarray(rate_F, jnp.float32).reshape(line)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


@POSITIONS.register('cpb')
@dataclasses.dataclass(frozen=True, kw_only=True)
class CPB(Distance):
  """Continuous position bias, a network of distance (arXiv 2111.09883).

  One hidden layer of ReLU over t, log(1 + t), or sine and cosine of t at
  `waves` / 2 rates from 1 to 1 / base. Liu et al. 2021 feed it logarithms in
  two dimensions; the three forms and their sizes are those of
  bob80333/investigating_extrapolation. Each pair takes some 2 `hidden` H
  operations and `hidden` numbers of memory: make it smaller for long sequences.
  """

  form: Literal['linear', 'log', 'fourier'] = option(
    'linear', 'what the network reads of a distance'
  )
  hidden: int = option(256, 'hidden units of the network', minimum=1)
  waves: int = option(16, 'sines and cosines of form fourier', minimum=2)
  base: float = option(
    20_000.0, 'longest wavelength over 2 pi', unit='tokens', minimum=1.0
  )

  paper: ClassVar[str] = '2111.09883'

  def __post_init__(self) -> None:
    if self.waves % 2:
      raise UsageError(f'--model.position.waves={self.waves} is not even')

  def of_distance(
    self, distance: jax.Array, param: Param, heads: int
  ) -> jax.Array:
    features = self._features(distance)
    shape, inside = (len(features), self.hidden), 1 / math.sqrt(len(features))
    in_IF = param('in_kernel', uniform_within(inside), shape)
    bias_F = param('in_bias', uniform_within(inside), shape[1:])
    outside = uniform_within(1 / math.sqrt(self.hidden))
    out_FH = param('out_kernel', outside, (self.hidden, heads))
    return network(features, in_IF, bias_F, out_FH)

  def _features(self, distance: jax.Array) -> list[jax.Array]:
    """What the network reads, each as wide as the distances."""
    if self.form == 'linear':
      return [distance]
    if self.form == 'log':
      return [jnp.log1p(distance)]
    half = self.waves // 2
    rates = self.base ** (-np.arange(half) / half)
    angles = [distance * np.float32(rate) for rate in rates]
    return [wave(angle) for wave in (jnp.sin, jnp.cos) for angle in angles]
