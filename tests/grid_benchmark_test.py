"""The benchmark of a whole grid, small."""

import jax

from experiments.benchmarks.grid import (
  HEADERS,
  Benchmark,
  make_problem,
  measure,
)


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
