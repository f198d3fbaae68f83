"""Plots of shares: which part of the seeds succeeds at each of some values.

Shape suffix: X values of one axis.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extrap.errors import ExtrapError
from extrap.reporting.bands import Spread, draw_band, finish
from extrap.reporting.canvas import COLOURS, MARKERS, canvas, save

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Shares:
  """Shares at some values, between 0 and 1, each array [X]; nan: none there.

  Attributes:
    share: what was found; low, high: limits of its interval.
    published: what others have found.
  """

  share: np.ndarray
  low: np.ndarray
  high: np.ndarray
  published: np.ndarray


def shares_by_value(
  lines: Mapping[str, Shares],
  values: Sequence[str],
  path: str | os.PathLike[str],
  title: str,
  xlabel: str,
  note: str,
) -> Path:
  """Writes `shares_figure`; arguments and errors as there."""
  return save(shares_figure(lines, values, title, xlabel, note), path)


def shares_figure(
  lines: Mapping[str, Shares],
  values: Sequence[str],
  title: str,
  xlabel: str,
  note: str,
) -> 'Figure':
  """Draws shares against values, one line each; published ones are hollow.

  Args:
    lines: by name.
    values: as they are written below the axis, at equal distances.
    title: the title.
    xlabel: what values are.
    note: above the legend.

  Returns:
    The figure.

  Raises:
    ExtrapError: there is nothing to draw.
  """
  if not lines:
    raise ExtrapError('there are no shares to draw')
  figure, axes = canvas()
  place_X = np.arange(len(values))
  for index, (name, of) in enumerate(lines.items()):
    percent = (100 * part for part in (of.low, of.share, of.high))
    draw_band(axes, index, Spread(place_X, *percent), name)
    if np.isfinite(of.published).any():
      axes.plot(
        place_X,
        100 * of.published,
        color=COLOURS[index % len(COLOURS)],
        linestyle=':',
        linewidth=1.0,
        marker=MARKERS[index % len(MARKERS)],
        markerfacecolor='white',
        label=f'{name}, published',
      )
  axes.set_ylim(-3, 103)
  axes.set_xticks(place_X, values)
  axes.set_xlabel(xlabel)
  axes.set_ylabel('share of seeds (%)')
  finish(figure, axes, title, note)
  return figure
