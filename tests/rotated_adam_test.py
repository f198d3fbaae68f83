"""Adam in rotated coordinates: its steps, and what it learns that Adam's not.

Shape key: I inputs, O outputs, B examples.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from extrap.training.rotated_adam import (
  MEMORY,
  MOST_OUTPUTS,
  Decays,
  reflected,
  rotated_adam,
)

DECAYS = Decays(0.9, 0.99, 1e-8)


def made(rate=0.1):
  return rotated_adam(lambda _: rate, DECAYS)


def steps_of(optimizer, grads):
  """The updates of each gradient in turn."""
  state = optimizer.init(grads[0])
  updates = []
  for grad in grads:
    update, state = optimizer.update(grad, state)
    updates.append(jax.device_get(update))
  return updates


def gradients(*shape, steps=4, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape).astype(np.float32) for _ in range(steps)]


def naive_steps(grads, rate):
  """Adam in an explicit basis: reflected inputs, eigenvectors of outputs."""
  inputs = len(grads[0])
  normal_I = np.full(inputs, inputs**-0.5) - np.eye(inputs)[0]
  normal_I /= np.linalg.norm(normal_I)
  mirror_II = np.eye(inputs) - 2 * np.outer(normal_I, normal_I)
  factor_I = np.where(np.arange(inputs) == 0, inputs**0.5, 1.0)
  gram_OO, first_IO, second_IO, updates = 0.0, 0.0, 0.0, []
  for t, grad_IO in enumerate(grads, 1):
    grad_IO = mirror_II @ grad_IO.astype(float)
    gram_OO = MEMORY * gram_OO + (1 - MEMORY) * grad_IO.T @ grad_IO
    _, basis_OO = np.linalg.eigh(gram_OO)
    first_IO = 0.9 * first_IO + 0.1 * grad_IO
    second_IO = 0.99 * second_IO + 0.01 * (grad_IO @ basis_OO) ** 2
    root_IO = np.sqrt(second_IO / (1 - 0.99**t)) + 1e-8
    step_IO = (first_IO @ basis_OO) / (1 - 0.9**t) / root_IO
    # Adam's own limit, which a basis that changes would pass.
    step_IO = np.clip(step_IO, -DECAYS.largest_step, DECAYS.largest_step)
    step_IO = factor_I[:, None] * (step_IO @ basis_OO.T)
    updates.append(-rate * mirror_II @ step_IO)
  return updates


@pytest.mark.parametrize('shape', [(5, 2), (3, 3), (7, 4)])
def test_a_matrix_moves_as_in_an_explicit_basis(shape):
  grads = gradients(*shape)
  found = steps_of(made(), [{'weight': grad} for grad in grads])
  for update, wanted in zip(found, naive_steps(grads, 0.1), strict=True):
    np.testing.assert_allclose(update['weight'], wanted, rtol=2e-3, atol=2e-5)


def test_matrices_do_not_mix():
  """Axes before the last two count matrices: runs of a seed, say."""
  grads = gradients(3, 5, 2)
  together = steps_of(made(), [{'weight': grad} for grad in grads])
  for run in range(3):
    alone = steps_of(made(), [{'weight': grad[run]} for grad in grads])
    for one, all_of_them in zip(alone, together, strict=True):
      np.testing.assert_allclose(
        one['weight'], all_of_them['weight'][run], rtol=1e-4, atol=1e-6
      )


@pytest.mark.parametrize(
  ('name', 'shape'),
  [
    ('gate', (4, 3)),  # Not a matrix, whatever its axes.
    ('weight', (4,)),
    ('weight', (4, 1)),
    ('weight', (1, 4)),
    ('weight', (2, MOST_OUTPUTS + 1)),
  ],
)
def test_all_else_has_adam(name, shape):
  grads = [{name: grad} for grad in gradients(*shape)]
  wanted = steps_of(optax.adam(0.1, 0.9, 0.99, 1e-8), grads)
  for one, other in zip(steps_of(made(), grads), wanted, strict=True):
    np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-7)


def test_a_gradient_of_zeros_moves_nothing():
  zeros = {'weight': np.zeros((5, 2), np.float32)}
  for update in steps_of(made(), [zeros, zeros]):
    np.testing.assert_array_equal(update['weight'], 0.0)


def test_rounding_is_not_taken_for_a_gradient():
  """Of two outputs that do the same, the difference stays where it is."""
  grads = [np.repeat(grad, 2, axis=1) for grad in gradients(50, 1, steps=8)]
  for update in steps_of(made(), [{'weight': grad} for grad in grads]):
    difference_I = update['weight'] @ np.array([1.0, -1.0])
    assert np.abs(difference_I).max() < 0.1 * np.abs(update['weight']).max()


def test_the_mean_of_inputs_is_a_coordinate():
  matrix_OI = gradients(2, 6, steps=1)[0]
  found = reflected(matrix_OI)
  np.testing.assert_allclose(
    found[:, 0], matrix_OI.mean(axis=1) * 6**0.5, rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(reflected(found), matrix_OI, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(
    jnp.linalg.norm(found), jnp.linalg.norm(matrix_OI), rtol=1e-5
  )


def test_tells_apart_inputs_that_are_nearly_alike():
  """Two products of ten inputs from U[1.1, 1.2]; Adam learns their mean."""
  wanted_IO = np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)

  def loss(weight_IO, key):
    x_BI = jax.random.uniform(key, (64, 10), minval=1.1, maxval=1.2)
    return jnp.mean((x_BI @ weight_IO - x_BI @ wanted_IO) ** 2)

  def farthest(optimizer):
    def step(carry, key):
      params, state = carry
      grads = jax.grad(lambda of: loss(of['weight'], key))(params)
      updates, state = optimizer.update(grads, state, params)
      return (optax.apply_updates(params, updates), state), None

    start = {'weight': jnp.full((10, 2), 0.5)}
    keys = jax.random.split(jax.random.key(0), 2000)
    (end, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), keys)
    return float(jnp.max(jnp.abs(end['weight'] - wanted_IO)))

  rate = optax.cosine_decay_schedule(3e-3, 2000)
  decays = Decays(0.9, 0.999, 1e-12)
  assert farthest(rotated_adam(rate, decays)) < 0.01
  assert farthest(optax.adam(rate, eps=1e-12)) > 0.1
