"""Adam in rotated coordinates: its steps, and what it learns that Adam's not.

Shape key: I inputs, O outputs, B examples.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from extrap.errors import UsageError
from extrap.models.units import MODELS, two_layers
from extrap.training.rotated_adam import (
  MEMORY,
  MOST_OUTPUTS,
  Adam,
  joined,
  parted,
  rotated_adam,
)

ADAM = Adam(0.9, 0.99, 1e-8)


def made(rate=0.1):
  return rotated_adam(lambda _: rate, ADAM)


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
  """Adam in an explicit basis: means, differences, eigenvectors of outputs."""
  inputs = len(grads[0])
  gram_OO, first_JO, second_JO, updates = 0.0, 0.0, 0.0, []
  for t, grad_IO in enumerate(grads, 1):
    grad_IO = grad_IO.astype(float)
    gram_OO = MEMORY * gram_OO + (1 - MEMORY) * grad_IO.T @ grad_IO
    _, basis_OO = np.linalg.eigh(gram_OO)
    mean_1O = grad_IO.mean(axis=0, keepdims=True)
    grad_JO = np.concatenate([mean_1O, grad_IO - mean_1O])
    first_JO = 0.9 * first_JO + 0.1 * grad_JO
    second_JO = 0.99 * second_JO + 0.01 * (grad_JO @ basis_OO) ** 2
    root_JO = np.sqrt(second_JO / (1 - 0.99**t)) + 1e-8
    step_JO = (first_JO @ basis_OO) / (1 - 0.9**t) / root_JO
    # Adam cannot pass it, but where the basis changes.
    step_JO = np.clip(step_JO, -ADAM.largest, ADAM.largest) @ basis_OO.T
    centred_IO = step_JO[1:] - step_JO[1:].sum(axis=0) / inputs
    updates.append(-rate * (step_JO[:1] + centred_IO))
  return updates


@pytest.mark.parametrize('shape', [(5, 2), (3, 3), (7, 5)])
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
    ('gate', (4, 3)),  # Of runs and outputs, say.
    ('weight', (4,)),
    ('weight', (4, 1)),
    ('weight', (1, 4)),
    ('weight', (2, MOST_OUTPUTS + 1)),
  ],
)
def test_all_else_has_adam(name, shape):
  matrices = gradients(3, 2)
  grads = [
    {'unit': {name: grad}, 'other': {'weight': matrix}}
    for grad, matrix in zip(gradients(*shape), matrices, strict=True)
  ]
  wanted = steps_of(optax.adam(0.1, 0.9, 0.99, 1e-8), grads)
  for one, other in zip(steps_of(made(), grads), wanted, strict=True):
    np.testing.assert_allclose(
      one['unit'][name], other['unit'][name], rtol=1e-5, atol=1e-7
    )
    assert not np.allclose(
      one['other']['weight'], other['other']['weight'], rtol=1e-2
    )


def test_a_model_without_such_matrices_is_refused():
  params = {'query': {'kernel': np.zeros((4, 2, 3))}, 'weight': np.zeros(4)}
  with pytest.raises(UsageError, match='rotated_adam: this model has no'):
    made().init(params)


def test_every_unit_of_two_outputs_has_matrices_that_are_rotated():
  rest = {}
  for name in MODELS:
    first = jax.eval_shape(
      two_layers(name).init, jax.random.key(0), jnp.ones((1, 8))
    )['params']['first']
    state = jax.eval_shape(made().init, first)
    rest[name] = {leaf for leaf, of in state.outputs.items() if not of.ndim}
  # Gates and biases have Adam.
  gates = {name for name, of in rest.items() if of - {'bias'}}
  assert gates == {
    *('nalu', 'g_nalu', 'gated_nau_nmu', 'inalu'),
    *('mcfc', 'mul_mcfc'),
  }
  assert set().union(*rest.values()) == {'bias', 'gate', 'gate_bias'}


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_its_state_keeps_its_types(dtype):
  params = {'weight': jnp.ones((3, 2), dtype)}
  state = made().init(params)
  after = jax.eval_shape(lambda: made().update(params, state)[1])
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == (
    jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after)
  )


def test_nothing_moves_farther_than_adam_can():
  """Growing gradients are the worst: b1 / b2 is what each is larger by."""
  grads = [(0.999 / 0.9) ** step for step in range(200)]
  adam, first, second = Adam(0.9, 0.999, 0.0), 0.0, 0.0
  for grad in grads:
    first = 0.9 * first + 0.1 * grad
    second = 0.999 * second + 0.001 * grad**2
  found = first / second**0.5
  assert found == pytest.approx(adam.largest, rel=1e-3)


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


def test_what_has_no_gradient_stays_and_is_no_part_of_the_mean():
  """As if the matrix had the other inputs alone."""
  grads = gradients(6, 2)
  fewer = [grad[:4] for grad in grads]
  pinned = [np.where(np.arange(6)[:, None] < 4, grad, 0) for grad in grads]
  alone = steps_of(made(), [{'weight': grad} for grad in fewer])
  found = steps_of(made(), [{'weight': grad} for grad in pinned])
  for one, other in zip(found, alone, strict=True):
    np.testing.assert_array_equal(one['weight'][4:], 0)
    np.testing.assert_allclose(
      one['weight'][:4], other['weight'], rtol=1e-3, atol=1e-5
    )


def test_parts_are_joined_again():
  matrix_OI = gradients(2, 6, steps=1)[0]
  moving_OI = np.ones((2, 6), bool)
  parts_OJ = parted(matrix_OI, moving_OI)
  np.testing.assert_allclose(parts_OJ[:, 0], matrix_OI.mean(axis=1), rtol=1e-5)
  np.testing.assert_allclose(parts_OJ[:, 1:].sum(axis=1), 0, atol=1e-5)
  np.testing.assert_allclose(
    joined(parts_OJ, moving_OI), matrix_OI, rtol=1e-4, atol=1e-6
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
  adam = Adam(0.9, 0.999, 1e-12)
  assert farthest(rotated_adam(rate, adam)) < 0.01
  assert farthest(optax.adam(rate, eps=1e-12)) > 0.1
