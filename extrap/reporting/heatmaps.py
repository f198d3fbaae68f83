"""Heatmaps: shares in cells, as PNG files.

Every `*_figure` function returns a matplotlib Figure; its namesake `*_heatmap`
writes it and returns the path. No global state of pyplot is touched.

Shape suffixes: X and Y sizes of the two operands, or names of columns and rows.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extrap.errors import ExtrapError
from extrap.evaluation.results import (
  Columns,
  Result,
  exact_match_cells,
  parse_size,
  values,
)
from extrap.reporting.canvas import (
  NOTE_COLOUR,
  between,
  canvas,
  median_of,
  save,
)
from extrap.reporting.tables import format_percent

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure
  from matplotlib.image import AxesImage


def grid_heatmap(
  results: Iterable[Result],
  train_size: int,
  path: str | os.PathLike[str],
  title: str,
  **columns: Columns,
) -> Path:
  """Writes `grid_figure`; arguments and errors as there."""
  return save(grid_figure(results, train_size, title, **columns), path)


def share_heatmap(
  share_YX: np.ndarray,
  names: tuple[Sequence[str], Sequence[str]],
  path: str | os.PathLike[str],
  title: str,
  note: str,
) -> Path:
  """Writes `share_figure`; arguments and errors as there."""
  return save(share_figure(share_YX, names, title, note), path)


def grid_figure(
  results: Iterable[Result], train_size: int, title: str, **columns: Columns
) -> 'Figure':
  """Draws exact match for every pair of operand lengths.

  A cell is the median of the replicas on a fixed scale of 0 to 100 %; cells
  without a value are hatched.

  Args:
    results: rows of one arm, with sizes such as '20x35'.
    train_size: side of the training square, in digits.
    title: the title.
    **columns: selection of rows, see `exact_match_cells`.

  Returns:
    The figure.

  Raises:
    ExtrapError: there is nothing to draw, there are several arms, or a
      replica has two rows in one cell.
  """
  cells = exact_match_cells(results, **columns)
  arms = {arm for arm, _ in cells}
  if len(arms) > 1:
    raise ExtrapError(f'a grid shows one arm, not {len(arms)}: select one')
  grid = {
    parse_size(size): rows
    for (_, size), rows in cells.items()
    if len(parse_size(size)) == 2
  }
  if not grid:
    raise ExtrapError("no result has a size such as '20x35'")
  sides = [sorted({pair[side] for pair in grid}) for side in (0, 1)]
  figure, axes = canvas(6.4, 5.9)
  percent_YX = _percent_matrix(grid, *sides)
  _heat(figure, axes, percent_YX, 'exact match (%)', 'lower', 'equal')
  _mark_square(axes, sides, train_size)
  _size_ticks(axes, sides)
  axes.set_title(title, loc='left', fontweight='bold')
  figure.supxlabel(_grid_note(grid), fontsize='small', color=NOTE_COLOUR)
  return figure


def share_figure(
  share_YX: np.ndarray,
  names: tuple[Sequence[str], Sequence[str]],
  title: str,
  note: str,
) -> 'Figure':
  """Draws a share for every pair of names, on a fixed scale of 0 to 100 %.

  Args:
    share_YX: between 0 and 1; nan is hatched.
    names: of the rows, from above, and of the columns.
    title: the title.
    note: below the columns.

  Returns:
    The figure.

  Raises:
    ExtrapError: there is nothing to draw.
  """
  if not share_YX.size:
    raise ExtrapError('there are no shares to draw')
  high, wide = share_YX.shape
  figure, axes = canvas(3.2 + 0.5 * wide, 1.6 + 0.24 * high)
  _heat(figure, axes, 100 * share_YX, 'share (%)', 'upper', 'auto')
  for axis, side in zip((axes.yaxis, axes.xaxis), names, strict=True):
    axis.set_ticks(range(len(side)), side)
  axes.tick_params(length=0, labelsize='small')
  axes.tick_params(axis='x', rotation=45)
  axes.set_title(title, loc='left', fontweight='bold')
  figure.supxlabel(note, fontsize='small', color=NOTE_COLOUR)
  return figure


def _heat(
  figure: 'Figure',
  axes: 'Axes',
  percent_YX: np.ndarray,
  label: str,
  origin: str,
  aspect: str,
) -> None:
  """Draws percentages on a fixed scale; what is nan is hatched."""
  image = draw_image(axes, percent_YX, origin, aspect, (0, 100))
  bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
  bar.set_label(label)
  bar.outline.set_visible(False)


def draw_image(
  axes: 'Axes',
  value_YX: np.ndarray,
  origin: str,
  aspect: str,
  limits: tuple[float, float],
) -> 'AxesImage':
  """Draws values between two limits; what is nan is hatched."""
  axes.set_facecolor('white')
  axes.patch.set(hatch='////', edgecolor='#999999')
  return axes.imshow(
    value_YX,
    origin=origin,
    aspect=aspect,
    cmap='viridis',
    vmin=limits[0],
    vmax=limits[1],
    interpolation='nearest',
  )


def _percent_matrix(
  grid: Mapping[tuple[int, ...], list[Result]],
  x_sizes: Sequence[int],
  y_sizes: Sequence[int],
) -> np.ndarray:
  percent_YX = np.full((len(y_sizes), len(x_sizes)), np.nan)
  for (x, y), rows in grid.items():
    if values(rows):
      place = y_sizes.index(y), x_sizes.index(x)
      percent_YX[place] = 100 * np.median(values(rows))
  return percent_YX


def _mark_square(
  axes: 'Axes', sides: Sequence[Sequence[int]], train_size: int
) -> None:
  """Outlines and labels the cells within the training square."""
  from matplotlib.patches import Rectangle
  from matplotlib.patheffects import withStroke

  width, height = (sum(s <= train_size for s in side) for side in sides)
  if not (width and height):
    return
  outline = [withStroke(linewidth=3.5, foreground='white')]
  axes.add_patch(
    Rectangle(
      (-0.5, -0.5),
      width,
      height,
      fill=False,
      edgecolor='black',
      linewidth=1.6,
      path_effects=outline,
      clip_on=False,
      zorder=3,
    )
  )
  inside = height == len(sides[1])
  axes.annotate(
    f'trained, up to {train_size} digits',
    (-0.5, height - 0.5),
    xytext=(5, -5 if inside else 5),
    textcoords='offset points',
    va='top' if inside else 'bottom',
    fontsize='small',
    path_effects=outline,
  )


def _size_ticks(axes: 'Axes', sides: Sequence[Sequence[int]]) -> None:
  """Labels at most eleven cells a side; parts cells that are few."""
  names = ('first', 'second')
  for axis, name, side in zip(
    (axes.xaxis, axes.yaxis), names, sides, strict=True
  ):
    every = math.ceil(len(side) / 11)
    places = range((len(side) - 1) % every, len(side), every)
    axis.set_ticks(list(places), [str(side[place]) for place in places])
    axis.set_label_text(f'length of the {name} operand (digits)')
    if len(side) <= 25:
      axis.set_ticks(np.arange(0.5, len(side) - 1), minor=True)
      axis.grid(which='minor', color='white', linewidth=0.6)
  axes.tick_params(which='minor', length=0)


def _grid_note(grid: Mapping[tuple[int, ...], list[Result]]) -> str:
  known = [
    row for rows in grid.values() for row in rows if row.value is not None
  ]
  if not known:
    return 'every cell is out of table'
  counts = {len(values(rows)) for rows in grid.values()} - {0}
  note = (
    f'{median_of(between(counts))}; '
    f'{between({row.n for row in known})} sums a cell and replica, '
    f'{sum(row.n for row in known):,} in all\n'
    f'least replica and cell: {format_percent(min(r.value for r in known))}'
  )
  missing = sum(not values(rows) for rows in grid.values())
  return note + f'; hatched: out of table ({missing} cells)' * bool(missing)
