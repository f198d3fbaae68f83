"""Plots: PNG files of what a run learned and how far it extrapolates.

Every `*_figure` function returns a matplotlib Figure; its namesake without the
suffix writes it and returns the path. No global state of pyplot is touched.

Shape suffixes: R replica, T step, X values of one axis.
"""

import dataclasses
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
from extrap.reporting.canvas import (
  COLOURS,
  MARKERS,
  NOTE_COLOUR,
  STYLES,
  TRAINED_COLOUR,
  between,
  canvas,
  median_of,
  save,
)
from extrap.reporting.writers import Record

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

FLOOR = 1e-6  # of errors on a logarithmic axis


@dataclasses.dataclass(frozen=True)
class _Spread:
  """Least, median and greatest replica at each place of a line."""

  x: np.ndarray
  low: np.ndarray
  middle: np.ndarray
  high: np.ndarray


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


def accuracy_vs_length(
  results: Iterable[Result],
  train_size: int,
  path: str | os.PathLike[str],
  title: str,
  **columns: Columns,
) -> Path:
  """Writes `accuracy_figure`; arguments and errors as there."""
  return save(accuracy_figure(results, train_size, title, **columns), path)


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


def training_curves(
  records: Sequence[Record],
  path: str | os.PathLike[str],
  title: str,
  names: Sequence[str] | None = None,
) -> Path:
  """Writes `training_figure`; arguments and errors as there."""
  return save(training_figure(records, title, names), path)


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
  of length is logarithmic where it spans more than a factor of 100.

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
    _draw(axes, index, _accuracy_spread(line), arm + _missing_note(line))
  axes.set_ylim(-3, 103)
  axes.set_yticks(range(0, 101, 20))
  what = 'the operands' if unit == 'digits' else 'the problem'
  axes.set_xlabel(f'length of {what} ({unit})')
  axes.set_ylabel('exact match (%)')
  _finish(figure, axes, title, _replicas_note(lines))
  return figure


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
    _draw(axes, index, _Spread(place_X, *percent), name)
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
  _finish(figure, axes, title, note)
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
    _draw(axes, index, _accuracy_spread(line), arm, marked=False)
  axes.set_ylim(-3, 103)
  axes.set_xlabel('optimizer steps')
  axes.set_ylabel('exact match (%)')
  axes.xaxis.get_major_locator().set_params(integer=True)
  _finish(figure, axes, title, _replicas_note(lines))
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
    _draw(axes, index, _error_spread(line), arm)
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel(xlabel)
  axes.set_ylabel('mean absolute error')
  _finish(figure, axes, title, _replicas_note(lines))
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
    _draw(axes, index, spread, arm + _missing_note(line))
  axes.set_xscale('log', base=2)
  axes.xaxis.set_major_formatter('{x:,.0f}')
  axes.set_xlabel(xlabel)
  axes.set_ylabel('loss (nats)')
  _finish(figure, axes, title, _replicas_note(lines))
  return figure


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
    _draw(axes, index, _spread(steps, positive_TR), name, marked=False)
  axes.set_yscale('log')
  axes.margins(x=0.01)
  axes.set_xlabel('optimizer steps')
  axes.set_ylabel('loss')
  axes.xaxis.get_major_locator().set_params(integer=True)
  _finish(figure, axes, title, _band_note(str(replicas)))
  return figure


def _finish(figure: 'Figure', axes: 'Axes', title: str, note: str) -> None:
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
  low, high = min(lengths), max(lengths)
  if high <= 100 * low:
    margin = max(0.5, 0.03 * (high - low))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return max(0.0, low - margin), high + margin
  axes.set_xscale('log')
  axes.xaxis.set_major_formatter('{x:,.0f}')
  return low / 1.25, high * 1.25


def _accuracy_spread(line: Mapping[int, list[Result]]) -> _Spread:
  """Percent by length; nan where a size is out of table."""
  return _value_spread(line, lambda value_R: 100 * value_R)


def _error_spread(line: Mapping[int, list[Result]]) -> _Spread:
  """Errors by size, none of them below the floor of the figure."""
  return _value_spread(line, lambda value_R: np.maximum(value_R, FLOOR))


def _value_spread(
  line: Mapping[int, list[Result]], shown: Callable[[np.ndarray], np.ndarray]
) -> _Spread:
  """What is shown of the values at each size; nan where there are none."""
  known = {size: values(rows) or [math.nan] for size, rows in line.items()}
  sizes = sorted(known)
  widest = max(map(len, known.values()))
  value_TR = np.full((len(sizes), widest), np.nan)
  for row, size in enumerate(sizes):
    value_TR[row, : len(known[size])] = shown(np.array(known[size]))
  return _spread(sizes, value_TR)


def _spread(x: Sequence[float], value_TR: np.ndarray) -> _Spread:
  """Summarises replicas, passing over those that are nan."""
  masked_TR = np.ma.masked_invalid(value_TR)
  low, middle, high = (
    np.ma.filled(summary.astype(float), np.nan)
    for summary in (
      masked_TR.min(axis=1),
      np.ma.median(masked_TR, axis=1),
      masked_TR.max(axis=1),
    )
  )
  return _Spread(np.asarray(x), low, middle, high)


def _draw(
  axes: 'Axes', index: int, spread: _Spread, label: str, marked: bool = True
) -> None:
  """Draws one line; later ones are thinner, so that none hides another."""
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
  return _band_note(between(counts))


def _band_note(replicas: str) -> str:
  if replicas == '1':
    return 'one replica'
  return f'line: {median_of(replicas)}; band: least to greatest'
