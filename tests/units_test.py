"""Arithmetic units against formulas that are written out, one by one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.models.units import (
  MODELS,
  NAU,
  NMU,
  OPERATIONS,
  SNMU,
  UNITS,
  MulMCFC,
  UnitLayer,
  two_layers,
)
from extrap.models.units.additive import nac_range, nac_variance, nau_range
from extrap.models.units.base import clamp

NAMES = UNITS.names()
SATURATED = 40.0  # Its sigmoid and tanh are 1.
EXACT = {jnp.float32: 2e-5, jnp.float64: 1e-10}


def declared(unit, inputs, outputs, draw):
  """Weights, each of what `draw(name, shape)` gives."""
  return unit.declare(
    lambda name, _, shape: jnp.asarray(draw(name, shape)), inputs, outputs
  )


def fresh(unit, inputs, outputs, seed=0):
  """Weights as training starts with them."""
  layer = UnitLayer(unit, outputs)
  x_BI = jnp.ones((1, inputs))
  return jax.jit(layer.init)(jax.random.key(seed), x_BI)['params']


def random_weights(unit, inputs, outputs):
  generator = np.random.default_rng(3)
  weights = declared(
    unit, inputs, outputs, lambda _, shape: generator.uniform(-0.9, 1.4, shape)
  )
  return unit.project(weights)


# The formulas, for one row of inputs, in NumPy.


def sigmoid(x, base=math.e):
  return 1 / (1 + base**-x)


def nac(weights, base=math.e, suffix=''):
  w, m = weights['w_hat' + suffix], weights['m_hat' + suffix]
  return (1 - 2 / (base ** (2 * w) + 1)) * sigmoid(m, base)


def product(factors):
  result = 1.0
  for factor in factors:
    result = result * factor
  return result


def pairs(x, weight):
  return zip(x, weight, strict=True)


def power(x, exponents):
  return product((abs(v) + 1e-7) ** e for v, e in pairs(x, exponents))


def nmu(x, weight):
  return product(w * v + 1 - w for v, w in pairs(x, weight))


def gated(x, weights, add, mul, base=math.e):
  share = sigmoid(sum(v * g for v, g in pairs(x, weights['gate'])), base)
  return share * add + (1 - share) * mul


def plain_nalu(x, weights, base):
  weight = nac(weights, base)
  return gated(x, weights, x @ weight, power(x, weight), base)


def plain_gated_nau_nmu(x, weights):
  return gated(
    x, weights, x @ np.clip(weights['nau'], -1, 1), nmu(x, weights['nmu'])
  )


def plain_inalu(x, weights):
  add, mul = nac(weights, suffix='_add'), nac(weights, suffix='_mul')
  size = product(max(abs(v), 1e-7) ** w for v, w in pairs(x, mul))
  size = np.minimum(size, math.exp(20))
  sign = product(np.sign(v) * abs(w) + 1 - abs(w) for v, w in pairs(x, mul))
  share = sigmoid(weights['gate'])
  return share * (x @ add) + (1 - share) * size * sign


def plain_npu(x, weights):
  """Through complex numbers."""
  exponents = weights['exponent'] + 1j * weights.get('imaginary', 0)
  gates = np.clip(weights['gate'], 0, 1)
  total = 1.0
  for v, exponent, gate in zip(x, exponents, gates, strict=True):
    size = gate * (abs(v) + 2.0**-23) + 1 - gate
    logarithm = math.log(size) + 1j * gate * math.pi * (v < 0)
    total = total * np.exp(exponent * logarithm)
  return np.real(total)


def plain_nru(x, weights):
  total = 1.0
  for v, w in pairs(x, weights['weight']):
    used = np.tanh(1000 * w) ** 2
    total *= np.sign(v) * max(abs(v), 1e-7) ** w * used + 1 - used
  return total


def plain_nmru(x, weights):
  away = np.where(x < 0, -(2.0**-23), 2.0**-23)
  both = np.concatenate([x, 1 / (x + away)])
  weight = weights['weight']
  size = nmu(np.abs(both), weight)
  negative = sum(w * (v < 0) for v, w in pairs(both, weight))
  return size * np.cos(math.pi * negative)


def plain_mcfc(x, weights, trash):
  shares = np.exp(weights['junction'])
  shares /= shares.sum(axis=1, keepdims=True)
  let_out = sigmoid(weights['gate'] + weights['gate_bias'])[0]
  cells = (x @ shares) * let_out
  return cells[: len(cells) - trash]


def plain_mul_mcfc(x, weights):
  logarithm = np.log(np.maximum(np.abs(x), 1e-7))
  return np.exp(plain_mcfc(logarithm, weights, 1) + weights['bias'][0])


def plain_dmu(x, weights):
  """Without the rounding of evaluation."""
  spread = np.sqrt(np.mean((x - x.mean()) ** 2) + 1e-5)
  scaled = (x - x.mean()) / spread * weights['norm'][0]
  scaled = scaled + weights['norm_bias'][0]
  size, sign, gate = (
    scaled @ weights[head] + weights[head + '_bias'][0]
    for head in ('size', 'sign', 'gate')
  )
  selectors = np.tanh(sign) * np.log1p(np.exp(size))
  selectors = selectors.reshape(len(x), -1)
  linear = 1e-5 + (1 - 2e-5) * sigmoid(gate)
  total, logarithm = (
    x @ selectors,
    np.log(np.maximum(abs(x), 1e-11)) @ selectors,
  )
  negative = (x < 0) @ np.abs(selectors)
  sign = linear * np.tanh(total / 1e-4)
  sign = sign + (1 - linear) * np.cos(math.pi * negative)
  root = np.sqrt(total**2 + 1e-8)
  return sign * np.exp(linear * np.log(root) + (1 - linear) * logarithm)


def plain_linear(x, weights):
  return x @ weights['weight'] + weights['bias'][0]


FORMULAS = {
  'nac_add': lambda x, weights: x @ nac(weights),
  'nac_mul': lambda x, weights: power(x, nac(weights)),
  'nac_mul_sigma': lambda x, weights: power(x, sigmoid(weights['w_hat'])),
  'nac_mul_nmu': lambda x, weights: power(x, weights['weight']),
  'nalu': lambda x, weights: plain_nalu(x, weights, math.e),
  'g_nalu': lambda x, weights: plain_nalu(x, weights, (1 + 5**0.5) / 2),
  'gated_nau_nmu': plain_gated_nau_nmu,
  'inalu': plain_inalu,
  'nau': lambda x, weights: x @ np.clip(weights['weight'], -1, 1),
  'nmu': lambda x, weights: nmu(x, weights['weight']),
  'snmu': lambda x, weights: nmu(x, weights['weight']),
  'npu': plain_npu,
  'real_npu': plain_npu,
  'nru': plain_nru,
  'nmru': plain_nmru,
  'mcfc': lambda x, weights: plain_mcfc(x, weights, 0),
  'mul_mcfc': plain_mul_mcfc,
  'dmu': plain_dmu,
  'linear': plain_linear,
  'relu': lambda x, weights: np.maximum(plain_linear(x, weights), 0),
  'relu6': lambda x, weights: np.clip(plain_linear(x, weights), 0, 6),
}


@pytest.mark.parametrize('dtype', EXACT)
@pytest.mark.parametrize('name', NAMES)
def test_is_its_formula(name, dtype):
  settings = {'rounded': False} if name == 'dmu' else {}
  unit = UNITS.get(name)(**settings)
  rows = np.random.default_rng(7).uniform(-3, 3, (12, 3))
  rows[:3] = np.abs(rows[:3])
  rows[3] = [0.7, 0.0, -2e-7]
  rows[4] = [9.0, 12.0, 15.0]  # Beyond what ReLU6 lets through.
  with jax.enable_x64(dtype == jnp.float64):
    rows = rows.astype(dtype)
    weights = random_weights(unit, 3, 2)
    weights = {k: v.astype(dtype) for k, v in weights.items()}
    found = unit.apply(weights, jnp.asarray(rows), None)
    assert found.dtype == dtype
  plain = {k: np.asarray(v, np.float64) for k, v in weights.items()}
  wanted = [FORMULAS[name](x, plain) for x in rows.astype(np.float64)]
  np.testing.assert_allclose(
    found, wanted, rtol=EXACT[dtype], atol=EXACT[dtype]
  )


# Weights that solve the operations on two inputs.


def column(*values):
  return np.array(values, np.float32)[:, None]


def nac_solution(*values, suffix=''):
  weight = column(*values)
  shares = {0.0: -SATURATED, 0.5: 0.0, 1.0: SATURATED}
  m_hat = np.vectorize(shares.get)(np.abs(weight))
  return {
    'w_hat' + suffix: SATURATED * np.sign(weight),
    'm_hat' + suffix: m_hat.astype(np.float32),
  }


POWERS = {'mul': (1, 1), 'div': (1, -1), 'root': (0.5, 0), 'squared': (1, 1)}
SUMS = {'add': (1, 1), 'sub': (1, -1)}


def gate(add):
  return 3 * SATURATED * (1 if add else -1)


def nalu_solution(op):
  values = {**SUMS, **POWERS}[op]
  return {**nac_solution(*values), 'gate': column(*[gate(op in SUMS)] * 2)}


def gated_nau_nmu_solution(op):
  return {
    'nau': column(*SUMS.get(op, (0, 0))),
    'nmu': column(*POWERS.get(op, (0, 0))),
    'gate': column(*[gate(op in SUMS)] * 2),
  }


def inalu_solution(op):
  return {
    **nac_solution(*SUMS.get(op, (0, 0)), suffix='_add'),
    **nac_solution(*POWERS.get(op, (0, 0)), suffix='_mul'),
    'gate': np.array([gate(op in SUMS)], np.float32),
  }


def nmru_solution(op):
  first, second = POWERS[op]
  return {'weight': column(first, max(second, 0), 0, max(-second, 0))}


def mul_mcfc_solution(op):
  there, trash = [SATURATED, -SATURATED], [-SATURATED, SATURATED]
  return {
    'junction': np.array([there, trash if op == 'root' else there]),
    'gate': np.array([[0.0 if op == 'root' else SATURATED, 0.0]]),
    'gate_bias': np.zeros((1, 2)),
    'bias': np.zeros((1, 1)),
  }


def dmu_solution(op):
  sign = SATURATED * np.array([{**SUMS, **POWERS}[op]])
  width = {'size': (2, 2), 'sign': (2, 2), 'gate': (2, 1)}
  return {
    'norm': np.ones((1, 2)),
    'norm_bias': np.zeros((1, 2)),
    **{head: np.zeros(shape) for head, shape in width.items()},
    'size_bias': np.full((1, 2), math.log(math.e - 1)),
    'sign_bias': sign,
    'gate_bias': np.array([[gate(op in SUMS)]]),
  }


def linear_solution(op):
  return {'weight': column(*SUMS[op]), 'bias': np.zeros((1, 1))}


def weight_solution(op):
  return {'weight': column(*{**SUMS, **POWERS}[op])}


def npu_solution(op):
  return {'exponent': column(*POWERS[op]), 'gate': np.ones(2)}


SOLUTIONS = {
  'nac_add': lambda op: nac_solution(*SUMS[op]),
  'nac_mul': lambda op: nac_solution(*POWERS[op]),
  # Of the two, only the root has a weight of 1/2, and of 0.
  'nac_mul_sigma': lambda op: {
    'w_hat': nac_solution(*POWERS[op])['m_hat'],
  },
  'nac_mul_nmu': weight_solution,
  'nalu': nalu_solution,
  'g_nalu': nalu_solution,
  'gated_nau_nmu': gated_nau_nmu_solution,
  'inalu': inalu_solution,
  'nau': weight_solution,
  'nmu': weight_solution,
  'snmu': weight_solution,
  'real_npu': npu_solution,
  'npu': lambda op: {**npu_solution(op), 'imaginary': np.zeros((2, 1))},
  'nru': weight_solution,
  'nmru': nmru_solution,
  'mcfc': lambda op: {
    'junction': np.zeros((2, 1)),
    'gate': np.full((1, 1), SATURATED),
    'gate_bias': np.zeros((1, 1)),
  },
  'mul_mcfc': mul_mcfc_solution,
  'dmu': dmu_solution,
  'linear': linear_solution,
  'relu': linear_solution,
}
EXACTLY = {
  'add': lambda a, b: a + b,
  'sub': lambda a, b: a - b,
  'mul': lambda a, b: a * b,
  'div': lambda a, b: a / b,
  'root': lambda a, b: np.sqrt(a),
  'squared': lambda a, b: a * a,
}
POSITIVE = np.array([[1.5, 4.0], [3.0, 0.25], [2.0, 2.0], [0.3, 7.0]])
SIGNED = np.array([[-1.5, 4.0], [3.0, -0.25], [-2.0, -5.0], [2.0, 0.5]])


def solved(name, op, rows):
  unit = UNITS.get(name)()
  weights = {
    k: jnp.asarray(v, jnp.float32) for k, v in SOLUTIONS[name](op).items()
  }
  shapes = declared(unit, 2, 1, lambda _, shape: np.zeros(shape))
  assert jax.tree.map(jnp.shape, weights) == jax.tree.map(jnp.shape, shapes)
  if op == 'squared':
    rows = rows[:, [0, 0]]
  return unit.apply(weights, jnp.asarray(rows, jnp.float32), None)[:, 0]


REPRESENTED = [
  (name, op) for name in NAMES for op in sorted(UNITS.get(name).operations)
]


@pytest.mark.parametrize(('name', 'op'), REPRESENTED)
def test_represents_its_operations(name, op):
  found = solved(name, op, POSITIVE)
  np.testing.assert_allclose(found, EXACTLY[op](*POSITIVE.T), rtol=3e-6)


@pytest.mark.parametrize(
  ('name', 'op'),
  [
    *[(name, op) for name in ('nac_add', 'nau', 'linear') for op in SUMS],
    *[(name, op) for name in ('inalu', 'dmu') for op in (*SUMS, 'mul', 'div')],
    *[
      (name, op)
      for name in ('npu', 'real_npu', 'nru', 'nmru')
      for op in ('mul', 'div')
    ],
    *[(name, 'mul') for name in ('nmu', 'snmu')],
  ],
)
def test_operations_have_the_signs_of_their_inputs(name, op):
  found = solved(name, op, SIGNED)
  np.testing.assert_allclose(found, EXACTLY[op](*SIGNED.T), rtol=3e-6)


def test_operations_are_named_as_everywhere():
  assert all(op in OPERATIONS for _, op in REPRESENTED)
  assert UNITS.get('nalu').operations == set(OPERATIONS)


# Fresh weights.


@pytest.mark.parametrize(
  ('name', 'weight', 'low', 'high'),
  [
    ('nau', 'weight', -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    ('nru', 'weight', -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    ('nmu', 'weight', 0.25, 0.75),
    ('snmu', 'weight', 0.25, 0.75),
    ('nmru', 'weight', 0.25, 0.75),
    ('nac_mul_nmu', 'weight', 0.25, 0.75),
    ('gated_nau_nmu', 'nau', -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    ('gated_nau_nmu', 'nmu', 0.25, 0.75),
    ('gated_nau_nmu', 'gate', -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    ('nalu', 'gate', -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    ('npu', 'exponent', -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    ('linear', 'weight', -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    ('relu', 'weight', -math.sqrt(6 / 100), math.sqrt(6 / 100)),
    ('relu6', 'weight', -math.sqrt(6 / 100), math.sqrt(6 / 100)),
  ],
)
def test_fresh_weights_are_uniform(name, weight, low, high):
  drawn = np.asarray(fresh(UNITS.get(name)(), 100, 300)[weight])
  width = high - low
  assert low <= drawn.min() < low + width / 500
  assert high - width / 500 < drawn.max() <= high
  np.testing.assert_allclose(drawn.mean(), (low + high) / 2, atol=width / 100)
  np.testing.assert_allclose(drawn.var(), width**2 / 12, rtol=0.03)


@pytest.mark.parametrize(
  ('name', 'weight', 'mean', 'deviation'),
  [
    ('nac_mul_sigma', 'w_hat', 0, math.sqrt(2 / 400)),
    ('inalu', 'w_hat_add', 0.88, 0.2),
    ('inalu', 'm_hat_mul', 0.5, 0.2),
    ('inalu', 'gate', 0, 0.2),
  ],
)
def test_fresh_weights_are_normal(name, weight, mean, deviation):
  outputs = 30_000 if weight == 'gate' else 300
  inputs = 1 if weight == 'gate' else 100
  drawn = np.asarray(fresh(UNITS.get(name)(), inputs, outputs)[weight])
  scaled = (drawn - mean) / deviation
  np.testing.assert_allclose(scaled.mean(), 0, atol=0.03)
  np.testing.assert_allclose(scaled.std(), 1, rtol=0.03)
  assert np.abs(scaled).max() > 3.2  # A truncated one ends at 2.3.


@pytest.mark.parametrize('fans', [(100, 2), (100, 300), (2, 1)])
def test_nac_weights_have_the_variance_of_glorot(fans):
  r = nac_range(*fans)
  w_hat, m_hat = np.random.default_rng(0).uniform(-r, r, (2, 400_000))
  drawn = np.tanh(w_hat) / (1 + np.exp(-m_hat))
  np.testing.assert_allclose(drawn.var(), 2 / max(sum(fans), 5), rtol=0.01)
  np.testing.assert_allclose(nac_variance(r), drawn.var(), rtol=0.01)
  for name in ('nac_add', 'nac_mul', 'nalu', 'g_nalu'):
    weights = fresh(UNITS.get(name)(), *fans)
    assert all(np.abs(weights[k]).max() <= r for k in ('w_hat', 'm_hat'))
  many = fresh(UNITS.get('nac_add')(), 100, 300)
  assert np.abs(many['m_hat']).max() > 0.99 * nac_range(100, 300)


def test_the_published_range_of_an_nau():
  np.testing.assert_allclose(nau_range(100, 2), 0.2425, atol=5e-5)
  assert nau_range(2, 1) == 0.5


def test_constant_fresh_weights():
  npu = fresh(UNITS.get('npu')(), 3, 2)
  assert np.all(npu['gate'] == 0.5) and np.all(npu['imaginary'] == 0)
  assert np.all(fresh(UNITS.get('linear')(), 3, 2)['bias'] == 0)
  square = fresh(UNITS.get('mcfc')(), 3, 3)
  np.testing.assert_array_equal(square['junction'], np.eye(3))
  wide = fresh(UNITS.get('mcfc')(), 5, 2)
  np.testing.assert_allclose(
    wide['junction'].T @ wide['junction'], np.eye(2), atol=1e-6
  )
  np.testing.assert_allclose(np.sum(wide['gate'] ** 2), 1, rtol=1e-6)
  assert np.all(wide['gate_bias'] == 0)


# Between the updates.

BOUNDS = {
  'nau': {'weight': (-1, 1)},
  'nru': {'weight': (-1, 1)},
  'nmu': {'weight': (0, 1)},
  'snmu': {'weight': (0, 1)},
  'nmru': {'weight': (0, 1)},
  'nac_mul_nmu': {'weight': (0, 1)},
  'gated_nau_nmu': {'nau': (-1, 1), 'nmu': (0, 1)},
}


@pytest.mark.parametrize('name', NAMES)
def test_projection_clips_what_has_bounds_and_nothing_else(name):
  unit = UNITS.get(name)()
  generator = np.random.default_rng(1)
  weights = declared(
    unit, 6, 5, lambda _, shape: 3 * generator.normal(size=shape)
  )
  found = unit.project(weights)
  assert found.keys() == weights.keys()
  for key, weight in weights.items():
    low, high = BOUNDS.get(name, {}).get(key, (-np.inf, np.inf))
    np.testing.assert_array_equal(found[key], np.clip(weight, low, high))


def filled(unit, **values):
  """Weights of a unit of two inputs and one output, given or zero."""
  return declared(
    unit,
    2,
    1,
    lambda name, shape: np.reshape(
      np.float32(values.get(name, np.zeros(shape))), shape
    ),
  )


@pytest.mark.parametrize(
  ('name', 'values', 'penalty'),
  [
    ('nau', dict(weight=(0.25, -0.9)), (0.25 + 0.1) / 2),
    ('nru', dict(weight=(-1.0, 0.5)), (0 + 0.5) / 2),
    ('nmu', dict(weight=(0.2, 0.7)), (0.2 + 0.3) / 2),
    ('snmu', dict(weight=(1.0, 0.7)), 0.3 / 2),
    ('nac_mul_nmu', dict(weight=(0.0, 0.4)), 0.4 / 2),
    ('nmru', dict(weight=(0.2, 0.7, 1.0, 0.1)), (0.2 + 0.3 + 0.1) / 4),
    (
      'gated_nau_nmu',
      dict(nau=(0.25, -0.9), nmu=(0.2, 0.7), gate=(5, 5)),
      0.175 + 0.25,
    ),
    ('real_npu', dict(exponent=(-2, 0.5), gate=(0.5, 0.25)), 3.25),
    (
      'npu',
      dict(exponent=(-2, 0.5), gate=(0.5, 0.25), imaginary=(-1, 0)),
      4.25,
    ),
    (
      'inalu',
      dict(w_hat_add=(5, -30), m_hat_mul=(-19, 20), gate=(18,)),
      15 / 2 + 20 + 20 + 1 / 2 + 2,
    ),
    ('mcfc', dict(junction=(1, 3), gate=(2,), gate_bias=(-1,)), -(5 + 4 + 1)),
    *[
      (name, {}, 0.0)
      for name in (
        *('nac_add', 'nac_mul', 'nac_mul_sigma', 'nalu', 'g_nalu'),
        *('dmu', 'linear', 'relu', 'relu6'),
      )
    ],
  ],
)
def test_penalties(name, values, penalty):
  unit = UNITS.get(name)()
  np.testing.assert_allclose(
    unit.penalty(filled(unit, **values)), penalty, rtol=1e-5
  )


@pytest.mark.parametrize(
  ('name', 'values', 'error'),
  [
    ('nau', dict(weight=(0.25, -0.9)), 0.25),
    ('nmu', dict(weight=(1.0, 0.7)), 0.3),
    ('linear', dict(weight=(1.5, 0.2), bias=(0.5,)), 0.5),
    ('npu', dict(exponent=(-1, 0), imaginary=(0.1, 0), gate=(0.5, 0.5)), 0.1),
    ('real_npu', dict(exponent=(-1, 0.9), gate=(0.5, 0.5)), 0.1),
    ('nac_add', dict(w_hat=(40, 40), m_hat=(40, 0)), 0.5),
    ('nac_mul', dict(w_hat=(-40, 40), m_hat=(40, -40)), 0.0),
    ('nac_mul_sigma', dict(w_hat=(0, 40)), 0.5),
    ('gated_nau_nmu', dict(nau=(0.1, 0), nmu=(0.2, 1), gate=(0.5, 0.5)), 0.2),
    ('inalu', dict(w_hat_mul=(40, 40), m_hat_mul=(40, 0)), 0.5),
    ('dmu', dict(size_bias=(-40, -40), gate_bias=(0,)), 0.5),
  ],
)
def test_sparsity_error_is_the_worst_weight(name, values, error):
  unit = UNITS.get(name)()
  found = unit.sparsity_error(filled(unit, **values))
  np.testing.assert_allclose(found, error, atol=1e-5)


# Gradients.


def constant(value):
  return lambda _, shape: np.full(shape, value, np.float32)


@pytest.mark.parametrize('name', NAMES)
def test_gradients_are_finite(name):
  unit = UNITS.get(name)()
  x_BI = jnp.array([[0.0, 0.0], [-1.0, 0.0], [-3.0, -0.5], [2.0, 2.0], [1, -1]])

  @jax.jit
  def gradients(weights, key):
    def loss(weights, x_BI, key):
      return jnp.sum(unit.apply(weights, x_BI, key)) + unit.penalty(weights)

    evaluated = jax.grad(loss, (0, 1))(weights, x_BI, None)
    return evaluated, jax.grad(loss, (0, 1))(weights, x_BI, key)

  for value in (0.0, 1.0, -1.0, 0.5):
    weights = declared(unit, 2, 2, constant(value))
    for leaf in jax.tree.leaves(gradients(weights, jax.random.key(0))):
      assert np.all(np.isfinite(leaf)), value


def test_an_nru_leaves_out_what_has_hardly_an_exponent():
  unit, x_BI = UNITS.get('nru')(), jnp.array([[-4.0, 1.0]])
  for exponent, used in ((0.0, 0.0), (5e-4, 0.213552), (0.5, 1.0)):
    found = unit.apply(filled(unit, weight=(exponent, 0)), x_BI, None)
    wanted = 1 - used - used * 4**exponent
    np.testing.assert_allclose(found, [[wanted]], rtol=1e-5)


@pytest.mark.parametrize('name', ['nau', 'gated_nau_nmu'])
def test_a_weight_at_its_bound_has_its_whole_gradient(name):
  unit = UNITS.get(name)()
  key = 'weight' if name == 'nau' else 'nau'
  gate = {} if name == 'nau' else {'gate': (40, 40)}
  x_BI = jnp.array([[2.0, 3.0]])
  for weight, share in (((1, -1), 1.0), ((1.1, -1.1), 0.0), ((0.3, 0), 1.0)):
    weights = filled(unit, **{key: weight}, **gate)
    grad = jax.grad(lambda w: unit.apply(w, x_BI, None)[0, 0])(weights)[key]
    np.testing.assert_allclose(grad, share * x_BI.T, rtol=1e-6)


def test_clamp_keeps_what_is_inside():
  values = jnp.array([-2.0, -1.0, 0.3, 1.0, 5.0])
  np.testing.assert_array_equal(clamp(values, -1, 1), np.clip(values, -1, 1))


# Noise.


def test_noise_is_undone_by_right_weights_and_by_no_others():
  x_BI = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (64, 3)), 'f4')
  right = {'weight': jnp.asarray(column(1, 0, 1))}
  wrong = {'weight': jnp.asarray(column(1, 0.5, 1))}
  for unit in (SNMU(), SNMU(by_batch=True), SNMU(largest=2.0)):
    key = jax.random.key(1)
    np.testing.assert_allclose(
      unit.apply(right, x_BI, key), unit.apply(right, x_BI, None), rtol=1e-5
    )
    noisy, clean = (unit.apply(wrong, x_BI, k) for k in (key, None))
    assert np.abs(noisy / clean - 1).max() > 0.02
    np.testing.assert_array_equal(clean, NMU().apply(wrong, x_BI, key))


def test_the_limits_of_the_noise():
  x_BI = jnp.array([[1.0, 2.0], [1.5, 1.2]])
  assert SNMU().noise_limit(x_BI) == 5.0
  limit = SNMU(by_batch=True).noise_limit(x_BI)
  np.testing.assert_allclose(
    limit, 1 + 1 / np.std([1, 2, 1.5, 1.2], ddof=1), rtol=1e-6
  )
  # x n / n': a weight of 1 on the noise alone shows what was drawn.
  unit, many = SNMU(largest=3.0), jnp.ones((20_000, 1))
  half = {'weight': jnp.full((1, 1), 0.5)}
  noise = 1 / unit.apply(half, 0 * many, jax.random.key(0)) - 1
  assert 1 <= noise.min() < 1.01 and 2.99 < noise.max() <= 3


def test_signs_of_mul_mcfc_are_a_choice():
  unit = MulMCFC(sign='inalu')
  weights = {
    k: jnp.asarray(v, jnp.float32) for k, v in mul_mcfc_solution('mul').items()
  }
  found = unit.apply(weights, jnp.asarray(SIGNED, jnp.float32), None)[:, 0]
  np.testing.assert_allclose(found, np.prod(SIGNED, axis=1), rtol=1e-5)
  positive = MulMCFC().apply(weights, jnp.asarray(SIGNED, jnp.float32), None)
  assert np.all(positive > 0)


@pytest.mark.parametrize(('name', 'limit'), [('inalu', 20), ('dmu', 50)])
def test_large_products_end_at_a_limit(name, limit):
  found = solved(name, 'mul', np.array([[1e15, 1e15], [1e3, 1e4]]))
  np.testing.assert_allclose(found, [math.exp(limit), 1e7], rtol=1e-5)


def test_training_does_not_round_a_dmu():
  unit = UNITS.get('dmu')()
  values = dict(size_bias=(0.5, 0.5), sign_bias=(2, 2), gate_bias=(3,))
  weights, x_BI = filled(unit, **values), jnp.array([[2.0, 3.0]])
  np.testing.assert_allclose(unit.apply(weights, x_BI, None), [[5]], rtol=1e-6)
  trained = unit.apply(weights, x_BI, jax.random.key(0))
  assert abs(trained[0, 0] - 5) > 0.1


# Names, models, populations.


def test_an_unknown_name_is_one_line():
  with pytest.raises(UsageError, match=r"^unknown arithmetic unit 'nmuu'; did"):
    UNITS.get('nmuu')
  with pytest.raises(UsageError, match=r"^unknown two-layer model 'x'; known"):
    two_layers('x')


def test_models_are_made_of_known_units():
  assert set(MODELS) == set(NAMES)
  assert {unit for pair in MODELS.values() for unit in pair} == set(NAMES)


def test_two_layers_are_one_after_the_other():
  model = two_layers('nmu', hidden=3)
  x_BI = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (4, 5)), 'f4')
  params = model.init(jax.random.key(0), x_BI)['params']
  assert jax.tree.map(jnp.shape, params) == {
    'first': {'weight': (5, 3)},
    'second': {'weight': (3, 1)},
  }
  hidden = NAU().apply(params['first'], x_BI, None)
  wanted = NMU().apply(params['second'], hidden, None)
  np.testing.assert_allclose(
    model.apply({'params': params}, x_BI), wanted, rtol=1e-6
  )


def test_two_layers_sum_penalties_and_keep_the_worst_weight():
  model = two_layers('nmu')
  params = {
    'first': {'weight': jnp.array([[0.9, 1.5], [-2.0, 0.0]])},
    'second': {'weight': jnp.array([[0.75], [-0.5]])},
  }
  np.testing.assert_allclose(
    model.penalty(params), (0.1 + 0.5 + 1) / 4 + (0.25 + 0.5) / 2
  )
  clipped = model.project(params)
  np.testing.assert_array_equal(
    clipped['first']['weight'], np.float32([[0.9, 1], [-1, 0]])
  )
  np.testing.assert_array_equal(clipped['second']['weight'], [[0.75], [0]])
  np.testing.assert_allclose(model.sparsity_error(clipped), 0.25)


def test_a_layer_projects_and_penalises_as_its_unit():
  layer = UnitLayer(NMU(), 1)
  params = {'weight': jnp.array([[1.5], [0.25]])}
  np.testing.assert_array_equal(layer.project(params)['weight'], [[1], [0.25]])
  np.testing.assert_allclose(layer.penalty(params), (0.5 + 0.25) / 2)
  np.testing.assert_allclose(layer.sparsity_error(params), 0.5)


def test_layers_draw_their_noise_apart():
  unit = SNMU()
  weights = {'weight': jnp.full((2, 2), 0.5)}
  params = {'first': weights, 'second': weights}
  model = two_layers('snmu').clone(first=unit, second=unit, outputs=2)
  x_BI, key = jnp.array([[1.0, 2.0]]), jax.random.key(0)
  found = model.apply({'params': params}, x_BI, key)
  shared = unit.apply(weights, unit.apply(weights, x_BI, key), key)
  assert np.abs(found - shared).max() > 1e-4
  np.testing.assert_array_equal(
    found, model.apply({'params': params}, x_BI, key)
  )


def products(jaxpr):
  """All dot_general equations, those of nested programs too."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      yield equation
    for value in equation.params.values():
      if nested := getattr(value, 'jaxpr', None):
        yield from products(nested)


@pytest.mark.parametrize('name', sorted(MODELS))
def test_replicas_share_their_inputs_in_one_exact_product(name):
  model, replicas = two_layers(name), 3
  x_BI = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (4, 6)), 'f4')
  keys = jax.random.split(jax.random.key(0), replicas)
  params = jax.jit(jax.vmap(model.init, (0, None)))(keys, x_BI)['params']

  def apply(params, x_BI):
    return model.apply({'params': params}, x_BI)

  population = jax.vmap(apply, (0, None))
  found = jax.jit(population)(params, x_BI)
  one = jax.tree.map(lambda leaf: leaf[1], params)
  np.testing.assert_allclose(found[1], apply(one, x_BI), rtol=1e-5, atol=1e-6)
  equations = list(products(jax.make_jaxpr(population)(params, x_BI).jaxpr))
  first = equations[0]
  assert first.params['dimension_numbers'][1] == ((), ())
  inputs, weights = sorted((v.aval.shape for v in first.invars), key=len)
  assert inputs == (4, 6) and weights[:2] == (replicas, 6)
  exact = (jax.lax.Precision.HIGHEST,) * 2
  assert all(equation.params['precision'] == exact for equation in equations)
  scalars = jax.vmap(model.sparsity_error)(params)
  assert scalars.shape == jax.vmap(model.penalty)(params).shape == (replicas,)


@pytest.mark.parametrize('name', sorted(MODELS))
def test_parameters_may_be_float64(name):
  with jax.enable_x64(True):
    model = two_layers(name, dtype=jnp.float64)
    x_BI = jnp.ones((2, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x_BI)
    leaves = jax.tree.leaves(variables)
    assert all(leaf.dtype == jnp.float64 for leaf in leaves)
    found = jax.eval_shape(model.apply, variables, x_BI)
    assert found.dtype == jnp.float64
