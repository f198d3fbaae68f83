"""Functions that need comparisons, and the models that learn them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.composition import CompositionProblem, mean_errors
from extrap.factors import Ramp, Sharpening
from extrap.models import folds
from extrap.models.comparators import HEADS
from extrap.models.composites import Choice, Fold
from extrap.models.units import NAU
from extrap.tasks.comparing_functions import Count, Example, Minimum, TwoPieces
from extrap.training.problem import Context


def sampled(task, seed=0):
  return map(np.asarray, jax.jit(task.sample)(jax.random.key(seed)))


def test_minimum_and_count_are_of_small_lists():
  for task, answer in (
    (Minimum(), min),
    (Count(), lambda numbers: list(numbers[1:]).count(numbers[0])),
  ):
    x_BI, answer_B = sampled(task)
    assert x_BI.shape == (400, task.numbers)
    assert x_BI.min() == 1 and x_BI.max() == 10
    assert answer_B.tolist() == [answer(row) for row in x_BI.tolist()]
    for example in task.test(50, 163_840, 20):
      assert example.answer == answer(example.inputs)
      assert max(example.inputs) <= 163_845
    lengths = {len(e.inputs) for e in task.test(50, 163_840, 20)}
    assert lengths == {50 + (task.numbers == 6)}
    assert max(max(e.inputs) for e in task.test(50, 163_840, 20)) > 1e5
  assert any(e.answer > 1 for e in Count().test(50, 20, 20))


def piece(comparison, x0, x1, x2, x3, x4):
  holds = x0 > x1 if comparison == 'gt' else x0 == x1
  return x4 + 4 if holds else x3 - x2


@pytest.mark.parametrize('comparison', ['gt', 'eq'])
def test_a_comparison_chooses_a_piece(comparison):
  task = TwoPieces(comparison)
  x_BI, answer_B = sampled(task)
  assert x_BI.shape == (task.rows, 5) == (4000, 5)
  assert x_BI[:, :2].min() == -10 and x_BI[:, :2].max() == 9
  assert x_BI[:, 2:].min() == -100 and x_BI[:, 2:].max() == 100
  wanted = [piece(comparison, *row) for row in x_BI.tolist()]
  assert answer_B.tolist() == wanted
  equal = (x_BI[:, 0] == x_BI[:, 1]).sum()
  assert equal == (2000 if comparison == 'eq' else 200)
  if comparison == 'eq':
    np.testing.assert_array_equal(np.unique(x_BI[:, 0]), np.arange(-10, 10))
  examples = task.test(1024, 3)
  assert len(examples) == 3 * (20 if comparison == 'eq' else 21)
  for example in examples:
    assert example.answer == piece(comparison, *example.inputs)
    assert 1019 <= example.inputs[0] < 2053
    assert abs(example.inputs[0] - example.inputs[1]) <= 5


def test_folds_with_a_perfect_comparison_are_exact():
  x_BI = jnp.array([[5.0, 3.0, 9.0, 3.0], [2.0, 2.0, 2.0, 7.0]])

  def less(pair_B2):
    keeps = (pair_B2[:, 0] <= pair_B2[:, 1]).astype(jnp.float32)
    return jnp.stack([keeps, 1 - keeps], axis=1)

  def equal(pair_B2):
    same = (pair_B2[:, 0] == pair_B2[:, 1]).astype(jnp.float32)
    return jnp.stack([same, 1 - same], axis=1)

  assert folds.minimum(less, x_BI).tolist() == [3, 2]
  assert folds.count(equal, x_BI).tolist() == [0, 2]


def test_a_fold_keeps_the_mean_that_a_comparison_says():
  half = lambda pair_B2: jnp.full(pair_B2.shape, 0.25)  # noqa: E731
  found = folds.minimum(half, jnp.array([[8.0, 4.0, 3.0]]))
  assert found.tolist() == [8 - 1 - 1]
  assert folds.count(half, jnp.ones((1, 5))).tolist() == [1]


def make(model, task=None, **options):
  return CompositionProblem(task=task or Minimum(), model=model, **options)


def context(step=0, draw=0.0):
  hparams = {'draw': jnp.float32(draw)}
  return Context(jax.random.key(step), jnp.int32(step), hparams)


def test_a_training_set_is_drawn_once_a_run():
  problem = make(Fold(HEADS['nsr'](2, jnp.float32), folds.minimum))
  sets = [
    problem.sample(context(step, draw))[0]
    for step, draw in ((0, 0), (5, 0), (0, 1))
  ]
  np.testing.assert_array_equal(sets[0], sets[1])
  assert (sets[0] != sets[2]).mean() > 0.5


def choice():
  """Pieces with known weights, chosen by a sharp register of five inputs."""
  model = Choice(HEADS['nsr'](1, jnp.float32), NAU())
  params = model.init(jax.random.key(0), jnp.ones((1, 5)))
  params['head'] = {
    'first': jnp.array([[1.0], [0.0], [0.0], [0.0], [0.0]]),
    'second': jnp.array([[0.0], [1.0], [0.0], [0.0], [0.0]]),
    'sign': jnp.full((1, 1), 60.0),
    'zero': jnp.zeros((1, 1)),
    'bias': jnp.full((1, 1), -30.0),
  }
  for name, weights, bias in (
    ('holds', [0, 0, 0, 0, 1], 4),
    ('fails', [0, 0, -1, 1, 0], 0),
  ):
    weight = jnp.array(weights, jnp.float32)[:, None]
    bias = jnp.full((1, 1), bias, jnp.float32)
    params[name] = {'unit': {'weight': weight}, 'bias': bias}
  return model, params


def test_a_choice_with_right_weights_is_the_function_far_beyond():
  model, params = choice()
  rule = Sharpening(final=40.0, steps=1)
  problem = make(model, TwoPieces('gt'), sharpening=rule)
  several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
  several['holds']['bias'] += jnp.array([0.0, jnp.nan])[:, None, None]
  examples = TwoPieces('gt').test(2**14, 4)
  found = mean_errors(problem, several, examples)
  assert found[0] < 1e-3 and found[1] == np.inf
  wrong = [e._replace(answer=e.answer + 2) for e in examples]
  assert mean_errors(problem, several, wrong)[0] == pytest.approx(2, abs=1e-3)


def test_the_loss_of_a_composite_has_its_regulariser_and_sharpness():
  model, params = choice()
  params['holds']['unit'] = {'weight': jnp.full((5, 1), 0.5)}
  problem = make(model, TwoPieces('gt'), ramp=Ramp(1.0, 5, 6))
  examples = problem.sample(context())
  losses = [
    float(problem.loss(params, examples, context(step))[0]) for step in (5, 6)
  ]
  assert losses[1] - losses[0] == pytest.approx(0.5, abs=1e-3)
  sharp = make(model, sharpening=Sharpening(final=9.0, steps=1))
  examples = [Example((2, 1, 50, 60, 70), 0)]
  one = jax.tree.map(lambda leaf: leaf[None], params)
  found = mean_errors(sharp, one, examples)
  x_BI = jnp.array([[2.0, 1, 50, 60, 70]])
  by_hand = model.apply(params, x_BI, 9.0)
  np.testing.assert_allclose(found, jnp.abs(by_hand), rtol=1e-5)
  assert abs(float(model.apply(params, x_BI, 1.0)[0] - by_hand[0])) > 1


def test_units_of_a_choice_are_clipped():
  model, params = choice()
  params['fails']['unit'] = {'weight': jnp.full((5, 1), 3.0)}
  projected = make(model).project(params, context())
  assert projected['fails']['unit']['weight'].max() == 1
  np.testing.assert_array_equal(
    projected['head']['sign'], params['head']['sign']
  )
