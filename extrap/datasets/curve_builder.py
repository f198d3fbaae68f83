"""TFDS datasets of learning curves, in array_record; no TensorFlow needed.

What all sources share: an example is a curve, its points are arrays of their
own length, and the splits divide tasks (`CurveSet.split`). A subclass says
where its files come from.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from extrap.datasets.curve_files import Source, download, verify
from extrap.datasets.curve_set import SPLITS, CurveSet
from extrap.datasets.real_curves import load


def configs(source: Source) -> list[tfds.core.BuilderConfig]:
  """One configuration a metric, the usual one first."""
  return [
    tfds.core.BuilderConfig(name=metric, description=f'The metric {metric}.')
    for metric in source.metrics
  ]


class CurveBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Learning curves of one source; the configuration is the metric."""

  SOURCE: ClassVar[Source]
  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'manual_dir holds one folder a source, as extrap.datasets.real_curves '
    'downloads it.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    # As bytes: TFDS would store a float64 as a float32.
    number, points = (
      tfds.features.Tensor(shape=shape, dtype=np.float64, encoding='bytes')
      for shape in ((), (None,))
    )
    source = self.SOURCE
    return tfds.core.DatasetInfo(
      builder=self,
      description=f'Learning curves of {source.repository}.',
      features=tfds.features.FeaturesDict(
        {
          'task': tfds.features.Text(),
          'name': tfds.features.Text(),
          'step': points,
          'value': points,
          **dict.fromkeys(source.series, points),
          **dict.fromkeys(source.setting, number),
        }
      ),
      homepage=f'https://github.com/{source.repository}',
      citation=source.citation,
      license=source.licence,
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    try:
      folder = Path(dl_manager.manual_dir)
    except AssertionError:  # There is none.
      # TFDS's own download tries for minutes where there is no network.
      folder = Path(dl_manager.download_dir) / 'extrap_curves'
      download(self.SOURCE, folder)
    verify(self.SOURCE, folder)
    curves = load(self.SOURCE.name, folder, self.builder_config.name)
    return {
      split: self._generate_examples(curves.split(split)) for split in SPLITS
    }

  def _generate_examples(self, curves: CurveSet) -> Iterator[tuple[int, dict]]:
    arrays = {
      'step': curves.step_NT,
      'value': curves.value_NT,
      **curves.series,
    }
    for row, mask_T in enumerate(curves.mask_NT):
      yield (
        row,
        {
          'task': str(curves.task_N[row]),
          'name': str(curves.name_N[row]),
          **{key: array[row][mask_T] for key, array in arrays.items()},
          **{key: array[row] for key, array in curves.setting.items()},
        },
      )
