"""What is forecast of curves, in the units of their metrics.

Shape key: N curves, Q steps asked for, K components, S samples.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import mixtures
from extrap.curves.mixtures import Mixture
from extrap.curves.normalise import Normalisation

MEAN_OF = 200  # Quantiles, where a mean has no closed form.


@dataclasses.dataclass(frozen=True, eq=False)
class Forecast:
  """A distribution for every curve and step, each by itself.

  Values are of the metric; where normalised ones would leave 0..1, as noise
  may, they are cut off at its bounds.

  Attributes:
    step_NQ: float64, the steps asked for.
    mixture: of normalised values, [N, Q, K].
    normalisation_N: how the metric of each curve becomes a normalised value.
  """

  step_NQ: np.ndarray
  mixture: Mixture
  normalisation_N: Sequence[Normalisation]

  def quantile(self, p: float) -> np.ndarray:
    """Values [N, Q] below which there is a probability p, 0 < p < 1."""
    falls_N1 = np.array([[each.minimise] for each in self.normalisation_N])
    wanted_NQ = np.broadcast_to(
      np.where(falls_N1, 1 - p, p), self.step_NQ.shape
    )
    return self._inverse(quantile(self.mixture, jnp.asarray(wanted_NQ)))

  def median(self) -> np.ndarray:
    """Values [N, Q] that are exceeded half of the time."""
    return self.quantile(0.5)

  def interval(self, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ends [N, Q] of a central interval, share in 0..1."""
    return self.quantile((1 - share) / 2), self.quantile((1 + share) / 2)

  def mean(self) -> np.ndarray:
    """Expected values [N, Q]; of a metric without bounds it may be infinite.

    The mean of evenly spaced quantiles, so that what lies beyond the bounds of
    the metric counts as being at them.
    """
    p_S = (np.arange(MEAN_OF) + 0.5) / MEAN_OF
    value_SNQ = _quantiles(self.mixture, jnp.asarray(p_S, jnp.float32))
    return np.mean([self._inverse(value_NQ) for value_NQ in value_SNQ], axis=0)

  def log_density(self, value_NQ: np.ndarray) -> np.ndarray:
    """Log density [N, Q] at values of the metric, per unit of it.

    Before anything is cut off at bounds: what lies beyond them has a share.
    """
    normalised_NQ = self._forward(value_NQ)
    log_density_NQ = mixtures.log_density(self.mixture, normalised_NQ)
    return np.asarray(log_density_NQ) + self._of_rows(
      Normalisation.log_jacobian, value_NQ
    )

  def probability_better(self, value: np.ndarray | float) -> np.ndarray:
    """Probability [N, Q] of a better value than one given, or than [N, Q].

    None is better than the best bound of the metric.
    """
    value_NQ = np.broadcast_to(np.asarray(value, float), self.step_NQ.shape)
    normalised_NQ = self._forward(value_NQ)
    above_NQ = np.asarray(_above(self.mixture, normalised_NQ))
    return np.where(normalised_NQ >= 1, 0.0, above_NQ)

  def sample(self, key: jax.Array, count: int) -> np.ndarray:
    """Values [S, N, Q]; those of one curve are drawn independently."""
    drawn_SNQ = np.asarray(mixtures.sample(key, self.mixture, (count,)))
    return np.stack([self._inverse(drawn_NQ) for drawn_NQ in drawn_SNQ])

  def _forward(self, value_NQ: np.ndarray) -> jax.Array:
    return jnp.asarray(self._of_rows(Normalisation.forward, value_NQ))

  def _inverse(self, normalised_NQ: jax.Array) -> np.ndarray:
    return self._of_rows(Normalisation.inverse, normalised_NQ)

  def _of_rows(self, function: Callable, value_NQ: np.ndarray) -> np.ndarray:
    """A function of a normalisation and a row, for each curve."""
    rows = np.asarray(value_NQ, np.float64)
    return np.stack(
      [
        function(each, row_Q)
        for each, row_Q in zip(self.normalisation_N, rows, strict=True)
      ]
    )


quantile = jax.jit(mixtures.quantile)  # Of one shape, compiled once.
_quantiles = jax.jit(jax.vmap(mixtures.quantile, in_axes=(None, 0)))
_above = jax.jit(mixtures.probability_above)
