"""LCDB 1.1: error rates of 28 learners on 265 tables, by size of the sample.

Means over 25 splits of the data, with their standard errors; steps are numbers
of training examples, 16 times powers of the eighth root of 2. A size at which a
learner did not finish is missing. Some 15 % of the curves are not monotone or
not convex, by their authors' count, and DummyClassifier learns nothing: leave
it out by name where that matters.

Source: LCDB 1.1 (NeurIPS 2025, arXiv 2505.15657);
learning-curve-research/LCDB-1.1.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from extrap.datasets.curve_builder import CurveBuilder, configs
from extrap.datasets.curve_files import Source
from extrap.datasets.curve_set import Run

SOURCE = Source(
  name='lcdb',
  repository='learning-curve-research/LCDB-1.1',
  commit='37c3d9a381f8ec55902c485637a7508ba0f95667',
  below='docs/data',
  licence='CC BY 4.0',
  citation='LCDB 1.1, NeurIPS 2025, arXiv 2505.15657',
  metrics=('test', 'val', 'train'),
  series=('standard_error',),
)


def read(folder: Path, metric: str) -> Iterator[Run]:
  """Runs of every table in the folder, in the order of its list.

  Args:
    folder: with meta.json, and er/ with one JSON file a table, which holds
      numbers or null by learner, statistic, size and part of the data.
    metric: the part of the data whose error rate is meant.
  """
  meta = json.loads((folder / 'meta.json').read_text('utf-8'))
  part = meta['tvt_labels'].index(metric)
  mean, error = map(meta['stat_labels'].index, ('mean', 'stderr'))
  for table in meta['dataset_ids']:
    path = folder / 'er' / f'{table}.json'
    numbers = np.array(json.loads(path.read_text('utf-8')), float)[..., part]
    for learner, by_size in zip(meta['learners'], numbers, strict=True):
      yield Run(
        task=f'openml_{table}',
        name=f'openml_{table}/{learner}',
        step=meta['anchors'],
        value=by_size[mean],
        series={'standard_error': by_size[error]},
      )


class Lcdb(CurveBuilder):
  """Error rates of 7,204 curves, a configuration a part of the data."""

  SOURCE = SOURCE
  BUILDER_CONFIGS = configs(SOURCE)
