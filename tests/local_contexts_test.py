"""Contexts of strings and products against all short problems."""

import itertools

import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.evaluation.contexts import (
  ABSENT,
  BELOW,
  FIELDS,
  Contexts,
  _codes,
)
from extrap.evaluation.every_context import contexts_of
from extrap.tasks.copying import Copying
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums
from extrap.tasks.sorting import Sorting

START = -5  # what stands for '='
# What a query sees: its token, the window, the short factor; then the answer.
Seen = tuple[int, ...]


def occurring(given, short, answer, ahead, end, behind=0):
  """The contexts of one problem."""
  answer = [*answer, end]
  for place in range(-1, len(answer) - 1):
    window = [
      (given[p] if p < len(given) else ABSENT) if p >= 0 else START
      for p in range(place - behind, place + ahead + 1)
    ]
    own = answer[place] if place >= 0 else START
    before = [
      answer[place - back] if place >= back else START
      for back in range(1, behind + 1)
    ]
    yield (own, *before, *window, *short, answer[place + 1])


def enumerated(task, ahead, behind=0):
  """The contexts found, in the same terms."""
  contexts = contexts_of(task, behind, ahead).whole()
  for row in range(len(contexts)):
    own, window = int(contexts.own[row]), contexts.seen[row, 0].tolist()
    own = START if own == task.token('=') else own
    window, before = (
      [START if digit == BELOW else digit for digit in x]
      for x in (window, contexts.answers[row].tolist())
    )
    short = contexts.seen[row, 1:].ravel().tolist()
    short = short[: getattr(task, 'second_digits', 0)]
    yield (own, *before, *window, *short, int(contexts.target[row]))


@pytest.mark.parametrize('ahead', [1, 2])
@pytest.mark.parametrize(
  'task',
  [Copying(base=3), Parity(trace=True), PrefixSums(base=3)],
  ids=lambda task: type(task).__name__,
)
def test_contexts_are_those_of_all_strings(task, ahead):
  wanted = set()
  for length in range(1, 7):
    for string in itertools.product(range(task.base), repeat=length):
      answer = task.oracle(string)
      wanted |= set(occurring(string, (), answer, ahead, task.end))
  found = list(enumerated(task, ahead))
  assert set(found) == wanted
  assert len(found) == len(wanted)


@pytest.mark.parametrize(
  ('base', 'second', 'behind', 'ahead', 'digits'),
  [
    (2, 1, 0, 1, 5),
    (3, 1, 0, 1, 5),
    (3, 1, 1, 2, 6),
    (10, 1, 0, 1, 4),
    (2, 2, 1, 1, 8),
    (3, 2, 1, 1, 6),
  ],
)
@pytest.mark.parametrize('short_first', [False, True])
def test_contexts_are_those_of_all_products(
  base, second, behind, ahead, digits, short_first
):
  task = Multiplication(
    base=base, second_digits=second, short_first=short_first
  )
  wanted = set()
  shorts = range(base ** (second - 1) if second > 1 else 0, base**second)
  for a, b in itertools.product(range(base**digits), shorts):
    given, product = task.digits(a), task.digits(a * b)
    short = task.digits(b)
    wanted |= set(occurring(given, short, product, ahead, task.end, behind))
  found = list(enumerated(task, ahead, behind))
  assert set(found) == wanted
  assert len(found) == len(wanted)


@pytest.mark.parametrize(
  ('task', 'behind'),
  [
    (PrefixSums(), 0),
    (Multiplication(second_digits=1), 0),
    (Multiplication(base=3, second_digits=2), 1),
  ],
)
def test_moved_contexts_are_contexts_further_up(task, behind):
  here = contexts_of(task, behind, 1).whole()
  moved = contexts_of(task, behind, 1, shift=7, most=300).whole()
  row = {tuple(shown): row for row, shown in enumerate(here.shown)}
  rows = [row[tuple(shown)] for shown in moved.shown]
  np.testing.assert_array_equal(moved.target, here.target[rows])
  assert 100 < len(moved) <= 450
  assert here.describe(task, 0).startswith("'=', digits")


@pytest.mark.parametrize(
  ('task', 'window', 'message'),
  [
    (Copying(backwards=True), (0, 1), 'copies forwards'),
    (Copying(begin=True), (0, 1), 'nothing before the string'),
    (Parity(), (0, 1), 'parity with a trace'),
    (PrefixSums(), (1, 1), 'no place behind'),
    (Multiplication(second_digits=1), (-1, 2), 'position.behind=0 or more'),
    (PrefixSums(), (-1, 2), 'its own and no place behind'),
    (PrefixSums(base=1000), (0, 1), 'can be enumerated'),
    (Multiplication(), (0, 1), '--task.second_digits=1'),
    (Multiplication(second_digits=2), (0, 1), 'position.behind=1 or more'),
    (Multiplication(second_digits=2), (3, 1), 'can be enumerated'),
    (Multiplication(second_digits=1, base=1000), (0, 1), 'can be enumerated'),
    (Sorting(), (0, 1), 'contexts of Sorting are not enumerated'),
  ],
)
def test_what_is_not_enumerated_is_refused(task, window, message):
  with pytest.raises(UsageError, match=message) as caught:
    contexts_of(task, *window)
  assert '\n' not in str(caught.value)


def test_a_context_with_two_answers_is_refused():
  one = contexts_of(PrefixSums(base=2), 0, 1).whole()
  fields = [getattr(one, name) for name in FIELDS]
  fields[FIELDS.index('target')] = one.target + 1
  with pytest.raises(UsageError, match='widen the window'):
    Contexts.union([one, Contexts(*fields)])


def test_many_columns_tell_rows_apart():
  """More values than one number of 64 bits holds."""
  rng = np.random.default_rng(0)
  row_CX = rng.integers(-2, 40, (500, 20))
  row_CX[250:] = row_CX[:250]
  row_CX[250:300, -1] += 1
  assert len(np.unique(_codes(row_CX))) == 300
  assert (_codes(row_CX)[300:] == _codes(row_CX)[50:250]).all()
