"""Curves of several models beside what they should be, one panel a model.

Shape key: T times.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extrap.reporting.canvas import COLOURS, NOTE_COLOUR, TRAINED_COLOUR, save

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

COLUMNS = 3


def curves_grid(
  times_T: np.ndarray,
  truth_T: np.ndarray,
  found: Mapping[str, np.ndarray],
  trained: float,
  path: str | os.PathLike[str],
  title: str,
) -> Path:
  """Writes `curves_figure`; arguments as there."""
  return save(curves_figure(times_T, truth_T, found, trained, title), path)


def curves_figure(
  times_T: np.ndarray,
  truth_T: np.ndarray,
  found: Mapping[str, np.ndarray],
  trained: float,
  title: str,
) -> 'Figure':
  """Draws each model's curve over the true one.

  Args:
    times_T: when.
    truth_T: what they should be; it sets the vertical axis, so that a model
      that leaves it is cut off.
    found: predictions [T] by the panel's title.
    trained: times of -trained..trained are shaded.
    title: the title.
  """
  from matplotlib.figure import Figure

  columns = min(COLUMNS, len(found))
  rows = math.ceil(len(found) / columns)
  figure = Figure((3.6 * columns, 1.5 * rows + 0.9), layout='constrained')
  grid = figure.subplots(
    rows, columns, sharex=True, sharey=True, squeeze=False
  ).ravel()
  for axes, (name, curve_T) in zip(grid, found.items(), strict=False):
    _panel(axes, name, times_T, truth_T, curve_T, trained)
  for axes in grid[len(found) :]:
    axes.set_axis_off()
  middle, half = (truth_T.max() + truth_T.min()) / 2, np.ptp(truth_T)
  grid[0].set_ylim(middle - half, middle + half)
  grid[0].set_xlim(times_T[0], times_T[-1])
  figure.suptitle(title, fontweight='bold')
  figure.supxlabel(
    'time; grey: the signal; shaded: what is trained on',
    fontsize='small',
    color=NOTE_COLOUR,
  )
  return figure


def _panel(
  axes: 'Axes',
  name: str,
  times_T: np.ndarray,
  truth_T: np.ndarray,
  curve_T: np.ndarray,
  trained: float,
) -> None:
  axes.axvspan(-trained, trained, color=TRAINED_COLOUR, lw=0, zorder=0)
  axes.plot(times_T, truth_T, color='#888888', linewidth=2.2)
  axes.plot(times_T, curve_T, color=COLOURS[1], linewidth=0.9)
  axes.set_title(name, loc='left', fontsize='small')
  axes.spines[['top', 'right']].set_visible(False)
