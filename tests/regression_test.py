"""All runs of a seed in one program: each learns as it would by itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.factors import Fading, Growth, Ramp
from extrap.guarded_gradients import Limits, bounds_of
from extrap.models.units import MODELS, UNITS, UnitLayer, two_layers
from extrap.randomness import named
from extrap.regression import (
  SPLITS,
  ArithmeticArm,
  ArithmeticProblem,
  joined,
  outputs_of,
)
from extrap.tasks.arithmetic import Arithmetic, halves
from extrap.training.config import TrainConfig
from extrap.training.loop import fit
from extrap.training.problem import Context

TASK = Arithmetic(inputs=8)
CONFIG = TrainConfig(
  steps=30,
  optimizer='adam',
  learning_rate=1e-2,
  clip=0.0,
  schedule='constant',
  warmup_steps=0,
  evaluate_every=10,
  steps_per_dispatch=10,
)
ARMS = {
  'nmu': ArithmeticArm(two_layers('nmu'), ('mul',), Ramp(1.0, 5, 9)),
  'nalu': ArithmeticArm(two_layers('nalu'), ('add',)),
  'linear': ArithmeticArm(two_layers('linear'), ('sub', 'root')),
}


NAU = ArithmeticArm(two_layers('nau'), ('add',))


def make(arms):
  return ArithmeticProblem(task=TASK, arms=arms, batch_size=16, held_out=64)


@functools.cache
def trained(names=tuple(ARMS), seed=3, replicas=2):
  """A population of some arms, after a few steps."""
  return fit(
    make({name: ARMS[name] for name in names}),
    CONFIG,
    seed=seed,
    replicas=replicas,
  )


def drawn(model, x_BI):
  """Weights of two runs."""
  keys = jax.random.split(jax.random.key(1), 2)
  return jax.jit(jax.vmap(lambda key: model.init(key, x_BI)['params']))(keys)


@pytest.mark.parametrize('trains', [False, True])
@pytest.mark.parametrize('name', UNITS.names())
def test_a_unit_alone_is_what_is_trained(name, trains):
  """Whether by products that units share or by itself; none has both."""
  x_BI = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, (5, 2)), 'f4')
  key = jax.random.key(3) if trains else None
  layer = UnitLayer(UNITS.get(name)(), 1)
  weights = drawn(layer, x_BI)
  matrices = jax.vmap(layer.products)(weights)
  product = joined(x_BI, {name: matrices})[name]
  found_OB = outputs_of(layer, weights, x_BI, product, key)
  for run in range(2):
    of_run = jax.tree.map(lambda leaf, run=run: leaf[run], weights)
    wanted_B = layer.apply({'params': of_run}, x_BI, key)[:, 0]
    np.testing.assert_allclose(found_OB[run], wanted_B, rtol=2e-5, atol=1e-6)


PRODUCTS = ('linear', 'relu', 'relu6', 'nac_add', 'nac_mul', 'nalu', 'g_nalu')


@pytest.mark.parametrize('name', PRODUCTS)
def test_joined_products_give_what_each_model_gives(name):
  x_BI = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (5, 8)), 'f4')
  models = {'one': two_layers(name), 'other': two_layers('nau')}
  weights = {n: drawn(model, x_BI) for n, model in models.items()}
  matrices = {n: jax.vmap(m.products)(weights[n]) for n, m in models.items()}
  products = joined(x_BI, matrices)
  for n, model in models.items():
    found = jax.vmap(model.finish)(weights[n], products[n])
    for run in range(2):
      of_run = jax.tree.map(lambda leaf, run=run: leaf[run], weights[n])
      wanted = model.apply({'params': of_run}, x_BI)
      np.testing.assert_allclose(found[run], wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('name', sorted(MODELS))
def test_every_model_takes_a_step(name):
  arms = {name: ArithmeticArm(two_layers(name), ('mul', 'add'))}
  problem = make(arms)
  params = problem.init(jax.random.key(0))
  ctx = Context(jax.random.key(1), jnp.int32(0), {'offset': 1.0})

  @jax.jit
  def step(params):
    loss = lambda params: problem.loss(params, problem.sample(ctx), ctx)[0]  # noqa: E731
    grads = jax.grad(loss)(params)
    return jax.tree.map(lambda p, g: p - 1e-4 * g, params, grads)

  moved = step(params)
  pairs = zip(*map(jax.tree.leaves, (params, moved)), strict=True)
  assert any(bool((one != other).any()) for one, other in pairs)
  np.testing.assert_array_equal(moved[name]['alive'], 1.0)


def test_a_run_learns_as_it_does_without_the_others():
  together, alone = trained(), trained(('linear',))
  pairs = map(
    jax.tree.leaves, (together.params['linear'], alone.params['linear'])
  )
  for one, other in zip(*pairs, strict=True):
    np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6)


def test_seeds_share_nothing_and_are_what_they_would_be_alone():
  problem, draws = make(ARMS), []
  for seed in (0, 1):
    ctx = Context(jax.random.key(seed), jnp.int32(0), {'offset': 0.0})
    draws.append(np.asarray(problem.sample(ctx)))
  assert abs(np.corrcoef(*map(np.ravel, draws))[0, 1]) < 0.4
  both, one = trained(), trained(('linear',), seed=4, replicas=1)
  pairs = map(jax.tree.leaves, (both.params['linear'], one.params['linear']))
  for population, single in zip(*pairs, strict=True):
    np.testing.assert_allclose(population[1], single[0], rtol=2e-4, atol=1e-6)
    if population.ndim > 2:
      assert np.abs(population[0] - population[1]).max() > 1e-3


def test_a_run_that_is_not_finite_ends_alone_and_for_good():
  problem = make(ARMS)
  sound = problem.init(jax.random.key(0))
  ctx = Context(jax.random.key(1), jnp.int32(0), {'offset': 1.0})
  x_BI = problem.sample(ctx)
  learn = jax.jit(jax.value_and_grad(lambda p: problem.loss(p, x_BI, ctx)[0]))

  def of_nmu(params, **changes):
    return params | {'nmu': params['nmu'] | changes}

  huge = jax.tree.map(lambda leaf: leaf + 1e30, sound['nmu']['weights'])
  loss, grads = learn(of_nmu(sound, weights=huge))
  assert np.isfinite(loss)
  assert grads['nmu']['alive'] == 1
  for one, other in zip(
    *map(jax.tree.leaves, (grads['linear'], learn(sound)[1]['linear'])),
    strict=True,
  ):
    np.testing.assert_array_equal(one, other)
  # An optimizer has moved the mark: weights that are sound again do not help.
  ended = of_nmu(sound, alive=jnp.array([0.999]))
  leaves = jax.tree.leaves(learn(ended)[1]['nmu']['weights'])
  assert not any(leaf.any() for leaf in leaves)
  assert any(leaf.any() for leaf in jax.tree.leaves(learn(sound)[1]['nmu']))
  errors = jax.jit(lambda params: problem.evaluate(params, ctx))(ended)
  assert np.isnan(errors['test/nmu/mul']) and np.isfinite(errors['loss'])
  assert np.isfinite(errors['test/linear/root'])


def test_a_gradient_whose_squares_overflow_stops_nobody():
  large = dataclasses.replace(TASK, trained=(1e13, 2e13), tested=(2e13, 3e13))
  problem = dataclasses.replace(make({'nau': NAU}), task=large)
  fitted = fit(problem, CONFIG, replicas=1)
  assert np.isinf(fitted.history[0]['train/grad_norm']).all()
  # A replica that is frozen makes no more steps.
  assert fitted.finite.all() and fitted.state.step[0] == CONFIG.steps
  np.testing.assert_array_equal(fitted.params['nau']['alive'], 1.0)


def test_all_operations_of_a_model_begin_alike():
  weights = make(ARMS).init(jax.random.key(0))['linear']['weights']
  for leaf in jax.tree.leaves(weights):
    np.testing.assert_array_equal(leaf[0], leaf[1])


def test_held_out_sets_are_those_of_the_original():
  problem = ArithmeticProblem(task=Arithmetic(), arms={})
  for split, seed, low, high in (
    ('validation', 43953907, 1, 2),
    ('test', 8689336, 2, 6),
  ):
    x_BI = problem.held_out_inputs(split, getattr(TASK, SPLITS[split]))
    assert x_BI.shape == (10_000, 100)
    wanted = np.random.RandomState(seed).uniform(low, high, (10_000, 100))
    np.testing.assert_allclose(x_BI, wanted, rtol=1e-6)


def test_the_regulariser_sets_in_between_its_steps():
  ramp = Ramp(10.0, 100, 200)
  at = [float(ramp.at(jnp.int32(step))) for step in (0, 100, 150, 200, 999)]
  assert at == [0.0, 0.0, 5.0, 10.0, 10.0]


def test_a_growing_regulariser_is_ten_times_as_large_every_so_often():
  growth = Growth(1e-7, 1e-5)
  steps = (0, 9_999, 10_000, 20_000, 49_999)
  at = [float(growth.at(jnp.int32(step))) for step in steps]
  np.testing.assert_allclose(at, [1e-7, 1e-7, 1e-6, 1e-5, 1e-5], rtol=1e-5)


def test_regularisers_are_of_an_operation_and_of_runs_that_have_learned():
  arm = ArithmeticArm(
    two_layers('npu'),
    ('mul', 'div', 'add'),
    ramps={'mul': Growth(1e-7, 1e-5), 'div': Growth(1e-9, 1e-7)},
    below=1.0,
  )
  assert arm.regularised and not NAU.regularised
  low, high = jnp.array([0.5, 0.5, 0.5]), jnp.array([0.5, 2.0, 0.5])
  for error_O, wanted in ((low, [1e-6, 1e-8, 0]), (high, [1e-6, 0, 0])):
    found = arm.factors(jnp.int32(10_000), error_O)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
  ('limits', 'wanted'),
  [
    (Limits(), (200.0, 100.0)),
    (Limits(element=0.5), (0.5, 0.5)),
    (Limits(norm=0.5), (0.5 / 1.25**0.5, 0.25 / 1.25**0.5)),
    (Limits(norm=1e3), (200.0, 100.0)),
  ],
)
def test_gradients_are_kept_within_limits_run_by_run(limits, wanted):
  task = Arithmetic(inputs=2, subset=0.5, overlap=0.0)
  arm = ArithmeticArm(
    UnitLayer(UNITS.get('nau')(), 1), ('add', 'sub'), limits=limits
  )
  problem = ArithmeticProblem(task=task, arms={'nau': arm})
  params = problem.init(jax.random.key(0))
  # Of sums the error is -10, of differences 0: its gradient is not limited.
  x_BI = jnp.array([[10.0, 5.0]])
  weights = {'weight': jnp.array([[[0.5], [0.0]], [[1.0], [-1.0]]])}
  params = {'nau': params['nau'] | {'weights': weights}}
  ctx = Context(jax.random.key(0), jnp.int32(0), {'offset': 0.0})
  grads = jax.grad(lambda p: problem.loss(p, x_BI, ctx)[0])(params)['nau']
  first, second = grads['weights']['weight'][:, :, 0]
  np.testing.assert_allclose(first, -np.array(wanted), rtol=1e-5)
  np.testing.assert_array_equal(second, 0.0)


def test_an_arm_has_its_own_learning_rate():
  arms = {
    'slow': dataclasses.replace(NAU, ramp=Ramp()),
    'fast': dataclasses.replace(NAU, rate=5.0),
  }
  one = dataclasses.replace(CONFIG, steps=1, evaluate_every=0)
  problem = make(arms)
  fitted = fit(problem, one, replicas=1, hparams={'offset': [0.0]})
  before = problem.init(named(jax.random.key(0), 'init'))
  for name, rate in (('slow', 1e-2), ('fast', 5e-2)):
    old, new = (p[name]['weights']['first'] for p in (before, fitted.params))
    moved = np.abs(new['weight'][0] - old['weight'])
    # Whatever its gradient, Adam's first update is as large as the rate.
    np.testing.assert_allclose(moved, rate, rtol=1e-3)


def test_a_rate_that_falls_is_a_factor_of_the_updates_of_its_arm():
  arms = {
    'nau': NAU,
    'falling': dataclasses.replace(NAU, decay=Fading(1.0, 0.0, 100)),
  }
  problem = make(arms)
  updates = jax.tree.map(jnp.ones_like, problem.init(jax.random.key(0)))
  for step, factor in ((0, 1.0), (25, 0.853553), (50, 0.5), (100, 0.0)):
    ctx = Context(jax.random.key(0), jnp.int32(step), {})
    scaled = problem.scale_updates(updates, ctx)
    for name, wanted in (('nau', 1.0), ('falling', factor)):
      for leaf in jax.tree.leaves(scaled[name]['weights']):
        np.testing.assert_allclose(leaf, wanted, atol=1e-6)
    # A run that fails is marked as failed by a rate of any size.
    np.testing.assert_array_equal(scaled['falling']['alive'], 1.0)


def test_an_arm_may_begin_like_another():
  arms = {
    'nau': NAU,
    'other': NAU,
    'like': dataclasses.replace(NAU, like='nau'),
  }
  first, other, like = (
    of['weights']['first']['weight']
    for of in make(arms).init(jax.random.key(0)).values()
  )
  np.testing.assert_array_equal(first, like)
  assert (first != other).any()


def test_ranges_may_be_data():
  problem = make({})
  data = {
    'trained': np.array(halves((10.0, 20.0)), np.float32),
    'tested': np.array((-6.0, -2.0, 2.0, 6.0), np.float32),
  }
  ctx = Context(jax.random.key(0), jnp.int32(0), {}, data)
  plain = problem.sample(ctx.replace(data=None))
  np.testing.assert_allclose(problem.sample(ctx), 10 * plain, rtol=1e-6)
  x_BI = problem.held_out_inputs('test', problem._interval('tested', ctx))
  assert ((np.abs(x_BI) >= 2) & (np.abs(x_BI) <= 6)).all()
  assert (x_BI < 0).any() and (x_BI > 0).any()


def test_the_regulariser_is_in_the_loss():
  x_BI, arms = jnp.ones((2, 8)), {'nmu': ARMS['nmu']}
  problem = make(arms)
  params = problem.init(jax.random.key(0))
  key, hparams = jax.random.key(0), {'offset': 0.0}
  without, with_it = (
    problem.loss(params, x_BI, Context(key, jnp.int32(step), hparams))[0]
    for step in (0, 9)
  )
  of_run = jax.tree.map(lambda leaf: leaf[0], params['nmu']['weights'])
  penalty = arms['nmu'].model.penalty(of_run)
  assert float(with_it - without) == pytest.approx(float(penalty), rel=1e-3)


def test_weights_are_projected_and_held_out_errors_are_named():
  problem = make(ARMS)
  params = problem.init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: leaf + 3, params)
  ctx = Context(jax.random.key(0), jnp.int32(0), {})
  second = problem.project(params, ctx)['nmu']['weights']['second']
  np.testing.assert_array_equal(second['weight'], 1.0)
  names = trained().history[-1]
  for what in ('validation', 'test', 'sparsity'):
    assert names[f'held_out/{what}/linear/root'].shape == (2,)


def test_bounds_are_those_of_projection():
  weights = {
    'first': {'weight': np.zeros((8, 2))},
    'second': {'weight': np.zeros((2, 1))},
  }
  low, high = bounds_of(two_layers('nmu', 2), weights)
  np.testing.assert_array_equal(low['first']['weight'], -1)
  np.testing.assert_array_equal(low['second']['weight'], 0)
  for layer in ('first', 'second'):
    np.testing.assert_array_equal(high[layer]['weight'], 1)
  free = two_layers('linear', 2)
  params = free.init(jax.random.key(0), np.ones((1, 8)))['params']
  for bound in jax.tree.leaves(bounds_of(free, params)[1]):
    assert np.isinf(bound).all()


def test_a_weight_at_its_bound_has_no_gradient_beyond_it():
  arms = {'nmu': ArithmeticArm(two_layers('nmu', 2), ('mul',))}
  free = ArithmeticProblem(task=TASK, arms=arms)
  pinned = dataclasses.replace(free, pinned=True)
  ctx = Context(jax.random.key(0), jnp.int32(0), {'offset': jnp.int32(0)})
  params = free.init(jax.random.key(1))
  inputs = TASK.inputs
  # Of the first output all weights are at a bound, half of them at each.
  first = params['nmu']['weights']['first']['weight']
  bound_I = np.where(np.arange(inputs) % 2 == 0, 1.0, -1.0)
  params['nmu']['weights']['first']['weight'] = first.at[0, :, 0].set(bound_I)
  x_BI = free.sample(ctx)

  def gradient(problem):
    grads = jax.grad(lambda of: problem.loss(of, x_BI, ctx)[0])(params)
    return grads['nmu']['weights']['first']['weight'][0]

  all_IO, some_IO = gradient(free), gradient(pinned)
  np.testing.assert_array_equal(some_IO[:, 1], all_IO[:, 1])
  # A step goes against the gradient.
  beyond_I = -all_IO[:, 0] * bound_I > 0
  assert 0 < beyond_I.sum() < inputs
  np.testing.assert_array_equal(
    some_IO[:, 0], np.where(beyond_I, 0.0, all_IO[:, 0])
  )
