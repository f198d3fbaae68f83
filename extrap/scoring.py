"""How a study scores: lengths, reaches, stress suites, certificates.

Suffix key: R replicas.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.arms import Arm, largest_id, shift_averaged, tested_shift
from extrap.encoding_limits import check_table, in_table
from extrap.errors import UsageError
from extrap.evaluation import certificate
from extrap.evaluation.certificate import Certificate
from extrap.evaluation.contexts import Contexts, Enumeration
from extrap.evaluation.grid import Cell, Suite, evaluate
from extrap.evaluation.reach import is_over
from extrap.evaluation.results import Result, length_split
from extrap.evaluation.stress import Kind, stress_suites
from extrap.kept import Kept
from extrap.models import ShiftAverage, backends
from extrap.models.positions import Position
from extrap.models.transformer import Params, Transformer
from extrap.reporting.progress import Progress
from extrap.sequence import SequenceProblem
from extrap.tasks.task import Task
from extrap.training import distributed

# Lengths are tested at these or their own: a thousand long problems take longer
# to pad than a program to compile.
BUCKETS = (50, 100)

LARGEST_ROW = 1 << 30  # Bytes that attention to a single row may take.


def check_testable(
  flag: str, name: str, problem: SequenceProblem, size: int
) -> None:
  """Refuses a size that an arm's table, its task or the memory does not hold.

  And heads that its encoding cannot serve.

  Args:
    flag: what says how large tests are.
    name: of the arm.
    problem: the arm.
    size: the largest that is to be tested.

  Raises:
    UsageError: saying which.
  """
  model = problem.model.config
  model.position.check(model.heads, model.head_width)
  check_table(model.position, problem.task, size)
  needed = row_bytes(problem, size)
  if needed > LARGEST_ROW:
    raise UsageError(
      f'{flag}: at size {size} {name} would attend over '
      f'{problem.task.token_length(size):,} tokens, {needed / 2**30:.1f} GiB '
      'for a single row: lower it'
    )


def row_bytes(problem: SequenceProblem, size: int) -> int:
  """What attention to a single row takes at a size, in the worst layer.

  Raises:
    UsageError: the task has no row of that size.
  """
  layers = dict.fromkeys(problem.model.config.position.layers)
  return max(_layer_bytes(problem, position, size) for position in layers)


def _layer_bytes(
  problem: SequenceProblem, position: Position, size: int
) -> int:
  model, task = problem.model.config, problem.task
  size_BS = jnp.full((1, len(task.axes)), size)

  def neighbours(key: jax.Array) -> jax.Array | None:
    tokens_BT = task.sample(key, size_BS, max_size=size).tokens
    return position.neighbours(task.structure(tokens_BT))

  found_BTW = jax.eval_shape(neighbours, jax.random.key(0))
  layer = dataclasses.replace(model, position=position, depth=1)
  window = None if found_BTW is None else found_BTW.shape[-1]
  return backends.row_bytes(layer, task.token_length(size), window)


def count_right(
  model: Transformer,
  params: Params,
  task: Task,
  suite: Suite,
  label: str,
  check: Callable[[], None],
) -> dict[Cell, np.ndarray]:
  """Right answers by cell and replica, with progress; see `grid.evaluate`.

  Args:
    model: the model; params: of a population, leading replica axis.
    task: what was learned.
    suite: the cells.
    label: names the suite in progress lines.
    check: called between cells, as `Kept.check`.
  """
  first = distributed.is_first()
  with Progress(len(suite.cells), label, unit='cells', shown=first) as progress:

    def advance(cells: int) -> None:
      check()
      progress.advance(cells)

    return evaluate(model, params, task, suite, progress=advance)


def score_lengths(
  arm: Arm, lengths: Sequence[int], rows: int, kept: Kept, always: int = 0
) -> list[Result]:
  """Exact match at equal sizes, until every replica is below 50 %.

  Args:
    arm: the arm.
    lengths: what to test, the training length among them.
    rows: problems a length and replica.
    kept: hears SIGTERM between lengths.
    always: lengths up to this are tested whatever was found.
  """
  problem, source, results = arm.problem, arm.source, []
  scored: dict[int, list[float]] = {}
  for length in sorted(lengths):
    inside = length <= problem.max_size
    split = length_split(length, problem.max_size)
    right_R, n = None, 0
    if in_table(problem.model.config.position, problem.task, length):
      right_R, n = _score(arm, length, rows, kept), rows
      scored[length] = (right_R / rows).tolist()
    results += source.exact_match(split, str(length), right_R, n)
    due = not inside and length >= always
    if due and is_over(scored, problem.max_size):
      break
  notes = json.loads(source.hparams)
  most = max(scored)
  notes['tested_id'] = largest_id(problem, most, tested_shift(problem, most))
  hparams = json.dumps(notes)
  return [dataclasses.replace(row, hparams=hparams) for row in results]


def score_reaches(
  arm: Arm, lengths: Sequence[int], rows: int, shifts: int, kept: Kept
) -> list[Result]:
  """`score_lengths`, then again for predictions averaged over shifts.

  Once where there is nothing to average, see `shift_averaged`.
  """
  results = score_lengths(arm, lengths, rows, kept)
  if averaged := shift_averaged(arm, shifts):
    results += score_lengths(averaged, lengths, rows, kept)
  return results


def _score(arm: Arm, length: int, rows: int, kept: Kept) -> np.ndarray:
  """Right answers of each replica."""
  problem = arm.problem
  cell = (length,) * len(problem.task.axes)
  # Many passes over each problem: padding would cost more than it saves.
  buckets = () if isinstance(problem.model, ShiftAverage) else BUCKETS
  suite = Suite(name='equal', cells=(cell,), rows=rows, buckets=buckets)
  counts = count_right(
    problem.model,
    arm.trained.params,
    problem.task,
    suite,
    f'test {arm.name}, {length} digits',
    kept.check,
  )
  return np.asarray(counts[cell])


def stress_rows(
  arm: Arm,
  name: str,
  kinds: Mapping[str, Kind],
  scored: Sequence[Result],
  kept: Kept,
) -> list[Result]:
  """A stress suite at the training length and at the longest that was scored.

  Args:
    arm: the arm.
    name: of the suite; kinds: its problems, see `stress_suites`.
    scored: rows of `score_lengths`.
    kept: hears SIGTERM between cells.
  """
  problem, results = arm.problem, []
  tested = {int(row.size) for row in scored if row.value is not None}
  ends = sorted({problem.max_size, max(tested)})
  suites = stress_suites(name, kinds, problem.task, ends, rows=10, buckets=())
  for suite in suites.values():
    counts = count_right(
      problem.model,
      arm.trained.params,
      problem.task,
      suite,
      f'test {arm.name}, {suite.name}',
      kept.check,
    )
    for cell, right_R in counts.items():
      size = str(max(cell))
      results += arm.source.exact_match(suite.name, size, right_R, suite.rows)
  return results


def certified_rows(
  arm: Arm,
  check: Callable[[], None],
  of: Callable[..., list[Certificate]] | None = None,
) -> list[Result]:
  """The certificate of every replica, which is said, with progress.

  Args:
    arm: the arm.
    check: called between parts of the contexts, as `Kept.check`.
    of: called as of(model, params, task) in place of `certificate.certify`,
      without progress.
  """
  of = of or functools.partial(
    certificate.certify,
    watched=functools.partial(_watched, f'certify {arm.name}', check),
  )
  params = distributed.to_host(arm.trained.params)
  found = of(arm.problem.model, params, arm.problem.task)
  for seed, one in zip(arm.source.seeds, found, strict=True):
    distributed.say(f'{arm.name}, seed {seed}: {one}')
  return certificate.rows(arm.source, found)


def _watched(
  label: str, check: Callable[[], None], contexts: Enumeration
) -> Iterator[Contexts]:
  """The parts of an enumeration, with progress."""
  number, shown = len(contexts.parts), distributed.is_first()
  with Progress(number, label, unit='parts', shown=shown) as progress:
    for part in contexts:
      yield part
      check()
      progress.advance(1)


def lengths_up_to(trained: int, longest: int) -> list[int]:
  """Lengths to test, from half of the training length to `longest` times it.

  The factors are those at which published reaches differ; 1.5 is among them.
  """
  factors = (0.5, 1, 1.1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 20, 50, 100)
  return sorted({round(f * trained) for f in factors if f <= longest})
