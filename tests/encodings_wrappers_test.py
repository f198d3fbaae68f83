"""Windows, randomised positions and what is dropped, against their formulas.

Shape key: B examples, T tokens, H heads, D head width, E model width.
"""

import dataclasses
import functools
import itertools
from collections import Counter

import encoding_checks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import (
  TOKENS,
  Encoded,
  assert_encodes,
  rates,
  softmax_of,
  structure,
  turned,
  with_gradient,
)

from extrap.errors import UsageError
from extrap.models.attention import Attention, View
from extrap.models.backends import PairRule, blockwise
from extrap.models.positions import (
  FIRE,
  SWAN,
  ALiBi,
  Chunked,
  DroPE,
  Learned,
  NoPosition,
  PlaceWindow,
  PoSE,
  RandomFloat,
  Randomised,
  RandomSteps,
  Rotary,
  StickBreaking,
  Window,
)
from extrap.models.positions.patterns import Logarithmic, Stepwise
from extrap.training.flops import count_flops


def plain(case, head, n, m):
  return case.query[head, n] @ case.key[head, m] / np.sqrt(case.width)


def rotary_at(position, case, head, n, m):
  """Rotary's logit where tokens stand at the given positions."""
  rate = rates(case.width)
  query, key = case.query[head, n], case.key[head, m]
  query, key = (
    turned(query, position(n) * rate),
    turned(key, position(m) * rate),
  )
  return query @ key / np.sqrt(case.width)


def rotary(*pair):
  return rotary_at(float, *pair)


def window(case, head, n, m):
  return rotary(case, head, n, m) if n - m <= 2 else -np.inf


def chunked(case, head, n, m):
  # Seven tokens: 0 1 2, 3 4 5, 6.
  same = {(0, 1, 2), (3, 4, 5), (6,)}
  seen = any(n in chunk and m in chunk for chunk in same)
  return rotary(case, head, n, m) if seen else -np.inf


def dropped(case, head, n, m):
  return plain(case, head, n, m) * (1 + 0.412 * np.log(4))


def logarithmic(case, head, n, m):
  """log(2 + tokens) over its value at 4 tokens, from then on."""
  growth = {0: 6, 1: 6, 2: 6, 3: 6, 4: 7, 5: 8, 6: 9}[n]
  return plain(case, head, n, m) * np.log(growth) / np.log(6)


def stepwise(case, head, n, m):
  """One more at the third and at the sixth token."""
  steps = [1, 1, 2, 2, 2, 3, 3][n]
  return plain(case, head, n, m) * (1 + 0.3 * np.log(steps))


def spaced(case, head, n, m):
  """Seven among twenty: 0, 20/7, 40/7, .. rounded down."""
  return rotary_at([0, 2, 5, 8, 11, 14, 17].__getitem__, case, head, n, m)


def averages(case, head, n, m):
  """Where seven ordered uniform numbers below 20 are on average."""
  return rotary_at(lambda t: 20 * (t + 1) / 8, case, head, n, m)


SMALL = Rotary(base=50.0)
ROWS = [
  (
    Window(window=3),
    window,
    (Window(window=2), Window(window=4), Window(window=3, base=SMALL)),
  ),
  (
    Chunked(chunk=3),
    chunked,
    (Chunked(chunk=2), Chunked(chunk=4), Chunked(chunk=3, base=SMALL)),
  ),
  (DroPE(scale=4.0), rotary, (DroPE(base=SMALL),)),
  (
    DroPE(dropped=True, scale=4.0),
    dropped,
    (
      DroPE(scale=4.0),
      DroPE(dropped=True, scale=2.0),
      DroPE(dropped=True, scale=4.0, growth=0.2),
    ),
  ),
  (
    Logarithmic(base=NoPosition(), offset=2.0, trained=4),
    logarithmic,
    (
      Logarithmic(base=NoPosition(), offset=5.0, trained=4),
      Logarithmic(base=NoPosition(), offset=2.0, trained=5),
      Logarithmic(offset=2.0, trained=4),
    ),
  ),
  (
    Stepwise(base=NoPosition(), growth=0.3, floor=3),
    stepwise,
    (
      Stepwise(base=NoPosition(), growth=0.2, floor=3),
      Stepwise(base=NoPosition(), growth=0.3, floor=2),
      Stepwise(growth=0.3, floor=3),
    ),
  ),
  (
    Randomised(stretch=20),
    spaced,
    (
      Randomised(stretch=21),
      Randomised(stretch=20, test='plain'),
      Randomised(stretch=20, test='drawn'),
      Randomised(stretch=20, base=SMALL),
    ),
  ),
  (Randomised(stretch=20, test='plain'), rotary, ()),
  (
    RandomFloat(stretch=20),
    averages,
    (
      RandomFloat(stretch=21),
      RandomFloat(stretch=20, test='plain'),
      RandomFloat(stretch=20, test='drawn'),
    ),
  ),
  (RandomSteps(), rotary, (RandomSteps(base=SMALL),)),
  (PoSE(), rotary, (PoSE(base=SMALL),)),
]


@pytest.mark.parametrize(
  ('position', 'logit', 'others'), ROWS, ids=lambda x: type(x).__name__
)
def test_a_wrapper_equals_its_formula(position, logit, others):
  assert_encodes(position, softmax_of(logit), others)


def rows_of(examples, tokens):
  index_BT = jnp.tile(jnp.arange(tokens)[None], (examples, 1))
  ids = structure(tokens)
  return ids.replace(index=index_BT, position=index_BT)


@pytest.mark.parametrize('position', [Window(window=3), Chunked(chunk=3)])
def test_a_narrow_window_is_gathered(position):
  with jax.disable_jit():
    encoded = Encoded(position)
    ids = encoded.view(encoded.structure).ids
    view = View(ids, ids, position.neighbours(ids), 'gathered', in_order=True)
    x_BTE, params = encoded.x_BTE, {'params': encoded.params['own']}
    read, _ = Attention(encoded.config).apply(params, x_BTE, x_BTE, view)
    dense = encoded.read(encoded.params, x_BTE)
  np.testing.assert_allclose(read, dense, atol=2e-5)


def test_blocks_before_a_window_are_left_out(monkeypatch):
  monkeypatch.setattr(encoding_checks, 'BLOCK', 2)
  with jax.disable_jit():
    encoded = Encoded(Window(window=3))
    (dense, gradient), (blocks, other) = (
      with_gradient(encoded, backend) for backend in ('dense', 'blockwise')
    )
  np.testing.assert_allclose(blocks, dense, atol=2e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=2e-4), other, gradient
  )


@pytest.mark.parametrize(
  ('position', 'blocks'),
  [
    # Of sixteen blocks of 4 tokens 9 tokens up to a query are in at most 3.
    (NoPosition(), 136),
    (Window(window=8), 45),
    (Window(window=9), 45),
    (Window(window=10), 58),
    (Window(window=5), 31),
    (Window(window=1), 16),
    (Chunked(chunk=6), 45),
  ],
  ids=str,
)
def test_time_in_blocks_is_linear_with_a_window(position, blocks):
  ids = rows_of(1, 64)
  x_BTHD = jnp.zeros((1, 64, 1, 2))

  def attend(x_BTHD):
    rule = PairRule(position, 1)
    arrays = (x_BTHD, x_BTHD, x_BTHD, None, ids, ids)
    return blockwise(rule, {}, *arrays, in_order=True, block=4)

  # Two products of 4 x 4 x 2 for each pair of blocks.
  assert count_flops(attend, x_BTHD) == blocks * 2 * 2 * 4 * 4 * 2


def test_what_a_window_sees_is_named_in_tokens():
  ids = structure(TOKENS)
  near = Window(window=3).neighbours(ids)[0]
  assert near.tolist()[:3] == [[0, 7, 7], [1, 0, 7], [2, 1, 0]]
  assert Window(window=64).neighbours(ids).shape[-1] == 64
  assert Window(window=65).neighbours(ids) is None
  # Sticks are broken in token order, whatever is between.
  for base in (StickBreaking(), Randomised(base=StickBreaking())):
    assert Window(window=3, base=base).neighbours(ids) is None
  assert Window(window=3).token_window == 3
  assert Chunked(chunk=5).token_window == 5
  assert Window(window=9, base=Window(window=4)).token_window == 4
  assert Window(window=4, base=Window(window=9)).token_window == 4
  assert Window(base=NoPosition()).token_window == 512
  assert Rotary().token_window is None
  assert Randomised(base=Window(window=4)).token_window == 4
  # A base that names its keys goes on to do so.
  base = PlaceWindow()
  both = Window(window=3, base=base).neighbours(ids)
  assert both.tolist() == base.neighbours(ids).tolist()


def drawn(position, examples=4000, tokens=3, seed=0):
  ids = rows_of(examples, tokens)
  prepared = position.prepare(ids, jax.random.key(seed), True)
  assert prepared.replace(position=ids.position) == ids
  return np.asarray(prepared.position)


def share(counts, options):
  """All options occur equally often, as far as 4000 draws tell."""
  counts = Counter(counts)
  assert set(counts) == set(options)
  expected = sum(counts.values()) / len(options)
  for option, count in counts.items():
    assert abs(count - expected) < 5 * expected**0.5, option


@pytest.mark.parametrize('kind', [Randomised, RandomFloat, RandomSteps, PoSE])
def test_positions_are_drawn_in_training_alone_from_the_key(kind):
  first, again, other = (drawn(kind(), 5, seed=seed) for seed in (0, 0, 1))
  assert (first == again).all() and not (first == other).all()
  assert not (first[0] == first[1]).all()
  assert (np.diff(first) > 0).all()
  ids = rows_of(5, 3)
  for key, train in ((None, True), (jax.random.key(0), False)):
    tested = np.asarray(kind().prepare(ids, key, train).position)
    assert (tested[0] == tested[1]).all() and not (tested == first).all()
  # The base draws, too, and reads what was drawn for it.
  within = kind(base=FIRE(stretch=6)) if kind is not PoSE else kind(chunks=1)
  assert drawn(within, 5).max() < 6


def test_all_ordered_subsets_are_equally_likely():
  found = map(tuple, drawn(Randomised(stretch=5)).tolist())
  share(found, list(itertools.combinations(range(5), 3)))


@pytest.mark.parametrize('kind', [Randomised, RandomFloat])
def test_positions_may_be_drawn_in_tests_too_always_the_same(kind):
  position, ids = kind(stretch=9, test='drawn'), rows_of(500, 3)
  keys = (None, jax.random.key(0), jax.random.key(1))
  one, two, three = (position.prepare(ids, key, False) for key in keys)
  assert (one.position == two.position).all()
  assert (two.position == three.position).all()
  assert not (one.position == drawn(position, 500)).all()
  spread = np.asarray(one.position)
  assert (
    np.diff(spread) > 0
  ).all() and 0 <= spread.min() < 1 < 8 <= spread.max()


def test_random_floats_are_uniform_and_in_order():
  position_BT = drawn(RandomFloat(stretch=8))
  assert position_BT.dtype == np.float32
  np.testing.assert_allclose(position_BT.mean(axis=0), [2, 4, 6], atol=0.15)
  # Without regard to the order each is uniform: mean 4, variance 64 / 12.
  assert position_BT.min() >= 0 and position_BT.max() < 8
  assert position_BT.var() == pytest.approx(64 / 12, rel=0.05)


def test_random_steps_are_uniform_and_never_go_beyond_the_tokens():
  position_BT = drawn(RandomSteps())
  step_BT = np.diff(position_BT, axis=-1, prepend=0)
  assert position_BT.max() == pytest.approx(3, abs=1e-5)
  # Three steps of mean 1: half of the sums are too large.
  shrunk_B = position_BT[:, -1] > 3 - 1e-5
  assert shrunk_B.mean() == pytest.approx(0.5, abs=0.04)
  assert 1.9 < step_BT[~shrunk_B].max() < 2
  # The ratio of two steps tells nothing of what was multiplied.
  ratio_B = step_BT[:, 0] / step_BT[:, 1]
  assert (ratio_B < 0.5).mean() == pytest.approx(0.25, abs=0.03)
  small = drawn(RandomSteps(largest=1.0))
  np.testing.assert_allclose(small.mean(axis=0), [0.5, 1, 1.5], atol=0.05)


def test_pose_skips_once_between_two_parts():
  position_BT = drawn(PoSE(stretch=9), tokens=5)
  assert (position_BT[:, 0] == 0).all()
  step_BT = np.diff(position_BT)
  skip_B = position_BT[:, -1] - 4
  share(skip_B.tolist(), range(9 - 5 + 1))
  some_BT = step_BT[skip_B > 0]
  assert ((some_BT > 1).sum(axis=-1) == 1).all()
  # The first part has 1 .. ceil(5 / 2) tokens.
  share((some_BT > 1).argmax(axis=-1).tolist(), range(3))


def test_pose_skips_more_often_with_more_parts():
  step_BT = np.diff(drawn(PoSE(stretch=40, chunks=3), tokens=9))
  skips_B = (step_BT > 1).sum(axis=-1)
  assert set(skips_B) == {0, 1, 2} and (step_BT >= 1).all()
  assert step_BT.sum(axis=-1).max() == 39
  # First and second part have 1 .. 3 tokens each.
  first_B = (step_BT > 1).argmax(axis=-1)[skips_B == 2]
  share(first_B.tolist(), range(3))
  assert (drawn(PoSE(stretch=40, chunks=1), 9) == np.arange(3)).all()
  # The second skip is uniform on what the first one left.
  first_B, second_B = np.sort(step_BT, axis=-1)[:, -2:].T - 1
  assert 0.65 < ((first_B + second_B) / 31).mean() < 0.85


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda: Randomised(stretch=65, base=Learned(max_size=64)),
      r'stretch=65 goes beyond the table, --model\.position\.base\.max_size=64',
    ),
    (lambda: RandomFloat(base=Learned()), r'fractions, .*base=learned has no'),
    (lambda: RandomSteps(base=Learned()), r'fractions, .*base=learned has no'),
    (lambda: drawn(Randomised(stretch=2)), 'stretch=2 is less than the 3'),
    (lambda: drawn(PoSE(stretch=2)), 'stretch=2 is less than the 3 tokens'),
    (
      lambda: Randomised(stretch=2).prepare(rows_of(1, 3), None, False),
      'stretch=2 is less than the 3 tokens of a sequence',
    ),
    (lambda: Window().check(1, 3), r'position=rotary needs an even head width'),
  ],
)
def test_what_cannot_serve_is_refused(make, message):
  with pytest.raises(UsageError, match=message):
    make()


def test_randomised_positions_end_where_they_are_drawn_from():
  (limit,) = Randomised(stretch=9).limits
  assert limit == ('position', 8, 0, 'stretch')
  assert Randomised(stretch=9, test='plain').limits == ()
  table = Randomised(stretch=9, base=Learned(max_size=9))
  assert ('position', 8, 0, 'base.max_size') in table.limits


def test_around_a_pattern_each_layer_has_a_wrapper():
  around = Randomised(stretch=9, base=SWAN())
  expected = [Randomised(stretch=9, base=layer) for layer in SWAN().layers]
  assert list(around.layers) == expected and len(expected) == 4
  # A dropped pattern has as many layers as before, so parameters fit.
  dropped = DroPE(base=SWAN(), dropped=True)
  assert len(dropped.layers) == 4
  assert {type(layer.inside) for layer in dropped.layers} == {NoPosition}


def embedded(position, tokens):
  """Rows of a table whose row i is (i, 10 i)."""
  ids = position.prepare(rows_of(1, tokens), None, False)

  def param(name, init, shape):
    return jnp.arange(shape[0])[:, None] * jnp.array([[1.0, 10.0]])

  out_TE = np.asarray(position.embed(ids, param, 2))[0]
  np.testing.assert_allclose(out_TE[:, 1], 10 * out_TE[:, 0], rtol=1e-6)
  return out_TE[:, 0].tolist()


@pytest.mark.parametrize(
  ('beyond', 'expected'),
  [
    ('clip', [0, 1, 2, 3, 3, 3, 3]),
    ('wrap', [0, 1, 2, 3, 0, 1, 2]),
    ('interpolate', [0, 0.5, 1, 1.5, 2, 2.5, 3]),
  ],
)
def test_a_learned_table_goes_on_as_it_is_told(beyond, expected):
  position = Learned(max_size=4, beyond=beyond)
  assert embedded(position, 7) == pytest.approx(expected)
  assert embedded(position, 4) == [0, 1, 2, 3]
  assert embedded(position, 3) == [0, 1, 2]
  assert position.limits == ()
  (limit,) = Learned(max_size=4).limits
  assert limit.largest == 3


@pytest.mark.parametrize('base', [ALiBi(), PlaceWindow()])
def test_a_window_is_around_any_encoding(base):
  ids = structure(TOKENS).expand(1)
  query, key = ids.expand(3), ids.expand(2)
  both = Window(window=2, base=base).visible(query, key)
  near = np.asarray(query.index - key.index < 2)
  assert (both == (near & np.asarray(base.visible(query, key)))).all()
  assert {f.name for f in dataclasses.fields(Window)} == {'base', 'window'}
