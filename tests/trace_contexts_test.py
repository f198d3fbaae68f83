"""Contexts of running sums against all that a window shows of short traces.

Shape key: B problems, T tokens, Q queries, C contexts.
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
from extrap.tasks.summation import Summation

WINDOW = PlaceWindow(own_step=True)


def problems(base, count):
  """All rows of few digits, and all pairs of four digits among zeros."""
  yield from itertools.product(range(base**2), repeat=count)
  for one, other in itertools.product(range(base**4), repeat=2):
    yield (one, other, *[0] * (count - 2))
    if count > 2:
      yield (one, 0, other, *[0] * (count - 3))


@pytest.mark.parametrize(
  ('base', 'fewest', 'operands'), [(2, 2, 4), (3, 2, 3), (2, 3, 3)]
)
def test_contexts_are_all_views_of_all_traces(base, fewest, operands):
  task = Summation(base=base, fewest=fewest, operands=operands, trace=True)
  wanted = set()
  for count in range(fewest, operands + 1):
    rows = list(problems(base, count))
    batch = jax.jit(task.encode)(*task.spelt(rows, operands, None))
    view_BQ = views(WINDOW, task, batch.tokens, batch.queries)
    found_2X = np.stack([view_BQ, batch.targets])[:, np.asarray(batch.mask)]
    wanted |= set(map(tuple, np.unique(found_2X, axis=1).T.tolist()))
  contexts = contexts_of(task, 0, 1).whole()
  view_C1 = views(WINDOW, task, contexts.tokens, contexts.query[:, None])
  found = list(
    zip(view_C1[:, 0].tolist(), contexts.target.tolist(), strict=True)
  )
  assert set(found) == wanted
  assert len(found) == len(wanted)


@pytest.mark.slow
def test_contexts_do_not_depend_on_how_many_numbers_there_are():
  found = [
    contexts_of(Summation(operands=operands, trace=True), 0, 1).whole()
    for operands in (4, 10)
  ]
  shown, more = ({tuple(row) for row in x.shown.tolist()} for x in found)
  assert shown == more


@pytest.mark.parametrize(
  ('task', 'own_step', 'message'),
  [
    ({}, False, '--model.position.own_step'),
    ({'roles': 'own'}, True, '--task.roles=shared'),
    ({'order': 'msb'}, True, '--task.order=lsb'),
  ],
)
def test_what_is_not_enumerated_is_refused(task, own_step, message):
  task = Summation(trace=True, **task)
  config = TransformerConfig(position=PlaceWindow(own_step=own_step))
  with pytest.raises(UsageError, match=message) as caught:
    contexts_for(Transformer(config, task.vocab_size), task)
  assert '\n' not in str(caught.value)
