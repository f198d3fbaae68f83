"""Digits of images that are compared, and how that is learned."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mock_digits import SIDE, mock_images

from extrap.factors import Ramp
from extrap.image_comparison import ImageProblem, held_out_scores
from extrap.models.comparators import HEADS
from extrap.models.digits import DigitReader, drop
from extrap.tasks.image_pairs import ImagePairs
from extrap.training.flops import count_step_flops
from extrap.training.problem import Context


class Told(ImageProblem):
  """Images are the numbers that are read in them."""

  def numbers(self, params, image_BHW, key=None):
    return image_BHW


def make(
  comparison='gt',
  head='nsr',
  images=10,
  dropped=(0.0, 0.0),
  of=ImageProblem,
  **options,
):
  return of(
    task=ImagePairs(comparison=comparison, images=images),
    reader=DigitReader(channels=(2, 3), hidden=16, dropped=dropped),
    head=HEADS[head](2, jnp.float32),
    side=SIDE,
    **options,
  )


@functools.cache
def fresh(problem):
  """Parameters of one replica."""
  return jax.jit(problem.init)(jax.random.key(0))


def context(step=0, draw=0, data=None):
  hparams = {'draw': jnp.float32(draw)}
  return Context(jax.random.key(step), jnp.int32(step), hparams, data)


def test_every_pair_of_a_batch_is_labelled_by_its_digits():
  digits = [3, 1, 3, 0]
  holds = {'gt': [1, 0, 1, 0, 1, 1], 'eq': [0, 1, 0, 0, 0, 0]}
  for comparison, wanted in holds.items():
    task = ImagePairs(comparison=comparison, images=4)
    assert task.pair_P2.tolist() == [
      *([0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3])
    ]
    np.testing.assert_array_equal(task.holds(np.array(digits)), wanted)
    np.testing.assert_array_equal(task.holds(jnp.array(digits)), wanted)


def test_equal_pairs_count_as_much_as_all_others():
  holds_P = np.array([True, False, False, True, False])
  weight_P = ImagePairs(comparison='eq', images=4).weights(holds_P)
  np.testing.assert_allclose(weight_P, [1 / 4, 1 / 6, 1 / 6, 1 / 4, 1 / 6])
  weight_P = ImagePairs(comparison='eq', images=4).weights(~holds_P & holds_P)
  np.testing.assert_allclose(weight_P, [1 / 10] * 5)
  weight_P = ImagePairs(comparison='gt', images=4).weights(holds_P)
  np.testing.assert_allclose(weight_P, [1 / 5] * 5, rtol=1e-6)


def test_an_epoch_has_each_image_once_in_an_order_of_its_own():
  task, key = ImagePairs(comparison='gt', images=4), jax.random.key(0)
  places = jax.jit(functools.partial(task.places, stored=14))
  found = np.array([places(key, np.int32(step)) for step in range(6)])
  for epoch in (found[:3], found[3:]):
    assert len({*epoch.ravel().tolist()}) == 12
  assert (found[:3] != found[3:]).any()
  assert (places(jax.random.key(1), np.int32(0)) != found[0]).any()


def test_a_step_reads_stored_images_with_their_digits():
  data, sample = mock_images(), jax.jit(make().sample)
  one, other = (sample(context(3, draw, data)) for draw in (0, 1))
  assert one['image'].shape == (10, SIDE, SIDE)
  stored = {
    image.tobytes(): label
    for image, label in zip(data['image'], data['label'], strict=True)
  }
  rows = map(np.asarray, (one['image'], one['label']))
  for image_HW, label in zip(*rows, strict=True):
    assert stored[image_HW.tobytes()] == label
  assert (np.asarray(one['image']) != np.asarray(other['image'])).any()


def test_the_reader_is_two_convolutions_and_a_mean_digit():
  problem, image_BHW = make(), mock_images(3)['image']
  params = jax.tree.map(np.asarray, fresh(problem))
  weights = params['reader']
  x = (image_BHW[..., None] / np.float32(255) - 0.1307) / 0.3081
  for name, inputs, outputs in (('first', 1, 2), ('second', 2, 3)):
    kernel = weights[name].reshape(3, 3, inputs, outputs)
    seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    x = np.einsum('brcixy,xyio->brco', seen, kernel)
    x = x + weights[f'{name}_bias']
    x = np.maximum(x, 0) if name == 'first' else x
  x = x.reshape(3, 2, 2, 2, 2, 3).max(axis=(2, 4)).reshape(3, -1)
  x = np.maximum(x @ weights['hidden'] + weights['hidden_bias'], 0)
  power = np.exp(x @ weights['digits'] + weights['digits_bias'])
  wanted = (power @ np.arange(10)) / power.sum(axis=1)
  found = jax.jit(problem.numbers)(params, image_BHW)
  np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_channels_are_dropped_as_a_whole():
  dropped = jax.jit(functools.partial(drop, share=0.25, shape=(50, 1, 1, 40)))
  x = np.asarray(dropped(jax.random.key(0), np.ones((50, 2, 2, 40), 'f4')))
  assert {*np.unique(x).tolist()} == {0.0, np.float32(4 / 3)}
  assert 0.2 < (x == 0).mean() < 0.3
  assert (x == x[:, :1, :1]).all()


def test_a_step_of_training_does_without_channels_and_units():
  problems = [make(dropped=dropped) for dropped in ((0.5, 0.0), (0.0, 0.5))]
  batch = mock_images(10)

  @jax.jit
  @jax.vmap
  def losses(key):
    ctx = context().replace(key=key)
    return [p.loss(fresh(p), batch, ctx)[0] for p in problems]

  for one, other in losses(jax.random.split(jax.random.key(0), 2)):
    assert one != other


@pytest.mark.parametrize('comparison', ['gt', 'eq'])
def test_the_loss_is_the_mean_error_of_the_pairs(comparison):
  problem = make(comparison, images=6, of=Told)
  batch = mock_images(6) | {'image': np.arange(6.0, dtype='f4') / 10}
  params = fresh(problem)
  x_P2, head = batch['image'][problem.task.pair_P2], {'params': params['head']}
  answer_P = problem.head.apply(head, x_P2, 10.0)[:, 0]
  holds_P = problem.task.holds(batch['label'])
  error_P = np.abs(answer_P - holds_P)
  wanted = error_P.mean()
  if comparison == 'eq':
    wanted = (error_P[holds_P].mean() + error_P[~holds_P].mean()) / 2
  loss, _ = problem.loss(params, batch, context())
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)
  softer = dataclasses.replace(problem, scale=1.0)
  assert softer.loss(params, batch, context())[0] != loss


def test_heads_of_units_are_regularised_and_clipped():
  problem = make(head='nau', images=3, ramp=Ramp(1.0, 5, 6), of=Told)
  batch = mock_images(3) | {'image': np.arange(3.0, dtype='f4')}
  params = fresh(problem)
  early, late = (
    problem.loss(params, batch, context(step))[0] for step in (5, 6)
  )
  penalty = problem.head.penalty(params['head'])
  assert penalty > 0
  np.testing.assert_allclose(late - early, penalty, rtol=1e-4)
  far = jax.tree.map(lambda leaf: np.asarray(leaf) + 10, params)
  clipped = problem.project(far, context())
  sizes = [np.max(leaf) for leaf in jax.tree.leaves(clipped['head']['layers'])]
  assert max(sizes) == 1
  assert clipped['reader'] is far['reader']


def test_scores_are_of_pairs_within_batches():
  data, problem = mock_images(17), make('eq', images=8)
  one = jax.tree.map(np.asarray, fresh(problem))
  params = jax.tree.map(lambda leaf: np.stack([leaf] * 2), one)
  # A replica that says yes to all, and one that is not finite.
  params['head']['bias'] = np.array([[[100.0]], [[np.nan]]], np.float32)
  scores = held_out_scores(problem, params, data)
  np.testing.assert_allclose(scores.accuracy, [0.5, 0.0], atol=1e-6)
  np.testing.assert_allclose(scores.error, [0.5, 1.0], atol=1e-6)
  assert (scores.pairs, scores.images) == (2 * 28, 16)
  shown = np.rint(jax.jit(problem.numbers)(one, data['image']))
  shown[:4] += 1
  scores = held_out_scores(problem, params, data | {'label': shown})
  assert scores.read[0] == 12 / 16


def test_the_flops_of_a_step_are_those_of_its_convolutions():
  problem, data = make(images=4), mock_images(8)
  one = jax.eval_shape(problem.init, jax.random.key(0))
  params = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), one
  )
  first, last = 36 * 9 * 2, 10
  forward = first + 16 * 18 * 3 + 12 * 16 + 160 + last
  # Of pixels and digits there is no gradient.
  reader = 4 * 2 * (3 * forward - first - last)
  # Two operands of two inputs each, then the weights of two bits.
  head = 6 * 2 * 3 * (2 * 2 + 2 * 2)
  assert count_step_flops(problem, params, data) == reader + head
