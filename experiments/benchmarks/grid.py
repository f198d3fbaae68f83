"""Time of a whole grid of lengths, against decoding without a cache.

The 100 x 100 grid of operand lengths, 100 sums a cell, with a model of half a
million parameters (Abacus, two layers, width 128): a million sums. Published
length-generalization code (mcleish7/arithmetic) decodes them with a whole
forward pass for every token of the answer; that loop is timed here on cells
drawn from the grid, in the same process, on the same sums. It runs at the
padded length of a bucket at every step; a text that grows would be 1.67 times
shorter, over the whole grid. The time of the grid includes drawing the sums and
compiling, that of the sampled cells does not. The weights are random: they
change no time. Both methods must agree on how many tokens of each answer are
right before the first wrong one.

Measured (`results/grid.csv`). The grid: 1,828 seconds on two cores, 1.83 ms a
sum. The loop without a cache takes 1.2 s a sum on six cells, 96 times what one
forward pass of each of them takes, which is called once, cold (12 ms a sum);
other work ran beside the loop for the last three cells, at most doubling them,
so that the ratio is 50 at the least. Against the grid's own time a sum it is
about 650, of cells that are larger than its mean.

Command (two CPU cores of an AMD EPYC; the claim is at most an hour):
  python -m experiments.benchmarks.grid --csv=experiments/results/grid.csv
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn

from experiments.benchmarks.decoding import median_seconds, uncached_decode
from experiments.benchmarks.table import publish
from extrap import cli
from extrap.config import option
from extrap.evaluation.exact_match import right_tokens
from extrap.evaluation.grid import (
  Cell,
  Suite,
  draw_rows,
  evaluate,
)
from extrap.evaluation.regions import square
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import Abacus
from extrap.models.transformer import Params
from extrap.reporting.progress import Progress
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.tasks.task import Batch

CLAIM = 'a million sums of up to 100 digits scored within an hour'
TIME = '45 minutes on two CPU cores'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Flags of this benchmark."""

  grid: int = option(100, 'side of the grid', unit='digits', minimum=2)
  sums: int = option(100, 'sums a cell', unit='sums', minimum=1)
  sample: int = option(6, 'cells that are also decoded', minimum=1)
  repeats: int = option(
    1, 'timed calls a sampled cell; the median counts', minimum=1
  )
  csv: str | None = option(None, 'where to write the numbers')

  @property
  def suite(self) -> Suite:
    """The whole grid; a program for every ten lengths."""
    buckets = tuple(range(10, self.grid + 10, 10))
    return Suite(
      name='benchmark',
      cells=square(self.grid),
      rows=self.sums,
      buckets=buckets,
    )


def make_problem(benchmark: Benchmark) -> SequenceProblem:
  """Half a million parameters at the default size of the grid."""
  task = Addition()
  config = TransformerConfig(
    position=Abacus(shift=0, max_size=benchmark.grid + 12),
    depth=2,
    width=128,
    ffn_width=704,
  )
  model = Transformer(config, task.vocab_size)
  return SequenceProblem(
    task=task, model=model, max_size=10, validation_size=10
  )


def time_grid(problem: SequenceProblem, params: Params, suite: Suite) -> float:
  """Seconds of all cells, compilation included."""
  one_R = jax.tree.map(lambda leaf: leaf[None], params)
  model, task = problem.model, problem.task
  with Progress(len(suite.cells), 'grid', unit='cells') as progress:
    began = time.perf_counter()
    evaluate(model, one_R, task, suite, progress=progress.advance)
    return time.perf_counter() - began


def methods(problem: SequenceProblem) -> dict[str, Callable[..., jax.Array]]:
  """What is compared: (params, batch) -> tokens right at first, int [B]."""
  model, task = problem.model, problem.task

  def at_first(right_BQ: jax.Array) -> jax.Array:
    return jnp.cumprod(right_BQ, axis=1).sum(axis=1)

  def decoded(params: Params, batch: Batch) -> jax.Array:
    token_BQ = uncached_decode(model, params, task, batch)
    return at_first((token_BQ == batch.targets) & batch.mask)

  def forced(params: Params, batch: Batch) -> jax.Array:
    structure = task.structure(batch.tokens)
    logits_BQV = model.apply(
      {'params': params}, batch.tokens, structure, batch.queries
    )
    return at_first(right_tokens(logits_BQV, batch) & batch.mask)

  return {'forward pass': forced, 'decoding, no cache': decoded}


def time_cells(
  problem: SequenceProblem,
  params: Params,
  suite: Suite,
  cells: list[Cell],
  repeats: int,
) -> dict[str, tuple[float, np.ndarray]]:
  """Seconds of each method, all cells together, and tokens right at first."""
  seconds, right = {}, {}
  for name, method in methods(problem).items():
    seconds[name], right[name] = 0.0, []
    for done, cell in enumerate(cells):
      batch = draw_cell(problem.task, suite, cell)
      program = jax.jit(method).lower(params, batch).compile()
      call = functools.partial(program, params, batch)
      taken, right_N = median_seconds(call, repeats)
      seconds[name] += taken
      right[name].append(right_N)
      shown = f'cell {done + 1}/{len(cells)}, {seconds[name]:.3g} s in all'
      print(f'{name}: {shown}', file=sys.stderr)
  return {name: (seconds[name], np.concatenate(right[name])) for name in right}


def draw_cell(task: Addition, suite: Suite, cell: Cell) -> Batch:
  """All rows of a cell, in its bucket."""
  bucket = next(b for b in suite.buckets if b >= max(cell))
  cell_NS = np.tile(np.array(cell, np.int32), (suite.rows, 1))
  return draw_rows(task, suite, cell_NS, np.arange(suite.rows), bucket)


def measure(benchmark: Benchmark) -> list[list[str]]:
  """One row for the grid, and one a method on the sampled cells."""
  problem, suite = make_problem(benchmark), benchmark.suite
  params = nn.unbox(jax.jit(problem.init)(jax.random.key(0)))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  whole = time_grid(problem, params, suite)
  print(f'{len(suite.cells)} cells: {whole:.4g} s', file=sys.stderr)
  chosen = np.random.default_rng(0).choice(
    len(suite.cells), benchmark.sample, replace=False
  )
  cells = [suite.cells[i] for i in chosen]
  found = time_cells(problem, params, suite, cells, benchmark.repeats)
  first_seconds, first_right = found['forward pass']

  def row(
    name: str, cells: int, seconds: float, right_N: np.ndarray
  ) -> list[str]:
    sums = cells * suite.rows
    each, ratio = 1e3 * seconds / sums, seconds / first_seconds
    ratio *= len(first_right) / sums
    agrees = bool((right_N == first_right).all())
    numbers = f'{seconds:.4g}', f'{each:.3g}', f'{ratio:.3g}', str(agrees)
    return [name, f'{count}', str(cells), str(sums), *numbers]

  return [
    row('forward pass, the grid', len(suite.cells), whole, first_right),
    *(row(name, len(cells), *of) for name, of in found.items()),
  ]


HEADERS = [
  *('method', 'parameters', 'cells', 'sums', 'seconds', 'ms_a_sum'),
  *('ratio', 'same_matches'),
]


def main(benchmark: Benchmark, flag_values: flags.FlagValues) -> int:
  """Prints a table; returns 1 if the methods disagree on any sum."""
  del flag_values
  return publish(HEADERS, measure(benchmark), benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
