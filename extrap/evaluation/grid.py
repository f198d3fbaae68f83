"""Exact match in cells of given sizes, compiled once per length bucket.

A cell is a tuple of sizes. Row k of a cell is drawn from a key folded with
(suite, cell, k): the same row in every bucket, batch and model.

Shape key: R replicas, N rows of a program, S size axes, Q answer queries.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from extrap.compilation import default_workers, in_order, jit_once
from extrap.encoding_limits import check_table
from extrap.errors import UsageError
from extrap.evaluation.exact_match import exact_match
from extrap.models.transformer import Params, Transformer
from extrap.randomness import named
from extrap.tasks.task import Batch, Task

Cell = tuple[int, ...]
# Draws one row: (key, sizes int32 [1, S], static max_size) -> batch of one.
Sampler = Callable[[jax.Array, jax.Array, int], Batch]
Progress = Callable[[int], None]
# What is added up, which answers are right: (logits [N, Q, V], batch of N) ->
# bool [N], or numbers such as losses.
Match = Callable[[jax.Array, Batch], jax.Array]

# A compilation costs seconds, as does padding the grid to its longest sums.
BUCKETS = (50, 100, 1000, 10_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
  """Cells to measure, and how their rows are drawn.

  Attributes:
    name: folded into every key: suites do not share rows.
    cells: tuples of sizes.
    rows: rows a cell and replica.
    sampler: draws a row; None for the task's own uniform sampling.
    buckets: sizes that programs are compiled for; a larger cell gets its own.
    shared: whether all replicas see the same rows; otherwise replica r takes
      rows r * rows .. (r + 1) * rows - 1 of each cell, so that replicas add up.
    match: which answers count as right, or a number of each answer.
  """

  name: str
  cells: tuple[Cell, ...]
  rows: int
  sampler: Sampler | None = None
  buckets: tuple[int, ...] = BUCKETS
  shared: bool = False
  match: Match = exact_match


def row_key(suite: str, cell: Sequence[int | jax.Array], row: int) -> jax.Array:
  """The key of one row of a cell."""
  return named(jax.random.key(0), 'suite', suite, *cell, row)


def draw_rows(
  task: Task, suite: Suite, cell_NS: jax.Array, row_N: jax.Array, max_size: int
) -> Batch:
  """Rows of given cells and numbers, as one batch of N."""

  def one(cell_S: jax.Array, row: jax.Array) -> Batch:
    key = row_key(suite.name, cell_S, row)
    if suite.sampler is not None:
      return suite.sampler(key, cell_S[None], max_size)
    return task.sample(key, cell_S[None], max_size=max_size)

  batch = jax.vmap(one)(cell_NS, row_N)
  return jax.tree.map(lambda leaf: leaf[:, 0], batch)


def evaluate(
  model: Transformer,
  params: Params,
  task: Task,
  suite: Suite,
  *,
  tokens_per_call: int | None = None,
  progress: Progress | None = None,
) -> dict[Cell, np.ndarray]:
  """Counts right answers in every cell.

  Args:
    model: the model; params: of a population, leading replica axis.
    task: what was learned.
    suite: the cells.
    tokens_per_call: bounds memory: rows x tokens of a replica in one call on a
      device (default: 2**11 on a CPU, else 2**16), of up to four at a time.
    progress: called with the number of cells done since the last call.

  Returns:
    For each cell the number of right answers of each replica, int [R], or the
    sum of another number that `match` gives.

  Raises:
    UsageError: a size is 0, or beyond the encoding's table.
  """
  tokens_per_call = tokens_per_call or default_tokens()
  counts = {}
  for bucket, cells in _buckets(suite):
    check_table(model.config.position, task, max(map(max, cells)))
    # The same number of rows for every suite: one compilation serves all.
    rows = max(1, tokens_per_call // task.token_length(bucket))
    right_R = _run(model, params, task, suite, cells, bucket, rows, progress)
    counts |= dict(zip(cells, right_R, strict=True))
  return {cell: counts[cell] for cell in suite.cells}


def default_tokens() -> int:
  """Tokens of one call: a core's caches hold them, or a GPU is full.

  On two cores (AMD EPYC), 304 tokens a row, two layers of width 128: 2**15
  tokens a call score 166 rows a second, 2**11 370, two such calls at a time
  440 (`experiments/benchmarks/grid.py` has the model).
  """
  return 1 << (11 if jax.default_backend() == 'cpu' else 16)


def _buckets(suite: Suite) -> Iterator[tuple[int, list[Cell]]]:
  """Cells grouped by the smallest bucket that holds them."""
  grouped: dict[int, list[Cell]] = {}
  for cell in dict.fromkeys(suite.cells):
    if min(cell) < 1:
      raise UsageError(f'size {"x".join(map(str, cell))}: sizes start at 1')
    bucket = next((b for b in suite.buckets if b >= max(cell)), max(cell))
    grouped.setdefault(bucket, []).append(cell)
  yield from grouped.items()


def teacher_forced_match(
  model: Transformer,
  params: Params,
  task: Task,
  batch: Batch,
  match: Match = exact_match,
) -> jax.Array:
  """Right answers, bool [B], of one replica, in one forward pass."""
  structure = task.structure(batch.tokens)
  logits_BQV = model.apply(
    {'params': params}, batch.tokens, structure, batch.queries
  )
  return match(logits_BQV, batch)


def mesh_of(params: Params) -> Mesh | None:
  """The mesh that parameters are spread over, if it is more than a device."""
  sharding = getattr(jax.tree.leaves(params)[0], 'sharding', None)
  spread = isinstance(sharding, NamedSharding) and sharding.mesh.size > 1
  return sharding.mesh if spread else None


@functools.lru_cache(maxsize=64)
def _scorer(
  model: Transformer, task: Task, match: Match, mesh: Mesh | None
) -> Callable:
  """(params, batch of all replicas) -> right [R, N]; shared by all suites."""

  def score(replica: tuple[Params, Batch]) -> jax.Array:
    params, batch = replica
    return teacher_forced_match(model, params, task, batch, match)

  # One replica after the other: as fast as all at once, in less memory.
  def score_all(params: Params, batch: Batch) -> jax.Array:
    return jax.lax.map(score, (params, batch))

  return on_mesh(score_all, mesh)


def on_mesh(function: Callable, mesh: Mesh | None) -> Callable:
  """A program whose examples lie along all axes of a mesh, if there is one.

  Every process of a job reads the whole result.
  """
  if mesh is None:
    return jax.jit(function)
  program = jax.jit(function, out_shardings=NamedSharding(mesh, P()))
  rules = [('batch', mesh.axis_names)]

  def call(*arguments: object) -> jax.Array:
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
      return program(*arguments)

  return call


def _drawer(
  task: Task, suite: Suite, bucket: int, replicas: int, mesh: Mesh | None
) -> Callable[[np.ndarray, np.ndarray], Batch]:
  """(cells [N, S], rows [N]) -> batch with a leading replica axis.

  Over a mesh the rows lie along all of its axes: every device scores a share.
  """

  def draw(replica: jax.Array, cell_NS: jax.Array, row_N: jax.Array) -> Batch:
    offset = 0 if suite.shared else replica * suite.rows
    return draw_rows(task, suite, cell_NS, row_N + offset, bucket)

  out = {}
  if mesh is not None:
    out['out_shardings'] = NamedSharding(mesh, P(None, mesh.axis_names))
  over_replicas = jit_once(jax.vmap(draw, in_axes=(0, None, None)), **out)
  return functools.partial(over_replicas, np.arange(replicas))


def _run(
  model: Transformer,
  params: Params,
  task: Task,
  suite: Suite,
  cells: Sequence[Cell],
  bucket: int,
  rows: int,
  progress: Progress | None,
) -> np.ndarray:
  """Right answers of each cell and replica, [cells, R]."""
  replicas, mesh = jax.tree.leaves(params)[0].shape[0], mesh_of(params)
  score = _scorer(model, task, suite.match, mesh)
  draw = _drawer(task, suite, bucket, replicas, mesh)
  rows *= 1 if mesh is None else mesh.size
  # The processes of a mesh make all their calls in one order, hence one thread;
  # and a row that is longer than a call should be is alone in memory.
  fits = mesh is None and rows > 1
  workers = default_workers() if fits else 0
  cell_XS = np.repeat(np.asarray(cells, np.int32), suite.rows, axis=0)
  row_X = np.tile(np.arange(suite.rows, dtype=np.int32), len(cells))
  total = len(row_X)

  def right(first: int) -> jax.Array:
    # The last call is filled up by repeating a row, so that shapes agree.
    take = np.minimum(np.arange(first, first + rows), total - 1)
    return score(params, draw(cell_XS[take], row_X[take]))

  results = []
  starts = range(0, total, rows)
  found = in_order(right, starts, workers)
  for first, right_RN in zip(starts, found, strict=True):
    results.append(right_RN)
    if progress is not None:
      done = min(first + rows, total) // suite.rows
      progress(done - first // suite.rows)
  right_RX = np.concatenate(results, axis=1)[:, :total]
  return right_RX.reshape(len(right_RX), len(cells), -1).sum(axis=-1).T
