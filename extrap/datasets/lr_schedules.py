"""Language models under nine learning-rate schedules, in three sizes.

Training losses of 25M, 100M and 400M parameters with constant, cosine and
warm-up-stable-decay rates. The runs of one size are a task. The files begin
after the warm-up, near step 2,160.

Source: Luo et al. 2025, A multi-power law for loss curve prediction across
learning rate schedules; thu-yao-01-luo/MultiPowerLaw.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from extrap.datasets.curve_builder import CurveBuilder, configs
from extrap.datasets.curve_files import Source
from extrap.datasets.curve_set import Run

SOURCE = Source(
  name='lr_schedules',
  repository='thu-yao-01-luo/MultiPowerLaw',
  commit='8da9f1902602f3391b971a811e3cc51604541769',
  below='loss_curve_repo',
  licence='MIT',
  citation='Luo et al. 2025, A multi-power law for loss curve prediction',
  metrics=('loss',),
  setting=('parameters',),
  series=('learning_rate',),
)


def read(folder: Path, metric: str) -> Iterator[Run]:
  """Runs in the order of their files.

  Args:
    folder: with csv_25, csv_100 and csv_400, one CSV file a run in each.
    metric: the column that is meant, 'loss'.
  """
  for path in sorted(folder.glob('csv_*/*.csv')):
    millions = path.parent.name.removeprefix('csv_')
    with path.open(encoding='utf-8', newline='') as file:
      rows = list(csv.DictReader(file))
    yield Run(
      task=f'{millions}M',
      name=f'{millions}M/{path.stem}',
      step=[float(row['step']) for row in rows],
      value=[float(row[metric]) for row in rows],
      setting={'parameters': float(millions) * 1e6},
      series={'learning_rate': [float(row['lr']) for row in rows]},
    )


class LrSchedules(CurveBuilder):
  """Losses of 27 runs."""

  SOURCE = SOURCE
  BUILDER_CONFIGS = configs(SOURCE)
