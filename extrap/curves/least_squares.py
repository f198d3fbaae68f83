"""Least squares for many curves and many starts in one program.

Levenberg-Marquardt (`extrap/levenberg_marquardt.py`) with as many steps for
every start, vmapped over starts and curves. Nonlinear parameters of a start are
drawn, linear ones solved for. Points that a mask leaves out have no influence,
whatever they hold. Curves are padded to few widths and go through in batches of
few sizes, so that a family is compiled once for each of them.

Shape key: B curves, S starts, T points, Q new points, P parameters.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves.families import Family, Range, Span
from extrap.errors import UsageError
from extrap.levenberg_marquardt import Residual, cost_of, minimise

WIDTH = 20  # The least number of points; more are 4, 16, 64 ... times that.
BATCH = 16  # Curves at a time, where there are several.
PIECE = 80  # New points at a time.
LEAST = 1e-6  # Of scaled values, where their logarithm is taken.
RIDGE = 1e-6  # Of squares, where parameters are solved for.


@dataclasses.dataclass(frozen=True)
class Settings:
  """How curves are fitted.

  Attributes:
    log: whether residuals are those of log y; else they are those of y.
    candidates: starts that are drawn for a curve.
    starts: of these, how many are followed: those with the least residuals.
    steps: of Levenberg-Marquardt, for each of them.
    dtype: of the whole computation; on 72 scaling curves, M4 and BNSL with one
      or two breaks, float32 has residuals up to 0.5 % larger than float64, in
      a third of the time.
    seed: of the starts; all curves have the same, within their own bounds.
  """

  log: bool = True
  candidates: int = 256
  starts: int = 8
  steps: int = 30
  dtype: Literal['float32', 'float64'] = 'float32'
  seed: int = 0


DEFAULT = Settings()


class Points(NamedTuple):
  """Curves, of which a mask says which points are there.

  Attributes:
    x_BT: positive; any unit.
    y_BT: positive, if residuals are those of log y.
    mask_BT: true where a point counts.
    ceiling_B: what y cannot exceed by its nature; infinity if unknown.
  """

  x_BT: np.ndarray
  y_BT: np.ndarray
  mask_BT: np.ndarray
  ceiling_B: np.ndarray


class Fit(NamedTuple):
  """The best start of each curve.

  Attributes:
    theta_BP: its parameters, in the scaled units of `families`.
    rss_B: residual sum of squares, of log y or of y in its own unit.
    finite_B: whether any start came to a finite sum.
    x_scale_B: what x is divided by, and y_scale_B y.
  """

  theta_BP: np.ndarray
  rss_B: np.ndarray
  finite_B: np.ndarray
  x_scale_B: np.ndarray
  y_scale_B: np.ndarray


def points(
  curves: Sequence[tuple[np.ndarray, np.ndarray]],
  ceilings: Sequence[float] | None = None,
) -> Points:
  """Curves of any lengths, padded to the longest.

  Args:
    curves: x and y of each, of one length.
    ceilings: what y cannot exceed, one a curve.

  Raises:
    UsageError: no curves, or a curve without points.
  """
  if not curves or not all(len(x_T) for x_T, _ in curves):
    raise UsageError('a fit needs curves, each with a point at least')
  shape = len(curves), max(len(x_T) for x_T, _ in curves)
  x_BT, y_BT, mask_BT = np.ones(shape), np.ones(shape), np.zeros(shape, bool)
  for row, (x_T, y_T) in enumerate(curves):
    x_BT[row, : len(x_T)], y_BT[row, : len(x_T)] = x_T, y_T
    mask_BT[row, : len(x_T)] = True
  ceiling_B = np.full(len(curves), np.inf) if ceilings is None else ceilings
  return Points(x_BT, y_BT, mask_BT, np.asarray(ceiling_B, float))


def as_points(x_BT: np.ndarray, y_BT: np.ndarray) -> Points:
  """Curves of one length, all points of which count."""
  x_BT, y_BT = (np.atleast_2d(np.asarray(each, float)) for each in (x_BT, y_BT))
  x_BT = np.broadcast_to(x_BT, y_BT.shape)
  infinite_B = np.full(len(y_BT), np.inf)
  return Points(x_BT, y_BT, np.ones(y_BT.shape, bool), infinite_B)


def fit(family: Family, seen: Points, settings: Settings = DEFAULT) -> Fit:
  """Fits a family to every curve.

  Args:
    family: from `families.family`.
    seen: the curves.
    settings: how.

  Raises:
    UsageError: a point that counts is not finite, x is not positive, or y is
      not, where its logarithm is fitted; row and column are named.
  """
  check(seen, settings)
  arrays, x_scale_B, y_scale_B = scaled(seen)
  theta_BP, rss_B = in_batches(_fit, family, settings, arrays)
  finite_B = np.isfinite(rss_B)
  if not settings.log:
    rss_B = rss_B * y_scale_B**2
  return Fit(theta_BP, rss_B, finite_B, x_scale_B, y_scale_B)


def predict(
  family: Family,
  found: Fit,
  x_new_BQ: np.ndarray,
  settings: Settings = DEFAULT,
) -> np.ndarray:
  """Values [B, Q] of fitted curves at new x [B, Q] or [Q].

  A curve that could not be fitted has nan.
  """
  arrays = found.theta_BP, found.x_scale_B, x_new_BQ
  y_BQ = at_new(_predict, family, settings, *arrays)[:, 0]
  y_BQ = y_BQ * found.y_scale_B[:, None]
  return np.where(found.finite_B[:, None], y_BQ, np.nan)


def forecast(
  family: Family,
  x_BT: np.ndarray,
  y_BT: np.ndarray,
  x_new_BQ: np.ndarray,
  settings: Settings = DEFAULT,
) -> np.ndarray:
  """Fits curves and continues them: y [B, Q] at new x [B, Q] or [Q].

  Args:
    family: from `families.family`.
    x_BT: where the curves were seen, [B, T] or [T]; positive, any unit.
    y_BT: what was seen.
    x_new_BQ: where to forecast, in the same unit.
    settings: how to fit.

  Raises:
    UsageError: see `fit`.
  """
  found = fit(family, as_points(x_BT, y_BT), settings)
  return predict(family, found, x_new_BQ, settings)


def at_new(
  function: Callable,
  family: Family,
  settings: Settings,
  theta: np.ndarray,
  x_scale_B: np.ndarray,
  x_new_BQ: np.ndarray,
) -> np.ndarray:
  """What a jitted function makes of new points [B, S, Q], 80 at a time.

  Args:
    function: of family, settings, theta and scaled x [B, 80]; returns [B, S,
      80] in a tuple.
    family, settings: what it is compiled for.
    theta: B rows of parameters.
    x_scale_B: what x is divided by.
    x_new_BQ: new x, [B, Q] or [Q].
  """
  x_new_BQ = np.broadcast_to(x_new_BQ, (len(x_scale_B), np.shape(x_new_BQ)[-1]))
  x_BQ = x_new_BQ / x_scale_B[:, None]
  parts = []
  for begin in range(0, x_BQ.shape[1], PIECE):
    part_BQ = x_BQ[:, begin : begin + PIECE]
    more = ((0, 0), (0, PIECE - part_BQ.shape[1]))
    part_BQ = np.pad(part_BQ, more, constant_values=1.0)
    (found,) = in_batches(function, family, settings, (theta, part_BQ))
    parts.append(np.asarray(found, float))
  return np.concatenate(parts, axis=-1)[..., : x_BQ.shape[1]]


def check(seen: Points, settings: Settings) -> None:
  """Refuses points that cannot be fitted, in one line."""
  x_BT, y_BT, mask_BT, _ = seen
  if not mask_BT.any(axis=1).all():
    row = int(np.argmin(mask_BT.any(axis=1)))
    raise UsageError(f'curve {row} has no points')
  wrong = {
    'is not finite': ~(np.isfinite(x_BT) & np.isfinite(y_BT)),
    'has an x that is not positive': ~(x_BT > 0),
    'has no logarithm': ~(y_BT > 0) & settings.log,
  }
  for what, wrong_BT in wrong.items():
    for row, column in np.argwhere(wrong_BT & mask_BT)[:1].tolist():
      x, y = x_BT[row, column], y_BT[row, column]
      where = f'point {column} of curve {row}, x={x:g}, y={y:g},'
      raise UsageError(f'{where} {what}')


def scaled(seen: Points) -> tuple[Points, np.ndarray, np.ndarray]:
  """x in units of the first, y of the largest |y|; padded to a width."""
  first_B = np.where(seen.mask_BT, seen.x_BT, np.inf).min(axis=1)
  high_B = np.where(seen.mask_BT, np.abs(seen.y_BT), 0.0).max(axis=1)
  high_B = np.where(high_B > 0, high_B, 1.0)
  x_BT = np.where(seen.mask_BT, seen.x_BT / first_B[:, None], 1.0)
  y_BT = np.where(seen.mask_BT, seen.y_BT / high_B[:, None], 1.0)
  padded = Points(
    widen(x_BT, 1.0),
    widen(y_BT, 1.0),
    widen(seen.mask_BT, False),
    seen.ceiling_B / high_B,
  )
  return padded, first_B, high_B


def width_of(count: int) -> int:
  """The columns that so many points are padded to."""
  width = WIDTH
  while width < count:
    width *= 4
  return width


def widen(array_BT: np.ndarray, filler: float) -> np.ndarray:
  """The array with more columns, so that there are few widths."""
  more = width_of(array_BT.shape[1]) - array_BT.shape[1]
  return np.pad(array_BT, ((0, 0), (0, more)), constant_values=filler)


def in_batches(
  function: Callable,
  family: Family,
  settings: Settings,
  arrays: Sequence[np.ndarray],
) -> tuple[np.ndarray, ...]:
  """Calls a jitted function for some curves at a time.

  Args:
    function: of family, settings and the arrays; returns arrays of B rows.
    family, settings: what it is compiled for.
    arrays: each with B rows.
  """
  with jax.enable_x64(settings.dtype == 'float64'):
    parts = [
      jax.device_get(function(family, settings, *part))
      for part in _batches(arrays, settings.dtype)
    ]
  count = len(arrays[0])
  return tuple(
    np.concatenate(part)[:count] for part in zip(*parts, strict=True)
  )


def _batches(
  arrays: Sequence[np.ndarray], dtype: str
) -> Iterator[list[np.ndarray]]:
  """Parts of equal size; the last is filled with its own last row."""
  count = len(arrays[0])
  size = 1 if count == 1 else BATCH
  for begin in range(0, count, size):
    rows = np.minimum(np.arange(begin, begin + size), count - 1)
    yield [
      part if part.dtype.kind in 'bi' else part.astype(dtype)
      for part in (array[rows] for array in arrays)
    ]


_compiled = functools.partial(jax.jit, static_argnames=('family', 'settings'))


@_compiled
def _fit(
  family: Family,
  settings: Settings,
  x_BT: jax.Array,
  y_BT: jax.Array,
  mask_BT: jax.Array,
  ceiling_B: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Parameters [B, P] and sums of squares [B] of each curve's best start."""
  key = jax.random.key(settings.seed)
  shape = settings.candidates, len(family.parameters)
  share_SP = jax.random.uniform(key, shape, x_BT.dtype)
  one = functools.partial(_fit_one, family, settings, share_SP)
  return jax.vmap(one)(x_BT, y_BT, mask_BT, ceiling_B)


def _fit_one(
  family: Family,
  settings: Settings,
  share_SP: jax.Array,
  x_T: jax.Array,
  y_T: jax.Array,
  mask_T: jax.Array,
  ceiling: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  residual = residual_of(family, settings, x_T, y_T, mask_T)
  box = bounds(family, x_T, y_T, mask_T, ceiling)
  width_P = box.start_high - box.start_low
  start_SP = jax.vmap(lambda share_P: box.start_low + width_P * share_P)(
    share_SP
  )
  if family.linear is not None:
    solve = functools.partial(_solved, family, settings, box, x_T, y_T, mask_T)
    start_SP = jax.vmap(solve)(start_SP)
  cost_S = jax.vmap(lambda theta_P: cost_of(residual(theta_P)))(start_SP)
  _, best_S = jax.lax.top_k(-cost_S, settings.starts)
  follow = functools.partial(
    minimise, residual, (box.low, box.high), settings.steps
  )
  theta_SP, cost_S = jax.vmap(follow)(start_SP[best_S])
  best = jnp.argmin(cost_S)
  return theta_SP[best], cost_S[best]


def _solved(
  family: Family,
  settings: Settings,
  box: Range,
  x_T: jax.Array,
  y_T: jax.Array,
  mask_T: jax.Array,
  theta_P: jax.Array,
) -> jax.Array:
  """theta [P] with the best values of those that a linear problem gives."""
  target_T, design_TK, weight_T = family.linear(x_T, y_T, theta_P)
  if not settings.log:
    weight_T = weight_T * y_T
  weight_T = jnp.where(mask_T, weight_T, 0.0)
  design_TK, target_T = design_TK * weight_T[:, None], target_T * weight_T
  square_KK = design_TK.T @ design_TK
  ridge_K = RIDGE * jnp.diagonal(square_KK) + LEAST**2
  square_KK = square_KK + jnp.diag(ridge_K)
  found_K = jnp.linalg.solve(square_KK, design_TK.T @ target_T)
  theta_P = theta_P.at[jnp.array(family.solved)].set(found_K)
  return jnp.clip(theta_P, box.low, box.high)


@_compiled
def _predict(
  family: Family,
  settings: Settings,
  theta_BP: jax.Array,
  x_BQ: jax.Array,
) -> tuple[jax.Array]:
  del settings
  return (jax.vmap(family.curve)(x_BQ, theta_BP)[:, None],)


def bounds(
  family: Family,
  x_T: jax.Array,
  y_T: jax.Array,
  mask_T: jax.Array,
  ceiling: jax.Array,
) -> Range:
  """Bounds and limits of starts, [P] each, of a scaled curve."""
  seen_T = jnp.where(mask_T, x_T, -jnp.inf)
  span = Span(
    x_last=jnp.max(seen_T),
    y_low=jnp.min(jnp.where(mask_T, y_T, jnp.inf)),
    y_high=jnp.max(jnp.where(mask_T, y_T, -jnp.inf)),
    y_last=y_T[jnp.argmax(seen_T)],
    ceiling=ceiling,
  )
  columns = zip(*family.ranges(span), strict=True)
  return Range(
    *(jnp.stack([jnp.asarray(v, x_T.dtype) for v in each]) for each in columns)
  )


def residual_of(
  family: Family,
  settings: Settings,
  x_T: jax.Array,
  y_T: jax.Array,
  mask_T: jax.Array,
) -> Residual:
  """Found less seen [T], zero where the mask is false."""
  x_T, y_T = (jnp.where(mask_T, each_T, 1.0) for each_T in (x_T, y_T))
  seen_T = in_space(y_T, settings)

  def residual(theta_P: jax.Array) -> jax.Array:
    found_T = in_space(family.curve(x_T, theta_P), settings)
    return jnp.where(mask_T, found_T - seen_T, 0.0)

  return residual


def in_space(y: jax.Array, settings: Settings) -> jax.Array:
  """log y, or y itself: what residuals are differences of."""
  return jnp.log(jnp.maximum(y, LEAST)) if settings.log else y
