"""Addition: the sampler against Python integers, and what structure knows.

Shape key: B examples, T tokens, Q answer queries, N places, S size axes.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.tasks.addition import Addition
from extrap.tasks.operation import END, EQUALS, PAD, RESULT, SIGN, A, B
from extrap.tasks.task import uniform_sizes

FORMATS = tuple(itertools.product(('lsb', 'msb'), (False, True)))
BASES = (2, 10, 1000)
MAX_SIZE = 7
ROWS = 3400  # three bases make 10,200 sums, each in four formats
PLACES = 700  # for numbers of 200 decimal digits in base 2; one shape for all

in_every_format = pytest.mark.parametrize(('order', 'zero_pad'), FORMATS)
in_every_base = pytest.mark.parametrize('base', BASES)


def value(digits, task):
  """The number that a list of digits spells, in Python integers."""
  lowest_first = digits if task.order == 'lsb' else digits[::-1]
  return sum(d * task.base**place for place, d in enumerate(lowest_first))


def split(tokens, task):
  """Digits of both operands and the sum; asserts that the row is a sum."""
  tokens = [int(token) for token in tokens]
  plus, equals, end = (
    tokens.index(token) for token in (task.plus, task.equals, task.end)
  )
  assert plus < equals < end
  assert set(tokens[end + 1 :]) <= {task.pad}
  numbers = tokens[:plus], tokens[plus + 1 : equals], tokens[equals + 1 : end]
  assert all(0 <= digit < task.base for digit in itertools.chain(*numbers))
  return numbers


@functools.cache
def drawn(base):
  """Sizes, and a batch in each format, of the same random sums."""

  @jax.jit
  def program(key):
    size_BS = uniform_sizes(key, ROWS, 2, 1, MAX_SIZE)
    return size_BS, {
      form: Addition(base=base, order=form[0], zero_pad=form[1]).sample(
        key, size_BS, max_size=MAX_SIZE
      )
      for form in FORMATS
    }

  return jax.tree.map(np.asarray, program(jax.random.key(base)))


@in_every_base
@in_every_format
def test_sampled_sums_are_right_and_of_the_sizes_asked_for(
  base, order, zero_pad
):
  task = Addition(base=base, order=order, zero_pad=zero_pad)
  size_BS, batches = drawn(base)
  tokens_BT = batches[order, zero_pad].tokens
  assert tokens_BT.shape == (ROWS, task.token_length(MAX_SIZE))
  for tokens, sizes in zip(tokens_BT, size_BS.tolist(), strict=True):
    a, b, total = split(tokens, task)
    instance = value(a, task), value(b, task)
    assert value(total, task) == sum(instance) == task.oracle(instance)
    longest = max(sizes)
    for number, digits, size in zip(instance, (a, b), sizes, strict=True):
      assert len(digits) == (longest if zero_pad else size)
      # As many digits as asked for, hence no leading zero but the number 0's.
      assert base ** (size - 1) <= number or (size == 1 and number == 0)
      assert number < base**size
    carries_out = sum(instance) >= base**longest
    assert len(total) == longest + (1 if zero_pad else carries_out)
    assert task.read(tokens) == (instance, sum(instance))


@in_every_base
def test_every_leading_digit_and_zero_are_drawn(base):
  size_BS, batches = drawn(base)
  tokens_BT = batches['msb', False].tokens
  first_B, one_digit_B = tokens_BT[:, 0], size_BS[:, 0] == 1
  leading = first_B[~one_digit_B]
  # A thousand digits are not all met; their quarters are met equally often.
  share, _ = np.histogram(leading, bins=min(base - 1, 4), range=(1, base))
  assert leading.min() >= 1
  np.testing.assert_allclose(share / share.mean(), 1, atol=0.45)
  assert base == 1000 or (first_B[one_digit_B] == 0).any()


@in_every_base
@in_every_format
def test_queries_and_targets_ask_for_the_answer_and_its_end(
  base, order, zero_pad
):
  task = Addition(base=base, order=order, zero_pad=zero_pad)
  batch = drawn(base)[1][order, zero_pad]
  row_B1 = np.arange(ROWS)[:, None]
  assert batch.queries.shape == (ROWS, MAX_SIZE + 2)
  assert (batch.tokens[row_B1, batch.queries][:, 0] == task.equals).all()
  assert (np.diff(batch.queries, axis=1) == 1).all()
  next_BQ = batch.tokens[row_B1, batch.queries + 1]
  np.testing.assert_array_equal(batch.targets, next_BQ)
  end_BQ = batch.targets == task.end
  # One end a row; the mask is true up to there and nowhere beyond.
  np.testing.assert_array_equal(end_BQ.sum(axis=1), 1)
  up_to_end_BQ = np.cumsum(end_BQ, axis=1) - end_BQ == 0
  np.testing.assert_array_equal(batch.mask, up_to_end_BQ)
  assert (batch.targets[~batch.mask] == task.pad).all()
  assert not (batch.targets[batch.mask] == task.pad).any()


def test_every_ordered_pair_of_sizes_is_equally_likely():
  draws, low, high = 49_000, 3, 9
  size_BS = np.asarray(uniform_sizes(jax.random.key(1), draws, 2, low, high))
  assert size_BS.shape == (draws, 2)
  assert size_BS.min() == low
  assert size_BS.max() == high
  counts = np.zeros((7, 7))
  np.add.at(counts, tuple(size_BS.T - low), 1)
  chi_square = ((counts - 1000) ** 2 / 1000).sum()
  # 48 degrees of freedom: mean 48, standard deviation 9.8.
  assert 15 < chi_square < 95


def test_different_rows_keys_and_operands_differ():
  tokens_BT = drawn(1000)[1]['lsb', True].tokens
  assert len(np.unique(tokens_BT, axis=0)) > 0.99 * ROWS
  task = Addition(base=1000, zero_pad=True)
  same = sum(a == b for a, b, _ in (split(row, task) for row in tokens_BT))
  assert same < 0.01 * ROWS


def test_a_row_drawn_alone_does_not_depend_on_max_size():
  bounds, rows = (5, 16), 8

  @jax.jit
  def program(key):
    key_B = jax.random.split(key, rows)
    size_BS = uniform_sizes(key, rows, 2, 1, bounds[0])

    def alone(key, size_S, task, bound):
      batch = task.sample(key, size_S[None], max_size=bound)
      return jax.tree.map(lambda x: x[0], batch)

    return [
      [
        jax.vmap(functools.partial(alone, task=task, bound=bound))(
          key_B, size_BS
        )
        for bound in bounds
      ]
      for task in (Addition(order=o, zero_pad=z) for o, z in FORMATS)
    ]

  for small, large in program(jax.random.key(2)):
    tokens, queries = small.tokens.shape[1], small.queries.shape[1]
    np.testing.assert_array_equal(large.tokens[:, :tokens], small.tokens)
    assert (large.tokens[:, tokens:] == Addition().pad).all()
    np.testing.assert_array_equal(large.mask[:, :queries], small.mask)
    assert not large.mask[:, queries:].any()


@pytest.mark.parametrize(('base', 'places'), [(2, 6), (7, 2)])
def test_add_is_exact_for_all_numbers(base, places):
  numbers = np.arange(base**places)
  powers = base ** np.arange(places + 1)
  a_B, b_B = (x.ravel() for x in np.meshgrid(numbers, numbers))
  a_BN, b_BN, total_BM = (
    x[:, None] // powers[None] % base for x in (a_B, b_B, a_B + b_B)
  )
  sum_BM = Addition(base=base).result(
    jnp.asarray(a_BN[:, :-1]), jnp.asarray(b_BN[:, :-1])
  )
  np.testing.assert_array_equal(sum_BM, total_BM)


@in_every_base
@in_every_format
def test_carries_run_over_long_chains(base, order, zero_pad):
  task = Addition(base=base, order=order, zero_pad=zero_pad)
  nines = base**300 - 1
  # One carry through 300 places; one stopped half way; one made half way.
  pairs = [
    (nines, 1),
    (nines - base**150, 1),
    (nines, base**150),
    (nines, nines),
    (nines // (base - 1) * (base - 2), nines // (base - 1) + 1),
  ]
  batch = task.from_integers(pairs, max_size=PLACES)
  assert [task.read(row) for row in batch.tokens] == [
    ((a, b), a + b) for a, b in pairs
  ]


@in_every_base
@in_every_format
def test_integers_survive_a_round_trip(base, order, zero_pad):
  task = Addition(base=base, order=order, zero_pad=zero_pad)
  pairs = [
    (0, 0),
    (0, base),
    (7 * 10**199 + 12_345, 3),
    (1, 10**200 - 1),
    (10**100, 10**100),
  ]
  tokens_BT = task.from_integers(pairs, max_size=PLACES).tokens
  assert [task.read(row) for row in tokens_BT] == [
    ((a, b), a + b) for a, b in pairs
  ]


def test_from_integers_fits_max_size_and_refuses_more():
  task = Addition()
  tokens_BT = task.from_integers([(123, 4), (5, 0)], max_size=4).tokens
  assert tokens_BT.shape == (2, task.token_length(4))
  spelled = [3, 2, 1, task.plus, 4, task.equals, 7, 2, 1, task.end]
  assert tokens_BT[0].tolist() == spelled + [task.pad] * 6
  with pytest.raises(UsageError, match='4 digits where 3 fit'):
    task.from_integers([(1, 1), (1, 1000)], max_size=3)


def test_read_finds_no_answer_in_what_is_no_number():
  task = Addition()
  start = [1, task.plus, 2, task.equals]
  for answer in (
    [3],
    [task.end],
    [3, task.plus, task.end],
    [task.pad, task.end],
  ):
    assert task.read([*start, *answer]) == ((1, 2), None)
  assert task.read([*start, 9, 0, task.end, 5]) == ((1, 2), 9)


@in_every_format
def test_structure_is_causal(order, zero_pad):
  task = Addition(base=4, order=order, zero_pad=zero_pad)
  rng = np.random.default_rng(3)
  pairs = [(0, 0), (63, 1), (255, 255), (17, 4), (2, 250)]
  tokens_BT = np.asarray(task.from_integers(pairs).tokens)
  length = tokens_BT.shape[1]
  # Row t of each example has another future from t + 1 on.
  past_TT = np.tril(np.ones((length, length), bool))
  future_BTT = rng.integers(task.vocab_size, size=(len(pairs), length, length))
  changed_BTT = np.where(past_TT, tokens_BT[:, None], future_BTT)
  structure = jax.jit(task.structure)
  before = structure(tokens_BT)
  after = structure(changed_BTT.reshape(-1, length))
  differs = []
  for field_BT, other in zip(
    jax.tree.leaves(before), jax.tree.leaves(after), strict=True
  ):
    same_BTT = np.asarray(other).reshape(changed_BTT.shape) == np.asarray(
      field_BT[:, None]
    )
    assert same_BTT[:, past_TT].all()
    differs.append(not same_BTT.all())
  assert sum(differs) == 4  # place, role, run and anchor do read tokens


def expected_structure(tokens, task):
  """Place, role and anchor of each token up to the end, by a loop."""
  a, b, total = split(tokens, task)
  places, roles = [], []
  for role, digits in ((A, a), (B, b), (RESULT, total)):
    if task.order == 'lsb':
      place = list(range(len(digits)))
    elif task.zero_pad:
      # Counted from the operands' most significant digit.
      weights = range(len(digits) - 1, -1, -1)
      place = [len(a) - 1 - weight for weight in weights]
    else:
      place = list(range(len(digits)))
    if role != A:
      places.append(place[0] - 1)
      roles.append(SIGN if role == B else EQUALS)
    places += place
    roles += [role] * len(digits)
  return places, roles, [int(role in (SIGN, EQUALS)) for role in roles]


@in_every_format
def test_structure_gives_places_roles_and_anchors(order, zero_pad):
  task = Addition(order=order, zero_pad=zero_pad)
  tokens_BT = drawn(10)[1][order, zero_pad].tokens[:200]
  structure = jax.tree.map(np.asarray, jax.jit(task.structure)(tokens_BT))
  assert (structure.runs, structure.roles, structure.anchors) == (3, 7, 2)
  index_T = np.arange(tokens_BT.shape[1])
  assert (structure.index == index_T).all()
  assert (structure.position == index_T).all()
  for row, tokens in enumerate(tokens_BT):
    place, role, anchor = expected_structure(tokens, task)
    end = len(place)
    assert structure.place[row, :end].tolist() == place
    assert structure.role[row, :end].tolist() == role
    assert structure.anchor[row, :end].tolist() == anchor
    assert structure.role[row, end] == END
    assert (structure.role[row, end + 1 :] == PAD).all()
    assert not structure.anchor[row, end:].any()


@pytest.mark.parametrize(('order', 'zero_pad'), FORMATS[:2] + FORMATS[3:])
def test_digits_of_equal_weight_share_a_place(order, zero_pad):
  task = Addition(order=order, zero_pad=zero_pad)
  batch = task.from_integers([(905, 1234), (9999, 1)])
  structure = jax.tree.map(np.asarray, task.structure(batch.tokens))
  for row, tokens in enumerate(batch.tokens):
    place_of_weight = {}
    for role, digits in enumerate(split(tokens, task)):
      places = structure.place[row][structure.role[row] == role].tolist()
      weights = list(range(len(digits)))
      if order == 'msb':
        weights.reverse()
      for weight, place in zip(weights, places, strict=True):
        place_of_weight.setdefault(weight, set()).add(place)
    assert all(len(places) == 1 for places in place_of_weight.values())
    if order == 'msb':
      assert place_of_weight[max(place_of_weight)] == {-1}


@in_every_format
def test_largest_ids_are_bounds_that_are_reached(order, zero_pad):
  task = Addition(order=order, zero_pad=zero_pad)
  largest = task.largest_ids(4)
  structure = task.structure(task.from_integers([(9999, 9999), (1, 2)]).tokens)
  met = {name: int(getattr(structure, name).max()) for name in largest}
  if (order, zero_pad) == ('msb', True):
    met['place'] += 1  # its sums start one place lower
  assert met == largest
