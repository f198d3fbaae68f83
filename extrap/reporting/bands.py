"""Lines with bands, such as the median of replicas from least to greatest.

Shape suffixes: R replica, T place along a line.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from extrap.reporting.canvas import (
  COLOURS,
  MARKERS,
  NOTE_COLOUR,
  STYLES,
  median_of,
)

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Spread:
  """A line and the band around it, each array [T].

  Attributes:
    x: places along the line.
    low, middle, high: least, median and greatest replica there, or an estimate
      and the limits of its interval; nan leaves a gap.
  """

  x: np.ndarray
  low: np.ndarray
  middle: np.ndarray
  high: np.ndarray


def spread_of(x: Sequence[float], value_TR: np.ndarray) -> Spread:
  """Summarises replicas at places `x` [T], passing over those that are nan."""
  masked_TR = np.ma.masked_invalid(value_TR)
  low, middle, high = (
    np.ma.filled(summary.astype(float), np.nan)
    for summary in (
      masked_TR.min(axis=1),
      np.ma.median(masked_TR, axis=1),
      masked_TR.max(axis=1),
    )
  )
  return Spread(np.asarray(x), low, middle, high)


def draw_band(
  axes: 'Axes', index: int, spread: Spread, label: str, marked: bool = True
) -> None:
  """Draws one line; later ones are thinner, so that none hides another.

  Args:
    axes: where.
    index: how many lines were drawn before; it gives the colour.
    spread: line and band.
    label: in the legend.
    marked: whether each place has a marker.
  """
  colour = COLOURS[index % len(COLOURS)]
  axes.fill_between(
    spread.x, spread.low, spread.high, color=colour, alpha=0.2, linewidth=0
  )
  axes.plot(
    spread.x,
    spread.middle,
    color=colour,
    linestyle=STYLES[index % len(STYLES)],
    linewidth=max(1.2, 2.6 - 0.5 * index),
    marker=MARKERS[index % len(MARKERS)] if marked else None,
    markersize=max(4.0, 7.5 - 1.2 * index),
    label=label,
  )


def finish(figure: 'Figure', axes: 'Axes', title: str, note: str) -> None:
  """Adds grid, title and legend; the note stands above the legend."""
  axes.grid(axis='y', color='#E6E6E6', linewidth=0.8)
  axes.set_axisbelow(True)
  axes.set_title(title, loc='left', fontweight='bold')
  legend = figure.legend(
    loc='outside lower center',
    ncols=2,
    frameon=False,
    handlelength=3.4,
    title=note,
  )
  legend.get_title().set(fontsize='small', color=NOTE_COLOUR)


def band_note(replicas: str) -> str:
  """What line and band are of so many replicas, in words."""
  if replicas == '1':
    return 'one replica'
  return f'line: {median_of(replicas)}; band: least to greatest'
