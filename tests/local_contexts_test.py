"""Contexts of strings and N x 1 products against all short problems."""

import itertools

import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.evaluation.certificate import contexts_of
from extrap.evaluation.contexts import ABSENT
from extrap.tasks.copying import Copying
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums
from extrap.tasks.sorting import Sorting

START = -5  # what stands for '='
# What a query sees: its token, the window, the short factor; then the answer.
Seen = tuple[int, ...]


def occurring(given, short, answer, ahead, end):
  """The contexts of one problem."""
  answer = [*answer, end]
  for place in range(-1, len(answer) - 1):
    window = [
      (given[p] if p < len(given) else ABSENT) if p >= 0 else START
      for p in range(place, place + ahead + 1)
    ]
    own = answer[place] if place >= 0 else START
    yield (own, *window, *short, answer[place + 1])


def enumerated(task, ahead):
  """The contexts found, in the same terms."""
  contexts = contexts_of(task, 0, ahead)
  for row in range(len(contexts)):
    own, window = int(contexts.own[row]), contexts.seen[row, 0].tolist()
    if own == task.token('='):
      own, window = START, [START, *window[1:]]
    short = contexts.seen[row, 1:, 0].tolist()
    yield (own, *window, *short, int(contexts.target[row]))


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
  ('base', 'ahead', 'digits'), [(2, 1, 5), (3, 1, 5), (3, 2, 6), (10, 1, 4)]
)
def test_contexts_are_those_of_all_products(base, ahead, digits):
  task = Multiplication(base=base, second_digits=1)
  wanted = set()
  for a, b in itertools.product(range(base**digits), range(base)):
    given = task.digits(a)
    wanted |= set(occurring(given, (b,), task.digits(a * b), ahead, task.end))
  found = list(enumerated(task, ahead))
  assert set(found) == wanted
  assert len(found) == len(wanted)


@pytest.mark.parametrize(
  'task', [PrefixSums(), Multiplication(second_digits=1)]
)
def test_moved_contexts_are_contexts_further_up(task):
  here = contexts_of(task, 0, 1)
  moved = contexts_of(task, 0, 1, shift=7, most=300)
  row = {tuple(shown): row for row, shown in enumerate(here.shown)}
  rows = [row[tuple(shown)] for shown in moved.shown]
  np.testing.assert_array_equal(moved.target, here.target[rows])
  assert 100 < len(moved) <= 450
  assert here.describe(task, 0).startswith("'=', digits")


@pytest.mark.parametrize(
  ('task', 'window', 'message'),
  [
    (Copying(backwards=True), (0, 1), 'copies forwards'),
    (Parity(), (0, 1), 'parity with a trace'),
    (PrefixSums(), (1, 1), 'no place behind'),
    (PrefixSums(base=1000), (0, 1), 'can be enumerated'),
    (Multiplication(), (0, 1), '--task.second_digits=1'),
    (Multiplication(second_digits=1), (1, 1), 'no place behind'),
    (Multiplication(second_digits=1, base=1000), (0, 1), 'can be enumerated'),
    (Sorting(), (0, 1), 'contexts of Sorting are not enumerated'),
  ],
)
def test_what_is_not_enumerated_is_refused(task, window, message):
  with pytest.raises(UsageError, match=message) as caught:
    contexts_of(task, *window)
  assert '\n' not in str(caught.value)
