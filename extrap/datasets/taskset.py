"""Taskset's text classifiers: 12 tasks, 1,000 optimiser settings each.

Log losses of recurrent networks on IMDB, before training (step 0) and after
each of 50 equal parts of it: the twelve tasks that LC-PFN was tested on. A run
that diverges ends at its last finite loss, which may be huge.

Source: Metz et al. 2020, Using a thousand optimization tasks to learn
hyperparameter search strategies (arXiv 2002.11887); this part of it from
releaunifreiburg/DPL.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from extrap.datasets.curve_builder import CurveBuilder, configs
from extrap.datasets.curve_files import Source
from extrap.datasets.curve_set import Run

SOURCE = Source(
  name='taskset',
  repository='releaunifreiburg/DPL',
  commit='de44b74030a7d4bb37467add431e6fac19cd357a',
  below='data/taskset',
  licence='Apache-2.0',
  citation='Metz et al. 2020, arXiv 2002.11887; by way of Kadra et al. 2023',
  metrics=('valid', 'test', 'train'),
  setting=(
    'learning_rate',
    'beta1',
    'beta2',
    'epsilon',
    'l1',
    'l2',
    'linear_decay',
    'exponential_decay',
  ),
)


def read(folder: Path, metric: str) -> Iterator[Run]:
  """Runs of every task in the folder, in the order of files and settings.

  Args:
    folder: with one JSON file a task.
    metric: the part of the data whose loss is meant.
  """
  for path in sorted(folder.glob('*.json')):
    for number, run in enumerate(json.loads(path.read_text('utf-8'))):
      loss = run[metric]['loss']
      yield Run(
        task=path.stem,
        name=f'{path.stem}/{number}',
        step=range(len(loss)),
        value=loss,
        setting={key: run['hp'][key] for key in SOURCE.setting},
      )


class Taskset(CurveBuilder):
  """Losses of 12,000 runs, a configuration a part of the data."""

  SOURCE = SOURCE
  BUILDER_CONFIGS = configs(SOURCE)
