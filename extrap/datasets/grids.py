"""Evaluation grids as TFDS datasets, in array_record; no TensorFlow needed.

The grid is sampled on the device while it is scored (`extrap.evaluation.grid`);
this writes down the same rows, for people who want to score another model on
them or to freeze them. Rows are a function of (suite, cell, number) alone.

  builder = AdditionGrid(data_dir='data', config='digits_10')
  builder.download_and_prepare()
  rows = builder.as_data_source('test')
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from extrap.evaluation.grid import Suite, draw_rows
from extrap.tasks.addition import Addition


@dataclasses.dataclass
class GridConfig(tfds.core.BuilderConfig):
  """A square grid of operand lengths.

  Attributes:
    side: lengths 1 .. side.
    rows: sums a cell.
  """

  side: int = 10
  rows: int = 10


class AdditionGrid(tfds.core.GeneratorBasedBuilder):
  """Sums in every cell of a grid of operand lengths, base 10."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = [  # noqa: RUF012, the library's own name
    GridConfig(name='digits_10', side=10, rows=10),
    GridConfig(name='digits_100', side=100, rows=10),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Sums of two numbers by length pair, decimal.',
      features=tfds.features.FeaturesDict(
        {
          'a': tfds.features.Text(),
          'b': tfds.features.Text(),
          'sum': tfds.features.Text(),
          'cell': tfds.features.Tensor(shape=(2,), dtype=np.int32),
          'row': np.int32,
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    del dl_manager
    return {'test': self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict]]:
    side, rows = self.builder_config.side, self.builder_config.rows
    task, suite = Addition(), Suite(name='grid', cells=(), rows=rows)
    for i in range(1, side + 1):
      cells = np.array([(i, j) for j in range(1, side + 1)], np.int32)
      cell_NS = np.repeat(cells, rows, axis=0)
      row_N = np.tile(np.arange(rows, dtype=np.int32), side)
      batch = draw_rows(task, suite, cell_NS, row_N, side)
      for n, tokens in enumerate(np.asarray(batch.tokens)):
        (a, b), answer = task.read(tokens)
        key = ((i - 1) * side * rows) + n
        yield (
          key,
          {
            'a': str(a),
            'b': str(b),
            'sum': str(answer),
            'cell': cell_NS[n],
            'row': row_N[n],
          },
        )
