"""One improvement in two metrics: of whole answers, and of single tokens.

Shape key: T points of a curve.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from extrap.reporting.canvas import COLOURS, NOTE_COLOUR, save

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


class Improvement(NamedTuple):
  """One run.

  Attributes:
    name: in the legend.
    step_T: when it was looked at.
    exact_match_T: share of answers that are right.
    told_T: the same, as single tokens tell it.
    log_likelihood_T: of a token, nats.
  """

  name: str
  step_T: np.ndarray
  exact_match_T: np.ndarray
  told_T: np.ndarray
  log_likelihood_T: np.ndarray


def emergence_plot(
  runs: Sequence[Improvement], path: str | os.PathLike[str], title: str
) -> Path:
  """Writes `emergence_figure`; arguments as there."""
  return save(emergence_figure(runs, title), path)


def emergence_figure(runs: Sequence[Improvement], title: str) -> 'Figure':
  """Exact match on the left, log likelihood of a token on the right.

  Args:
    runs: at least one.
    title: the title.
  """
  from matplotlib.figure import Figure

  figure = Figure((9.6, 4.0), layout='constrained')
  left, right = figure.subplots(1, 2)
  for index, run in enumerate(runs):
    look = dict(color=COLOURS[index % len(COLOURS)], linewidth=1.4)
    left.plot(run.step_T, 100 * run.exact_match_T, label=run.name, **look)
    left.plot(run.step_T, 100 * run.told_T, linestyle=':', **look)
    right.plot(run.step_T, run.log_likelihood_T, **look)
  _finish(left, 'exact match (%)')
  _finish(right, 'log likelihood of a token (nats)')
  left.legend(fontsize='small', frameon=False)
  figure.suptitle(title, fontweight='bold')
  note = 'step; dotted: p^n, by the share of single tokens that are right'
  figure.supxlabel(note, fontsize='small', color=NOTE_COLOUR)
  return figure


def _finish(axes: 'Axes', label: str) -> None:
  axes.set_ylabel(label)
  axes.spines[['top', 'right']].set_visible(False)
