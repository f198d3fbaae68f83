"""Families of curves: formulas, gradients, and the implicit M4."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves.families import FAMILIES, Span, bnsl, family
from extrap.errors import UsageError

X_T = jnp.array([1.0, 2.0, 5.0, 30.0])
# A formula as it is printed, with numbers, and its parameters.
FORMULAS = {
  'last_value': (lambda x: 0.4 + 0 * x, (0.4,)),
  'pow3': (lambda x: 0.2 - 0.5 * x**-0.7, (0.2, 0.5, 0.7)),
  'pow4': (
    lambda x: 0.2 - 0.5 * (1 + x / 3) ** -0.7,
    (0.2, 0.5, 0.7, np.log(3)),
  ),
  'ilog2': (lambda x: 0.2 - 0.5 / np.log(x + 1), (0.2, 0.5)),
  'expd3': (
    lambda x: 0.2 - (0.2 - 0.9) * np.exp(-0.3 * x),
    (0.2, 0.9, np.log(0.3)),
  ),
  'janoschek': (
    lambda x: 0.2 - (0.2 - 0.9) * np.exp(-0.3 * x**0.6),
    (0.2, 0.9, np.log(0.3), 0.6),
  ),
  'mmf4': (
    lambda x: (0.9 * 4 + 0.2 * x**0.6) / (4 + x**0.6),
    (0.9, np.log(4), 0.2, 0.6),
  ),
  'wbl4': (
    lambda x: 0.2 + 0.7 * np.exp(-0.3 * x**0.6),
    (0.2, -0.7, np.log(0.3), 0.6),
  ),
  'vap': (lambda x: np.exp(0.1 - 0.5 / x - 0.2 * np.log(x)), (0.1, -0.5, -0.2)),
  'hill3': (lambda x: 0.9 * x**0.7 / (4**0.7 + x**0.7), (0.9, 0.7, np.log(4))),
  'm1': (lambda x: 0.9 * x**-0.4, (np.log(0.9), -0.4)),
  'm2': (lambda x: 0.1 + 0.8 * x**-0.4, (np.log(0.8), -0.4, 0.1)),
  'm3': (
    lambda x: 0.9 * (1 / x + 0.05) ** 0.4,
    (np.log(0.9), 0.4, np.log(0.05)),
  ),
  'bnsl0': (lambda x: 0.1 + 0.8 * x**-0.3, (0.1, np.log(0.8), 0.3)),
  'bnsl1': (
    lambda x: 0.1 + 0.8 * x**-0.3 * (1 + (x / 6) ** (1 / 0.5)) ** (-0.9 * 0.5),
    (0.1, np.log(0.8), 0.3, 0.9, np.log(6), np.log(0.5)),
  ),
}


@pytest.mark.parametrize('name', FORMULAS)
def test_curve_is_its_formula(name):
  formula, theta = FORMULAS[name]
  found_T = family(name).curve(X_T, jnp.array(theta))
  np.testing.assert_allclose(found_T, formula(np.float64(X_T)), rtol=2e-6)


def test_two_breaks_multiply():
  theta_P = jnp.array([0.0, 0.0, 0.1, 0.5, 1.0, -1.0, -0.4, 2.0, -0.5])
  first_P, second_P = theta_P[:6], theta_P.at[3:6].set(theta_P[6:])[:6]
  plain = bnsl(0).curve(X_T, theta_P[:3])
  product = bnsl(1).curve(X_T, first_P) * bnsl(1).curve(X_T, second_P) / plain
  np.testing.assert_allclose(bnsl(2).curve(X_T, theta_P), product, rtol=1e-5)


@pytest.mark.parametrize('alpha', [1e-3, 0.2, 1.0, 3.0, 15.0])
@pytest.mark.parametrize('log_b', [-4.0, 0.5, 3.0])
def test_m4_solves_its_own_equation(alpha, log_b):
  with jax.enable_x64(True):
    theta_P = jnp.array([log_b, -0.4, alpha, 0.1, 0.9])
    x_T = jnp.geomspace(1.0, 1e6, 50)
    y_T = np.asarray(jax.jit(family('m4').curve)(x_T, theta_P))
  # Beside a limit nothing is left of the digits.
  inner_T = (y_T > 0.1 + 1e-6) & (y_T < 0.9 - 1e-6)
  x_T, inside_T = x_T[inner_T], y_T[inner_T]
  left_T = np.log(inside_T - 0.1) - alpha * np.log(0.9 - inside_T)
  right_T = log_b - 0.4 * np.log(x_T)
  np.testing.assert_allclose(left_T, right_T, atol=1e-6)
  assert ((y_T > 0.1) & (y_T <= 0.9)).all()
  assert (np.diff(y_T) <= 0).all() and inner_T.sum() > 5


def test_m4_has_the_derivatives_of_the_implicit_function():
  with jax.enable_x64(True):
    theta_P = jnp.array([0.3, -0.4, 0.7, 0.1, 0.9])
    x_T = jnp.array([1.0, 3.0, 40.0])

    @jax.jit
    def curve(theta_P):
      return family('m4').curve(x_T, theta_P)

    found_TP = jax.jit(jax.jacfwd(curve))(theta_P)
    step = 1e-6
    for place in range(5):
      up, down = theta_P.at[place].add(step), theta_P.at[place].add(-step)
      wanted_T = (curve(up) - curve(down)) / (2 * step)
      np.testing.assert_allclose(found_TP[:, place], wanted_T, rtol=1e-5)


def span():
  numbers = (80.0, 0.3, 1.0, 0.35, 1.0)
  return Span(*map(jnp.float32, numbers))


@pytest.mark.parametrize('name', FAMILIES)
def test_starts_lie_within_bounds_and_gradients_there_are_finite(name):
  shape = family(name)
  low_P, first_P, last_P, high_P = (
    np.array(each, np.float32)
    for each in zip(*shape.ranges(span()), strict=True)
  )
  assert len(low_P) == len(shape.parameters) == len(set(shape.parameters))
  assert (low_P <= first_P).all() and (last_P <= high_P).all()
  assert (first_P <= last_P).all()
  x_T = jnp.geomspace(1.0, 200.0, 20)
  draw = np.random.default_rng(0).uniform(first_P, last_P, (20, len(low_P)))

  def curve(theta_P):
    return shape.curve(x_T, theta_P)

  both = jax.jit(jax.vmap(lambda theta_P: (curve(theta_P), slope(theta_P))))
  slope = jax.jacfwd(curve)
  for found in both(np.float32(draw)):
    assert np.isfinite(found).all()


def test_unknown_family_is_refused_in_one_line():
  with pytest.raises(UsageError, match="'m5' is no family"):
    family('m5')
