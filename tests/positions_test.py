"""Every position encoding: causality, and the property that defines it.

Shape key: B examples, T tokens, Q queries, K keys, W neighbours, H heads,
D head width, E model width, F hidden units.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import of_digits
from flax import linen as nn

from extrap.encoding_limits import check_table, in_table
from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import (
  FIRE,
  POSITIONS,
  Abacus,
  AbacusFIRE,
  AbacusRotary,
  ALiBi,
  Coupling,
  Coupling2,
  Learned,
  NoPosition,
  PlaceBias,
  PlaceWindow,
  Position,
  Rotary,
  Sinusoidal,
)
from extrap.models.positions.bias import alibi_slopes
from extrap.tasks.addition import Addition
from extrap.tasks.summation import Summation
from extrap.tasks.task import Structure

FORMATS = tuple(itertools.product(('lsb', 'msb'), (False, True)))
# Compiling takes most of the time here.
UNOPTIMISED = {'xla_backend_optimization_level': 0}
PAIRS = ((907, 45), (12, 345), (999, 1), (40, 8), (5, 0))


@functools.cache
def sums(task):
  """Tokens and structure of a few sums."""
  tokens_BT = task.from_integers(PAIRS).tokens
  return tokens_BT, jax.jit(task.structure)(tokens_BT)


def build(position, **settings):
  config = TransformerConfig(
    position=position, width=16, heads=2, ffn_width=16, **settings
  )
  return Transformer(config, Addition().vocab_size)


def random_params(model):
  """Parameters of the right shapes; drawing them on the host is faster."""
  tokens_BT = jnp.zeros((1, 4), jnp.int32)
  shapes = jax.eval_shape(
    lambda key: model.init(key, tokens_BT, Addition().structure(tokens_BT)),
    jax.random.key(0),
  )
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype),
    nn.unbox(shapes)['params'],
  )


def size(params):
  return sum(x.size for x in jax.tree.leaves(params))


def forward(model, tokens_BT):
  """Logits of all tokens with random parameters, in one compiled program."""

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(params, tokens_BT):
    structure = Addition().structure(tokens_BT)
    return model.apply({'params': params}, tokens_BT, structure)

  return np.asarray(program(random_params(model), jnp.asarray(tokens_BT)))


def along(**fields):
  """A structure of one row with the given fields, zero elsewhere."""
  tokens = len(next(iter(fields.values())))
  zeros = dict.fromkeys(('position', 'place', 'role', 'anchor'), [0] * tokens)
  merged = {'index': range(tokens)} | zeros | fields
  merged['run'] = np.minimum(merged['role'], 3)
  arrays = {k: jnp.asarray(v, jnp.int32)[None] for k, v in merged.items()}
  return Structure(**arrays, runs=3, roles=7, anchors=2)


def dense_bias(position, ids, param, heads):
  """The bias of all pairs, [B, H, Q, K]."""
  bias = position.pair_bias(ids.expand(1, 3), ids.expand(1, 2), param, heads)
  tokens = ids.index.shape[1]
  return np.broadcast_to(bias, (*bias.shape[:2], tokens, tokens))


class Table:
  """A `param` that gives the same random array for each name."""

  def __init__(self):
    self.values = {}

  def __call__(self, name, init, shape):
    rng = np.random.default_rng(len(name))
    self.values.setdefault(name, rng.normal(size=shape).astype(np.float32))
    return jnp.asarray(self.values[name])


def row_numbers(name, init, shape):
  """A `param` whose rows hold their own index."""
  return jnp.broadcast_to(
    jnp.arange(shape[0], dtype=jnp.float32)[:, None], shape
  )


def encodings():
  """Those for sums, in both ways of looking at keys where there is a window.

  For the others what is decoded token by token equals a formula.
  """
  names = ('none', 'sinusoidal', 'learned', *of_digits())
  pairs = [(name, 'dense') for name in names]
  windowed = [name for name in names if POSITIONS.get(name)().place_window]
  return pairs + [(name, 'gathered') for name in windowed]


@pytest.mark.parametrize(('name', 'attention'), encodings())
def test_logits_do_not_depend_on_later_tokens(name, attention):
  task = Addition()
  # Through a window of two tokens news takes a layer a token.
  depth = 9 if name == 'previous' else 2
  model = build(POSITIONS.get(name)(), depth=depth, attention=attention)
  tokens_BT = np.asarray(sums(task)[0])[:3]
  rows, length = tokens_BT.shape
  past_TT = np.tril(np.ones((length, length), bool))
  rng = np.random.default_rng(0)
  # Any token may follow, the delimiters too: a model writes what it likes.
  other_BTT = rng.integers(task.vocab_size, size=(rows, length, length))
  # Row t of each example has another future from t + 1 on; row T - 1 none.
  changed_BTT = np.where(past_TT, tokens_BT[:, None], other_BTT)
  # The last row has another past.
  swapped_BT = tokens_BT[:, [1, 0, *range(2, length)]]
  batch = np.concatenate([changed_BTT.reshape(-1, length), swapped_BT])
  logits = forward(model, batch)
  after_BTTV = logits[: rows * length].reshape(rows, length, length, -1)
  before_BTV = after_BTTV[:, -1]
  gap_BTT = abs(after_BTTV - before_BTV[:, None]).max(axis=-1)
  assert gap_BTT[:, past_TT].max() < 1e-4
  assert gap_BTT[:, ~past_TT].max() > 0.1
  # What stands before does matter: two swapped digits show at '='.
  at = int(np.argmax(tokens_BT[0] == task.equals))
  assert abs(logits[rows * length] - before_BTV[0])[at].max() > 1e-3


@pytest.mark.parametrize(
  ('name', 'once', 'each_layer'),
  [
    ('none', 0, 0),
    ('sinusoidal', 0, 0),
    ('learned', 128 * 16, 0),
    ('rotary', 0, 0),
    ('alibi', 0, 0),
    # Two scalars, 32 hidden units with kernel and bias, 2 heads.
    ('fire', 0, 2 + 2 * 32 + 32 * 2),
    ('abacus', 128 * 16, 0),
    ('coupling', 128 * 16, 0),
    ('coupling2', (128 + 64) * 16, 0),
    ('abacus_fire', 128 * 16, 2 + 2 * 32 + 32 * 2),
    ('abacus_rotary', 128 * 16, 0),
    # A row a role; a bias a role, difference (-2 .. 2) and head; and a decay.
    ('place_bias', 7 * 16, 7 * 5 * 2 + 2),
    ('place_window', 7 * 16, 7 * 5 * 2),
    # A row a role; a bias for itself and one for the other token, each head.
    ('previous', 7 * 16, 2 * 2),
  ],
)
def test_number_of_parameters(name, once, each_layer):
  def count(position):
    return size(random_params(build(position, depth=3)))

  added = count(POSITIONS.get(name)()) - count(Position())
  assert added == once + 3 * each_layer


@pytest.mark.parametrize(
  ('position', 'depth', 'knows_order'),
  [(NoPosition(), 1, False), (NoPosition(), 2, True), (ALiBi(), 1, True)],
)
def test_without_encoding_one_layer_sees_a_bag_of_tokens(
  position, depth, knows_order
):
  """The causal mask alone tells order apart from the second layer on."""
  model = build(position, depth=depth)
  tokens_BT = np.array([[1, 2, 3, 4, 5, 6, 10], [4, 2, 6, 1, 3, 5, 10]])
  logits = forward(model, tokens_BT)
  gap = abs(logits[0, -1] - logits[1, -1]).max()
  assert gap > 1e-2 if knows_order else gap < 1e-5


def test_far_places_fade_with_the_logarithm_of_length():
  ids = along(place=[0, 1, 2, 3, 0], role=[0, 0, 0, 0, 1])
  plain = dense_bias(PlaceBias(decay=0.0), ids, Table(), 2)
  given = dense_bias(PlaceBias(decay=1.5, learn_decay=False), ids, Table(), 2)
  # The last token is the fifth: places 2 and 3 are far from its own, 0.
  faded = np.array([0, 0, 1, 1, 0]) * 1.5 * np.log(6)
  np.testing.assert_allclose(
    plain[0, :, -1] - given[0, :, -1], np.tile(faded, (2, 1)), rtol=1e-5
  )
  table = Table()
  learned = dense_bias(PlaceBias(), ids, table, 2)
  faded_HK = table.values['decay'][:, None] * faded / 1.5
  np.testing.assert_allclose(
    plain[0, :, -1] - learned[0, :, -1], faded_HK, rtol=1e-5
  )


@pytest.mark.parametrize(
  ('encoding', 'position'),
  [(FIRE, FIRE(stretch=200)), (Learned, Learned(stretch=200, max_size=200))],
)
def test_randomised_positions_are_an_ordered_subset_in_training_alone(
  encoding, position
):
  task = Addition()
  ids = task.structure(sums(task)[0])
  drawn = np.asarray(position.prepare(ids, jax.random.key(0), True).position)
  assert (np.diff(drawn) > 0).all()
  assert 0 <= drawn.min() and drawn.max() < 200
  assert not (drawn[0] == drawn[1]).all()
  for same, train in ((position, False), (encoding(), True)):
    prepared = same.prepare(ids, jax.random.key(0), train)
    assert (prepared.position == ids.position).all()
    assert prepared.replace(position=ids.position) == ids
  with pytest.raises(UsageError, match=r'less than the .* tokens'):
    encoding(stretch=3).prepare(ids, jax.random.key(0), True)


def test_randomised_positions_stay_in_a_learned_table():
  assert Learned(stretch=128).max_id == 127
  with pytest.raises(UsageError, match=r'stretch=129 goes beyond .*max_size'):
    Learned(stretch=129)


@pytest.mark.parametrize(
  ('both', 'one', 'other'),
  [(AbacusFIRE(), Abacus(), FIRE()), (AbacusRotary(), Abacus(), Rotary())],
)
def test_combined_encodings_do_what_each_part_does(both, one, other):
  task = Addition()
  ids = both.prepare(task.structure(sums(task)[0]), jax.random.key(0), True)
  alone = one.prepare(task.structure(sums(task)[0]), jax.random.key(0), True)
  np.testing.assert_array_equal(ids.place, alone.place)
  table = Table()
  np.testing.assert_array_equal(
    both.embed(ids, table, 8), one.embed(alone, table, 8)
  )
  x_BTHD = np.ones((*ids.index.shape, 2, 4), np.float32)
  np.testing.assert_array_equal(
    both.rotate(x_BTHD, ids), other.rotate(x_BTHD, ids)
  )
  pairs = [
    p.pair_bias(ids.expand(1, 3), ids.expand(1, 2), table, 2)
    for p in (both, other)
  ]
  assert (pairs[0] is None) == (pairs[1] is None)
  if pairs[0] is not None:
    np.testing.assert_array_equal(*pairs)


@pytest.mark.parametrize('width', [6, 7])
@pytest.mark.parametrize('wavelength', [10_000.0, 50.0])
def test_sinusoidal_is_the_formula(width, wavelength):
  positions = [0, 1, 5, 300]
  added_BTE = Sinusoidal(wavelength=wavelength).embed(
    along(position=positions), None, width
  )
  waves = (width + 1) // 2
  for t, position in enumerate(positions):
    angles = [position / wavelength ** (i / waves) for i in range(waves)]
    expected = np.concatenate([np.sin(angles), np.cos(angles)])[:width]
    np.testing.assert_allclose(added_BTE[0, t], expected, atol=1e-4)


@pytest.mark.parametrize('rows', [10, 100])
def test_learned_looks_up_a_row_a_position(rows):
  position = Learned(max_size=rows)
  assert position.max_id == rows - 1
  table = Table()
  ids = [0, 3, 3, rows - 1]
  added_BTE = position.embed(along(position=ids), table, 6)
  assert table.values['table'].shape == (rows, 6)
  np.testing.assert_allclose(
    added_BTE[0], table.values['table'][ids], atol=1e-6
  )


def test_rotary_products_depend_on_the_difference_of_positions():
  rng = np.random.default_rng(0)
  query_D, key_D = rng.normal(size=(2, 8)).astype(np.float32)

  def turned(x_D, positions):
    x_BTHD = jnp.broadcast_to(x_D, (1, len(positions), 1, 8))
    turned_BTHD = Rotary().rotate(x_BTHD, along(position=positions))
    return np.asarray(turned_BTHD[0, :, 0])

  keys_TD = turned(key_D, range(40))
  np.testing.assert_allclose(
    np.linalg.norm(keys_TD, axis=-1), np.linalg.norm(key_D), rtol=1e-5
  )
  product_TT = turned(query_D, range(40)) @ keys_TD.T
  for offset in range(-39, 40):
    line = np.diagonal(product_TT, offset)
    np.testing.assert_allclose(line, line[0], atol=1e-4)
  # All differences differ, and difference 0 is the plain product.
  by_offset = np.concatenate([product_TT[0], product_TT[1:, 0]])
  assert len(np.unique(by_offset.round(3))) > 70
  np.testing.assert_allclose(product_TT[0, 0], query_D @ key_D, rtol=1e-5)


@pytest.mark.parametrize('base', [10_000.0, 100.0])
def test_rotary_turns_pairs_by_the_published_angles(base):
  x_D = np.array([1, 0, 0, 0, 1, 0], np.float32)
  turned_BTHD = Rotary(base=base).rotate(
    jnp.asarray(x_D)[None, None, None], along(position=[3])
  )
  # Feature 0 of pair 0 and feature 1 of pair 1, at rates 1 and base^(-1/3).
  angle = 3 * base ** (-1 / 3)
  expected = [np.cos(3), -np.sin(angle), 0, np.sin(3), np.cos(angle), 0]
  np.testing.assert_allclose(turned_BTHD.ravel(), expected, atol=1e-6)


def test_rotary_refuses_an_odd_head_width():
  config = TransformerConfig(position=Rotary(), width=6, heads=2)
  with pytest.raises(UsageError, match='even head width, not 3'):
    random_params(Transformer(config, 14))


@pytest.mark.parametrize(
  ('heads', 'exponents'),
  [
    (8, [1, 2, 3, 4, 5, 6, 7, 8]),
    (4, [2, 4, 6, 8]),
    (1, [8]),
    # The original takes every other slope of twice as many heads.
    (6, [2, 4, 6, 8, 1, 3]),
    (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
  ],
)
def test_alibi_slopes(heads, exponents):
  np.testing.assert_allclose(alibi_slopes(heads), 2.0 ** -np.array(exponents))


def test_alibi_bias_grows_with_distance():
  positions = [0, 1, 2, 7]
  bias_BHQK = dense_bias(ALiBi(), along(position=positions), None, 8)
  for h, q, k in itertools.product(range(8), range(4), range(4)):
    expected = -(2.0 ** -(h + 1)) * (positions[q] - positions[k])
    assert bias_BHQK[0, h, q, k] == pytest.approx(expected)


def test_fire_is_the_formula():
  position, heads = FIRE(hidden=5), 3
  positions = [0, 1, 2, 9, 30]
  table = Table()
  # Between the positions, so that both sides of the maximum occur.
  table.values |= {'threshold': np.float32(5.5), 'log_scale': np.float32(-0.3)}
  bias_BHQK = dense_bias(position, along(position=positions), table, heads)
  params = table.values
  assert size(params) == 2 + 5 + 5 + 5 * heads
  for (q, i), (k, j) in itertools.product(enumerate(positions), repeat=2):
    if j > i:
      continue
    ratio = np.log(1 + 0.3 * (i - j)) / np.log(1 + 0.3 * max(i, 5.5))
    hidden = np.maximum(ratio * params['in_kernel'] + params['in_bias'], 0)
    expected = hidden @ params['out_kernel']
    np.testing.assert_allclose(bias_BHQK[0, :, q, k], expected, atol=1e-4)
  assert np.isfinite(bias_BHQK).all()


def test_fire_runs_its_network_for_one_row_where_all_count_alike():
  task, table = Addition(), Table()
  ids = task.structure(sums(task)[0])
  own = ids.replace(position=ids.position + jnp.arange(len(PAIRS))[:, None])
  assert FIRE().prepare(own, None, True) is own
  one = FIRE().prepare(ids, None, True)
  bias = FIRE().pair_bias(one.expand(1, 3), one.expand(1, 2), table, 2)
  assert bias.shape[0] == 1
  wanted = FIRE().pair_bias(ids.expand(1, 3), ids.expand(1, 2), table, 2)
  np.testing.assert_array_equal(np.broadcast_to(bias, wanted.shape), wanted)
  # Tokens of each row's own choice are asked for row by row.
  asked = one.take(jnp.asarray([[1, 5]] * (len(PAIRS) - 1) + [[0, 9]]))
  bias = FIRE().pair_bias(asked.expand(1, 3), one.expand(1, 2), table, 2)
  np.testing.assert_array_equal(bias[:-1], wanted[:-1, :, [1, 5]])
  np.testing.assert_array_equal(bias[-1], wanted[-1, :, [0, 9]].swapaxes(0, 1))
  stretched = FIRE(stretch=200).prepare(ids, jax.random.key(0), True)
  assert stretched.position.shape == ids.position.shape


def test_fire_starts_at_its_settings():
  values = {}

  def param(name, init, shape):
    # The two scalars alone start at a constant.
    values[name] = jnp.zeros(shape) if shape else init(None, shape)
    return values[name]

  dense_bias(FIRE(threshold=77.0), along(position=[0, 1]), param, 2)
  assert values['threshold'] == 77
  assert values['log_scale'] == pytest.approx(0.1)


def placed(position, ids):
  """Rows of the table that the tokens of a structure take."""
  return np.asarray(position.embed(ids, row_numbers, 1))[..., 0].astype(int)


@pytest.mark.parametrize('encoding', [Abacus, Coupling])
@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_shifts_are_shared_by_a_batch_or_drawn_a_sample(encoding, per):
  position = encoding(per=per, shift=3)
  assert position.largest_shift == 3
  _, ids = sums(Addition())
  digit_BT = np.asarray(ids.digit)
  rest_BT = np.asarray(ids.role > 4)  # end and padding
  keys = jax.random.split(jax.random.key(0), 40)
  prepare = jax.jit(lambda key: position.prepare(ids, key, True).place)
  shifts = []
  for place_BT in map(prepare, keys):
    change_BT = np.asarray(place_BT - ids.place)
    shift_B1 = change_BT[:, :1]  # a digit
    assert (change_BT == shift_B1)[digit_BT].all()
    assert not change_BT[rest_BT].any()
    shifts.append(shift_B1[:, 0])
  assert set(np.ravel(shifts)) == {0, 1, 2, 3}
  shared = (np.array(shifts) == np.array(shifts)[:, :1]).all(axis=1)
  assert shared.all() if per == 'batch' else shared.mean() < 0.2


@pytest.mark.parametrize(
  ('encoding', 'default'), [(Abacus, 'batch'), (Coupling, 'sample')]
)
def test_shifts_are_for_training_alone(encoding, default):
  position = encoding(shift=50)
  assert position.per == default
  _, ids = sums(Addition())
  key = jax.random.key(0)
  for same in (
    position.prepare(ids, key, False),
    position.prepare(ids, None, True),
  ):
    np.testing.assert_array_equal(same.place, ids.place)
  shifted = position.prepare(ids, key, True)
  assert (shifted.place != ids.place).any()
  # Nothing but the place moves.
  unmoved = shifted.replace(place=ids.place)
  jax.tree.map(np.testing.assert_array_equal, unmoved, ids)


def test_a_model_shifts_places_in_training():
  model = build(Abacus())
  tokens_BT, structure = sums(Addition())
  params = {'params': random_params(model)}

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(keys):
    def apply(key, train):
      return model.apply(params, tokens_BT, structure, key=key, train=train)

    trained = jax.vmap(lambda key: apply(key, True))(keys)
    return trained, apply(keys[0], False), apply(None, False)

  key = jax.random.key(0)
  keys = jnp.stack([key, key, jax.random.key(1)])
  (first, again, other), held_out, plain = program(keys)
  np.testing.assert_allclose(first, again, atol=1e-5)
  assert abs(first - other).max() > 1e-2
  assert abs(first - plain).max() > 1e-2
  np.testing.assert_allclose(held_out, plain, atol=1e-5)


def test_abacus_counts_digits_in_their_own_number():
  _, ids = sums(Addition())
  #                  7  0  9  +  5  4  =  2  5  9  end pad pad
  expected = np.array([1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 0, 0, 0])
  np.testing.assert_array_equal(placed(Abacus(), ids)[0], expected)
  shifted = ids.replace(place=jnp.where(ids.role < 3, ids.place + 9, ids.place))
  np.testing.assert_array_equal(
    placed(Abacus(), shifted)[0], np.where(expected, expected + 9, 0)
  )


@pytest.mark.parametrize(
  ('order', 'zero_pad', 'expected'),
  [
    # 7 0 9 + 5 4 = 2 5 9 end
    ('lsb', False, [2, 3, 4, 1, 2, 3, 1, 2, 3, 4, 0, 0, 0]),
    # 7 0 9 + 5 4 0 = 2 5 9 0 end
    ('lsb', True, [2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 5, 0]),
    # 9 0 7 + 0 4 5 = 0 9 5 2 end: the sum's first digit stands before place 0
    ('msb', True, [2, 3, 4, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]),
  ],
)
def test_coupling_couples_equal_weights(order, zero_pad, expected):
  task = Addition(order=order, zero_pad=zero_pad)
  _, ids = sums(task)
  np.testing.assert_array_equal(placed(Coupling(), ids)[0], expected)


@pytest.mark.parametrize('encoding', [Abacus, Coupling])
def test_largest_id_of_a_table_has_the_last_row(encoding):
  position = encoding(max_size=20)
  at_limit = along(place=[position.max_id])
  assert placed(position, at_limit).item() == 19
  assert placed(position, along(place=[position.max_id - 1])).item() == 18


def running_sums(**settings):
  """Ids of `12 + 34 + 56 = 46 > 102 <end>`, least significant first."""
  task = Summation(trace=True, **settings)
  tokens_BT = task.from_integers([(12, 34, 56), (9, 7, 5)]).tokens
  return task, task.structure(tokens_BT)


def rows_of(position, ids):
  """Rows of the tables of places and of numbers, each [B, T]."""

  def param(kept):
    return lambda name, init, shape: (
      row_numbers(name, init, shape) * (name == kept)
    )

  return [
    np.asarray(position.embed(ids, param(name), 1))[..., 0].astype(int)
    for name in ('table', 'operands')
  ]


def test_two_levels_couple_places_and_each_number_with_its_sum():
  _, ids = running_sums()
  position = Coupling2()
  place, operand = rows_of(position, position.prepare(ids, None, False))
  #                               2  1  +  4  3  +  6  5  =  6  4  >  2  0  1
  assert place[0, :15].tolist() == [2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4]
  assert operand[0, :15].tolist() == (
    [0, 0, 1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2]
  )
  assert operand[0].max() == 3  # the end's
  # Two numbers are a sum of one step.
  _, ids = sums(Addition())
  _, operand = rows_of(position, position.prepare(ids, None, False))
  assert operand[0, :10].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]


def test_both_levels_are_shifted_at_random_and_apart():
  _, ids = running_sums()
  position = Coupling2(shift=3, operand_shift=2)
  plain = rows_of(position, position.prepare(ids, None, True))

  @jax.jit
  @jax.vmap
  def draw(key):
    drawn = position.prepare(ids, key, True)
    return drawn.place, drawn.operand

  keys = jax.random.split(jax.random.key(0), 60)
  place_KBT, operand_KBT = map(np.asarray, draw(keys))
  shifts = [
    place_KBT - (plain[0] - 2)[None],
    operand_KBT - plain[1][None],
  ]
  for shift_KBT, most in zip(shifts, (3, 2), strict=True):
    assert (shift_KBT == shift_KBT[..., :1]).all()
    assert set(np.unique(shift_KBT)) == set(range(most + 1))
  both = np.stack([shift_KBT[..., 0].ravel() for shift_KBT in shifts])
  assert len(np.unique(both, axis=1).T) == 12
  # Each sample draws its own.
  assert (shifts[1][:, 0, 0] != shifts[1][:, 1, 0]).any()
  for same in (position.prepare(ids, keys[0], False), ids):
    np.testing.assert_array_equal(same.place, ids.place)
  batch = dataclasses.replace(position, per='batch')
  operand_BT = batch.prepare(ids, keys[0], True).operand - plain[1]
  assert len(np.unique(operand_BT)) == 1


def test_tables_of_both_levels_are_checked_before_training():
  task, ids = running_sums()
  runs = task.largest_ids(5)['run']
  fits = Coupling2(operands=runs + 21, operand_shift=20)
  check_table(fits, task, 5, train=True)
  prepared = fits.prepare(ids, jax.random.key(0), True)
  assert int(prepared.operand.max()) < fits.operands
  small = dataclasses.replace(fits, operands=runs + 20)
  check_table(small, task, 5)
  with pytest.raises(UsageError, match=r'run ids .*--model.position.operands'):
    check_table(small, task, 5, train=True)
  with pytest.raises(UsageError, match=r'place ids .*--model.position.max_si'):
    check_table(fits, task, 30, train=True)
  assert not in_table(Coupling2(operands=3), task, 5)


@pytest.mark.parametrize('clip', [1, 3])
def test_place_bias_is_relative_clipped_and_blind_to_anchors_distance(clip):
  position, heads, table = PlaceBias(clip=clip, decay=0.0), 2, Table()
  rng = np.random.default_rng(0)
  place, role = rng.integers(0, 9, 12), np.resize([0, 1, 2], 12)
  role[[3, 7]] = 3, 4
  anchor = (role > 2).astype(int)
  ids = along(place=place, role=role, anchor=anchor)
  bias_BHQK = dense_bias(position, ids, table, heads)
  table_RDH = table.values['bias'].reshape(7, 2 * clip + 1, heads)
  for q, k in itertools.product(range(12), repeat=2):
    difference = 0 if anchor[k] else place[k] - place[q]
    column = int(np.clip(difference, -clip, clip)) + clip
    np.testing.assert_allclose(
      bias_BHQK[0, :, q, k], table_RDH[role[k], column], atol=1e-6
    )
  shifted = dense_bias(
    position, along(place=place + 57, role=role, anchor=anchor), table, heads
  )
  np.testing.assert_allclose(shifted, bias_BHQK, atol=1e-6)
  roles_TE = position.embed(ids, table, 4)[0]
  np.testing.assert_allclose(roles_TE, table.values['roles'][role], atol=1e-6)


def kinds(tokens, task):
  """(is a digit, place) of each token and the operators, by a loop."""
  numbers, at = [[]], []
  for t, token in enumerate(tokens):
    if token < task.base:
      numbers[-1].append(t)
    else:
      at.append(t)
      numbers.append([])
  plus, equals, *_ = at
  width, place = len(numbers[0]), {}
  for run, number in enumerate(numbers[:3]):
    for rank, t in enumerate(number):
      aligned = task.order == 'msb' and task.zero_pad and run == 2
      place[t] = rank - (len(number) - width if aligned else 0)
    # A delimiter stands before its run's first digit.
    if run:
      place[number[0] - 1] = place[number[0]] - 1
  operators = [plus, equals]
  digits = {t for t in place if t not in operators}
  return digits, place, operators


def visible_by_loop(tokens, task, behind, ahead):
  """{query: keys it may see}, up to the sum's last digit."""
  digits, place, operators = kinds(tokens, task)
  seen = {}
  for q in place:
    near = {
      k for k in digits if place[q] - behind <= place[k] <= place[q] + ahead
    }
    seen[q] = {k for k in near | {*operators, q} if k <= q}
  return seen


@pytest.mark.parametrize(('order', 'zero_pad'), FORMATS)
def test_place_window_sees_its_window_itself_and_the_operators(order, zero_pad):
  task = Addition(order=order, zero_pad=zero_pad)
  tokens_BT, ids = sums(task)
  query, key = ids.expand(1, 3), ids.expand(1, 2)
  absent = tokens_BT.shape[1]
  for behind, ahead in ((0, 1), (1, 2), (2, 0), (0, 0), (-1, 2)):
    position = PlaceWindow(behind=behind, ahead=ahead)
    assert position.place_window == (behind, ahead)
    seen_BTT = position.visible(query, key) & (key.index <= query.index)
    seen_BTT = np.asarray(seen_BTT)[:, 0]
    neighbours_BTW = np.asarray(position.neighbours(ids))
    # The window of three numbers, two anchors, and the token itself.
    assert neighbours_BTW.shape[-1] == 3 * (behind + ahead + 1) + 2 + 1
    for row, tokens in enumerate(np.asarray(tokens_BT)):
      expected = visible_by_loop(tokens.tolist(), task, behind, ahead)
      for q in range(absent):
        dense = set(np.flatnonzero(seen_BTT[row, q]).tolist())
        gathered = neighbours_BTW[row, q]
        gathered = gathered[gathered < absent].tolist()
        assert len(set(gathered)) == len(gathered)
        assert {k for k in gathered if k <= q} == dense
        if q in expected:
          assert dense == expected[q]


def test_default_window_shows_two_places_of_the_operands():
  #            0  1  2  3  4  5  6  7  8  9
  # 907 + 45:  7  0  9  +  5  4  =  2  5  9
  _, ids = sums(Addition())
  seen_TT = PlaceWindow().visible(ids.expand(1, 3), ids.expand(1, 2))[0, 0]
  keys = [np.flatnonzero(seen_TT[q, : q + 1]).tolist() for q in range(6, 10)]
  assert keys == [
    [0, 3, 4, 6],
    [0, 1, 3, 4, 5, 6, 7],
    [1, 2, 3, 5, 6, 8],
    [2, 3, 6, 9],
  ]


def test_a_window_without_any_place_is_refused():
  with pytest.raises(
    UsageError, match=r'behind=-1 .*ahead=0: no place is seen'
  ):
    PlaceWindow(behind=-1, ahead=0)


def every_format():
  """Tokens and structure of sums in all four formats, in one batch."""
  tasks = [Addition(order=o, zero_pad=z) for o, z in FORMATS]
  parts = [sums(task) for task in tasks]
  return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


@pytest.mark.parametrize(
  ('behind', 'ahead', 'depth'),
  [(0, 1, 1), (0, 1, 2), (1, 2, 2), (2, 0, 2), (4, 3, 1), (-1, 2, 2)],
)
def test_gathered_attention_equals_dense(behind, ahead, depth):
  position = PlaceWindow(behind=behind, ahead=ahead)
  tokens_BT, structure = every_format()
  models = [
    build(position, depth=depth, attention=how) for how in ('dense', 'gathered')
  ]
  params = random_params(models[0])
  dense, gathered = jax.jit(
    lambda *args: [model.apply({'params': params}, *args) for model in models],
    compiler_options=UNOPTIMISED,
  )(tokens_BT, structure)
  np.testing.assert_allclose(gathered, dense, atol=1e-5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity(Position):
  """Only a pairwise bias: a learned one for even and odd distances."""

  def pair_bias(self, query, key, param, heads):
    table_2H = param('parity', jax.nn.initializers.normal(1.0), (2, heads))
    odd = (query.index - key.index)[:, 0] % 2
    return jnp.moveaxis(table_2H[odd], -1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fading(Position):
  """A content-dependent bias: log forget gates, summed from key to query."""

  def gate(self, x_BTE, param, heads):
    init = jax.nn.initializers.normal(1.0)
    kernel_EH = param('gate', init, (x_BTE.shape[-1], heads))
    return jax.nn.log_sigmoid(x_BTE @ kernel_EH)

  def key_bias(self, ids, gate_BKH):
    # The query's own sum is the same for all keys, and cancels.
    return -jnp.cumsum(gate_BKH, axis=1)


@pytest.fixture
def registry(monkeypatch):
  """The registry, to which a test may add entries."""
  monkeypatch.setattr(POSITIONS, '_entries', dict(POSITIONS._entries))
  return POSITIONS


@pytest.mark.parametrize('encoding', [Parity, Fading])
def test_an_encoding_of_ones_own_works_dense_and_cached(registry, encoding):
  name = encoding.__name__.lower()
  registry.register(name)(encoding)
  assert registry.name_of(encoding()) == name
  task = Addition()
  model = build(registry.get(name)(), depth=2)
  params = random_params(model)
  tokens_BT, _ = sums(task)
  rows, length = tokens_BT.shape

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(tokens_BT):
    structure = task.structure(tokens_BT)

    def apply(*args, model=model, params=params):
      return model.apply({'params': params}, tokens_BT, structure, *args)

    dense_BTV = apply()
    # A prompt of five tokens at once, then one token at a time.
    prompt_BQ = jnp.broadcast_to(jnp.arange(5)[None], (rows, 5))
    prefill_BQV, cache = apply(prompt_BQ, model.empty_cache(rows, length))

    def step(cache, t):
      logits_B1V, cache = apply(jnp.full((rows, 1), t), cache)
      return cache, logits_B1V[:, 0]

    _, rest_QBV = jax.lax.scan(step, cache, jnp.arange(5, length))
    cached_BTV = jnp.concatenate([prefill_BQV, rest_QBV.swapaxes(0, 1)], axis=1)
    without = jax.tree_util.tree_map_with_path(
      lambda path, x: x * ('position' not in jax.tree_util.keystr(path)),
      params,
    )
    return dense_BTV, cached_BTV, apply(params=without)

  dense_BTV, cached_BTV, without_BTV = program(tokens_BT)
  np.testing.assert_allclose(cached_BTV, dense_BTV, atol=1e-4)
  assert abs(dense_BTV - without_BTV).max() > 1e-2


def test_forget_gates_equal_a_loop():
  """Attention with a summed gate, against all pairs one by one."""
  rng = np.random.default_rng(0)
  gate_BKH = -rng.exponential(size=(1, 6, 2)).astype(np.float32)
  bias_BKH = Fading().key_bias(None, jnp.asarray(gate_BKH))
  for q, h in itertools.product(range(6), range(2)):
    logits = np.asarray(bias_BKH[0, : q + 1, h])
    decayed = [gate_BKH[0, k + 1 : q + 1, h].sum() for k in range(q + 1)]
    weight, expected = (np.exp(x) / np.exp(x).sum() for x in (logits, decayed))
    np.testing.assert_allclose(weight, expected, atol=1e-5)
