"""Plots of training: losses against steps, from the metrics of a run.

Shape suffixes: R replica, T step.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extrap.errors import ExtrapError
from extrap.reporting.bands import band_note, draw_band, finish, spread_of
from extrap.reporting.canvas import canvas, save
from extrap.reporting.writers import Record

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def training_curves(
  records: Sequence[Record],
  path: str | os.PathLike[str],
  title: str,
  names: Sequence[str] | None = None,
) -> Path:
  """Writes `training_figure`; arguments and errors as there."""
  return save(training_figure(records, title, names), path)


def training_figure(
  records: Sequence[Record], title: str, names: Sequence[str] | None = None
) -> 'Figure':
  """Draws losses against steps on a logarithmic axis.

  Args:
    records: what `read_jsonl` returns.
    title: the title.
    names: metrics to draw; by default 'loss' and all that end in '/loss'.

  Returns:
    The figure, with the median of the replicas and a band from the least to
    the greatest. Replicas are left out where their loss is not a finite number
    above 0.

  Raises:
    ExtrapError: no record has such a metric.
  """
  found = dict.fromkeys(name for record in records for name in record)
  if names is None:
    names = [name for name in found if name.split('/')[-1] == 'loss']
  names = [name for name in names if name in found]
  if not names:
    raise ExtrapError('the metrics hold no loss to draw')
  figure, axes = canvas()
  replicas = 1
  for index, name in enumerate(names):
    chosen = [record for record in records if name in record]
    loss_TR = np.array([np.atleast_1d(record[name]) for record in chosen])
    replicas = max(replicas, loss_TR.shape[1])
    positive_TR = np.where(
      np.isfinite(loss_TR) & (loss_TR > 0), loss_TR, np.nan
    )
    steps = [record['step'] for record in chosen]
    draw_band(axes, index, spread_of(steps, positive_TR), name, marked=False)
  axes.set_yscale('log')
  axes.margins(x=0.01)
  axes.set_xlabel('optimizer steps')
  axes.set_ylabel('loss')
  axes.xaxis.get_major_locator().set_params(integer=True)
  finish(figure, axes, title, band_note(str(replicas)))
  return figure
