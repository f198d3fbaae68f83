"""Contexts of sums of several numbers against all short problems.

Shape key: B problems, K numbers, N places, W places of a window, X of a row.
"""

import itertools

import jax
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.evaluation.contexts import ABSENT, BELOW
from extrap.evaluation.every_context import contexts_of
from extrap.models.config import TransformerConfig
from extrap.models.positions import PlaceWindow
from extrap.models.transformer import Transformer
from extrap.tasks.summation import Summation

GONE = -3  # stands for a number that a problem does not have


def digits(number_BK, base, places):
  """[B, K, places], ABSENT above a number and where there is none."""
  powers = base ** np.arange(places)
  # 0 has one digit.
  there_BKN = (number_BK[..., None] >= powers) | (powers == 1)
  there_BKN &= number_BK[..., None] != GONE
  return np.where(there_BKN, number_BK[..., None] // powers % base, ABSENT)


def packed(row_BX):
  """Rows as numbers, each once."""
  assert (row_BX >= -3).all() and (row_BX < 29).all() and row_BX.shape[1] <= 12
  return np.unique((row_BX + 3) @ (32 ** np.arange(row_BX.shape[1])))


def occurring(task, number_BK, ahead, places):
  """The contexts at some places of some sums, each with its answer."""
  base, rows = task.base, len(number_BK)
  total_B1 = np.maximum(number_BK, 0).sum(axis=1)[:, None]
  width = len(np.base_repr(total_B1.max(), base)) + ahead + 2
  sum_BN = digits(total_B1, base, width)[:, 0]
  given_BKN = digits(number_BK, base, width)
  under = ((0, 0), (0, 0), (1, 0))
  given_BKN = np.pad(given_BKN, under, constant_values=BELOW)
  sum_BN = np.pad(sum_BN, under[1:], constant_values=task.token('='))
  found = []
  for low in range(places.start + 1, min(places.stop + 1, width - ahead)):
    window_BKW = given_BKN[:, :, low : low + ahead + 1]
    if task.roles == 'shared':  # sorted, ABSENT last
      window_BKW = np.sort(np.where(window_BKW == ABSENT, 20, window_BKW), 1)
      window_BKW = np.where(window_BKW == 20, ABSENT, window_BKW)
    own_B, answer_B = sum_BN[:, low], sum_BN[:, low + 1]
    answer_B = np.where(answer_B == ABSENT, task.end, answer_B)
    row_BX = np.column_stack([own_B, window_BKW.reshape(rows, -1), answer_B])
    found.append(packed(row_BX[own_B != ABSENT]))
  return set(np.concatenate(found).tolist())


def enumerated(task, ahead):
  """The same, as they are found; no context is found twice."""
  found = []
  for part in contexts_of(task, 0, ahead):
    found.append(packed(np.column_stack([part.shown, part.target])))
    assert len(found[-1]) == len(part)
  found = np.concatenate(found).tolist()
  assert len(found) == len(set(found))
  return set(found)


def problems(task, numbers):
  """All lists of `fewest` to `operands` of some numbers, filled with GONE."""
  lists = []
  for count in range(task.fewest, task.operands + 1):
    if task.roles == 'own':
      chosen = itertools.product(numbers, repeat=count)
    else:
      chosen = itertools.combinations_with_replacement(numbers, count)
    width = ((0, 0), (0, task.operands - count))
    lists.append(np.pad(np.array(list(chosen)), width, constant_values=GONE))
  return np.concatenate(lists)


@pytest.mark.parametrize(
  ('base', 'fewest', 'operands', 'roles', 'ahead', 'size'),
  [
    (2, 2, 2, 'shared', 1, 5),
    (2, 2, 2, 'own', 2, 5),
    (3, 2, 3, 'shared', 1, 4),
    (3, 3, 3, 'shared', 1, 4),
    (3, 2, 3, 'own', 1, 4),
  ],
)
def test_contexts_are_those_of_all_sums(
  base, fewest, operands, roles, ahead, size
):
  task = Summation(base=base, fewest=fewest, operands=operands, roles=roles)
  rows = problems(task, range(base**size))
  wanted = occurring(task, rows, ahead, range(-1, size + 2))
  assert enumerated(task, ahead) == wanted


def test_contexts_of_four_numbers(monkeypatch):
  """In several parts; against problems of few first digits: they carry."""
  monkeypatch.setattr('extrap.evaluation.summation_contexts.PART', 5000)
  task = Summation(base=4, fewest=4, operands=4)
  assert len(contexts_of(task, 0, 1).parts) > 3
  starts = problems(task, range(2 * 4**2))
  shown = [0, *range(1, 4), *range(4, 4**2), *range(4**2, 4**2 + 4)]
  numbers = [first + 4 * seen for first in (0, 3) for seen in shown]
  wanted = occurring(task, starts, 1, range(-1, 1))
  wanted |= occurring(task, problems(task, numbers), 1, range(1, 5))
  assert enumerated(task, 1) == wanted


def test_contexts_of_five_numbers():
  """Those of random sums are among them."""
  task = Summation(base=5, operands=5)
  rng = np.random.default_rng(0)
  rows = rng.integers(5 ** rng.integers(1, 5, (100_000, 5)))
  rows[::2, 4] = rows[::6, 3] = GONE
  found = enumerated(task, 1)
  wanted = occurring(task, rows, 1, range(-1, 6))
  assert wanted <= found
  assert len(wanted) > len(found) / 6


def test_contexts_of_base_10():
  # With roles of their own, those of additions.
  counts = {
    roles: sum(map(len, contexts_of(Summation(operands=2, roles=roles), 0, 1)))
    for roles in ('shared', 'own')
  }
  assert counts == {'shared': 7_514, 'own': 24_518}
  assert contexts_of(Summation(operands=5), 0, 1).upper == 3003**2 * 5


def test_numbers_that_share_a_role_have_no_order():
  """Numbers in another order: the same logits, up to rounding."""
  task = Summation(operands=5)
  model = Transformer(TransformerConfig(position=PlaceWindow()), 15)
  rng = np.random.default_rng(0)
  rows = rng.integers(10 ** rng.integers(1, 6, (20, 5))).tolist()
  turned = [row[k:] + row[:k] for k in range(5) for row in rows]

  @jax.jit
  def program(number_BKN, size_BK):
    batch = task.encode(number_BKN, size_BK)
    structure = task.structure(batch.tokens)
    params = model.init(jax.random.key(0), batch.tokens, structure)
    return batch, model.apply(params, batch.tokens, structure, batch.queries)

  batch, logits_BQV = jax.device_get(program(*task.spelt(turned, 5, 5)))
  logits_BQV = logits_BQV * batch.mask[..., None]
  logits_5BQV = logits_BQV.reshape(5, 20, *logits_BQV.shape[1:])
  assert len({str(row) for row in batch.tokens}) > 90
  assert abs(logits_5BQV - logits_5BQV[:1]).max() < 1e-5
  assert logits_5BQV.std(axis=(1, 2)).max() > 0.1


def test_moved_contexts_stand_further_up_in_reverse_order():
  task = Summation(base=5)
  here, moved = (
    contexts_of(task, 0, 1, shift=shift, most=300).whole() for shift in (0, 7)
  )
  np.testing.assert_array_equal(here.shown, moved.shown)
  np.testing.assert_array_equal(here.target, moved.target)
  assert 100 < len(here) < 300
  everything = contexts_of(task, 0, 1).whole().shown
  assert set(map(tuple, here.shown)) <= set(map(tuple, everything))
  (first, *_), _ = task.read(here.tokens[-1])
  (*_, last), _ = task.read(moved.tokens[-1])
  assert last == first * 5**7


@pytest.mark.parametrize(
  ('task', 'window', 'message'),
  [
    (Summation(order='msb'), (0, 1), '--task.order=lsb'),
    (Summation(base=3, operands=4), (0, 1), 'at most 3 numbers'),
    (Summation(operands=6), (0, 1), '100,000,000 can be enumerated'),
    (Summation(operands=4, roles='own'), (0, 1), 'can be enumerated'),
    (Summation(), (1, 1), 'no place behind'),
  ],
)
def test_what_is_not_enumerated_is_refused(task, window, message):
  with pytest.raises(UsageError, match=message) as caught:
    contexts_of(task, *window)
  assert '\n' not in str(caught.value)
