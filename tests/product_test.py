"""Tests of products with a kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.models.product import product

CASES = [((8,), (24,)), ((24,), (8,)), ((8,), (3, 4)), ((3, 4), (8,))]


def operands(inputs: tuple[int, ...], outs: tuple[int, ...]):
  """Activations [2, 5, X] and a kernel [X, Y]."""
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (2, 5, *inputs))
  return x, jax.random.normal(keys[1], (*inputs, *outs))


@pytest.mark.parametrize(('inputs', 'outs'), CASES)
def test_product_and_gradients_are_those_of_tensordot(inputs, outs):
  x, kernel = operands(inputs, outs)
  axes = len(inputs)

  def plain(x, kernel):
    return jnp.tensordot(x, kernel, axes, precision='highest')

  def ours(x, kernel):
    return product(x, kernel, axes)

  want, pull = jax.vjp(plain, x, kernel)
  got, pull_ours = jax.vjp(ours, x, kernel)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  grad = jnp.cos(want)
  for one, other in zip(pull_ours(grad), pull(grad), strict=True):
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('inputs', 'outs'), CASES)
def test_narrow_factor_of_kernel_gradient_stands_first(inputs, outs):
  x, kernel = operands(inputs, outs)

  def loss(kernel):
    return product(x, kernel, len(inputs)).sum()

  jaxpr = jax.make_jaxpr(jax.grad(loss))(kernel)
  last = [e for e in jaxpr.eqns if e.primitive.name == 'dot_general'][-1]
  first, second = (int(np.prod(v.aval.shape[2:])) for v in last.invars)
  assert first <= second


def test_replicas_in_bfloat16_under_remat_have_the_gradients_of_einsum():
  x, kernel = operands((8,), (24,))
  x_RBTX = jnp.stack([x, 2 * x]).astype('bfloat16')
  kernel_RXY = jnp.stack([kernel, -kernel]).astype('bfloat16')

  def grads(of):
    def loss(kernel, x):
      return (of(x, kernel).astype('float32') ** 2).sum()

    return jax.vmap(jax.grad(jax.checkpoint(loss), (0, 1)))(kernel_RXY, x_RBTX)

  plain = functools.partial(jnp.einsum, '...x,xy->...y')
  for one, other in zip(grads(product), grads(plain), strict=True):
    assert one.dtype == jnp.bfloat16
    one, other = np.float32(one), np.float32(other)
    np.testing.assert_allclose(one, other, rtol=0.1, atol=0.5)


def test_float32_is_exact_and_bfloat16_stays_itself():
  x, kernel = operands((8,), (24,))
  assert 'HIGHEST' in str(jax.make_jaxpr(product)(x, kernel))
  half = product(x.astype('bfloat16'), kernel.astype('bfloat16'))
  assert half.dtype == jnp.bfloat16
