"""Learning curves of the sweep of addition runs, and the file that keeps them.

One row a run, length and metric, with the value at every step that was looked
at: small enough to be published, and all that forecasts are made from.

Suffix key: T looks.
"""

import csv
import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.results import Provenance, Result, length_split
from extrap.kept import write_table

STUDY = 'own_curves'
METRICS = ('loss', 'exact_match', 'token_accuracy')
DIGITS = 5  # Of numbers that are published.
_KINDS = {
  **dict(width=int, parameters=int, learning_rate=float, seed=int, rung=str),
  **dict(batch_size=int, flops=float, seconds=float),
}
HEADERS = (*_KINDS, 'digits', 'tokens', 'held_out', 'metric')


@dataclasses.dataclass(frozen=True, eq=False)
class Looks:
  """What held-out sums of one length said; nan once a run has failed.

  Attributes:
    digits: of both operands.
    tokens: of an answer, its end included, on average.
    held_out: sums of a look, always the same.
    loss_T: mean over tokens, nats.
    exact_match_T: share of answers, token_accuracy_T of tokens, that are right.
  """

  digits: int
  tokens: float
  held_out: int
  loss_T: np.ndarray
  exact_match_T: np.ndarray
  token_accuracy_T: np.ndarray

  def of(self, metric: str) -> np.ndarray:
    """Values [T] of one of `METRICS`."""
    return getattr(self, f'{metric}_T')


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """One run of the sweep.

  Attributes:
    width, parameters: of the model.
    learning_rate, seed, rung, batch_size: how it was trained.
    flops, seconds: what it has cost, as in `Result`.
    step_T: when it was looked at.
    inside: at the longest length that it was trained on; beyond: at 1.5 times.
  """

  width: int
  parameters: int
  learning_rate: float
  seed: int
  rung: str
  batch_size: int
  flops: float
  seconds: float
  step_T: np.ndarray
  inside: Looks
  beyond: Looks

  @property
  def arm(self) -> str:
    return arm_of(self.width)

  @property
  def whole(self) -> bool:
    """Whether it came to the end."""
    return bool(np.isfinite(self.inside.loss_T).all())

  @property
  def looks(self) -> tuple[Looks, Looks]:
    return self.inside, self.beyond

  @functools.cached_property
  def source(self) -> Provenance:
    """For its rows, as of a population of one."""
    made = int(np.isfinite(self.inside.loss_T).sum())
    steps = int(self.step_T[made - 1]) if made else 0
    return Provenance(
      study=STUDY,
      arm=self.arm,
      rung=self.rung,
      seeds=(self.seed,),
      steps=(steps,),
      samples=(steps * self.batch_size,),
      flops=(self.flops,),
      seconds=self.seconds,
      hparams=json.dumps({'learning_rate': self.learning_rate}),
    )

  def row(
    self, split: str, size: str, metric: str, value: float, n: int
  ) -> Result:
    """A number of this run, rounded; nan is none."""
    return self.source.row(0, split, size, metric, rounded(value), n)

  def ends(self) -> list[Result]:
    """The last values that are there."""
    rows = []
    for looks in self.looks:
      split = length_split(looks.digits, self.inside.digits)
      of = functools.partial(self.row, split, str(looks.digits))
      for metric in METRICS:
        there_T = looks.of(metric)[np.isfinite(looks.of(metric))]
        last = there_T[-1] if len(there_T) else np.nan
        rows.append(of(metric, last, looks.held_out))
    return rows


def arm_of(width: int) -> str:
  """The arm that trains a width."""
  return f'width {width}'


def rounded(value: float) -> float | None:
  """So many digits; None of what is not finite."""
  return float(f'{value:.{DIGITS}g}') if np.isfinite(value) else None


def by_repeat(runs: Iterable[Run]) -> dict[tuple[int, int], list[Run]]:
  """Runs by width and repeat: the k-th seed of each learning rate."""
  seeds: dict[tuple[int, float], list[Run]] = {}
  for run in sorted(runs, key=lambda run: (run.width, run.seed)):
    seeds.setdefault((run.width, run.learning_rate), []).append(run)
  found: dict[tuple[int, int], list[Run]] = {}
  for (width, _), alike in seeds.items():
    for repeat, run in enumerate(alike):
      found.setdefault((width, repeat), []).append(run)
  return found


def write_runs(path: str | os.PathLike[str], runs: Sequence[Run]) -> Path:
  """Writes curves of the same steps; see the module."""
  steps = [f'{step:.0f}' for step in runs[0].step_T]
  rows = []
  for run in runs:
    of_run = [_text(getattr(run, name)) for name in _KINDS]
    for looks in run.looks:
      numbers = map(_text, (looks.digits, looks.tokens, looks.held_out))
      of_length = [*of_run, *numbers]
      rows += [
        [*of_length, metric, *map(_text, looks.of(metric))]
        for metric in METRICS
      ]
  return write_table(path, [*HEADERS, *steps], rows)


def _text(value: str | float) -> str:
  """A cell; blank of what is not finite."""
  if isinstance(value, str | int):
    return str(value)
  return f'{value:.{DIGITS}g}' if np.isfinite(value) else ''


def read_runs(path: str | os.PathLike[str]) -> list[Run]:
  """Reads what `write_runs` wrote.

  Raises:
    UsageError: the file cannot be read, or is not such a table; the message
      names the line, where there is one.
  """
  (_, header), *rows = _lines(path) or [(1, [])]
  steps = header[len(HEADERS) :]
  if tuple(header[: len(HEADERS)]) != HEADERS or not steps or not rows:
    raise UsageError(
      f'{path}: no table of runs: it begins with the columns '
      f'{", ".join(HEADERS)}, and has one a step'
    )
  runs, each = [], 2 * len(METRICS)
  for first in range(0, len(rows), each):
    numbers, of_run = zip(*rows[first : first + each], strict=True)
    try:
      runs.append(_run(of_run, np.array(steps, float)))
    except ValueError as error:
      raise UsageError(f'{path}, from line {numbers[0]}: {error}') from error
  return runs


def _lines(path: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
  """Cells of lines that are no comments, with their numbers."""
  try:
    lines = Path(path).read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UsageError(f'{path}: cannot be read: {error}') from error
  return [
    (number, next(csv.reader([line]), []))
    for number, line in enumerate(lines, start=1)
    if line[:1] != '#'
  ]


def _run(rows: Sequence[Sequence[str]], step_T: np.ndarray) -> Run:
  """A run of its six rows, or ValueError."""
  if {len(cells) for cells in rows} != {len(HEADERS) + len(step_T)}:
    raise ValueError('a row is shorter or longer than the header')
  of_run = {tuple(cells[: len(_KINDS)]) for cells in rows}
  metrics = tuple(cells[len(HEADERS) - 1] for cells in rows)
  if len(of_run) > 1 or metrics != 2 * METRICS:
    raise ValueError(f'a run has rows of {", ".join(METRICS)} at two lengths')
  inside, beyond = rows[: len(METRICS)], rows[len(METRICS) :]
  values = zip(_KINDS.items(), of_run.pop(), strict=True)
  return Run(
    **{name: kind(text) for (name, kind), text in values},
    step_T=step_T,
    inside=_looks(inside),
    beyond=_looks(beyond),
  )


def _looks(rows: Sequence[Sequence[str]]) -> Looks:
  """Values at one length."""
  digits, tokens, held_out = rows[0][len(_KINDS) : len(HEADERS) - 1]
  values = [
    np.array([float(text or 'nan') for text in cells[len(HEADERS) :]])
    for cells in rows
  ]
  return Looks(int(digits), float(tokens), int(held_out), *values)
