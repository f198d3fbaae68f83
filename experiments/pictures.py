"""The figures of README.md and its pages, from experiments/results/*.csv."""

from experiments import own_curves_pictures, status_registers_tables
from experiments.addition import Config
from experiments.addition_report import on_diagonal
from experiments.hierarchical_scores import BY_PLACE
from experiments.language_length_scores import LOSS
from experiments.nalu_single_tables import write_picture
from experiments.own_curves_runs import read_runs
from experiments.publishing import RESULTS, published
from experiments.retrieval_length_tables import over_depths
from extrap.evaluation.results import LENGTH_SPLITS, Result, select
from extrap.reporting import heatmaps, plots
from extrap.reporting.reach import trained_length

# Of the study of position encodings: those whose curves differ.
SHOWN = (
  *('rotary', 'rotary_cut', 'ntk', 'linear', 'yarn', 'rnope_swa'),
  *('none', 'alibi', 'kerple', 'stick_breaking'),
)
# Of needles: those that every seed has learned to find, and that differ.
FOUND_NEEDLES = (
  *('rotary', 'log_n_rotary', 'p_rotary', 'log_n_p_rotary', 'alibi'),
  *('kerple', 'scale_invariant'),
)


def draw() -> None:
  """Draws every figure that is made from results alone."""
  _draw_losses()
  _draw_addition()
  _draw_lengths()
  _draw_needles()
  _draw_registers()
  write_picture(_read('nalu_single'), RESULTS / 'nalu_single.png')
  shown = own_curves_pictures.examples(
    read_runs(RESULTS / 'own_curves_runs.csv')
  )
  own_curves_pictures.draw_emergence(shown, RESULTS / 'own_curves.png')


def _read(name: str) -> list[Result]:
  """The rows of a results file."""
  return published(name)[0]


def _draw_addition() -> None:
  """Lengths and grid of the study of addition, and erosion by step."""
  digits = Config().digits
  plots.accuracy_vs_length(
    select(on_diagonal(_read('addition')), checkpoint='last'),
    digits,
    RESULTS / 'addition.png',
    'Addition, trained on up to 10 digits',
  )
  heatmaps.grid_heatmap(
    _read('addition_grid'),
    digits,
    RESULTS / 'addition_grid.png',
    'Exact match by length pair',
  )
  plots.accuracy_vs_step(
    select(_read('erosion'), checkpoint='then', size=str(2 * digits)),
    RESULTS / 'erosion.png',
    f'Trained on up to {digits} digits, tested on {2 * digits}',
  )


def _draw_lengths() -> None:
  """Exact match by length, of other studies."""
  digits = Config().digits
  for name, title, trained, unit in (
    ('ladder', 'Addition, trained on up to 10 digits', digits, 'digits'),
    ('place_relative', 'No window, up to 10 digits', digits, 'digits'),
    ('multiplication', 'N x 2 products, up to 10 digits', digits, 'digits'),
    ('parity', 'Parity, trained on up to 40 bits', 40, 'bits'),
    ('copy_length', 'Copying, trained on up to 50 symbols', 50, 'symbols'),
  ):
    path = RESULTS / f'{name}.png'
    plots.accuracy_vs_length(_read(name), trained, path, title, unit=unit)


def _draw_needles() -> None:
  """Needles found by length, in the mean over depths, and further out."""
  for name in ('retrieval_length', 'retrieval_length_far'):
    found = over_depths(select(_read(name), arm=FOUND_NEEDLES))
    trained = trained_length(found)
    title = f'Needles, trained in contexts of up to {trained} tokens'
    path = RESULTS / f'{name}.png'
    plots.accuracy_vs_length(found, trained, path, title, unit='tokens')


def _draw_losses() -> None:
  """Loss by context of some encodings, and by place of two-level positions."""
  contexts = select(_read('language_length'), split=LENGTH_SPLITS)
  places = select(_read('hierarchical'), split=BY_PLACE)
  for name, rows, xlabel in (
    ('language_length', select(contexts, arm=SHOWN), 'context (bytes)'),
    ('hierarchical', places, 'place in the text (end of the octave, bytes)'),
  ):
    trained = min(int(row.size) for row in rows)
    plots.loss_vs_length(
      select(rows, metric=LOSS),
      trained,
      RESULTS / f'{name}.png',
      f'Bytes of text, trained on {trained} of them',
      xlabel,
    )


def _draw_registers() -> None:
  """Errors of status registers by magnitude."""
  compared = status_registers_tables.over_comparisons(
    _read('status_registers_wide')
  )
  plots.error_vs_size(
    [row for row in compared if row.arm.endswith(', 10 inputs')],
    RESULTS / 'status_registers_wide.png',
    'Comparisons of two of 10 inputs, trained on 1..9, float64',
    'magnitude of the numbers',
  )
