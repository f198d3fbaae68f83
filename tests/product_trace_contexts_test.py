"""Contexts of products' traces against all that a window shows of small ones.

Shape key: B problems, Q queries, C contexts.
"""

import itertools

import jax
import numpy as np
import pytest
from task_checks import views

from extrap.errors import UsageError
from extrap.evaluation.every_context import contexts_for, contexts_of
from extrap.models.config import TransformerConfig
from extrap.models.positions import PlaceWindow
from extrap.models.transformer import Transformer
from extrap.tasks.product_trace import ProductTrace

WINDOW = PlaceWindow(behind=-1, ahead=2, own_step=True)
ROWS = 4096  # problems at a time


def shown(task, tokens_BT, query_BQ, target_BQ, mask_BQ):
  """All pairs of what a query sees and the right answer."""
  view_BQ = views(WINDOW, task, tokens_BT, query_BQ)
  found_2X = np.stack([view_BQ, target_BQ])[:, np.asarray(mask_BQ)]
  return set(map(tuple, np.unique(found_2X, axis=1).T.tolist()))


@pytest.mark.parametrize(
  ('base', 'digits_a', 'digits_b'),
  [(2, 5, 7), pytest.param(3, 4, 6, marks=pytest.mark.slow)],
)
def test_contexts_are_all_views_of_all_traces(base, digits_a, digits_b):
  task, wanted = ProductTrace(base=base), set()
  encode = jax.jit(task.encode)
  pairs = list(itertools.product(range(base**digits_a), range(base**digits_b)))
  for first in range(0, len(pairs), ROWS):
    rows = pairs[first : first + ROWS]
    digit_BKN, size_BS = task.spelt(rows, 2, max(digits_a, digits_b))
    batch = encode(digit_BKN[:, 0, :digits_a], digit_BKN[:, 1], size_BS)
    asked = batch.tokens, batch.queries, batch.targets
    wanted |= shown(task, *asked, batch.mask)
  contexts = contexts_of(task, -1, 2).whole()
  found = shown(
    task,
    contexts.tokens,
    contexts.query[:, None],
    contexts.target[:, None],
    np.ones((len(contexts), 1), bool),
  )
  assert found == wanted
  assert len(contexts) == len(wanted)


def counted(base, b, last):
  """How many contexts a digit b has, by hand."""
  carries, first_carries = b + 1, max(b, 1)
  first = base**2 + base  # digits of a inside, and at its end
  count = first * first_carries + (not last) * base
  # The lowest digit of a, two of the line; inside; v <= w at the end of a.
  pairs = 1 + sum(w + 1 for w in range(1, base))
  later = base**3 + base**4 * carries + pairs * carries
  # A single 0 carries nothing.
  count -= first_carries - 1
  later -= carries - 1
  return count + carries + later * (b > 0 or not last)


def test_contexts_of_base_10_are_counted():
  parts = contexts_of(ProductTrace(), -1, 2)
  kinds = list(itertools.product(range(10), (False, True)))
  counts = dict(zip(kinds, parts.parts, strict=True))
  for kind in ((0, False), (0, True), (2, True)):
    assert len(counts[kind]()) == counted(10, *kind), kind
  total = sum(counted(10, *kind) for kind in kinds)
  assert total == 1_125_163 <= parts.upper


def test_moved_contexts_are_contexts_further_up():
  task = ProductTrace(base=3)
  here = contexts_of(task, -1, 2).whole()
  moved = contexts_of(task, -1, 2, shift=7, most=300).whole()
  row = {tuple(shown): row for row, shown in enumerate(here.shown)}
  rows = [row[tuple(shown)] for shown in moved.shown]
  np.testing.assert_array_equal(moved.target, here.target[rows])
  assert 100 < len(moved) <= 450
  assert here.describe(task, 0).startswith('answer digit')


@pytest.mark.parametrize(
  ('task', 'window', 'message'),
  [
    (ProductTrace(), {'behind': -1, 'ahead': 2}, '--model.position.own_step'),
    (ProductTrace(), {'own_step': True}, '--model.position.behind=-1'),
    (
      ProductTrace(base=100),
      {'behind': -1, 'ahead': 2, 'own_step': True},
      'can be enumerated',
    ),
  ],
)
def test_what_is_not_enumerated_is_refused(task, window, message):
  config = TransformerConfig(position=PlaceWindow(**window))
  with pytest.raises(UsageError, match=message) as caught:
    contexts_for(Transformer(config, task.vocab_size), task)
  assert '\n' not in str(caught.value)
