"""Plots of results: how far what a run learned extrapolates, as PNG files.

Every `*_figure` function returns a matplotlib Figure; its namesake without the
suffix writes it and returns the path. No global state of pyplot is touched.

Shape suffixes: R replica, T place along a line.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from extrap.reporting.bands import (
  Spread,
  band_note,
  draw_band,
  finish,
  spread_of,
)
from extrap.reporting.canvas import TRAINED_COLOUR, between, canvas, save

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

FLOOR = 1e-6  # of errors on a logarithmic axis


def accuracy_vs_length(
  results: Iterable[Result],
  train_size: int,
  path: str | os.PathLike[str],
  title: str,
  **columns: Columns,
) -> Path:
  """Writes `accuracy_figure`; arguments and errors as there."""
  return save(accuracy_figure(results, train_size, title, **columns), path)


def accuracy_vs_step(
  results: Iterable[Result], path: str | os.PathLike[str], title: str
) -> Path:
  """Writes `step_figure`; arguments and errors as there."""
  return save(step_figure(results, title), path)


def error_vs_size(
  results: Iterable[Result],
  path: str | os.PathLike[str],
  title: str,
  xlabel: str,
) -> Path:
  """Writes `error_figure`; arguments and errors as there."""
  return save(error_figure(results, title, xlabel), path)


def loss_vs_length(
  results: Iterable[Result],
  train_length: int,
  path: str | os.PathLike[str],
  title: str,
  xlabel: str,
) -> Path:
  """Writes `loss_figure`; arguments and errors as there."""
  return save(loss_figure(results, train_length, title, xlabel), path)


def accuracy_figure(
  results: Iterable[Result],
  train_size: int,
  title: str,
  unit: str = 'digits',
  **columns: Columns,
) -> 'Figure':
  """Draws exact match against length, one line an arm.

  The line is the median of the replicas, the band reaches from the least to
  the greatest. Out-of-table sizes leave a gap that the legend names. The axis
  of length is logarithmic where it spans more than a factor of 100, or where
  each of four lengths or more is twice the one before, or more.

  Args:
    results: rows; sizes with operands of different lengths are left out.
    train_size: largest size of the training region.
    title: the title.
    unit: of lengths.
    **columns: selection of rows, see `exact_match_cells`.

  Returns:
    The figure.

  Raises:
    ExtrapError: there is nothing to draw, or a replica has two rows at one
      size.
  """
  lines = _by_length(exact_match_cells(results, **columns))
  lengths = sorted({length for line in lines.values() for length in line})
  if not lengths:
    raise ExtrapError('no result has operands of equal length')
  figure, axes = canvas()
  left, right = _length_axis(axes, [*lengths, train_size])
  axes.axvspan(
    left,
    train_size,
    color=TRAINED_COLOUR,
    lw=0,
    zorder=0,
    label=f'trained, up to {train_size} {unit}',
  )
  axes.set_xlim(left, right)
  for index, (arm, line) in enumerate(lines.items()):
    draw_band(axes, index, _accuracy_spread(line), arm + _missing_note(line))
  axes.set_ylim(-3, 103)
  axes.set_yticks(range(0, 101, 20))
  what = 'the operands' if unit == 'digits' else 'the problem'
  axes.set_xlabel(f'length of {what} ({unit})')
  axes.set_ylabel('exact match (%)')
  finish(figure, axes, title, _replicas_note(lines))
  return figure


def step_figure(results: Iterable[Result], title: str) -> 'Figure':
  """Draws exact match against optimizer steps, one line an arm.

  Args:
    results: rows of one length, of several steps; one a replica and step.
    title: the title.

  Returns:
    The figure: the median of the replicas, the band from least to greatest.

  Raises:
    ExtrapError: there is nothing to draw.
  """
  lines: dict[str, dict[int, list[Result]]] = {}
  for row in results:
    lines.setdefault(row.arm, {}).setdefault(row.steps, []).append(row)
  if not lines:
    raise ExtrapError('there are no results to draw')
  figure, axes = canvas()
  for index, (arm, line) in enumerate(lines.items()):
    draw_band(axes, index, _accuracy_spread(line), arm, marked=False)
  axes.set_ylim(-3, 103)
  axes.set_xlabel('optimizer steps')
  axes.set_ylabel('exact match (%)')
  axes.xaxis.get_major_locator().set_params(integer=True)
  finish(figure, axes, title, _replicas_note(lines))
  return figure


def error_figure(
  results: Iterable[Result], title: str, xlabel: str
) -> 'Figure':
  """Draws errors against size, one line an arm, both axes logarithmic.

  Args:
    results: rows whose values are errors and whose sizes are single numbers; a
      replica may have several at a size.
    title: the title.
    xlabel: what sizes are.

  Returns:
    The figure: the median of all rows of an arm and size, the band from least
    to greatest. Errors below 1e-6 are drawn there.

  Raises:
    ExtrapError: there is nothing to draw.
  """
  lines: dict[str, dict[int, list[Result]]] = {}
  for row in results:
    lines.setdefault(row.arm, {}).setdefault(int(row.size), []).append(row)
  if not lines:
    raise ExtrapError('there are no results to draw')
  figure, axes = canvas()
  for index, (arm, line) in enumerate(lines.items()):
    draw_band(axes, index, _error_spread(line), arm)
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel(xlabel)
  axes.set_ylabel('mean absolute error')
  finish(figure, axes, title, _replicas_note(lines))
  return figure


def loss_figure(
  results: Iterable[Result], train_length: int, title: str, xlabel: str
) -> 'Figure':
  """Draws losses against length, by powers of 2, one line an arm.

  Args:
    results: rows whose values are losses and whose sizes are lengths, one a
      replica, arm and length.
    train_length: end of the training region.
    title: the title.
    xlabel: what lengths are.

  Returns:
    The figure: the median of the replicas, the band from least to greatest.

  Raises:
    ExtrapError: there is nothing to draw.
  """
  lines: dict[str, dict[int, list[Result]]] = {}
  for row in results:
    lines.setdefault(row.arm, {}).setdefault(int(row.size), []).append(row)
  if not lines:
    raise ExtrapError('there are no results to draw')
  # Room for the legend, of two arms a line.
  figure, axes = canvas(height=4.6 + 0.1 * len(lines))
  least = min(length for line in lines.values() for length in line)
  axes.axvspan(least / 1.1, train_length, color=TRAINED_COLOUR, lw=0, zorder=0)
  for index, (arm, line) in enumerate(lines.items()):
    spread = _value_spread(line, lambda value_R: value_R)
    draw_band(axes, index, spread, arm + _missing_note(line))
  axes.set_xscale('log', base=2)
  axes.xaxis.set_major_formatter('{x:,.0f}')
  axes.set_xlabel(xlabel)
  axes.set_ylabel('loss (nats)')
  finish(figure, axes, title, _replicas_note(lines))
  return figure


def _by_length(
  cells: Mapping[tuple[str, str], list[Result]],
) -> dict[str, dict[int, list[Result]]]:
  """Arm -> length -> rows; '20x20' counts as 20, '20x35' is left out."""
  lines: dict[str, dict[int, list[Result]]] = {}
  for (arm, size), rows in cells.items():
    numbers = set(parse_size(size))
    if len(numbers) == 1:
      lines.setdefault(arm, {}).setdefault(numbers.pop(), []).extend(rows)
  return lines


def _length_axis(axes: 'Axes', lengths: Sequence[int]) -> tuple[float, float]:
  """Chooses the scale of the axis of length; returns its limits."""
  lengths = sorted(set(lengths))
  low, high = lengths[0], lengths[-1]
  doubled = all(2 * one <= more for one, more in itertools.pairwise(lengths))
  doubled &= len(lengths) >= 4
  if high <= 100 * low and not doubled:
    margin = max(0.5, 0.03 * (high - low))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return max(0.0, low - margin), high + margin
  axes.set_xscale('log')
  axes.xaxis.set_major_formatter('{x:,.0f}')
  if doubled:
    axes.set_xticks(lengths)
    axes.minorticks_off()
  return low / 1.25, high * 1.25


def _accuracy_spread(line: Mapping[int, list[Result]]) -> Spread:
  """Percent by length; nan where a size is out of table."""
  return _value_spread(line, lambda value_R: 100 * value_R)


def _error_spread(line: Mapping[int, list[Result]]) -> Spread:
  """Errors by size, none of them below the floor of the figure."""
  return _value_spread(line, lambda value_R: np.maximum(value_R, FLOOR))


def _value_spread(
  line: Mapping[int, list[Result]], shown: Callable[[np.ndarray], np.ndarray]
) -> Spread:
  """What is shown of the values at each size; nan where there are none."""
  known = {size: values(rows) or [math.nan] for size, rows in line.items()}
  sizes = sorted(known)
  widest = max(map(len, known.values()))
  value_TR = np.full((len(sizes), widest), np.nan)
  for row, size in enumerate(sizes):
    value_TR[row, : len(known[size])] = shown(np.array(known[size]))
  return spread_of(sizes, value_TR)


def _missing_note(line: Mapping[int, list[Result]]) -> str:
  missing = sorted(length for length, rows in line.items() if not values(rows))
  if not missing:
    return ''
  if len(missing) == len(line):
    return ' (out of table)'
  return f' (out of table: {", ".join(f"{length:,}" for length in missing)})'


def _replicas_note(lines: Mapping[str, Mapping[int, list[Result]]]) -> str:
  counts = {
    len(values(rows)) for line in lines.values() for rows in line.values()
  } - {0}
  return band_note(between(counts))
