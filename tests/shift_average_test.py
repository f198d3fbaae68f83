"""Predictions averaged over shifts of places."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from extrap import arms
from extrap.arms import largest_place, shift_averaged
from extrap.errors import UsageError
from extrap.models import ShiftAverage, Transformer, TransformerConfig
from extrap.models.positions import Abacus, Coupling, NoPosition
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.tasks.multiplication import Multiplication

TASK = Addition()
ROWS = ((907, 45), (12, 345), (9, 1), (40, 8), (5, 0))


def problem(position):
  config = TransformerConfig(position=position, width=16, heads=2, ffn_width=16)
  model = Transformer(config, TASK.vocab_size)
  return SequenceProblem(task=TASK, model=model, max_size=3, batch_size=4)


@pytest.fixture(
  scope='module',
  params=[Abacus(max_size=40, shift=12), Coupling(max_size=40, shift=12)],
  ids=['abacus', 'coupling'],
)
def asked(request):
  """Problem, variables and a batch."""
  of = problem(request.param)
  params = nn.unbox(jax.jit(of.init)(jax.random.key(0)))
  return of, {'params': params}, TASK.from_integers(ROWS)


def at(model, variables, batch, shift_B1):
  """Log-probabilities at a shift of each row."""
  structure = TASK.structure(batch.tokens)
  moved = model.config.position.shifted(structure, shift_B1)
  logits = model.apply(variables, batch.tokens, moved, batch.queries)
  return np.asarray(jax.nn.log_softmax(logits))


def test_is_the_mean_over_even_shifts(asked):
  of, variables, batch = asked
  average = ShiftAverage(model=of.model, largest=12, spare=1, shifts=3)
  structure = TASK.structure(batch.tokens)
  found = average.apply(variables, batch.tokens, structure, batch.queries)
  # Three digits before the answer have place 2, and the answer may have 3.
  room_B1 = np.array([[9], [9], [11], [10], [11]])
  each = [
    at(of.model, variables, batch, jnp.asarray(shift_B1))
    for shift_B1 in (0 * room_B1, room_B1 // 2, room_B1)
  ]
  np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-5)
  assert not np.allclose(found, each[0], atol=1e-2)


def test_one_shift_is_the_model(asked):
  of, variables, batch = asked
  average = ShiftAverage(model=of.model, largest=12, spare=1, shifts=1)
  structure = TASK.structure(batch.tokens)
  found = average.apply(variables, batch.tokens, structure, batch.queries)
  alone = at(of.model, variables, batch, jnp.zeros((5, 1), jnp.int32))
  np.testing.assert_allclose(found, alone, atol=1e-6)


def test_the_answer_has_no_part_in_the_shifts(asked):
  of, _, batch = asked
  average = ShiftAverage(model=of.model, largest=12, spare=1, shifts=3)
  structure = TASK.structure(batch.tokens)
  wanted = average.room(structure, batch.queries)
  index = jnp.arange(batch.tokens.shape[1])[None]
  answer = index > batch.queries[:, :1]
  longer = jnp.where(answer, 7, batch.tokens)  # Digits to the end of the row.
  found = average.room(TASK.structure(longer), batch.queries)
  np.testing.assert_array_equal(found, wanted)


def test_numbers_that_leave_no_room_are_not_shifted(asked):
  of, _, batch = asked
  average = ShiftAverage(model=of.model, largest=2, spare=1, shifts=4)
  structure = TASK.structure(batch.tokens)
  np.testing.assert_array_equal(
    average.room(structure, batch.queries)[:2], [[0], [0]]
  )


@dataclasses.dataclass(frozen=True)
class Source:
  arm: str = 'abacus'
  rung: str = 'L3'


def test_an_arm_is_asked_at_the_ids_that_it_was_trained_on():
  arm = Arm('abacus', problem(Abacus(max_size=40, shift=12)))
  averaged = shift_averaged(arm, 4)
  assert averaged.name == averaged.source.arm == 'abacus, 4 shifts'
  assert averaged.source.rung == 'L3, mean of 4 shifts'
  model = averaged.problem.model
  assert largest_place(arm.problem, 3) == 3  # A carry has a place of its own.
  assert (model.largest, model.spare, model.shifts) == (15, 1, 4)
  assert shift_averaged(arm, 0) is None
  for without in (NoPosition(), Abacus(shift=0)):
    assert shift_averaged(Arm('none', problem(without)), 4) is None


def test_products_are_refused_as_their_answers_may_be_of_any_length():
  task = Multiplication()
  of = problem(Abacus(max_size=40, shift=12))
  with pytest.raises(UsageError, match='do not follow from its longest'):
    shift_averaged(Arm('abacus', dataclasses.replace(of, task=task)), 4)


def test_the_ids_of_a_test_are_those_of_its_largest_shift():
  arm = Arm('abacus', problem(Abacus(max_size=40, shift=12)))
  assert arms.tested_shift(arm.problem, 5) == 0
  averaged = shift_averaged(arm, 4).problem
  assert [arms.tested_shift(averaged, size) for size in (3, 5, 15, 20)] == [
    12,
    10,
    0,
    0,
  ]


@dataclasses.dataclass(frozen=True)
class Arm:
  """What is read of a trained arm."""

  name: str
  problem: SequenceProblem
  source: Source = Source()
