"""The written grid holds the rows that the evaluation draws."""

import functools

import jax
import numpy as np
import pytest

from extrap.datasets.grids import AdditionGrid, GridConfig
from extrap.evaluation.grid import Suite, draw_rows
from extrap.tasks.addition import Addition


@pytest.fixture(scope='module')
def rows(tmp_path_factory):
  config = GridConfig(name='tiny', side=3, rows=2)
  builder = AdditionGrid(
    data_dir=tmp_path_factory.mktemp('data'),
    config=config,
    file_format='array_record',
  )
  builder.download_and_prepare()
  source = builder.as_data_source('test')
  return [source[i] for i in range(len(source))]


def test_every_cell_has_its_rows(rows):
  cells = [tuple(row['cell']) for row in rows]
  assert len(rows) == 3 * 3 * 2
  assert {cells.count(cell) for cell in set(cells)} == {2}


def test_rows_are_those_that_the_grid_draws(rows):
  task = Addition()
  suite = Suite(name='grid', cells=(), rows=2)
  cells = np.array([row['cell'] for row in rows])
  number = np.array([row['row'] for row in rows])
  # A larger bucket, as in the 100 x 100 grid: the rows are the same.
  draw = jax.jit(functools.partial(draw_rows, task, suite, max_size=50))
  batch = draw(cells, number)
  for row, tokens in zip(rows, np.asarray(batch.tokens), strict=True):
    (a, b), answer = task.read(tokens)
    assert (row['a'].decode(), row['b'].decode()) == (str(a), str(b))
    assert int(row['sum']) == answer == a + b
    assert (len(str(a)), len(str(b))) == tuple(row['cell'])
