"""Rows that are filled with examples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.arms import largest_trained_id
from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import Learned, PlaceBias, Position, Rotary
from extrap.packing import PackedProblem, packed
from extrap.tasks.copying import Copying
from extrap.training.problem import Context

TASK = Copying(base=5)


def by_hand(batch, rows, length):
  """Tokens and whether each is of an answer, a row after the other."""
  batch, examples = jax.device_get(batch), []
  for tokens, queries, mask in zip(
    batch.tokens, batch.queries, batch.mask, strict=True
  ):
    asked = set((queries[mask] + 1).tolist())
    tokens = tokens[tokens != TASK.pad].tolist()
    examples.append((tokens, [at in asked for at in range(len(tokens))]))
  each = len(examples) // rows
  for row in range(rows):
    tokens, counts = [], []
    for example, asked in examples[row * each : (row + 1) * each]:
      whole = len(tokens) + len(example) <= length
      tokens += example
      counts += asked if whole else [False] * len(asked)
    padding = [TASK.pad] * length
    yield (tokens + padding)[:length], (counts + [False] * length)[:length]


@pytest.mark.parametrize('length', [12, 17, 40])
def test_rows_hold_examples_one_after_another(length):
  size_NS = jax.random.randint(jax.random.key(0), (30, 1), 1, 6)
  batch = TASK.sample(jax.random.key(1), size_NS, max_size=5)
  found = jax.jit(packed, static_argnums=(1, 2, 3))(batch, 6, length, TASK.pad)
  assert found.queries.tolist() == [list(range(length - 1))] * 6
  for row, (tokens, counts) in enumerate(by_hand(batch, 6, length)):
    assert found.tokens[row].tolist() == tokens
    assert found.targets[row].tolist() == tokens[1:]
    assert found.mask[row].tolist() == counts[1:]


def problem(position: Position, **changes) -> PackedProblem:
  model = TransformerConfig(
    depth=1, width=8, heads=2, ffn_width=8, position=position
  )
  made = PackedProblem(
    task=TASK,
    model=Transformer(model, TASK.vocab_size),
    max_size=50,
    batch_size=200,
    context=220,
  )
  return dataclasses.replace(made, **changes)


def test_training_rows_are_full_and_tests_are_of_one_example():
  made = problem(Rotary())
  ctx = Context(jax.random.key(0), jnp.int32(0), {})
  batch = made.sample(ctx)
  assert batch.tokens.shape == (200, 220)
  assert np.mean(np.any(batch.tokens == TASK.pad, axis=1)) < 0.02
  # Half of the tokens are of answers, but for those of what is cut off.
  assert 0.3 < np.mean(batch.mask) < 0.5
  assert np.all(np.any(batch.mask, axis=1))
  held_out = made._draw(ctx.key, 2, 75, 75)
  assert held_out.tokens.shape == (2, TASK.token_length(75))


@pytest.mark.parametrize(
  ('position', 'context', 'message'),
  [
    (Rotary(), 101, 'rows of 101 tokens: the longest example has 102'),
    (
      Learned(max_size=219),
      220,
      'a row of 220 tokens needs position ids up to 219, but the table of '
      'Learned ends at 218: raise its max_size',
    ),
    (PlaceBias(), 220, 'reads place, role: in rows of many examples'),
  ],
)
def test_what_does_not_fit_is_refused(position, context, message):
  with pytest.raises(UsageError, match=message) as caught:
    problem(position, context=context)
  assert '\n' not in str(caught.value)


def test_positions_of_whole_rows_are_trained():
  assert largest_trained_id(problem(Rotary())) == 'position 219'
  learned = problem(Learned(max_size=220))
  assert largest_trained_id(learned) == 'position 219'


def test_a_table_may_have_as_many_as_a_row():
  problem(Learned(max_size=220))
