"""Forecasts of curves: what is seen, bands of what may follow, and the truth.

Shape key: T points seen, Q steps asked for, U points to come.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from extrap.reporting.canvas import COLOURS, NOTE_COLOUR, save

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

COLUMNS = 3
# How dark a central interval is, by its percentage.
SHADES = {95: 0.15, 80: 0.2, 50: 0.3}


class Drawn(NamedTuple):
  """One curve and its forecast.

  Attributes:
    name: of its panel.
    step_T, value_T: what is seen.
    step_Q, median_Q: what is forecast.
    bands: lower and upper ends [Q] by percentage, of `SHADES`.
    step_U, value_U: what came, or nothing.
  """

  name: str
  step_T: np.ndarray
  value_T: np.ndarray
  step_Q: np.ndarray
  median_Q: np.ndarray
  bands: Mapping[int, tuple[np.ndarray, np.ndarray]]
  step_U: np.ndarray
  value_U: np.ndarray


def forecast_plot(
  curves: Sequence[Drawn], path: str | os.PathLike[str], title: str
) -> Path:
  """Writes `forecast_figure`; arguments as there."""
  return save(forecast_figure(curves, title), path)


def forecast_figure(curves: Sequence[Drawn], title: str) -> 'Figure':
  """One panel a curve.

  Args:
    curves: at least one.
    title: the title.
  """
  from matplotlib.figure import Figure

  columns = min(COLUMNS, len(curves))
  rows = math.ceil(len(curves) / columns)
  width = max(3.4 * columns, 5.0)
  figure = Figure((width, 2.4 * rows + 0.9), layout='constrained')
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes, curve in zip(grid, curves, strict=False):
    _panel(axes, curve)
  for axes in grid[len(curves) :]:
    axes.set_axis_off()
  figure.suptitle(title, fontweight='bold')
  bands = ', '.join(f'{share} %' for share in sorted(SHADES))
  note = f'step; dots: seen; line: median; bands: {bands}'
  if any(len(curve.step_U) for curve in curves):
    note += '; crosses: what came'
  figure.supxlabel(note, fontsize='small', color=NOTE_COLOUR)
  return figure


def _panel(axes: 'Axes', curve: Drawn) -> None:
  axes.spines[['top', 'right']].set_visible(False)
  for share, (low_Q, high_Q) in curve.bands.items():
    axes.fill_between(
      curve.step_Q,
      low_Q,
      high_Q,
      color=COLOURS[0],
      alpha=SHADES[share],
      linewidth=0,
    )
  axes.plot(curve.step_Q, curve.median_Q, color=COLOURS[0], linewidth=1.4)
  axes.plot(curve.step_T, curve.value_T, '.', color='#444444', markersize=3)
  axes.plot(curve.step_U, curve.value_U, 'x', color=COLOURS[1], markersize=3)
  axes.set_title(curve.name, fontsize='small')
  axes.tick_params(labelsize='small')
