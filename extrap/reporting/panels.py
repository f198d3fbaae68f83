"""Heatmaps side by side: values in cells on a common scale, as PNG files.

Shape suffixes: P panels, Y rows, X columns.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extrap.errors import ExtrapError
from extrap.reporting.canvas import canvas, save
from extrap.reporting.heatmaps import draw_image

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure
  from matplotlib.image import AxesImage


def value_heatmaps(
  value_PYX: np.ndarray,
  names: tuple[Sequence[str], Sequence[str], Sequence[str]],
  path: str | os.PathLike[str],
  labels: tuple[str, str, str],
) -> Path:
  """Writes `values_figure`; arguments and errors as there."""
  return save(values_figure(value_PYX, names, labels), path)


def values_figure(
  value_PYX: np.ndarray,
  names: tuple[Sequence[str], Sequence[str], Sequence[str]],
  labels: tuple[str, str, str],
) -> 'Figure':
  """Draws values for every pair of names, side by side on a common scale.

  Args:
    value_PYX: a panel for each; nan is hatched. Each is written in its cell.
    names: of the panels, of the rows from above, and of the columns.
    labels: what values, rows and columns are.

  Returns:
    The figure.

  Raises:
    ExtrapError: there is nothing to draw.
  """
  if not np.isfinite(value_PYX).any():
    raise ExtrapError('there are no values to draw')
  panels, high, wide = value_PYX.shape
  titles, rows, columns = names
  figure, first = canvas(1.6 + (0.9 + 0.62 * wide) * panels, 1.9 + 0.42 * high)
  first.remove()
  limits = np.nanmin(value_PYX), np.nanmax(value_PYX)
  every = figure.subplots(1, panels, squeeze=False)[0]
  for axes, title, value_YX in zip(every, titles, value_PYX, strict=True):
    image = draw_image(axes, value_YX, 'upper', 'auto', limits)
    _write_values(axes, value_YX, image)
    axes.set_xticks(range(wide), columns)
    axes.set_yticks(range(high), rows if axes is every[0] else [''] * high)
    axes.tick_params(length=0, labelsize='small')
    axes.set_title(title, loc='left', fontsize='medium', fontweight='bold')
    axes.set_xlabel(labels[2])
  every[0].set_ylabel(labels[1])
  bar = figure.colorbar(image, ax=list(every), pad=0.02)
  bar.set_label(labels[0])
  bar.outline.set_visible(False)
  return figure


def _write_values(
  axes: 'Axes', value_YX: np.ndarray, image: 'AxesImage'
) -> None:
  """Writes each value in its cell, in what is read well on its colour."""
  for (y, x), value in np.ndenumerate(value_YX):
    if np.isfinite(value):
      colour = 'black' if image.norm(value) > 0.6 else 'white'
      axes.text(
        *(x, y, f'{value:.2f}'),
        color=colour,
        ha='center',
        va='center',
        fontsize='small',
      )
