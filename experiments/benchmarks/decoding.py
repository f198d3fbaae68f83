"""Speed of scoring sums: one forward pass, or decoding token by token.

Published length-generalization code decodes greedily without a cache: a whole
forward pass for every token of the answer (mcleish7/arithmetic). Exact match
needs one pass in all (`extrap.evaluation.exact_match`), and where the text is
wanted, a cache avoids reading the prompt again. All three score the same sums
with the same model here, in one process, and must agree on every sum.

The loop without a cache runs at the full padded length at every step, where the
published one lets the text grow; its prompt is two thirds of the text, so that
favours us by at most a fifth. It is given the gathered window too, which the
published code does not have, in a row of its own.

Command: python -m experiments.benchmarks.decoding
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn

from experiments.addition import STUDY, Config, make_problem
from experiments.benchmarks.table import publish
from extrap import cli
from extrap.config import option
from extrap.evaluation.decoding import decoded_match, greedy_decode, prompts
from extrap.evaluation.grid import Suite, draw_rows, teacher_forced_match
from extrap.models import Transformer
from extrap.models.transformer import Params
from extrap.study import read_config
from extrap.study_training import restore_arm
from extrap.tasks.task import Batch, Task

CLAIM = 'one forward pass scores a sum at least 20 times faster than decoding'
TIME = 'a minute on two CPU cores'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Flags of this benchmark."""

  run: str | None = option(
    None, 'run folder of a trained model (default: random weights)'
  )
  digits: tuple[int, ...] = option(
    (20, 50, 100), 'equal operand lengths, a cell each', unit='digits'
  )
  sums: int = option(32, 'sums a cell', unit='sums', minimum=1)
  repeats: int = option(5, 'timed calls; the median counts', minimum=1)
  csv: str | None = option(None, 'where to write the numbers')


def uncached_decode(
  model: Transformer, params: Params, task: Task, batch: Batch
) -> jax.Array:
  """Greedy decoding [B, Q] with a forward pass over everything each token."""
  row_B = jnp.arange(len(batch.tokens))

  def step(tokens_BT: jax.Array, query_B: jax.Array) -> tuple:
    logits_BTV = model.apply(
      {'params': params}, tokens_BT, task.structure(tokens_BT)
    )
    next_B = jnp.argmax(logits_BTV[row_B, query_B], axis=-1)
    next_B = next_B.astype(tokens_BT.dtype)
    return tokens_BT.at[row_B, query_B + 1].set(next_B, mode='drop'), next_B

  _, decoded_QB = jax.lax.scan(step, prompts(batch), batch.queries.T)
  return decoded_QB.T


def methods(model: Transformer) -> dict[str, Callable[..., jax.Array]]:
  """What is compared: (params, batch, task) -> exact match bool [B]."""
  dense = model.clone(
    config=dataclasses.replace(model.config, attention='dense')
  )

  def decoding(decode: Callable, model: Transformer) -> Callable:
    def match(params: Params, batch: Batch, task: Task) -> jax.Array:
      return decoded_match(decode(model, params, task, batch), batch)

    return match

  return {
    'teacher forced (the grid)': functools.partial(teacher_forced_match, model),
    'decoding, cached': decoding(greedy_decode, model),
    'decoding, no cache': decoding(uncached_decode, dense),
    'decoding, no cache, gathered window': decoding(uncached_decode, model),
  }


def load(benchmark: Benchmark) -> tuple[Transformer, Params, Task]:
  """A trained model, first replica, or a random one."""
  if benchmark.run:
    path = Path(benchmark.run)
    config = read_config(path, STUDY, Config)
    problem = make_problem(config, config.model.position)
    params = restore_arm(problem, config, path / 'checkpoints').params
    params = jax.tree.map(lambda leaf: leaf[0], params)
  else:
    config = Config()
    problem = make_problem(config, config.model.position)
    params = nn.unbox(jax.jit(problem.init)(jax.random.key(0)))
  return problem.model, params, config.task


def measure(benchmark: Benchmark) -> list[list[str]]:
  """One row a method and cell."""
  model, params, task = load(benchmark)
  rows = []
  for digits in benchmark.digits:
    cells = jnp.full((benchmark.sums, 2), digits)
    suite = Suite(name='benchmark', cells=(), rows=benchmark.sums)
    batch = draw_rows(task, suite, cells, jnp.arange(benchmark.sums), digits)
    rows += compare(model, params, task, batch, benchmark.repeats)
  return rows


def compare(
  model: Transformer, params: Params, task: Task, batch: Batch, repeats: int
) -> list[list[str]]:
  """One row a method; the first, the grid's, is what the others are over."""
  (a, _), _ = task.read(batch.tokens[0])
  rows, grid_seconds, grid_match = [], None, None
  for name, method in methods(model).items():
    run = jax.jit(functools.partial(method, task=task))
    call = functools.partial(run, params, batch=batch)
    call()  # Compiles.
    seconds, match = median_seconds(call, repeats)
    if grid_seconds is None:
      grid_seconds, grid_match = seconds, match
    each, ratio = seconds / len(match) * 1e3, seconds / grid_seconds
    agrees = bool((match == grid_match).all())
    rows.append(
      [
        str(len(str(a))),
        name,
        f'{each:.3g}',
        f'{ratio:.1f}',
        f'{match.sum()} of {len(match)}',
        str(agrees),
      ]
    )
    print(f'{name}: {each:.3g} ms a sum', file=sys.stderr)
  return rows


def median_seconds(
  call: Callable[[], jax.Array], repeats: int
) -> tuple[float, np.ndarray]:
  """Median time of a compiled call, without a warm-up, and what it gives."""
  times = []
  for _ in range(repeats):
    began = time.perf_counter()
    found = jax.block_until_ready(call())
    times.append(time.perf_counter() - began)
  return float(np.median(times)), np.asarray(found)


HEADERS = [
  'digits',
  'method',
  'ms_a_sum',
  'ratio_to_grid',
  'right',
  'same_matches',
]


def main(benchmark: Benchmark, flag_values: flags.FlagValues) -> int:
  """Prints a table; returns 1 if the methods disagree on any sum."""
  del flag_values
  rows = measure(benchmark)
  return publish(HEADERS, rows, benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
