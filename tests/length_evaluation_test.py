"""The same bytes with more context before them, and with less."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from text_models import build, random_params

from extrap.datasets.stdlib_text import Text
from extrap.errors import UsageError
from extrap.evaluation.length import cut, ends, score, windows
from extrap.models.positions import FIRE, Rotary, Window
from extrap.tasks.text import RunningText
from extrap.training import MeshConfig, make_mesh

RNG = np.random.default_rng(0)
TEXT = Text(
  RNG.integers(0, 128, 200).astype(np.uint8),
  np.cumsum(RNG.integers(0, 2, 200)).astype(np.int32),
)
L, ASKED = 8, 4


@functools.cache
def params_of(depth=1):
  """Two replicas of a model without parameters for positions."""
  return random_params(build(Rotary(), depth), 2)


def test_windows_of_all_lengths_ask_for_the_same_bytes():
  end_N = ends(TEXT, 5, 32, ASKED)
  assert end_N[0] == 32 and end_N[-1] == len(TEXT) - 1
  assert np.ptp(np.diff(end_N)) <= 1
  longest = windows(TEXT, end_N, 32, ASKED)
  for length in (8, 16, 32):
    rows = windows(TEXT, end_N, length, ASKED)
    assert rows.token_NT.shape == rows.level_NT.shape == (5, length)
    np.testing.assert_array_equal(rows.target_NQ, longest.target_NQ)
    np.testing.assert_array_equal(rows.token_NT, longest.token_NT[:, -length:])
    np.testing.assert_array_equal(rows.level_NT, longest.level_NT[:, -length:])
    # What follows a query is its target, up to the window's end and beyond.
    next_NT = np.concatenate(
      [rows.token_NT[:, 1:], TEXT.token_N[end_N][:, None]], axis=1
    )
    asked_NQ = np.take_along_axis(next_NT, rows.query_NQ, axis=1)
    np.testing.assert_array_equal(asked_NQ, rows.target_NQ)


def test_windows_that_ask_for_the_same_byte_are_refused():
  assert len(ends(TEXT, 42, 32, ASKED)) == 42
  assert np.diff(ends(TEXT, 42, 32, ASKED)).min() == ASKED
  with pytest.raises(UsageError, match='43 windows of 32 bytes take a text of'):
    ends(TEXT, 43, 32, ASKED)


@pytest.mark.parametrize('length', [8, 9, 32])
def test_cut_rows_hold_the_last_tokens_before_each_byte(length):
  end_N = ends(TEXT, 3, 32, ASKED)
  rows = cut(windows(TEXT, end_N, length, ASKED), L)
  assert rows.token_NT.shape == (3 * ASKED, L)
  for n, end in enumerate(end_N):
    for q in range(ASKED):
      at = end - ASKED + 1 + q  # The byte that is asked for.
      start = max(at - L, end - length)
      own = [leaf[n * ASKED + q] for leaf in rows]
      np.testing.assert_array_equal(own[0], TEXT.token_N[start : start + L])
      np.testing.assert_array_equal(own[1], TEXT.level_N[start : start + L])
      assert start + own[2][0] + 1 == at
      assert own[3].tolist() == [TEXT.token_N[at]]


def reference(model, params, rows):
  """Losses of all rows at once, in double precision after the logits."""

  @jax.jit
  def logits(params):
    tokens = jnp.asarray(rows.token_NT, jnp.int32)
    ids = RunningText().structure(tokens, jnp.asarray(rows.level_NT))
    return model.apply({'params': params}, tokens, ids)

  found = []
  for replica in range(2):
    one = jax.tree.map(lambda leaf, r=replica: leaf[r], params)
    logits_NTV = np.asarray(logits(one), np.float64)
    log_NTV = logits_NTV - np.log(np.exp(logits_NTV).sum(-1, keepdims=True))
    log_NQV = np.take_along_axis(log_NTV, rows.query_NQ[..., None], axis=1)
    target_NQ1 = rows.target_NQ[..., None]
    hits_NQ = log_NQV.argmax(-1) == rows.target_NQ
    found.append(
      (-np.take_along_axis(log_NQV, target_NQ1, -1)[..., 0], hits_NQ)
    )
  return tuple(map(np.array, zip(*found, strict=True)))


def test_scores_are_those_of_a_forward_pass_whatever_the_batches():
  rows = windows(TEXT, ends(TEXT, 7, 32, ASKED), 16, ASKED)
  model, params = build(Rotary(), depth=2), params_of(2)
  done = []
  found = score(model, params, rows, tokens_per_call=32, progress=done.append)
  loss_RNQ, right_RNQ = reference(model, params, rows)
  np.testing.assert_allclose(found.loss_RNQ, loss_RNQ, rtol=1e-4)
  np.testing.assert_array_equal(found.right_RNQ, right_RNQ)
  assert done == [2, 2, 2, 1]
  assert (abs(np.diff(found.loss_RNQ, axis=0)) > 1e-3).any()
  # Over a mesh every device has rows of its own.
  mesh = make_mesh(MeshConfig(replica=2, data=2))
  spread = jax.device_put(params, NamedSharding(mesh, P('replica')))
  over = score(model, spread, rows, tokens_per_call=16)
  np.testing.assert_allclose(over.loss_RNQ, loss_RNQ, rtol=1e-4)


def test_a_window_in_one_layer_is_a_context_that_is_cut():
  """With two layers it is not: the first has heard of what lies before."""
  rows = windows(TEXT, ends(TEXT, 3, 32, ASKED), 24, ASKED)
  for depth, same in ((1, True), (2, False)):
    params = params_of(depth)
    short = score(build(Rotary(), depth), params, cut(rows, L)).loss_RNQ
    slid = score(build(Window(window=L), depth), params, rows).loss_RNQ
    gap_RNQ = abs(slid - short.reshape(slid.shape))
    assert gap_RNQ.max() < 1e-4 if same else gap_RNQ.max() > 1e-3
  # A window that is shorter by one token shows.
  less = score(build(Window(window=L - 1)), params_of(), rows).loss_RNQ
  short = score(build(Rotary()), params_of(), cut(rows, L)).loss_RNQ
  assert abs(less - short.reshape(less.shape)).max() > 1e-3


def test_drawn_positions_are_spread_as_in_training():
  rows = windows(TEXT, ends(TEXT, 3, 32, ASKED), L, ASKED)
  model = build(FIRE(stretch=100, hidden=4))
  params = jax.tree.map(
    lambda leaf: jnp.stack([leaf, leaf]), random_params(model)
  )
  plain, drawn, again = (
    score(model, params, rows, drawn=drawn).loss_RNQ
    for drawn in (False, True, True)
  )
  np.testing.assert_array_equal(drawn, again)
  # Replicas that are alike see the same positions.
  np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-5)
  assert abs(drawn - plain).max() > 1e-3
