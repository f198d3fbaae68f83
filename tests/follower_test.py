"""Tests of forecasts that are renewed step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.curves import mixtures
from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.curves.follower import Follower
from extrap.curves.lcpfn import LCPFN
from extrap.curves.normalise import error
from extrap.errors import UsageError

SIZES = CausalPFNConfig(width=16, layers=2, heads=2, readout=16, components=3)
CURVES = np.stack([np.linspace(0.2, 0.6, 12), np.linspace(0.5, 0.55, 12)])


@pytest.fixture(scope='module')
def model() -> LCPFN:
  made = fresh(SIZES, jax.random.key(0))
  return LCPFN(SIZES, jax.tree.map(lambda leaf: leaf + 0.03, made))


def test_step_by_step_is_as_good_as_all_at_once(model):
  follower = Follower(model, CURVES[:, :4], 20)
  for count in range(5, 13):
    found = follower.add(CURVES[:, count - 1])
    at = np.linspace(20, count + 1, 15)[::-1].round()
    wanted = model.predict(CURVES[:, :count], 20, at=at)
    np.testing.assert_array_equal(found.step_NQ, wanted.step_NQ)
    np.testing.assert_allclose(found.median(), wanted.median(), atol=1e-4)
    np.testing.assert_allclose(
      found.interval(0.8)[0], wanted.interval(0.8)[0], atol=1e-4
    )


@pytest.mark.parametrize('horizon', [120, 300])
def test_long_runs_are_followed_in_strides(model, horizon):
  value_NT = CURVES[:, :1] + 0.3 * np.linspace(0, 1, horizon)[None] ** 0.5
  stride = -(-horizon // 100)
  follower = Follower(model, value_NT[:, :4], horizon, most=5)
  for count in range(5, horizon):
    found = follower.add(value_NT[:, count - 1])
    if count in (5, 6, 7, horizon - 2, horizon - 1):
      kept = np.append(np.arange(1, count, stride), count)
      wanted = _behind(model, horizon, kept, value_NT, found.step_NQ)
      np.testing.assert_allclose(found.median(), wanted, atol=1e-5)


def _behind(
  model: LCPFN,
  horizon: int,
  kept: np.ndarray,
  value_NT: np.ndarray,
  step_NQ: np.ndarray,
) -> np.ndarray:
  """Medians from one pass over some points, of which there may be 101."""
  time_NT = np.broadcast_to(100 / horizon * kept, (2, len(kept)))
  asked_NTQ = np.broadcast_to(
    100 / horizon * step_NQ[:, None], (2, len(kept), step_NQ.shape[1])
  )
  given = (time_NT, value_NT[:, kept - 1], asked_NTQ)
  mixture = model.model.apply(
    {'params': model.params}, *map(jnp.asarray, map(np.float32, given))
  )
  median_NTQ = mixtures.quantile(mixture, 0.5)
  return np.asarray(median_NTQ[:, -1])


def test_few_steps_are_spread_over_those_left(model):
  follower = Follower(model, CURVES[:, :4], 20, most=3)
  assert follower.add(CURVES[:, 4]).step_NQ.tolist() == [[6, 13, 20]] * 2
  only = Follower(model, CURVES[:, :4], 20, most=1)
  assert only.add(CURVES[:, 4]).step_NQ.tolist() == [[20]] * 2


def test_a_metric_is_followed_in_its_own_units(model):
  plain = Follower(model, CURVES[:, :4], 20).add(CURVES[:, 4])
  falling = Follower(model, 1 - CURVES[:, :4], 20, error()).add(
    1 - CURVES[:, 4]
  )
  np.testing.assert_allclose(falling.median(), 1 - plain.median(), atol=1e-4)


def test_what_cannot_be_followed_is_refused(model):
  for values, horizon, message in (
    (np.ones((2, 0)), 20, 'a row of values'),
    (np.ones(3), 20, 'a row of values'),
    (np.full((1, 2), np.nan), 20, 'not finite'),
    (CURVES, 13, 'after the 12 seen'),
  ):
    with pytest.raises(UsageError, match=message):
      Follower(model, values, horizon)


def test_an_end_is_an_end(model):
  follower = Follower(model, CURVES[:, :10], 12)
  with pytest.raises(UsageError, match='not finite'):
    follower.add(np.array([np.inf, 0.1]))
  with pytest.raises(UsageError, match='2 curves are followed'):
    follower.add(CURVES[:1, 10])
  follower.add(CURVES[:, 10])
  with pytest.raises(UsageError, match='nothing is left'):
    follower.add(CURVES[:, 11])
