"""Tests of the networks that forecast curves, and of what trains them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves import mixtures, prior
from extrap.curves.bars import Bars
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig
from extrap.curves.pfn import PFN, PFNConfig
from extrap.curves.pfn_problem import CurveProblem, PublishedProblem
from extrap.curves.prior import PUBLISHED
from extrap.errors import UsageError
from extrap.training import TrainConfig, fit
from extrap.training.problem import Context

SIZES = CausalPFNConfig(width=16, layers=2, heads=2, readout=16, components=3)
MODEL = CausalPFN(SIZES)
CONTEXT = Context(key=jax.random.key(1), step=jnp.int32(0), hparams={})


def _problem(**changes: float) -> CurveProblem:
  return CurveProblem(model=MODEL, batch_size=6, **changes)


@pytest.fixture(scope='module')
def params() -> dict:
  # Weights of other sizes than at the start, where layers add next to nothing.
  made = _problem().init(jax.random.key(0))
  return jax.tree.map(lambda leaf: leaf + 0.05, made)


@pytest.fixture(scope='module')
def seen() -> tuple[jax.Array, jax.Array]:
  """Times and values [B, T]."""
  value_BT = prior.sample(PUBLISHED, jax.random.key(5), 4).noisy_NT[:, :30]
  return jnp.broadcast_to(jnp.arange(1.0, 31.0), value_BT.shape), value_BT


@pytest.fixture(scope='module')
def run(params):
  """States and levels of points, compiled."""
  return jax.jit(
    lambda *seen: MODEL.apply({'params': params}, *seen, method='states')
  )


@pytest.fixture(scope='module')
def states(run, seen) -> tuple[jax.Array, jax.Array]:
  return run(*seen)


def test_what_is_known_at_a_point_reads_none_after_it(run, seen, states):
  time_BT, value_BT = seen
  found = run(time_BT, value_BT.at[:, 20:].add(0.3))
  for after, before in zip(found, states, strict=True):
    assert (after[:, :20] == before[:, :20]).all()
    assert (after[:, 20:] != before[:, 20:]).any()


def test_one_more_point_is_as_good_as_all_at_once(params, seen, states):
  time_BT, value_BT = seen
  memory = MODEL.apply(
    {'params': params}, time_BT[:, :7], value_BT[:, :7], 30, method='remember'
  )
  append = jax.jit(
    lambda *given: MODEL.apply({'params': params}, *given, method='append')
  )
  for at in range(7, 30):
    memory, state_BE, level_B = append(memory, time_BT[:, at], value_BT[:, at])
    np.testing.assert_allclose(state_BE, states[0][:, at], atol=1e-4)
    np.testing.assert_allclose(level_B, states[1][:, at], atol=1e-5)


def test_a_forecast_depends_on_what_is_asked_and_known(params, seen, states):
  state_BTE, level_BT = states
  ask = lambda **given: mixtures.mean(  # noqa: E731
    MODEL.apply(
      {'params': params},
      given.get('state', state_BTE[:, -1]),
      level_BT[:, -1],
      jnp.full(4, given.get('cutoff', 30.0)),
      jnp.full((4, 1), given.get('asked', 50.0)),
      method='forecast',
    )
  )
  usual = ask()
  for changed in (
    {'asked': 60.0},
    {'cutoff': 29.0},
    {'state': state_BTE[:, 3]},
  ):
    assert (ask(**changed) != usual).all()


def test_answers_are_what_the_curve_has_later():
  problem = _problem(thinned=0.5)
  batch = problem.sample(CONTEXT)
  curve_key, _, _ = jax.random.split(CONTEXT.key, 3)
  noisy_NT = np.asarray(PUBLISHED.sample(curve_key, 6).noisy_NT)
  counts = np.asarray(batch.counts_NT)
  assert 0 < counts.sum() < counts.size
  for row in range(6):
    own_T = np.flatnonzero(counts[row])
    at_T = np.asarray(batch.time_NT)[row, own_T].astype(int)
    np.testing.assert_allclose(
      batch.value_NT[row, own_T], noisy_NT[row, at_T - 1], atol=1e-6
    )
    asked_TQ = np.asarray(batch.asked_NTQ)[row, own_T].astype(int)
    assert (asked_TQ > at_T[:, None]).all() and (asked_TQ <= 100).all()
    np.testing.assert_allclose(
      batch.answer_NTQ[row, own_T], noisy_NT[row, asked_TQ - 1], atol=1e-6
    )


def test_every_later_time_is_asked_for():
  problem = CurveProblem(model=MODEL, batch_size=200, thinned=0.0)
  batch = problem.sample(CONTEXT)
  asked = np.asarray(batch.asked_NTQ[:, 89]).ravel()
  counts = np.bincount(asked.astype(int), minlength=101)[91:]
  assert counts.min() > 30 and counts.sum() == 600


def test_whole_curves_have_every_point_and_thin_ones_the_last():
  whole = _problem(thinned=0.0).sample(CONTEXT)
  assert (whole.time_NT == jnp.arange(1.0, 101.0)[None]).all()
  assert (whole.counts_NT.sum(1) == 99).all()
  thin = CurveProblem(model=MODEL, batch_size=50, thinned=1.0).sample(CONTEXT)
  assert (thin.time_NT[:, -1] == 100).all()
  count_N = thin.counts_NT.sum(1)
  assert count_N.min() == 3 and 10 < jnp.median(count_N) < 30


def test_points_that_do_not_count_have_no_say(params):
  problem = _problem(thinned=1.0)
  batch = problem.sample(CONTEXT)
  loss, _ = problem.loss(params, batch, CONTEXT)
  spoilt = jnp.where(batch.counts_NT[..., None], batch.answer_NTQ, 1e3)
  same, _ = problem.loss(params, batch._replace(answer_NTQ=spoilt), CONTEXT)
  assert loss == same


def test_training_learns():
  problem = CurveProblem(model=MODEL, batch_size=16)
  config = TrainConfig(
    steps=60, optimizer='muon', learning_rate=5e-3, steps_per_dispatch=20
  )
  history = fit(problem, config).history
  assert history[-1]['train/loss'][0] < history[0]['train/loss'][0] - 0.5


def test_heads_that_do_not_divide_the_width_are_refused():
  with pytest.raises(UsageError, match='does not divide'):
    CausalPFNConfig(width=32, heads=3).check()


def _published() -> PublishedProblem:
  bars = Bars(np.linspace(-0.2, 1.2, 21).astype(np.float32))
  model = PFN(PFNConfig(width=16, layers=2, bins=20))
  return PublishedProblem(model=model, bars=bars, batch_size=16)


def test_the_published_network_reads_only_the_context():
  problem = _published()
  params = problem.init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: leaf + 0.02, params)
  value_NT, _ = problem.sample(CONTEXT)
  time_T = jnp.asarray(PUBLISHED.time_T)
  apply = jax.jit(
    lambda value_NT, cutoff: problem.model.apply(
      {'params': params}, time_T, value_NT, cutoff
    )
  )
  logits = apply(value_NT, 40)
  later = apply(value_NT.at[:, 40:].add(0.5), 40)
  assert (logits == later).all()
  earlier = apply(value_NT.at[:, 39].add(0.5), 40)
  assert (logits[:, 40:] != earlier[:, 40:]).any()
  # All of the context is seen, whatever the order.
  assert (logits[:, 5] != earlier[:, 5]).any()


def test_the_published_loss_is_that_of_later_points():
  problem = _published()
  params = problem.init(jax.random.key(0))
  value_NT, cutoff = problem.sample(CONTEXT)
  assert 1 <= cutoff <= 99
  eval_loss, _ = problem.loss(params, (value_NT, jnp.int32(99)), CONTEXT)
  logits = problem.model.apply(
    {'params': params},
    jnp.asarray(PUBLISHED.time_T),
    value_NT,
    99,
    train=True,
    rngs={'dropout': CONTEXT.key},
  )
  wanted = -problem.bars.log_density(logits, value_NT)[:, 99].mean()
  assert float(eval_loss) == pytest.approx(float(wanted), rel=1e-5)


def test_dropout_is_for_training_alone():
  problem = _published()
  params = jax.tree.map(
    lambda leaf: leaf + 0.02, problem.init(jax.random.key(0))
  )
  value_NT, _ = problem.sample(CONTEXT)
  losses = [
    problem.loss(
      params, (value_NT, jnp.int32(50)), CONTEXT.replace(key=jax.random.key(n))
    )[0]
    for n in range(2)
  ]
  assert losses[0] != losses[1]


@pytest.mark.slow
def test_the_published_training_learns():
  config = TrainConfig(
    steps=60, optimizer='adam', learning_rate=5e-3, steps_per_dispatch=20
  )
  history = fit(_published(), config).history
  assert history[-1]['train/loss'][0] < history[0]['train/loss'][0] - 0.2
