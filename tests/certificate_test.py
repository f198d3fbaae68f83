"""Tests of evaluation/contexts.py and evaluation/certificate.py.

Shape key: R replicas, C contexts, V vocabulary.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.evaluation import certificate
from extrap.evaluation.certificate import (
  Certificate,
  certify,
  check_model,
)
from extrap.evaluation.contexts import ABSENT, BELOW, addition_contexts
from extrap.models.config import TransformerConfig
from extrap.models.positions import NoPosition, PlaceBias, PlaceWindow
from extrap.models.transformer import Params, Transformer
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.training import TrainConfig, fit

# What a query sees: its token, the sum's digits before it (nearest first), the
# digits of both numbers; then the right answer.
Seen = tuple[int, ...]


def _digits(numbers: np.ndarray, base: int, places: int) -> np.ndarray:
  """[numbers, places], least significant first, ABSENT above the number."""
  powers = base ** np.arange(places)
  digits = numbers[:, None] // powers % base
  # 0 has one digit.
  present = (numbers[:, None] >= powers) | (powers == 1)
  return np.where(present, digits, ABSENT)


def _occurring(
  pairs: np.ndarray, base: int, behind: int, ahead: int
) -> set[Seen]:
  """All contexts of some sums, each with its answer."""
  task, width = Addition(base=base), behind + ahead + 1
  # Longer by a place than any sum, and markers under the first place.
  places = len(np.base_repr(pairs.max(), base)) + 1 + ahead
  under = ((0, 0), (behind + 1, 0))
  a, b, total = (
    np.pad(_digits(x, base, places), under, constant_values=BELOW)
    for x in (pairs[:, 0], pairs[:, 1], pairs.sum(axis=1))
  )
  total[:, behind] = task.equals
  found = []
  for low in range(places - ahead):
    own = low + behind
    asked = total[:, own] != ABSENT
    successor = total[:, own + 1]
    answer = np.where(successor == ABSENT, task.end, successor)
    before = [total[:, own - back] for back in range(1, behind + 1)]
    # '=' is an anchor: all queries see it, and it is no digit of the sum.
    before = [np.where(x == task.equals, BELOW, x) for x in before]
    window = [*a[:, low : low + width].T, *b[:, low : low + width].T]
    rows = np.stack([total[:, own], *before, *window, answer], axis=1)
    found.append(np.unique(rows[asked], axis=0))
  return set(map(tuple, np.concatenate(found).tolist()))


def _enumerated(base: int, behind: int, ahead: int) -> list[Seen]:
  contexts = addition_contexts(Addition(base=base), behind, ahead)
  shown = np.concatenate([contexts.shown, contexts.target[:, None]], axis=1)
  return [tuple(row) for row in shown.tolist()]


@pytest.mark.parametrize(
  ('base', 'behind', 'ahead', 'digits'),
  [
    (2, 0, 1, 6),
    (2, 1, 1, 6),
    (2, 0, 2, 6),
    (2, 2, 1, 6),
    (3, 0, 1, 5),
    (3, 1, 1, 5),
    (3, 0, 2, 5),
  ],
)
def test_contexts_are_those_of_all_sums(
  base: int, behind: int, ahead: int, digits: int
) -> None:
  every = np.arange(base**digits)
  pairs = np.stack(np.meshgrid(every, every), axis=-1).reshape(-1, 2)
  wanted = _occurring(pairs, base, behind, ahead)
  found = _enumerated(base, behind, ahead)
  assert set(found) == wanted
  assert len(found) == len(wanted)


def test_contexts_of_base_10() -> None:
  found = _enumerated(10, 0, 1)
  assert len(found) == len(set(found)) == 24_518
  rng = np.random.default_rng(0)
  uniform = rng.integers(10 ** rng.integers(1, 5, (40_000, 2)))
  corners = [0, 1, 5, 9, 10, 19, 90, 99, 100, 909, 990, 999, 1000, 9999]
  corners = np.array(list(itertools.product(corners, corners)))
  occurring = _occurring(np.concatenate([uniform, corners]), 10, 0, 1)
  assert occurring <= set(found)
  assert len(occurring) > 15_000


def test_moved_contexts_are_contexts_further_up() -> None:
  task = Addition(base=3)
  here = addition_contexts(task, 0, 1)
  moved = addition_contexts(task, 0, 1, shift=5)
  row = {tuple(shown): row for row, shown in enumerate(here.shown)}
  rows = [row[tuple(shown)] for shown in moved.shown]
  np.testing.assert_array_equal(moved.target, here.target[rows])
  # All but those at the sum's start.
  assert len(set(rows)) == len(moved)
  assert moved.tokens.shape[1] == here.tokens.shape[1] + 3 * 5
  assert not (moved.seen == BELOW).any()


def test_a_context_in_words() -> None:
  contexts = addition_contexts(Addition(base=3), 1, 1)
  words = [
    contexts.describe(Addition(base=3), row) for row in (0, len(contexts) - 1)
  ]
  assert words[0].startswith("'=', digits")
  assert ' after ' in words[1]


@pytest.mark.parametrize(
  ('task', 'ahead'),
  [
    (Addition(order='msb'), 1),
    (Addition(zero_pad=True), 1),
    (Addition(), 0),
  ],
)
def test_other_formats_have_no_contexts(task: Addition, ahead: int) -> None:
  with pytest.raises(UsageError) as caught:
    addition_contexts(task, 0, ahead)
  assert '\n' not in str(caught.value)


TASK = Addition(base=2)


def _model(**changes: object) -> Transformer:
  defaults = {
    'position': PlaceWindow(),
    'width': 32,
    'heads': 2,
    'ffn_width': 64,
    'qk_norm': True,
  }
  config = TransformerConfig(**(defaults | changes))
  return Transformer(config, TASK.vocab_size)


@pytest.fixture(scope='module')
def trained() -> Params:
  """Two replicas that have learned to add in base 2."""
  problem = SequenceProblem(
    task=TASK, model=_model(), max_size=5, batch_size=64
  )
  config = TrainConfig(
    steps=400,
    steps_per_dispatch=200,
    learning_rate=1e-2,
    warmup_steps=20,
    evaluate_every=0,
  )
  return fit(problem, config, replicas=2).params


@pytest.fixture(scope='module')
def certificates(trained: Params) -> list[Certificate]:
  return certify(_model(), trained, TASK)


def test_a_trained_model_passes(certificates: list[Certificate]) -> None:
  for one in certificates:
    print(one)
