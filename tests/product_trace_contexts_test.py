"""Contexts of products' traces against all that a window shows of small ones.

Shape key: B problems, Q queries, C contexts.
"""

import itertools

import jax
import numpy as np
import pytest
from task_checks import views

from extrap.errors import UsageError
from extrap.evaluation.certificate import contexts_for, contexts_of
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
  ('base', 'digits_a', 'digits_b'), [(2, 5, 7), (3, 4, 5)]
)
def test_contexts_are_all_views_of_all_traces(base, digits_a, digits_b):
  task, wanted = ProductTrace(base=base), set()
  encode = jax.jit(task.encode)
  pairs = list(
    itertools.product(range(base**digits_a), range(base**digits_b))
  )
  for first in range(0, len(pairs), ROWS):
    rows = pairs[first : first + ROWS]
    digit_BKN, size_BS = task.spelt(rows, 2, max(digits_a, digits_b))
    batch = encode(digit_BKN[:, 0, :digits_a], digit_BKN[:, 1], size_BS)
    asked = batch.tokens, batch.queries, batch.targets
    wanted |= shown(task, *asked, batch.mask)
  contexts = contexts_of(task, -1, 2).whole()
  print(len(contexts), len(wanted))
  found = shown(
    task,
    contexts.tokens,
    contexts.query[:, None],
    contexts.target[:, None],
    np.ones((len(contexts), 1), bool),
  )
  assert found == wanted
  assert len(contexts) == len(wanted)
