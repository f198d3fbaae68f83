"""Heads that compare, and what they learn comparisons by."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.comparison import ComparisonProblem, Group, far_errors
from extrap.factors import Ramp, Sharpening
from extrap.models.comparators import HEADS
from extrap.tasks.comparisons import COMPARISONS, Comparisons, Row
from extrap.training.config import TrainConfig
from extrap.training.loop import fit
from extrap.training.problem import Context

CONFIG = TrainConfig(
  steps=3,
  optimizer='adam',
  learning_rate=1e-2,
  clip=0.0,
  schedule='constant',
  warmup_steps=0,
  evaluate_every=0,
  steps_per_dispatch=3,
)
PLACES = list(COMPARISONS)


def make(head='nsr', inputs=2, redundancy=2, **options):
  return ComparisonProblem(
    task=Comparisons(inputs=inputs),
    head=HEADS[head](redundancy, jnp.float32),
    **options,
  )


def context(comparison='gt', step=0, **hparams):
  numbers = {'unit': 1.0, 'scale': 1.0, 'draw': 0.0} | hparams
  numbers['comparison'] = float(PLACES.index(comparison))
  numbers = {name: jnp.float32(value) for name, value in numbers.items()}
  return Context(jax.random.key(step), jnp.int32(step), numbers)


@pytest.mark.parametrize('head', sorted(HEADS))
def test_heads_give_a_probability_and_its_negation_and_take_a_step(head):
  problem = make(head, ramp=Ramp(1.0, 0, 1))
  params = jax.jit(problem.init)(jax.random.key(0))
  ctx = context(step=1)

  @jax.jit
  def step(params):
    x_BI = jnp.array([[1.0, 2.0], [5.0, 3.0]])
    found_B2 = problem.head.apply({'params': params}, x_BI, 1.0, 1.0)
    batch = problem.sample(ctx)
    loss = lambda params: problem.loss(params, batch, ctx)[0]  # noqa: E731
    grads = jax.grad(loss)(params)
    moved = jax.tree.map(lambda p, g: p - 10 * g, params, grads)
    return found_B2, problem.project(moved, ctx)

  found_B2, moved = step(params)
  np.testing.assert_allclose(found_B2.sum(axis=1), 1, rtol=1e-6)
  assert np.all((found_B2 > 0) & (found_B2 < 1))
  pairs = zip(*map(jax.tree.leaves, (params, moved)), strict=True)
  assert any((one != other).any() for one, other in pairs)
  if head == 'nau':  # It is clipped where a step led beyond.
    sizes = [jnp.abs(leaf).max() for leaf in jax.tree.leaves(moved['layers'])]
    assert max(sizes) == 1


@pytest.mark.parametrize(
  ('head', 'widest'),
  [('nsr', 3), ('mlp', 6), ('nalu', 3), ('nau', 6), ('npu', 6)],
)
def test_redundancy_is_the_number_of_units(head, widest):
  params = jax.eval_shape(make(head, redundancy=3).init, jax.random.key(0))
  shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
  assert max(max(shape) for shape in shapes) == widest


def test_the_loss_is_the_mean_absolute_error_of_what_counts():
  problem = make()
  params = problem.init(jax.random.key(0))
  for name in ('gt', 'ne'):
    ctx = context(name, scale=2.0, unit=3.0)
    pairs = problem.sample(ctx)
    holds_B = problem.head.apply({'params': params}, pairs.x_BI, 2.0)[:, 0]
    error_B = np.abs(holds_B - pairs.target_B)[pairs.weight_B > 0]
    loss, _ = problem.loss(params, pairs, ctx)
    np.testing.assert_allclose(loss, error_B.mean(), rtol=1e-5)
    assert pairs.x_BI.max() == 27  # in units


def test_a_regulariser_sets_in_at_its_step():
  problem = make('nau', ramp=Ramp(1.0, 5, 6))
  params = problem.init(jax.random.key(0))
  pairs = problem.sample(context())
  losses = [
    float(problem.loss(params, pairs, context(step=step))[0]) for step in (5, 6)
  ]
  penalty = float(problem.head.penalty(params))
  assert penalty > 0 and losses[1] - losses[0] == pytest.approx(penalty)


def test_operands_sharpen_geometrically():
  rule = Sharpening(final=100.0, steps=10)
  found = [float(rule.at(jnp.int32(step))) for step in (0, 5, 10, 20)]
  np.testing.assert_allclose(found, [1, 10, 100, 100], rtol=1e-5)
  problem = make(inputs=3, sharpening=Sharpening(final=100.0, steps=10))
  params = problem.init(jax.random.key(0))
  pairs = problem.sample(context())
  early, late = (
    float(problem.loss(params, pairs, context(step=step))[0])
    for step in (0, 10)
  )
  sharp = params | {n: 100 * params[n] for n in ('first', 'second')}
  again = float(problem.loss(sharp, pairs, context())[0])
  assert late == pytest.approx(again, rel=1e-5) and late != early


def test_partners_are_kept_if_they_are_fixed():
  for fixed in (False, True):
    problem = make(fixed=fixed)
    draws = [
      problem.sample(context('eq', step, draw=draw)).x_BI
      for step, draw in ((0, 0), (1, 0), (0, 1))
    ]
    assert bool((draws[0] == draws[1]).all()) == fixed
  assert (draws[0] != draws[2]).any()


def test_a_run_that_fails_stops_no_other():
  hparams = {
    'comparison': [0, 4],
    'unit': [np.inf, 1.0],
    'scale': [1.0, 1.0],
    'draw': [0, 1],
  }
  found = fit(make(), CONFIG, replicas=2, hparams=hparams)
  assert found.finite.tolist() == [False, True]
  assert found.state.step.tolist() == [0, 3]


def trained(params, scale=1.0):
  count = len(params['bias'])
  ones = np.ones(count)
  return Group(params, ones == 1, ones, scale * ones)


def test_errors_are_means_and_what_has_failed_errs_as_much_as_can_be():
  problem = make(redundancy=1)
  one = {
    'first': jnp.array([[40.0], [0.0]]),
    'second': jnp.array([[0.0], [40.0]]),
    'sign': jnp.full((1, 1), 50.0),
    'zero': jnp.zeros((1, 1)),
    'bias': jnp.zeros((1, 1)),
  }
  wrong = one | {'sign': -one['sign']}
  params = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, wrong)
  rows = [Row((5, 4), True), Row((4, 5), False)]
  rows += [Row((2**24 + 1, 2**24), True)]  # float32 takes them for equal.
  found_S = far_errors(problem, trained(params), rows)
  np.testing.assert_allclose(found_S, [0.5 / 3, 2.5 / 3], atol=1e-5)
  broken = params | {'bias': jnp.full((2, 1, 1), jnp.nan)}
  assert far_errors(problem, trained(broken), rows).tolist() == [1, 1]
  stopped = trained(params)._replace(finite_S=np.array([False, True]))
  found_S = far_errors(problem, stopped, rows[:2])
  np.testing.assert_allclose(found_S, [1, 1], atol=1e-5)


def test_errors_are_measured_as_sharp_as_training_ends():
  sharp = Sharpening(final=40.0, steps=1)
  problem = make(inputs=3, redundancy=1, sharpening=sharp)
  params = {
    'first': jnp.array([[[0.0], [1.0], [0.0]]]),
    'second': jnp.array([[[0.0], [0.0], [1.0]]]),
    'sign': jnp.full((1, 1, 1), 50.0),
    'zero': jnp.zeros((1, 1, 1)),
    'bias': jnp.zeros((1, 1, 1)),
  }
  rows = [Row((10**6, 500, 499), True), Row((10**6, 499, 500), False)]
  found = far_errors(problem, trained(params), rows)
  assert found.max() < 1e-5
  blunt = dataclasses.replace(problem, sharpening=Sharpening())
  found = far_errors(blunt, trained(params, scale=0.01), rows)
  assert found.max() > 0.1
