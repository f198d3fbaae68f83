"""How far a fitted curve may be wrong: the residual bootstrap.

Residuals are drawn again, with replacement and widened by sqrt(n / (n - P)),
onto the fitted curve, and each such curve is fitted from where the first fit
ended (Efron 1979; Davison and Hinkley 1997, section 6.3).

What is forecast of a new y, and all of density, distribution function and
quantiles: the equal mixture over the draws of Student distributions about each
draw's curve, with n - P degrees of freedom (1 at least) and the scale
sqrt(RSS / (n - P)) of the first fit's residuals. They are distributions of
log y where residuals are those of log y, and then the density of y has the
Jacobian 1 / y. A family whose shape is wrong has intervals that are too narrow:
nothing here knows of it.

Shape key: B curves, S draws, T points, Q new points, P parameters.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import least_squares
from extrap.curves.families import Family
from extrap.curves.least_squares import DEFAULT, Fit, Points, Settings
from extrap.errors import UsageError
from extrap.levenberg_marquardt import minimise

LEAST_SCALE = 1e-3  # Of scaled values; a perfect fit would have no density.
STEPS = 8  # Of Levenberg-Marquardt, from the first fit.
HALVINGS = 40  # Of the interval that holds a quantile.


class Draws(NamedTuple):
  """Fits to curves drawn again; see the module.

  Attributes:
    theta_BSP: their parameters, in the scaled units of `families`.
    scale_B: of the residuals, in scaled units or in those of log y.
    freedom_B: degrees of freedom.
    x_scale_B: what x is divided by, and y_scale_B y.
    log: whether residuals are those of log y.
  """

  theta_BSP: np.ndarray
  scale_B: np.ndarray
  freedom_B: np.ndarray
  x_scale_B: np.ndarray
  y_scale_B: np.ndarray
  log: bool


def bootstrap(
  family: Family,
  found: Fit,
  seen: Points,
  draws: int = 32,
  settings: Settings = DEFAULT,
) -> Draws:
  """Fits each curve again to residuals drawn again.

  Args:
    family, found, seen, settings: as they were for `least_squares.fit`.
    draws: how many, of each curve.

  Raises:
    UsageError: see `fit`; or there are no draws.
  """
  if draws < 1:
    raise UsageError(f'{draws} draws: the bootstrap needs one at least')
  least_squares.check(seen, settings)
  padded, x_scale_B, y_scale_B = least_squares.scaled(seen)
  function = functools.partial(_bootstrap, draws)
  arrays = found.theta_BP, *padded
  theta_BSP, scale_B, freedom_B = least_squares.in_batches(
    function, family, settings, arrays
  )
  return Draws(
    theta_BSP, scale_B, freedom_B, x_scale_B, y_scale_B, settings.log
  )


def curves(family: Family, drawn: Draws, x_new_BQ: np.ndarray) -> np.ndarray:
  """Curves [B, S, Q] of the draws, in the unit of y, without noise."""
  middle_BSQ = _middles(family, drawn, x_new_BQ)
  if drawn.log:
    middle_BSQ = np.exp(middle_BSQ)
  return middle_BSQ * drawn.y_scale_B[:, None, None]


def samples(
  family: Family, drawn: Draws, x_new_BQ: np.ndarray, seed: int = 0
) -> np.ndarray:
  """Forecasts [B, S, Q] of what would be observed, one of each draw."""
  middle_BSQ = _middles(family, drawn, x_new_BQ)
  noise_BSQ = np.random.default_rng(seed).standard_t(
    np.broadcast_to(drawn.freedom_B[:, None, None], middle_BSQ.shape)
  )
  found_BSQ = middle_BSQ + drawn.scale_B[:, None, None] * noise_BSQ
  if drawn.log:
    found_BSQ = np.exp(found_BSQ)
  return found_BSQ * drawn.y_scale_B[:, None, None]


def judge(
  family: Family, drawn: Draws, x_new_BQ: np.ndarray, y_new_BQ: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """What the forecast says of y: log density, and distribution function.

  Returns:
    The log density [B, Q] of y, in nats for the unit of y, and the probability
    [B, Q] of no more than y.
  """
  from scipy import special, stats

  at_BSQ = _standard(drawn, _middles(family, drawn, x_new_BQ), y_new_BQ)
  log_BSQ = stats.t.logpdf(at_BSQ, drawn.freedom_B[:, None, None])
  log_BQ = special.logsumexp(log_BSQ, axis=1) - np.log(log_BSQ.shape[1])
  unit_BQ = np.asarray(y_new_BQ) if drawn.log else drawn.y_scale_B[:, None]
  log_BQ = log_BQ - np.log(drawn.scale_B)[:, None] - np.log(unit_BQ)
  return log_BQ, _below(drawn, at_BSQ)


def log_density(
  family: Family, drawn: Draws, x_new_BQ: np.ndarray, y_new_BQ: np.ndarray
) -> np.ndarray:
  """The first of `judge`."""
  return judge(family, drawn, x_new_BQ, y_new_BQ)[0]


def quantiles(
  family: Family,
  drawn: Draws,
  x_new_BQ: np.ndarray,
  levels: tuple[float, ...],
) -> np.ndarray:
  """y [L, B, Q] at which the distribution function is one of L levels."""
  from scipy import special

  middle_BSQ = _middles(family, drawn, x_new_BQ)
  scale_B11, freedom_B11 = (
    each_B[:, None, None] for each_B in (drawn.scale_B, drawn.freedom_B)
  )
  found = []
  for level in levels:
    each_BSQ = middle_BSQ + scale_B11 * special.stdtrit(freedom_B11, level)
    low_BQ, high_BQ = each_BSQ.min(axis=1), each_BSQ.max(axis=1)
    for _ in range(HALVINGS):
      half_BQ = (low_BQ + high_BQ) / 2
      at_BSQ = (half_BQ[:, None] - middle_BSQ) / scale_B11
      above_BQ = _below(drawn, at_BSQ) > level
      low_BQ = np.where(above_BQ, low_BQ, half_BQ)
      high_BQ = np.where(above_BQ, half_BQ, high_BQ)
    found.append(np.exp(high_BQ) if drawn.log else high_BQ)
  return np.stack(found) * drawn.y_scale_B[:, None]


def _middles(family: Family, drawn: Draws, x_new_BQ: np.ndarray) -> np.ndarray:
  """Curves [B, S, Q] of the draws, scaled, and their logarithm if need be."""
  settings = Settings(log=drawn.log, dtype=str(drawn.theta_BSP.dtype))
  arrays = drawn.theta_BSP, drawn.x_scale_B, x_new_BQ
  return least_squares.at_new(_curves, family, settings, *arrays)


def _standard(
  drawn: Draws, middle_BSQ: np.ndarray, y_new_BQ: np.ndarray
) -> np.ndarray:
  """How many scales [B, S, Q] y is above each draw's curve."""
  y_BQ = np.asarray(y_new_BQ) / drawn.y_scale_B[:, None]
  y_BQ = np.log(y_BQ) if drawn.log else y_BQ
  return (y_BQ[:, None] - middle_BSQ) / drawn.scale_B[:, None, None]


def _below(drawn: Draws, at_BSQ: np.ndarray) -> np.ndarray:
  """Mean over draws of Student's distribution function, [B, Q]."""
  from scipy import special

  return special.stdtr(drawn.freedom_B[:, None, None], at_BSQ).mean(axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _bootstrap(
  draws: int,
  family: Family,
  settings: Settings,
  theta_BP: jax.Array,
  x_BT: jax.Array,
  y_BT: jax.Array,
  mask_BT: jax.Array,
  ceiling_B: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Parameters [B, S, P], scales [B], degrees of freedom [B]."""
  key = jax.random.key(settings.seed)
  share_ST = jax.random.uniform(key, (draws, x_BT.shape[1]), x_BT.dtype)
  one = functools.partial(_draw_again, family, settings, share_ST)
  return jax.vmap(one)(theta_BP, x_BT, y_BT, mask_BT, ceiling_B)


def _draw_again(
  family: Family,
  settings: Settings,
  share_ST: jax.Array,
  theta_P: jax.Array,
  x_T: jax.Array,
  y_T: jax.Array,
  mask_T: jax.Array,
  ceiling: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  box = least_squares.bounds(family, x_T, y_T, mask_T, ceiling)
  residual_T = least_squares.residual_of(family, settings, x_T, y_T, mask_T)(
    theta_P
  )
  count = jnp.sum(mask_T)
  freedom = jnp.maximum(count - theta_P.size, 1).astype(x_T.dtype)
  scale = jnp.maximum(jnp.sqrt(jnp.sum(residual_T**2) / freedom), LEAST_SCALE)
  points_T = jnp.argsort(~mask_T, stable=True)  # Those that count come first.
  index_ST = points_T[(share_ST * count).astype(int)]
  noise_ST = jnp.sqrt(count / freedom) * residual_T[index_ST]
  middle_T = least_squares.in_space(family.curve(x_T, theta_P), settings)

  def again(noise_T: jax.Array) -> jax.Array:
    drawn_T = middle_T - noise_T
    drawn_T = jnp.exp(drawn_T) if settings.log else drawn_T
    residual = least_squares.residual_of(family, settings, x_T, drawn_T, mask_T)
    return minimise(residual, (box.low, box.high), STEPS, theta_P)[0]

  return jax.vmap(again)(noise_ST), scale, freedom


@functools.partial(jax.jit, static_argnums=(0, 1))
def _curves(
  family: Family, settings: Settings, theta_BSP: jax.Array, x_BQ: jax.Array
) -> tuple[jax.Array]:
  over_draws = jax.vmap(family.curve, (None, 0))
  y_BSQ = jax.vmap(over_draws)(x_BQ, theta_BSP)
  return (least_squares.in_space(y_BSQ, settings),)
