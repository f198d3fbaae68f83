"""The bar distribution: probabilities of bins, uniform within each.

The output of prior-data fitted networks (Mueller et al. 2022, arXiv 2112.10510,
section 3), with full support as in automl/lcpfn: the outermost bins are halves
of normal distributions that fall off from their inner edge, with half of their
mass within the bin's width.

Shape key: K bins, N values.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

HALF = 0.6744897501960817  # Within so many deviations lies half of a normal.


@dataclasses.dataclass(frozen=True, eq=False)
class Bars:
  """Bins; what is asked of them takes logits [..., K].

  Attributes:
    edge_K1: float32, K + 1 edges that rise, at least three.
  """

  edge_K1: np.ndarray

  def __post_init__(self) -> None:
    if len(self.edge_K1) < 3 or not np.all(np.diff(self.edge_K1) > 0):
      raise ValueError('edges of bins rise, and there are at least two bins')

  @classmethod
  def of_equal_mass(cls, value_N: np.ndarray, count: int) -> 'Bars':
    """Bins that hold equally many of some values; repeated ones count once."""
    value_N = np.unique(np.asarray(value_N, np.float32))
    edge_K1 = np.quantile(value_N, np.linspace(0, 1, count + 1))
    return cls(edge_K1.astype(np.float32))

  def log_density(self, logits: jax.Array, value: jax.Array) -> jax.Array:
    """Log density [...] at values [...], anywhere."""
    bin_ = self._bin(value)
    log_mass = jnp.take_along_axis(
      jax.nn.log_softmax(logits), bin_[..., None], axis=-1
    )[..., 0]
    log_share = -jnp.log(self._width_K)[bin_]
    log_share = jnp.where(bin_ == 0, _log_half(*self._below(value)), log_share)
    last = bin_ == logits.shape[-1] - 1
    log_share = jnp.where(last, _log_half(*self._above(value)), log_share)
    return log_mass + log_share

  def cdf(self, logits: jax.Array, value: jax.Array) -> jax.Array:
    """Probability [...] of at most a value [...]."""
    mass = jax.nn.softmax(logits)
    bin_ = self._bin(value)
    up_to = jnp.take_along_axis(
      jnp.cumsum(mass, axis=-1), bin_[..., None], axis=-1
    )[..., 0]
    own = jnp.take_along_axis(mass, bin_[..., None], axis=-1)[..., 0]
    over = (self._upper_K[bin_] - value) / self._width_K[bin_]
    over = jnp.where(bin_ == 0, _half_cdf(*self._below(value)), over)
    last = bin_ == logits.shape[-1] - 1
    over = jnp.where(last, 1 - _half_cdf(*self._above(value)), over)
    return up_to - own * over

  def quantile(self, logits: jax.Array, p: jax.Array | float) -> jax.Array:
    """Values [...] with a probability p [...] below them, 0 < p < 1."""
    mass = jax.nn.softmax(logits)
    up_to = jnp.cumsum(mass, axis=-1)
    p = jnp.broadcast_to(p, logits.shape[:-1])
    count = logits.shape[-1]
    bin_ = jnp.minimum(jnp.sum(up_to < p[..., None], axis=-1), count - 1)
    own = jnp.take_along_axis(mass, bin_[..., None], axis=-1)[..., 0]
    end = jnp.take_along_axis(up_to, bin_[..., None], axis=-1)[..., 0]
    over = jnp.clip((end - p) / own, 0, 1)  # Share of the bin above it.
    value = self._upper_K[bin_] - over * self._width_K[bin_]
    low = self.edge_K1[1] - self._deviation(0) * _half_quantile(over)
    value = jnp.where(bin_ == 0, low, value)
    high = self.edge_K1[-2] + self._deviation(-1) * _half_quantile(1 - over)
    return jnp.where(bin_ == count - 1, high, value)

  def mean(self, logits: jax.Array) -> jax.Array:
    """Means [...]."""
    centre_K = (self.edge_K1[1:] + self.edge_K1[:-1]) / 2
    reach = np.sqrt(2 / np.pi)
    centre_K[0] = self.edge_K1[1] - reach * self._deviation(0)
    centre_K[-1] = self.edge_K1[-2] + reach * self._deviation(-1)
    return jax.nn.softmax(logits) @ centre_K

  @property
  def _width_K(self) -> jax.Array:
    return jnp.asarray(np.diff(self.edge_K1))

  @property
  def _upper_K(self) -> jax.Array:
    return jnp.asarray(self.edge_K1[1:])

  def _deviation(self, bin_: int) -> float:
    """Of the normal that an outermost bin is a half of."""
    return float(np.diff(self.edge_K1)[bin_]) / HALF

  def _bin(self, value: jax.Array) -> jax.Array:
    """Index of the bin of a value; the outermost ones reach to infinity."""
    return jnp.searchsorted(jnp.asarray(self.edge_K1[1:-1]), value)

  def _below(self, value: jax.Array) -> tuple[jax.Array, float]:
    """How far below the inner edge of the first bin, and its deviation."""
    return self.edge_K1[1] - value, self._deviation(0)

  def _above(self, value: jax.Array) -> tuple[jax.Array, float]:
    """How far above the inner edge of the last bin, and its deviation."""
    return value - self.edge_K1[-2], self._deviation(-1)


def _log_half(distance: jax.Array, deviation: float) -> jax.Array:
  """Log density of a half normal."""
  log_peak = 0.5 * np.log(2 / np.pi) - np.log(deviation)
  return log_peak - 0.5 * (distance / deviation) ** 2


def _half_cdf(distance: jax.Array, deviation: float) -> jax.Array:
  """Probability of a half normal up to a distance."""
  return special.erf(distance / (deviation * np.sqrt(2)))


def _half_quantile(p: jax.Array) -> jax.Array:
  """Distance in deviations with a probability p of a half normal below it."""
  return np.sqrt(2) * special.erfinv(p)
