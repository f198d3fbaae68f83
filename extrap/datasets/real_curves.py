"""Real learning curves by name: as arrays for a study, or as a TFDS dataset.

  download('taskset', 'curves')
  curves = load('taskset', 'curves').split('validation')

One folder holds all sources, each in a folder of its own, with the files of its
public repository as they are.
"""

import csv
import importlib
import os
import zlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from extrap.datasets import curve_files
from extrap.datasets.curve_set import CurveSet, pack
from extrap.errors import ExtrapError, UsageError

if TYPE_CHECKING:
  from extrap.datasets.curve_builder import CurveBuilder

# The modules that know a source, and what their builders are called.
SOURCES = {
  'taskset': 'Taskset',
  'lcdb': 'Lcdb',
  'routing': 'Routing',
  'lr_schedules': 'LrSchedules',
}

# What reading a file that is not what it should be may raise.
FAILURES = (
  OSError,
  EOFError,
  ValueError,
  LookupError,
  TypeError,
  zlib.error,
  csv.Error,
)


def load(
  name: str, folder: str | os.PathLike[str], metric: str | None = None
) -> CurveSet:
  """Curves of a source, all tasks; `CurveSet.split` divides them.

  The files are not compared with their checksums, so that a part of a source,
  or one's own runs in its form, can be read; `verify` does that.

  Args:
    name: of the source, one of SOURCES.
    folder: that holds one folder a source.
    metric: which number of the runs, None for the source's usual one.

  Raises:
    UsageError: there is no such source or metric.
    ExtrapError: the files are not there, or cannot be read; in one line.
  """
  module = _module(name)
  metric = _metric(module, metric)
  path = curve_files.folder_of(module.SOURCE, folder)
  try:
    return pack(list(module.read(path, metric)))
  except FAILURES as error:
    curve_files.verify(module.SOURCE, folder)  # Names the file, as a rule.
    raise ExtrapError(
      f'{path}: cannot be read as {name} ({_reason(error)})'
    ) from error


def download(name: str, folder: str | os.PathLike[str]) -> Path:
  """The folder of a source, with the files that it lacked.

  Raises:
    UsageError: there is no such source.
    ExtrapError: as `curve_files.download`.
  """
  return curve_files.download(_module(name).SOURCE, folder)


def verify(name: str, folder: str | os.PathLike[str]) -> Path:
  """The folder of a source, if its files are all there and whole.

  Raises:
    UsageError: there is no such source.
    ExtrapError: as `curve_files.verify`.
  """
  return curve_files.verify(_module(name).SOURCE, folder)


def prepare(
  name: str,
  data_dir: str | os.PathLike[str],
  metric: str | None = None,
  manual_dir: str | os.PathLike[str] | None = None,
) -> 'CurveBuilder':
  """The TFDS dataset of a source, made if it is not there.

  Args:
    name: of the source.
    data_dir: where TFDS keeps its datasets.
    metric: as in `load`.
    manual_dir: the folder that holds one folder a source; None downloads.

  Raises:
    UsageError: there is no such source or metric.
    ExtrapError: the files cannot be had, are not those of the commit, or the
      dataset cannot be written.
  """
  import tensorflow_datasets as tfds

  module = _module(name)
  if manual_dir is not None:
    curve_files.folder_of(module.SOURCE, manual_dir)
  builder = getattr(module, SOURCES[name])(
    data_dir=os.fspath(data_dir),
    config=_metric(module, metric),
    file_format='array_record',
  )
  download_config = tfds.download.DownloadConfig(manual_dir=manual_dir)
  try:
    builder.download_and_prepare(download_config=download_config)
  except FAILURES as error:
    raise ExtrapError(
      f'{data_dir}: {builder.name} cannot be made there ({_reason(error)})'
    ) from error
  return builder


def _reason(error: Exception) -> str:
  """One line of what went wrong."""
  return ' '.join(f'{type(error).__name__}: {error}'.split())


def _module(name: str) -> ModuleType:
  if name not in SOURCES:
    raise UsageError(f'{name!r} is no source of curves: {", ".join(SOURCES)}')
  return importlib.import_module(f'extrap.datasets.{name}')


def _metric(module: ModuleType, metric: str | None) -> str:
  source = module.SOURCE
  if metric is not None and metric not in source.metrics:
    raise UsageError(
      f'{source.name} has no metric {metric!r}: {", ".join(source.metrics)}'
    )
  return metric or source.metrics[0]
