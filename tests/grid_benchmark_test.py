"""The benchmark of a whole grid, small."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments.benchmarks.grid import (
  HEADERS,
  Benchmark,
  make_problem,
  measure,
  methods,
)
from extrap.evaluation.grid import Suite, draw_rows


def test_model_has_half_a_million_parameters():
  problem = make_problem(Benchmark())
  shapes = jax.eval_shape(problem.init, jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert 4.8e5 <= count <= 5.2e5


def test_grid_is_timed_and_sampled_cells_are_decoded():
  small = Benchmark(grid=2, sums=2, sample=1, repeats=1)
  rows = [dict(zip(HEADERS, row, strict=True)) for row in measure(small)]
  assert [(row['cells'], row['sums']) for row in rows] == [
    ('4', '8'),
    ('1', '2'),
    ('1', '2'),
  ]
  assert all(row['same_matches'] == 'True' for row in rows)
  assert rows[1]['ratio'] == '1' and float(rows[2]['ratio']) > 1


@pytest.mark.slow
def test_methods_agree_on_what_is_right_at_first():
  problem = make_problem(Benchmark(grid=6))
  params = nn.unbox(problem.init(jax.random.key(3)))
  suite = Suite(name='benchmark', cells=(), rows=64)
  cells = np.full((64, 2), 6, np.int32)
  batch = draw_rows(problem.task, suite, cells, np.arange(64), 6)
  forced, decoded = (
    np.asarray(jax.jit(method)(params, batch))
    for method in methods(problem).values()
  )
  np.testing.assert_array_equal(forced, decoded)
  # Random weights get a first token right now and then.
  assert 0 < forced.sum() < 64 * 4
