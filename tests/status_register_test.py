"""Neural status registers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.models.units import StatusRegister
from extrap.models.units.register import difference, leak, status_bits


@pytest.mark.parametrize(
  ('d', 'sign', 'zero'),
  [(0.0, 0, 1), (30.0, 1, -1), (-30.0, -1, -1), (0.5, 0.462117, 0.572896)],
)
def test_bits_of_a_difference(d, sign, zero):
  found = status_bits(jnp.full((1, 1), d), 1.0)
  np.testing.assert_allclose(np.ravel(found), [sign, zero], atol=1e-5)


def test_the_scale_decides_what_is_resolved():
  small = jnp.full((1, 1), 0.01)
  coarse, fine = (status_bits(small, scale) for scale in (1.0, 1000.0))
  np.testing.assert_allclose(np.ravel(coarse), [0.01, 0.9998], atol=1e-5)
  np.testing.assert_allclose(np.ravel(fine), [1, -1], atol=1e-5)


def register(redundancy=3, scale=0.7, **options):
  """A register of three inputs with random parameters of unit size."""
  model = StatusRegister(redundancy=redundancy, scale=scale, **options)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 3)))
  generator = np.random.default_rng(5)
  params = {
    name: generator.normal(size=leaf.shape)
    for name, leaf in sorted(shapes['params'].items())
  }
  return model, params


def softmax(logits):
  return np.exp(logits) / np.exp(logits).sum()


def test_is_the_papers_sum_over_redundant_pairs():
  model, params = register()
  rows = np.random.default_rng(1).uniform(-2, 2, (6, 3))
  found = model.apply({'params': params}, jnp.asarray(rows, jnp.float32))
  for row, (holds, fails) in zip(rows, found, strict=True):
    total = params['bias'][0, 0]
    for r in range(3):
      first = softmax(params['first'][:, r]) @ row
      second = softmax(params['second'][:, r]) @ row
      sign = np.tanh(0.7 * (first - second))
      total += params['sign'][r, 0] * sign
      total += params['zero'][r, 0] * (1 - 2 * sign**2)
    np.testing.assert_allclose(holds, 1 / (1 + np.exp(-total)), rtol=1e-5)
    np.testing.assert_allclose(fails, 1 / (1 + np.exp(total)), rtol=1e-5)


def test_scale_and_sharpness_can_be_given_in_a_call():
  model, params = register()
  x_BI = jnp.array([[0.3, -1.0, 2.0]])
  found = model.apply({'params': params}, x_BI, 1.4, 3.0)
  other = StatusRegister(redundancy=3, scale=1.4)
  sharp = params | {n: 3 * params[n] for n in ('first', 'second')}
  np.testing.assert_allclose(
    found, other.apply({'params': sharp}, x_BI), rtol=1e-5
  )


def test_a_leak_is_what_operands_share_with_others():
  _, params = register()
  found, total = 0.0, 0.0
  for r in range(3):
    weight = abs(params['sign'][r, 0]) + abs(params['zero'][r, 0])
    rest = [1 - softmax(params[n][:, r]).max() for n in ('first', 'second')]
    found, total = found + weight * sum(rest) / 2, total + weight
  np.testing.assert_allclose(leak(params), found / total, rtol=1e-5)
  # Far below where one less the largest share is 0.
  assert 0 < leak(params, 150.0) < 1e-8


def test_equal_pairs_count_as_often_as_they_are_there():
  one = {
    'first': np.array([[2.0], [0.0]]),
    'second': np.array([[-1.0], [1.0]]),
    'sign': np.array([[0.6]]),
    'zero': np.array([[-0.3]]),
    'bias': np.zeros((1, 1)),
  }
  four = {
    name: np.repeat(leaf, 4, axis=-1 if name in ('first', 'second') else 0)
    for name, leaf in one.items()
  }
  four['bias'] = one['bias']
  x_BI = jnp.array([[1.0, 1.4], [3.0, 2.0]])
  logits = [
    jax.scipy.special.logit(
      StatusRegister(redundancy=count).apply({'params': params}, x_BI)[:, 0]
    )
    for count, params in ((1, one), (4, four))
  ]
  np.testing.assert_allclose(logits[1], 4 * logits[0], rtol=1e-4)


def test_two_inputs_are_compared_by_their_difference_alone():
  first = jnp.array([[1.2, -0.4], [0.1, 0.3]])
  second = jnp.array([[-0.5, 0.2], [0.7, 1.0]])
  p, q = (jax.nn.softmax(logits, axis=0)[0] for logits in (first, second))
  near_B2 = jnp.array([[3.0, 5.0], [5.0, 3.0], [4.0, 4.0]])
  found = difference(near_B2, first, second)
  wanted = (p - q)[None] * jnp.array([[-2.0], [2.0], [0.0]])
  np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
  # To the last bit, far beyond where an operand keeps the difference.
  far_B2 = near_B2 + 2.0**23
  np.testing.assert_array_equal(difference(far_B2, first, second), found)


def test_fresh_parameters_are_those_of_glorot():
  model = StatusRegister(redundancy=300)
  params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 100)))['params']
  for name, fans in (('first', 400), ('second', 400), ('sign', 301)):
    rtol = 0.02 if fans == 400 else 0.15
    deviation = np.sqrt(2 / fans)
    np.testing.assert_allclose(params[name].std(), deviation, rtol=rtol)
  assert np.all(params['bias'] == 0)
  assert np.abs(np.asarray(params['first'] - params['second'])).min() > 0
  assert StatusRegister().redundancy == 10


def test_gradients_are_finite_and_vanish_far_away():
  model, params = register()
  params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)

  @jax.jit
  def gradient(params, x_BI):
    return jax.grad(lambda p: model.apply({'params': p}, x_BI)[0, 0])(params)

  for x in ([0.0, 0.0, 0.0], [-1.0, 2.0, 2.0], [1e9, -1e9, 0.0]):
    grads = gradient(params, jnp.array([x]))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))
  assert np.all(grads['first'] == 0)


def test_registers_of_a_population_share_their_inputs():
  model = StatusRegister(redundancy=2)
  x_BI = jnp.array([[1.0, 2.0], [4.0, 3.0]])
  keys = jax.random.split(jax.random.key(0), 3)
  variables = jax.jit(jax.vmap(model.init, (0, None)))(keys, x_BI)
  found = jax.vmap(model.apply, (0, None))(variables, x_BI)
  assert found.shape == (3, 2, 2)
  last = jax.tree.map(lambda leaf: leaf[2], variables)
  np.testing.assert_allclose(found[2], model.apply(last, x_BI), rtol=1e-6)


def test_float64_tells_large_neighbours_apart():
  with jax.enable_x64(True):
    model = StatusRegister(redundancy=1, dtype=jnp.float64)
    params = {
      'first': jnp.array([[40.0], [0.0]]),
      'second': jnp.array([[0.0], [40.0]]),
      'sign': jnp.full((1, 1), 50.0),
      'zero': jnp.zeros((1, 1)),
      'bias': jnp.zeros((1, 1)),
    }
    base = 4e15
    x_BI = jnp.array([[base + 1, base], [base, base + 1], [base, base]])
    found = model.apply({'params': params}, x_BI)
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found[:, 0], [1, 0, 0.5], atol=1e-12)
