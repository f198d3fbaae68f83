"""What all figures share: canvas, colours, the file, and words for replicas."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from extrap.evaluation.results import write_bytes

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

DPI = 144

# Okabe & Ito (2008), Color Universal Design, without the yellow; styles and
# markers tell the lines apart in grey print.
COLOURS = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#000000',
)
STYLES = ('-', '--', '-.', ':')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
TRAINED_COLOUR = '#DDDDDD'
NOTE_COLOUR = '#444444'


def canvas(width: float = 7.2, height: float = 4.6) -> tuple['Figure', 'Axes']:
  """A figure of so many inches, and its axes without the upper spines."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained')
  figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
  axes = figure.add_subplot()
  axes.spines[['top', 'right']].set_visible(False)
  return figure, axes


def save(figure: 'Figure', path: str | os.PathLike[str]) -> Path:
  """Writes a figure as PNG in one move, making its folder; returns the path."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  image = io.BytesIO()
  FigureCanvasAgg(figure).print_figure(image, format='png', dpi=DPI)
  return write_bytes(path, image.getvalue())


def median_of(replicas: str) -> str:
  """What a line of so many replicas is, in words."""
  return 'one replica' if replicas == '1' else f'median of {replicas} replicas'


def between(counts: Iterable[int]) -> str:
  """The least and the greatest of some counts, in words; 0 of none."""
  ordered = sorted(counts) or [0]
  if ordered[0] == ordered[-1]:
    return f'{ordered[0]:,}'
  return f'{ordered[0]:,} to {ordered[-1]:,}'
