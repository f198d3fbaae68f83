"""Index hints: rows against a loop over places, and what structure knows.

Shape key: B examples, T tokens.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_checks import (
  check_asked,
  check_causal,
  check_gathered,
  check_same_row,
)

from extrap.errors import UsageError
from extrap.evaluation.operation_contexts import operation_contexts
from extrap.models.positions import Abacus
from extrap.tasks.addition import HINT, Addition
from extrap.tasks.operation import END, EQUALS, PAD, RESULT, SIGN, A, B
from extrap.tasks.task import uniform_sizes

FORMATS = tuple(itertools.product(('lsb', 'msb'), (False, True)))
HINTS, MAX_SIZE, ROWS = 9, 4, 600

in_every_format = pytest.mark.parametrize(('order', 'zero_pad'), FORMATS)


def build(order, zero_pad=False, hints=HINTS):
  return Addition(order=order, zero_pad=zero_pad, hints=hints)


@functools.cache
def drawn():
  """The same sums in every format, with hints and without."""

  @jax.jit
  def program(key):
    size_BS = uniform_sizes(key, ROWS, 2, 1, MAX_SIZE)
    return {
      (*form, hints): build(*form, hints)
      .sample(key, size_BS, max_size=MAX_SIZE)
      for form in FORMATS
      for hints in (0, HINTS)
    }  # fmt: skip

  return jax.tree.map(np.asarray, program(jax.random.key(0)))


def with_hints(plain, task, lowest):
  """A plain row with hints, by a loop over its numbers."""
  row, number = [], []

  def write(number):
    places = range(len(number))
    places = places if task.order == 'lsb' else reversed(places)
    for place, digit in zip(places, number, strict=True):
      row.extend([task.token('hint 0') + lowest + place, digit])

  for token in plain:
    if token < task.base:
      number.append(token)
      continue
    write(number)
    number = []
    # The end and the padding come after the hints.
    row.append(token + (task.hints if token > task.equals else 0))
  return row


@in_every_format
def test_every_digit_has_the_hint_of_its_place(order, zero_pad):
  task, lowests = build(order, zero_pad), []
  rows = zip(
    drawn()[order, zero_pad, 0].tokens,
    drawn()[order, zero_pad, HINTS].tokens,
    strict=True,
  )
  for plain_T, tokens_T in rows:
    tokens = tokens_T.tolist()
    hint = task.token('hint 0')
    lowest = min(t for t in tokens if hint <= t < task.end) - hint
    expected = with_hints(plain_T.tolist(), task, lowest)
    assert tokens[: len(expected)] == expected
    assert set(tokens[len(expected) :]) <= {task.pad}
    places = len(task.split(plain_T)[0][2])
    assert lowest <= HINTS - places
    lowests.append((places, lowest))
  # Each first hint with which a sum of so many digits fits.
  assert {n for places, n in lowests if places == 3} == set(range(7))


@in_every_format
def test_sums_are_read_with_their_hints(order, zero_pad):
  task, plain = build(order, zero_pad), build(order, zero_pad, 0)
  batches = [drawn()[order, zero_pad, hints] for hints in (0, HINTS)]
  for row in range(50):
    instance, answer = task.read(batches[1].tokens[row])
    assert (instance, answer) == plain.read(batches[0].tokens[row])
    assert answer == task.oracle(instance)
    check_asked(task, batches[1], row)


def test_a_row_in_words_and_wrong_hints_in_an_answer():
  task = build('lsb', hints=4)
  (tokens_T,) = np.asarray(task.from_integers([(42, 939)]).tokens)
  names = '0123456789+=abcd;_'
  assert ''.join(names[t] for t in tokens_T).rstrip('_') == (
    'a2b4+a9b3c9=a1b8c9;'
  )
  for answer, found in (
    ('a1b8c9', 981),
    ('a1b8d9', None),
    ('b1c8d9', None),
    ('a1b8c', None),
    ('18c9', None),
  ):
    row = [names.index(x) for x in f'a2b4+a9b3c9={answer};']
    assert task.read(row) == ((42, 939), found)
  first_last = build('msb', hints=4).from_integers([(42, 939)])
  (tokens_T,) = np.asarray(first_last.tokens)
  assert ''.join(names[t] for t in tokens_T).rstrip('_') == (
    'b4a2+c9b3a9=c9b8a1;'
  )


def test_hints_have_the_place_of_their_digit_and_a_role():
  task = build('lsb')
  tokens_BT = task.from_integers([(12, 939)]).tokens
  structure = task.structure(tokens_BT)
  ids = jax.tree.map(lambda x: np.asarray(x)[0].tolist(), structure)
  #                 h  2  h  1   +  h  9  h  3  h  9   =  h  1  h  5  h  9 end
  assert ids.place[:19] == (
    [0, 0, 1, 1, -1, 0, 0, 1, 1, 2, 2, -1, 0, 0, 1, 1, 2, 2, -1]
  )  # fmt: skip
  h, digits = HINT, (A, B, RESULT)
  a, b, r = ([h, role] for role in digits)
  assert ids.role[:20] == [
    *a * 2, SIGN, *b * 3, EQUALS, *r * 3, END, PAD,
  ]  # fmt: skip
  assert ids.run[:6] == [3, 0, 3, 0, 3, 3]
  assert (ids.runs, ids.roles, sum(ids.anchor)) == (3, 8, 2)
  rows = Abacus().embed(
    structure,
    lambda name, init, shape: jnp.broadcast_to(
      jnp.arange(shape[0], dtype=jnp.float32)[:, None], shape
    ),
    1,
  )
  assert rows[0, :6, 0].tolist() == [0, 1, 0, 2, 0, 0]


@pytest.mark.parametrize(('order', 'zero_pad'), [FORMATS[0], FORMATS[3]])
def test_digits_have_the_places_of_a_row_without_hints(order, zero_pad):
  found = []
  for task in (build(order, zero_pad, 0), build(order, zero_pad)):
    tokens_BT = task.from_integers([(907, 45), (1, 9999)]).tokens
    ids = task.structure(tokens_BT)
    written_BT = (tokens_BT < task.end) & (ids.role != HINT)
    found.append([
      np.asarray(field)[np.asarray(written_BT)]
      for field in (ids.place, ids.role, ids.run, ids.anchor)
    ])  # fmt: skip
  np.testing.assert_array_equal(*found)


@in_every_format
def test_structure_is_causal_and_bounded(order, zero_pad):
  task = build(order, zero_pad, 5)
  tokens_BT = task.from_integers([(12, 9), (9999, 9999)]).tokens
  check_causal(task, tokens_BT[0])
  structure = task.structure(tokens_BT)
  for name, largest in task.largest_ids(4).items():
    aligned = name == 'place' and order == 'msb' and zero_pad
    assert int(getattr(structure, name).max()) == largest - aligned


def test_rows_are_the_same_at_any_size_and_gathered():
  check_same_row(build('lsb'), [2, 3], 4, 7)
  check_gathered(build('lsb'), build('lsb').from_integers([(99, 1)]).tokens)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda: build('lsb').from_integers([(10**9, 1)]),
      'sums of 11 digits need as many hints; --task.hints=9',
    ),
    (lambda: operation_contexts(build('lsb'), 0, 1), 'without --task.hints'),
  ],
)
def test_bad_input_is_one_line(call, message):
  with pytest.raises(UsageError, match=message):
    call()
