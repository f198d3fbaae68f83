"""Real scaling and learning curves with published splits into fit and test.

The files are inside the package (`scaling_benchmark_data/README.md` says where
each comes from, and its licence). Four groups:
  scaling         92 curves of Alabdulmohsin et al. (2022, arXiv 2209.06640):
                  72 of images (IC), 20 of language (5 NMT, 5 LM, 10 BB), of
                  which a column says what is fitted
  nano            24 of a small GPT's loss against its width; six of seven
                  widths are fitted
  double_descent  16 against width or samples; the first half is fitted
  llm             192 of language models in training (Choshen et al. 2024, arXiv
                  2410.11840); the first half is fitted, three points at least
These are the splits of Lee et al. (2025, arXiv 2505.23032). Where a source
repeats a point, x and y the same, it counts once: the files have the five LM
curves four times, in `scaling` and again in `llm`, as lambda.

Shape key: T points.
"""

import csv
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from extrap.errors import ExtrapError

DATA = Path(__file__).with_name('scaling_benchmark_data')
GROUPS = ('scaling', 'nano', 'double_descent', 'llm')
WIDTHS = (6, 12, 24, 48, 96, 192, 384)  # Of the small GPT.
NANO_FIT = 6
LEAST_FIT = 3  # Points of the first half, at least.
# Errors of a classifier are 1 at most; losses have no limit.
ERRORS = ('IC', 'BB')


@dataclasses.dataclass(frozen=True)
class Curve:
  """A curve and its split.

  Attributes:
    group: one of `GROUPS`.
    domain: 'IC', 'NMT', 'LM', 'BB', 'Nano', 'DD' or 'LLM'.
    task: what is measured.
    model: what is trained.
    x_T: examples, tokens, width or samples; ascending, float64.
    y_T: error or loss, positive.
    fit_T: true where a point is fitted, false where it is forecast.
    ceiling: what y cannot exceed by its nature, or infinity.
  """

  group: str
  domain: str
  task: str
  model: str
  x_T: np.ndarray
  y_T: np.ndarray
  fit_T: np.ndarray
  ceiling: float

  @property
  def name(self) -> str:
    return f'{self.domain}, {self.task}, {self.model}'


Rows = dict[tuple[str, ...], list[tuple[float, float, bool]]]


@functools.cache
def load(groups: tuple[str, ...] = GROUPS) -> tuple[Curve, ...]:
  """The curves of some groups, in the order of the files.

  Raises:
    ExtrapError: a file of the package is missing or damaged.
    ValueError: there is no group of that name.
  """
  readers = dict(
    zip(GROUPS, (_scaling, _nano, _double_descent, _llm), strict=True)
  )
  if unknown := set(groups) - set(readers):
    raise ValueError(f'{unknown.pop()!r} is none of {", ".join(GROUPS)}')
  try:
    return tuple(curve for group in groups for curve in readers[group]())
  except (OSError, ValueError, KeyError) as error:
    reason = ' '.join(str(error).split())
    raise ExtrapError(f'{DATA} is damaged: {reason}; install again') from error


def _scaling() -> Iterator[Curve]:
  """Curves with a column that says what is fitted."""
  for file in ('benchmark.vision.csv', 'benchmark.lang.csv'):
    keys = ('Domain', 'Task', 'Model'), ('Seen Examples', 'Loss', 'Training')
    for (domain, *rest), rows in _read(file, *keys).items():
      yield _curve('scaling', domain, rest, sorted(rows))


def _double_descent() -> Iterator[Curve]:
  keys = ('task', 'x_label', 'y_label'), ('x', 'y', 'training')
  for (task, *labels), rows in _read('double_descent.csv', *keys).items():
    yield _curve('double_descent', 'DD', (task, ', '.join(labels)), rows)


def _nano() -> Iterator[Curve]:
  for kind in ('final', 'min'):
    path = DATA / f'{kind}_val_loss_over_n_embd.npy'
    for number, y_T in enumerate(np.load(path, allow_pickle=False).tolist()):
      fit = [place < NANO_FIT for place in range(len(WIDTHS))]
      rows = list(zip(map(float, WIDTHS), y_T, fit, strict=True))
      yield _curve('nano', 'Nano', (f'{kind} loss', f'setting {number}'), rows)


def _llm() -> Iterator[Curve]:
  with np.load(DATA / 'colpret.npz', allow_pickle=False) as arrays:
    for name in sorted(arrays.files):
      pairs = list(dict.fromkeys(zip(*arrays[name].tolist(), strict=True)))
      # The half is rounded, its middle upwards.
      count = max(LEAST_FIT, min((len(pairs) + 1) // 2, len(pairs) - 1))
      rows = [(x, y, place < count) for place, (x, y) in enumerate(pairs)]
      yield _curve('llm', 'LLM', ('loss', name), rows)


def _read(file: str, names: Sequence[str], numbers: Sequence[str]) -> Rows:
  """Points of a CSV file, by the curve that they belong to."""
  curves: Rows = {}
  with (DATA / file).open(encoding='utf-8', newline='') as lines:
    for line in csv.DictReader(lines):
      x, y, fit = (float(line[number]) for number in numbers)
      key = tuple(line[name] for name in names)
      curves.setdefault(key, []).append((x, y, fit == 1))
  return curves


def _curve(
  group: str,
  domain: str,
  names: Sequence[str],
  rows: Sequence[tuple[float, float, bool]],
) -> Curve:
  x_T, y_T, fit_T = zip(*dict.fromkeys(rows), strict=True)
  return Curve(
    group,
    domain,
    *names,
    np.array(x_T),
    np.array(y_T),
    np.array(fit_T, bool),
    1.0 if domain in ERRORS else np.inf,
  )
