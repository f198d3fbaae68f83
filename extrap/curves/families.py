"""Parametric families of learning and scaling curves, y = f(x, theta).

All are pure functions of one curve, to be vmapped. They see x divided by the
first observed x and y divided by the largest observed |y|, so that one box of
starts suits curves of any unit; `extrap.curves.least_squares` scales and
unscales. Except for ilog2, of which the logarithm needs an origin, none of them
depends on the unit of x. Parameters over orders of magnitude are logarithms.

Shape key: T points, P parameters.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from extrap.errors import UsageError

MARGIN = 1e-3  # Of M4's limits from the values seen, as published.
LEAST_Y = 1e-6  # Of scaled values, where they are divided by.
LEAST_ALPHA = 1e-4  # Below it M4 has no room between its limits.
HALLEY_STEPS = 5


class Span(NamedTuple):
  """What bounds and starts may know of a curve, in its scaled units.

  Attributes:
    x_last: last observed x; the first is 1.
    y_low: smallest observed y.
    y_high: largest observed y.
    y_last: last observed y.
    ceiling: no y is above this by its nature; infinite where there is none.
  """

  x_last: jax.Array
  y_low: jax.Array
  y_high: jax.Array
  y_last: jax.Array
  ceiling: jax.Array


class Range(NamedTuple):
  """Bounds of a parameter, and between which of them its starts are drawn."""

  low: jax.Array | float
  start_low: jax.Array | float
  start_high: jax.Array | float
  high: jax.Array | float


class Linear(NamedTuple):
  """A linear problem whose solution is that of some parameters.

  Attributes:
    target_T: what is to be a sum of the columns.
    design_TK: a column for each of the K parameters.
    weight_T: by how much log y changes with the target.
  """

  target_T: jax.Array
  design_TK: jax.Array
  weight_T: jax.Array


Curve = Callable[[jax.Array, jax.Array], jax.Array]
Ranges = Callable[[Span], tuple[Range, ...]]
Linearised = Callable[[jax.Array, jax.Array, jax.Array], Linear]


@dataclasses.dataclass(frozen=True)
class Family:
  """A parametric family.

  Attributes:
    name: in the registry and in tables.
    parameters: names, in the order of theta.
    curve: y [T] of x [T], positive, and theta [P].
    ranges: one a parameter, from what has been seen of a curve.
    solved: indices of parameters that are not drawn for a start but solved for,
      given the others (variable projection, Golub and Pereyra 1973).
    linear: the linear problem that they solve, of x, y and theta; theirs in
      theta has no influence, but for M4.
  """

  name: str
  parameters: tuple[str, ...]
  curve: Curve
  ranges: Ranges
  solved: tuple[int, ...] = ()
  linear: Linearised | None = None


FAMILIES: dict[str, Family] = {}

ASYMPTOTE = Range(-2.0, 0.0, 1.2, 4.0)
SHARE = Range(-20.0, -1.0, 1.0, 20.0)  # How far a curve is from there.
EXPONENT = Range(1e-3, 0.05, 2.0, 10.0)
SLOPE = Range(-10.0, -1.0, 1.0, 10.0)
LOG_SCALE = Range(-60.0, -2.0, 2.0, 60.0)


def family(name: str) -> Family:
  """An entry of the registry; 'bnsl<n>', n up to 3, is one with n breaks.

  Raises:
    UsageError: there is none of that name.
  """
  found = FAMILIES.get(name)
  if found is None:
    known = ', '.join(FAMILIES)
    raise UsageError(f'{name!r} is no family of curves; there are {known}')
  return found


def _register(
  parameters: tuple[str, ...],
  ranges: Ranges,
  solved: tuple[int, ...] = (),
  linear: Callable[[Curve, tuple[int, ...]], Linearised] | None = None,
) -> Callable[[Curve], Curve]:
  """Puts a curve into the registry under the name of its function."""

  def add(curve: Curve) -> Curve:
    name = curve.__name__
    problem = None if linear is None else linear(curve, solved)
    FAMILIES[name] = Family(name, parameters, curve, ranges, solved, problem)
    return curve

  return add


def _sum(curve: Curve, solved: tuple[int, ...]) -> Linearised:
  """Of curves that are a sum in which the parameters are factors."""

  def linear(x_T: jax.Array, y_T: jax.Array, theta_P: jax.Array) -> Linear:
    columns = _columns(lambda theta_P: curve(x_T, theta_P), theta_P, solved)
    return Linear(y_T, columns[0], 1 / jnp.maximum(y_T, LEAST_Y))

  return linear


def _product(
  curve: Curve, solved: tuple[int, ...], floor: int | None = None
) -> Linearised:
  """Of curves that are such a sum in the logarithm, less a floor's index."""

  def linear(x_T: jax.Array, y_T: jax.Array, theta_P: jax.Array) -> Linear:
    least = 0.0 if floor is None else theta_P[floor]

    def logarithm(theta_P: jax.Array) -> jax.Array:
      return jnp.log(jnp.maximum(curve(x_T, theta_P) - least, LEAST_Y**4))

    design_TK, base_T = _columns(logarithm, theta_P, solved)
    above_T = jnp.maximum(y_T - least, LEAST_Y)
    weight_T = above_T / jnp.maximum(y_T, LEAST_Y)
    return Linear(jnp.log(above_T) - base_T, design_TK, weight_T)

  return linear


def _columns(
  function: Callable[[jax.Array], jax.Array],
  theta_P: jax.Array,
  solved: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
  """Slopes [T, K] of an affine function, and its value [T] where they are 0."""
  indices = jnp.array(solved)
  zero_P = theta_P.at[indices].set(0.0)
  base_T = function(zero_P)

  def slope(index: jax.Array) -> jax.Array:
    return function(zero_P.at[index].set(1.0)) - base_T

  return jax.vmap(slope, out_axes=1)(indices), base_T


def _last(span: Span) -> tuple[Range, ...]:
  """One parameter, the last value: its bounds leave nothing to fit."""
  y = span.y_last
  return (Range(y, y, y, y),)


@_register(('value',), _last)
def last_value(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = the last value seen: what every forecaster has to beat."""
  return jnp.broadcast_to(theta_P[0], x_T.shape)


@_register(
  ('c', 'a', 'alpha'), lambda span: (ASYMPTOTE, SHARE, EXPONENT), (0, 1), _sum
)
def pow3(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = c - a x^(-alpha). Kolachina et al. (2012); Domhan et al. (2015)."""
  c, a, alpha = theta_P
  return c - a * jnp.exp(-alpha * jnp.log(x_T))


def _pow4_ranges(span: Span) -> tuple[Range, ...]:
  far = jnp.log(span.x_last)
  shift = Range(-7.0, -3.0, far, far + 5.0)
  return ASYMPTOTE, SHARE, EXPONENT, shift


@_register(('c', 'a', 'alpha', 'log_d'), _pow4_ranges, (0, 1), _sum)
def pow4(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = c - a (1 + x/d)^(-alpha). Mohr et al. (2022), LCDB.

  There: c - a' (d + x)^(-alpha); here the curve is c - a at x = 0, whatever d
  is.
  """
  c, a, alpha, log_d = theta_P
  return c - a * jnp.exp(-alpha * jax.nn.softplus(jnp.log(x_T) - log_d))


@_register(('c', 'a'), lambda span: (ASYMPTOTE, SHARE), (0, 1), _sum)
def ilog2(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = c - a / log(x + 1). Kolachina et al. (2012); Domhan et al. (2015)."""
  c, a = theta_P
  return c - a / jnp.log1p(x_T)


def _rate(span: Span) -> Range:
  """Of a decay that is half way somewhere between the first x and beyond."""
  far = jnp.log(span.x_last)
  return Range(-far - 10.0, -far - 1.0, 0.5, 10.0)


@_register(
  ('c', 'a', 'log_b'),
  lambda span: (ASYMPTOTE, ASYMPTOTE, _rate(span)),
  (0, 1),
  _sum,
)
def expd3(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = c - (c - a) exp(-b x). Mohr et al. (2022), LCDB."""
  c, a, log_b = theta_P
  return c - (c - a) * jnp.exp(-jnp.exp(log_b) * x_T)


def _growth_ranges(span: Span) -> tuple[Range, ...]:
  power = Range(0.01, 0.2, 2.0, 10.0)
  rate = Range(-60.0, -3.0, 1.0, 20.0)
  return ASYMPTOTE, ASYMPTOTE._replace(high=20.0), rate, power


@_register(('A', 'B', 'log_k', 'd'), _growth_ranges, (0, 1), _sum)
def janoschek(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = A - (A - B) exp(-k x^d). Domhan et al. (2015)."""
  a, b, log_k, d = theta_P
  return a - (a - b) * jnp.exp(-jnp.exp(log_k + d * jnp.log(x_T)))


def _mmf4_ranges(span: Span) -> tuple[Range, ...]:
  start, power = ASYMPTOTE._replace(high=20.0), Range(0.01, 0.2, 3.0, 20.0)
  return start, Range(-60.0, -1.0, 6.0, 90.0), ASYMPTOTE, power


@_register(('a', 'log_b', 'c', 'd'), _mmf4_ranges, (0, 2), _sum)
def mmf4(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = (a b + c x^d) / (b + x^d). Morgan, Mercer and Flodin (1975)."""
  a, log_b, c, d = theta_P
  return c + (a - c) * jax.nn.sigmoid(log_b - d * jnp.log(x_T))


def _wbl4_ranges(span: Span) -> tuple[Range, ...]:
  _, _, rate, power = _growth_ranges(span)
  return ASYMPTOTE, SHARE, rate, power


@_register(('c', 'b', 'log_a', 'd'), _wbl4_ranges, (0, 1), _sum)
def wbl4(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = c - b exp(-a x^d). Mohr et al. (2022), LCDB.

  The same curves as janoschek, with b = A - B; bounds and starts differ.
  """
  c, b, log_a, d = theta_P
  return c - b * jnp.exp(-jnp.exp(log_a + d * jnp.log(x_T)))


@_register(
  ('a', 'b', 'c'), lambda span: (SHARE, SHARE, SLOPE), (0, 1, 2), _product
)
def vap(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = exp(a + b/x + c log x), vapour pressure. Domhan et al. (2015)."""
  a, b, c = theta_P
  return jnp.exp(a + b / x_T + c * jnp.log(x_T))


def _hill3_ranges(span: Span) -> tuple[Range, ...]:
  far = jnp.log(span.x_last)
  height = Range(0.0, 0.2, 2.0, 50.0)
  return height, Range(-10.0, -3.0, 3.0, 10.0), Range(-40.0, 0.0, far, 40.0)


@_register(('height', 'eta', 'log_kappa'), _hill3_ranges, (0,), _sum)
def hill3(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = h x^eta / (kappa^eta + x^eta), falling too. Domhan et al. (2015)."""
  height, eta, log_kappa = theta_P
  return height * jax.nn.sigmoid(eta * (jnp.log(x_T) - log_kappa))


FALL = Range(-10.0, -1.5, -0.02, 0.0)


@_register(('log_b', 'c'), lambda span: (LOG_SCALE, FALL), (0, 1), _product)
def m1(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = b x^c. Alabdulmohsin et al. (2022, arXiv 2209.06640)."""
  log_b, c = theta_P
  return jnp.exp(log_b + c * jnp.log(x_T))


def _floor(span: Span) -> Range:
  """Of what remains at infinite x: between nothing and the least seen."""
  top = jnp.maximum(span.y_low - MARGIN, 1e-6)
  return Range(0.0, 0.0, top, top)


@_register(
  ('log_b', 'c', 'e_inf'),
  lambda span: (LOG_SCALE, FALL, _floor(span)),
  (0, 1),
  functools.partial(_product, floor=2),
)
def m2(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = b x^c + e_inf. Alabdulmohsin et al. (2022, arXiv 2209.06640)."""
  log_b, c, e_inf = theta_P
  return e_inf + jnp.exp(log_b + c * jnp.log(x_T))


def _m3_ranges(span: Span) -> tuple[Range, ...]:
  far = jnp.log(span.x_last)
  rise = Range(0.0, 0.02, 1.5, 10.0)
  return LOG_SCALE, rise, Range(-far - 20.0, -far - 2.0, 0.0, 5.0)


@_register(('log_b', 'c', 'log_gamma'), _m3_ranges, (0, 1), _product)
def m3(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """y = b (1/x + gamma)^c. Alabdulmohsin et al. (2022, arXiv 2209.06640)."""
  log_b, c, log_gamma = theta_P
  return jnp.exp(log_b + c * jnp.logaddexp(-jnp.log(x_T), log_gamma))


def _m4_ranges(span: Span) -> tuple[Range, ...]:
  least = span.y_high + MARGIN
  most = jnp.where(jnp.isfinite(span.ceiling), span.ceiling + MARGIN, 4 * least)
  most = jnp.maximum(most, least + MARGIN)
  top = Range(least, least, jnp.minimum(most, 1.5 * least), most)
  alpha = Range(LEAST_ALPHA, 0.05, 3.0, 20.0)
  return LOG_SCALE, FALL, alpha, _floor(span), top


def _m4_linear(curve: Curve, solved: tuple[int, ...]) -> Linearised:
  """log(y - e_inf) = log b + c log x + alpha log(e_0 - y), as published.

  Weights are those of the alpha that was drawn.
  """
  del curve, solved

  def linear(x_T: jax.Array, y_T: jax.Array, theta_P: jax.Array) -> Linear:
    _, _, alpha, e_inf, e_0 = theta_P
    above_T = jnp.maximum(y_T - e_inf, LEAST_Y)
    below_T = jnp.maximum(e_0 - y_T, LEAST_Y)
    columns = jnp.ones_like(x_T), jnp.log(x_T), jnp.log(below_T)
    slope_T = y_T / above_T + alpha * y_T / below_T
    return Linear(jnp.log(above_T), jnp.stack(columns, 1), 1 / slope_T)

  return linear


@_register(
  ('log_b', 'c', 'alpha', 'e_inf', 'e_0'), _m4_ranges, (0, 1, 2), _m4_linear
)
def m4(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  """(y - e_inf) / (e_0 - y)^alpha = b x^c, solved for y in e_inf..e_0.

  Alabdulmohsin et al. (2022, arXiv 2209.06640), whose program searches y in a
  grid of 10,000 points. With u the logit of (y - e_inf) / (e_0 - e_inf), the
  logarithm of the left side is convex or concave in u, and its slope lies
  between 1 and alpha: Newton's method always ends, in a few steps. The
  derivatives are those of the implicit function.
  """
  log_b, c, alpha, e_inf, e_0 = theta_P
  width = e_0 - e_inf
  right_T = log_b + c * jnp.log(x_T) + (alpha - 1) * jnp.log(width)
  return e_inf + width * jax.nn.sigmoid(_m4_logit(right_T, alpha))


def _m4_logit(right_T: jax.Array, alpha: jax.Array) -> jax.Array:
  """u of log sigmoid(u) - alpha log sigmoid(-u) = right."""

  def parts(u_T: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log(1 + exp(u)) and sigmoid(u), with one exponential."""
    small_T = jnp.exp(-jnp.abs(u_T))
    share_T = jnp.where(u_T > 0, 1.0, small_T) / (1 + small_T)
    return jnp.maximum(u_T, 0.0) + jnp.log1p(small_T), share_T

  def halley(_: int, u_T: jax.Array) -> jax.Array:
    plus_T, share_T = parts(u_T)
    gap_T = u_T + (fixed_alpha - 1) * plus_T - fixed_T
    slope_T = 1 + (fixed_alpha - 1) * share_T
    bend_T = (fixed_alpha - 1) * share_T * (1 - share_T)
    newton_T = gap_T / slope_T
    return u_T - newton_T / jnp.maximum(
      1 - newton_T * bend_T / slope_T / 2, 0.5
    )

  fixed_T, fixed_alpha = jax.lax.stop_gradient((right_T, alpha))
  u_T = jnp.where(fixed_T < 0, fixed_T, fixed_T / fixed_alpha)
  u_T = jax.lax.fori_loop(0, HALLEY_STEPS, halley, u_T)
  # One step of Newton's more, which is zero but has the derivatives.
  u_T = jax.lax.stop_gradient(u_T)
  plus_T, share_T = parts(u_T)
  gap_T = u_T + (alpha - 1) * jax.lax.stop_gradient(plus_T) - right_T
  return u_T - gap_T / (1 + (fixed_alpha - 1) * share_T)


@functools.cache
def bnsl(breaks: int) -> Family:
  """y = a + b x^(-c0) prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i).

  Caballero et al. (2023, arXiv 2210.14891): power laws that follow each other,
  with a bend of width f_i at d_i. Any slope may be negative, so that curves
  can rise. Their bounds are wider than ours: they have none.

  Args:
    breaks: bends, 0 or more.
  """
  solved = 1, 2, *range(3, 3 + 3 * breaks, 3)
  names = [f'{name}{i + 1}' for i in range(breaks) for name in _OF_A_BREAK]
  return Family(
    f'bnsl{breaks}',
    ('a', 'log_b', 'c0', *names),
    _bnsl_curve,
    functools.partial(_bnsl_ranges, breaks),
    solved,
    _product(_bnsl_curve, solved, floor=0),
  )


_OF_A_BREAK = ('c', 'log_d', 'log_f')


def _bnsl_ranges(breaks: int, span: Span) -> tuple[Range, ...]:
  far = jnp.log(span.x_last)
  bend = Range(-5.0, -1.0, 1.5, 5.0)
  place = Range(-3.0, 0.0, far + 1.0, far + 5.0)
  width = Range(-4.0, -2.5, 0.5, 2.0)
  slope = Range(-5.0, -0.2, 1.0, 5.0)
  return _floor(span), LOG_SCALE, slope, *(breaks * (bend, place, width))


def _bnsl_curve(x_T: jax.Array, theta_P: jax.Array) -> jax.Array:
  log_x_T = jnp.log(x_T)
  a, log_b, c0 = theta_P[:3]
  log_y_T = log_b - c0 * log_x_T
  for c, log_d, log_f in theta_P[3:].reshape(-1, 3):
    f = jnp.exp(log_f)
    log_y_T -= c * f * jax.nn.softplus((log_x_T - log_d) / f)
  return a + jnp.exp(log_y_T)


FAMILIES |= {each.name: each for each in map(bnsl, range(4))}
