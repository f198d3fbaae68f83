"""Tests of evaluation/grid.py and of the carry suite, evaluation/carries.py.

Shape key: B examples, Q answer queries, R replicas, T tokens.
"""

import dataclasses
import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.encoding_limits import check_table, in_table
from extrap.errors import UsageError
from extrap.evaluation.answer_loss import answer_loss, value_loss
from extrap.evaluation.carries import KINDS, carry_suites
from extrap.evaluation.exact_match import first_match, value_match
from extrap.evaluation.grid import (
  Cell,
  Suite,
  draw_rows,
  evaluate,
  row_key,
)
from extrap.models.positions import Abacus, Learned, NoPosition, Position
from extrap.tasks.addition import Addition
from extrap.tasks.task import Batch, Structure

TASK = Addition()
# Buckets of 10 and of 32.
CELLS = ((3, 3), (12, 2), (1, 1), (10, 7), (2, 13))
SUITE = Suite(name='uniform', cells=CELLS, rows=5)
# Replica r is wrong where the first number's lowest digit is below its limit.
LIMITS = np.array([0, 3, 5, 10], np.int32)


@dataclasses.dataclass(frozen=True)
class Solver:
  """A model that reads the answer from the tokens, and spoils some rows."""

  position: Position = dataclasses.field(default_factory=NoPosition)

  @property
  def config(self) -> types.SimpleNamespace:
    return types.SimpleNamespace(position=self.position)

  def apply(
    self,
    variables: dict[str, dict[str, jax.Array]],
    tokens_BT: jax.Array,
    structure: Structure,
    queries_BQ: jax.Array,
  ) -> jax.Array:
    said_BQ = jnp.take_along_axis(tokens_BT, queries_BQ + 1, axis=1)
    wrong_B1 = tokens_BT[:, :1] < variables['params']['limit']
    # Only the answer's end is spoiled.
    said_BQ = jnp.where(wrong_B1 & (said_BQ == TASK.end), 0, said_BQ)
    return jax.nn.one_hot(said_BQ, TASK.vocab_size)


def _params(limits: np.ndarray = LIMITS) -> dict[str, jax.Array]:
  return {'limit': jnp.asarray(limits)}


@functools.cache
def _evaluated(
  shared: bool = False, tokens_per_call: int = 1 << 16
) -> tuple[dict[Cell, np.ndarray], list[int]]:
  """The counts of SUITE, and the progress that was reported."""
  done = []
  counts = evaluate(
    Solver(),
    _params(),
    TASK,
    dataclasses.replace(SUITE, shared=shared),
    tokens_per_call=tokens_per_call,
    progress=done.append,
  )
  return counts, done


@functools.cache
def _draw_at(max_size: int, suite: Suite = SUITE) -> object:
  return jax.jit(
    lambda cells, rows: draw_rows(TASK, suite, cells, rows, max_size).tokens
  )


def _draw(
  cell: Cell, rows: range, max_size: int, suite: Suite = SUITE
) -> list[tuple[int, int]]:
  """The operands of up to 8 rows of a cell."""
  cells = np.tile(np.array(cell, np.int32), (8, 1))
  numbers = rows[0] + np.arange(8, dtype=np.int32)
  tokens_BT = _draw_at(max_size, suite)(cells, numbers)
  return [TASK.read(row)[0] for row in np.asarray(tokens_BT)[: len(rows)]]


def _by_hand(cell: Cell, replica: int, shared: bool) -> int:
  """Right answers in a cell, one row after another."""
  right = 0
  for k in range(SUITE.rows):
    row = k if shared else replica * SUITE.rows + k
    [(a, _)] = _draw(cell, range(row, row + 1), 32)
    right += a % 10 >= LIMITS[replica]
  return right


@pytest.mark.parametrize('shared', [False, True])
def test_counts_what_a_loop_over_rows_counts(shared: bool) -> None:
  counts, _ = _evaluated(shared)
  assert list(counts) == list(CELLS)
  for cell in CELLS:
    wanted = [_by_hand(cell, r, shared) for r in range(len(LIMITS))]
    np.testing.assert_array_equal(counts[cell], wanted)
    assert counts[cell][0] == SUITE.rows and counts[cell][3] == 0
  assert any(0 < counts[cell][2] < SUITE.rows for cell in CELLS)


@pytest.mark.parametrize('tokens_per_call', [1, 1000])
def test_counts_do_not_depend_on_the_size_of_a_call(
  tokens_per_call: int,
) -> None:
  counts, _ = _evaluated(tokens_per_call=tokens_per_call)
  for cell, count in _evaluated()[0].items():
    np.testing.assert_array_equal(counts[cell], count)


def test_the_first_token_of_an_answer_may_be_what_counts() -> None:
  suite = dataclasses.replace(SUITE, match=first_match)
  counts = evaluate(Solver(), _params(), TASK, suite)
  # Where only an end is wrong.
  assert all((right_R == SUITE.rows).all() for right_R in counts.values())
  batch = draw_rows(TASK, SUITE, np.array([[2, 2]]), np.array([0]), 10)
  logits = jax.nn.one_hot(batch.targets, TASK.vocab_size)
  assert first_match(logits, batch).all()
  assert not first_match(logits.at[:, 0].set(jnp.nan), batch).any()
  assert not first_match(jnp.roll(logits, 1, axis=-1), batch).any()


def test_an_answer_may_be_asked_for_without_its_end() -> None:
  targets_BQ = jnp.array([[3, 1, TASK.end], [2, 0, TASK.end]])
  batch = Batch(targets_BQ, targets_BQ, targets_BQ, targets_BQ >= 0)
  logits = jax.nn.one_hot(targets_BQ, TASK.vocab_size)
  assert value_match(logits.at[:, -1].set(jnp.nan), batch).all()
  wrong = jnp.roll(logits[:1, 1], 1, axis=-1)
  assert value_match(logits.at[0, 1].set(wrong[0]), batch).tolist() == [0, 1]
  loss_B = value_loss(logits.at[:, -1].set(jnp.nan), batch)
  rest = np.log(TASK.vocab_size - 1 + np.e)
  np.testing.assert_allclose(loss_B, [rest - 1] * 2, rtol=1e-5)


def test_losses_of_answers_add_up() -> None:
  suite = dataclasses.replace(SUITE, cells=((10, 7),), match=answer_loss)
  sum_R = evaluate(Solver(), _params(), TASK, suite)[10, 7]
  # The logit of what is said is 1, and 0 of anything else.
  rest = np.log(TASK.vocab_size - 1 + np.e)
  np.testing.assert_allclose(sum_R[0], SUITE.rows * (rest - 1), rtol=1e-5)
  cells, rows = np.full((5, 2), (10, 7)), np.arange(3 * 5, 4 * 5)
  asked_B = np.sum(draw_rows(TASK, suite, cells, rows, 10).mask, axis=1)
  # Replica 3 says the end of no answer: one of the tokens asked for.
  spoiled = np.sum(1 / asked_B)
  np.testing.assert_allclose(sum_R[3], sum_R[0] + spoiled, rtol=1e-5)


def test_counts_do_not_depend_on_other_cells() -> None:
  for cells in ((10, 7),), ((10, 7), (4, 4), (10, 7), (3, 2)):
    suite = dataclasses.replace(SUITE, cells=cells)
    counts = evaluate(Solver(), _params(), TASK, suite)
    assert list(counts) == list(dict.fromkeys(cells))
    np.testing.assert_array_equal(counts[10, 7], _evaluated()[0][10, 7])


def test_rows_do_not_depend_on_the_bucket() -> None:
  for cell in (1, 1), (3, 2), (7, 10):
    small = _draw(cell, range(6), 10)
    assert small == _draw(cell, range(6), 32)
    # A row is a row, whichever others are drawn beside it.
    assert small[4:] == _draw(cell, range(4, 6), 10)
    assert {(len(str(a)), len(str(b))) for a, b in small} == {cell}


def test_rows_are_always_the_same() -> None:
  # Published results were measured on these; a change makes them void.
  assert _draw((3, 2), range(3), 10) == [
    (347, 48),
    (640, 77),
    (461, 70),
  ]


def test_every_row_is_another() -> None:
  rows = _draw((9, 10), range(6), 10) + _draw((10, 9), range(6), 10)
  other = dataclasses.replace(SUITE, name='other')
  rows += _draw((10, 9), range(6), 10, other)
  assert len({number for row in rows for number in row}) == 36
  keys = [
    jax.random.key_data(row_key(suite, cell, row)).tolist()
    for suite in ('a', 'b')
    for cell in ((1, 2), (2, 1), (12,))
    for row in (0, 1)
  ]
  assert len({tuple(key) for key in keys}) == len(keys)


def test_replicas_see_rows_of_their_own_unless_shared() -> None:
  limits = _params(np.array([5, 5, 5, 5], np.int32))
  cells = tuple(itertools.product((1, 2, 3), repeat=2))
  for shared in False, True:
    suite = Suite(name='uniform', cells=cells, rows=8, shared=shared)
    counts = evaluate(Solver(), limits, TASK, suite)
    counts_XR = np.stack(list(counts.values()))
    assert (counts_XR == counts_XR[:, :1]).all() == shared


@pytest.mark.parametrize('cell', [(0, 3), (3, 0)])
def test_sizes_start_at_1(cell: Cell) -> None:
  suite = Suite(name='uniform', cells=((2, 2), cell), rows=1)
  with pytest.raises(UsageError, match=f'size {cell[0]}x{cell[1]}') as caught:
    evaluate(Solver(), _params(), TASK, suite)
  assert '\n' not in str(caught.value)


def test_sizes_beyond_the_table_are_refused() -> None:
  position = Abacus(max_size=14, shift=0)
  suite = Suite(name='uniform', cells=((2, 2), (2, 13)), rows=1)
  with pytest.raises(UsageError) as caught:
    evaluate(Solver(position), _params(), TASK, suite)
  for part in 'size 13', 'ends at 12', '--model.position.max_size':
    assert part in str(caught.value)
  assert '\n' not in str(caught.value)
  # The bucket of 32 goes beyond the table, but no token does.
  inside = dataclasses.replace(suite, cells=((2, 12),))
  assert evaluate(Solver(position), _params(), TASK, inside)[2, 12][0] == 1


def test_what_a_table_can_index() -> None:
  for position, largest in (
    (Abacus(max_size=14, shift=0), 12),
    (Learned(max_size=40), 12),
    (Learned(max_size=39), 11),
  ):
    assert in_table(position, TASK, largest)
    check_table(position, TASK, largest)
    assert not in_table(position, TASK, largest + 1)
    with pytest.raises(UsageError, match=r'--model\.position\.max_size'):
      check_table(position, TASK, largest + 1)
  assert in_table(NoPosition(), TASK, 10**6)


@pytest.mark.parametrize('tokens_per_call', [1, 1000, 1 << 16])
def test_progress_adds_up_to_the_cells(tokens_per_call: int) -> None:
  _, done = _evaluated(tokens_per_call=tokens_per_call)
  assert sum(done) == len(CELLS) and min(done) >= 0
  if tokens_per_call == 1:
    assert len(done) == len(CELLS) * SUITE.rows


LENGTHS = (1, 2, 7, 8)
ROWS = 12


@functools.cache
def _carry_rows(base: int, kind: str) -> dict[int, list[tuple]]:
  """For each length (sizes, operands) of the suite's rows."""
  task = Addition(base=base)
  suite = carry_suites(task, LENGTHS, ROWS)[kind]
  cells = np.repeat(np.array(suite.cells, np.int32), ROWS, axis=0)
  rows = np.tile(np.arange(ROWS, dtype=np.int32), len(LENGTHS))
  drawn = jax.jit(lambda c, r: draw_rows(task, suite, c, r, 10).tokens)
  tokens_BT = np.asarray(drawn(cells, rows))
  found: dict[int, list[tuple]] = {length: [] for length in LENGTHS}
  for cell, tokens in zip(cells, tokens_BT, strict=True):
    operands, answer = task.read(tokens)
    assert answer == sum(operands)
    plus, equals = (
      list(tokens).index(token) for token in (task.plus, task.equals)
    )
    # As long as the cell says, without leading zeros.
    assert (plus, equals - plus - 1) == tuple(cell)
    for operand, size in zip(operands, cell, strict=True):
      assert len(_digits(operand, base)) == size
    found[int(max(cell))].append(operands)
  return found


def _digits(number: int, base: int) -> list[int]:
  """Least significant first."""
  digits = []
  while number or not digits:
    number, digit = divmod(number, base)
    digits.append(digit)
  return digits


def _carries(a: int, b: int, base: int) -> list[bool]:
  """Whether each place of the longer number passes a carry on."""
  carries, carry = [], 0
  a_digits, b_digits = _digits(a, base), _digits(b, base)
  for x, y in itertools.zip_longest(a_digits, b_digits, fillvalue=0):
    carry = x + y + carry >= base
    carries.append(carry)
  return carries


def _is_chain(a: int, b: int, length: int, base: int) -> bool:
  """Every place passes a carry on, and all but the lowest only if given one.

  In base 2 the highest place makes one of its own.
  """
  a_digits, b_digits = _digits(a, base), _digits(b, base)
  sums = [x + y for x, y in zip(a_digits, b_digits, strict=True)]
  passing = sums[1:-1] if base == 2 else sums[1:]
  return (
    all(_carries(a, b, base))
    and sums[0] == base
    and all(total == base - 1 for total in passing)
  )


def _is_nines(a: int, b: int, length: int, base: int) -> bool:
  return (a, b) == (base**length - 1, 1)


def _is_round(a: int, b: int, length: int, base: int) -> bool:
  return a == b == (base ** (length - 1) if length > 1 else 0)


def _is_palindromes(a: int, b: int, length: int, base: int) -> bool:
  return all(_digits(x, base) == _digits(x, base)[::-1] for x in (a, b))


def _is_alternating(a: int, b: int, length: int, base: int) -> bool:
  carries = _carries(a, b, base)[::-1]
  return carries == [place % 2 == 0 for place in range(length)]


def _is_same(a: int, b: int, length: int, base: int) -> bool:
  return a == b and len(set(_digits(a, base))) == 1


def _is_unequal(a: int, b: int, length: int, base: int) -> bool:
  return 0 < a < base and all(_digits(b, base))


PROPERTIES = {
  'chain': _is_chain,
  'nines': _is_nines,
  'zeros': _is_round,
  'palindromes': _is_palindromes,
  'alternating': _is_alternating,
  'same': _is_same,
  'unequal': _is_unequal,
}


@pytest.mark.parametrize(
  ('kind', 'base'),
  [*itertools.product(KINDS, (2, 10)), ('chain', 3), ('alternating', 3)],
)
def test_sums_of_the_carry_suite_are_what_they_are_called(
  kind: str, base: int
) -> None:
  for length, sums in _carry_rows(base, kind).items():
    assert len(sums) == ROWS
    for a, b in sums:
      assert PROPERTIES[kind](a, b, length, base), (a, b)


@pytest.mark.parametrize('kind', ['chain', 'palindromes', 'same', 'unequal'])
def test_random_kinds_draw_every_row_anew(kind: str) -> None:
  assert KINDS[kind].random
  rows = {length: set(sums) for length, sums in _carry_rows(10, kind).items()}
  assert len(rows[7]) == ROWS if kind != 'same' else len(rows[7]) > 4
  if kind in ('palindromes', 'unequal'):
    assert any(a % 10 != b % 10 for a, b in rows[7])


def test_the_longest_run_of_a_chain_is_its_length() -> None:
  for kind in 'chain', 'nines':
    for length, sums in _carry_rows(10, kind).items():
      for a, b in sums:
        runs = itertools.groupby(_carries(a, b, 10))
        assert max(len(list(run)) for carry, run in runs if carry) == length


def test_a_suite_of_each_kind() -> None:
  suites = carry_suites(TASK, (2, 5), 9)
  assert len({suite.name for suite in suites.values()}) == len(KINDS)
  for kind, suite in suites.items():
    fixed = kind in ('nines', 'zeros', 'alternating')
    assert suite.rows == (1 if fixed else 9)
    assert {max(cell) for cell in suite.cells} == {2, 5}
    assert not suite.shared
  assert suites['nines'].cells == ((2, 1), (5, 1))
  assert suites['unequal'].cells == ((1, 2), (1, 5))
  counts = evaluate(Solver(), _params(), TASK, suites['nines'])
  # 9 is the lowest digit of 99..9.
  np.testing.assert_array_equal(counts[5, 1], [1, 1, 1, 0])


def test_a_progress_that_raises_ends_the_evaluation() -> None:
  """SIGTERM is noticed there: most of the calls are not made any more."""
  done = []

  def stop(cells: int) -> None:
    done.append(cells)
    if len(done) == 3:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    evaluate(Solver(), _params(), TASK, SUITE, tokens_per_call=1, progress=stop)
  assert len(done) == 3
