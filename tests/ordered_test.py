"""Heads that compare scores: the next greater key, however many there are.

Shape key: B examples, Q queries, K keys, H heads, D head width.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.models.positions import Ordered, Recency
from extrap.models.positions.position import Pairs
from extrap.tasks.addition import Addition


def all_pairs(query_BQHD, key_BKHD, value_BKHD):
  """Every query sees every key, without scale or bias."""
  one = jnp.ones((1, 1, 1, 1))
  return Pairs(query_BQHD, key_BKHD, value_BKHD, None, one > 0, one, None, None)


@pytest.mark.parametrize('keys', [4, 400])
def test_the_key_just_above_the_query_is_attended_to(keys):
  rng = np.random.default_rng(0)
  score_K = rng.permutation(keys).astype(np.float32)
  key_BKHD = jnp.zeros((1, keys, 2, 3)).at[..., -1].set(score_K[None, :, None])
  value_BKHD = jnp.broadcast_to(score_K[None, :, None, None], (1, keys, 2, 1))
  for asked in (-1, keys // 2):
    query_BQHD = jnp.zeros((1, 1, 2, 3)).at[..., -1].set(asked + 0.5)
    args = (query_BQHD, key_BKHD, value_BKHD)
    read_BQHD = Ordered(gain=32.0).attend(all_pairs(*args), None)
    first, second = read_BQHD[0, 0, :, 0].tolist()
    assert first == pytest.approx(score_K.mean(), rel=1e-5)  # Compares nothing.
    assert second == pytest.approx(asked + 1, abs=1e-3)


def test_scores_are_compared_and_not_multiplied():
  query_BQHD = jnp.ones((1, 1, 2, 3)).at[..., -1].set(100.0)
  key_BKHD = jnp.ones((1, 2, 2, 3)).at[..., -1].set(jnp.array([[[7.0], [9.0]]]))
  args = (query_BQHD, key_BKHD, key_BKHD[..., -1:])
  read_BQHD = Ordered(gain=0.0).attend(all_pairs(*args), None)
  np.testing.assert_allclose(read_BQHD[0, 0, :, 0], 8.0, rtol=1e-6)


def test_near_keys_have_biases_of_their_own_and_far_ones_a_slope():
  task = Addition()
  ids = task.structure(task.from_integers([(1234567, 89)]).tokens)
  made = {}

  def param(name, init, shape):
    made[name] = init(jax.random.key(0), shape)
    return made[name]

  bias = Recency(near=2).pair_bias(ids.expand(1, 3), ids.expand(1, 2), param, 2)
  assert made['slope'].tolist() == pytest.approx([2.3, 0])
  distance = 9 - jnp.arange(10)
  row = made['near'][jnp.clip(distance, 0, 2)]
  wanted = row - jnp.outer(distance, made['slope'])
  np.testing.assert_allclose(bias[0, :, 9, :10].T, wanted, rtol=1e-5)
