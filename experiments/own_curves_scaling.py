"""Scaling laws of the sweep: loss by data, and by the size of the model.

Suffix keys: N curves, T points, Q points that are forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.own_curves_forecasts import LEAST, NAIVE
from experiments.own_curves_runs import Run, by_repeat
from extrap.curves import least_squares
from extrap.curves.families import family
from extrap.evaluation.results import Result
from extrap.kept import Kept

if TYPE_CHECKING:
  from experiments.own_curves import Config

LAWS = (NAIVE, 'm1', 'm2', 'pow4', 'm4', 'bnsl1')
SEEN = (1 / 8, 1 / 4, 1 / 2)  # Of the data.
BUDGETS = tuple(2 ** (-k / 2) for k in range(10, -1, -1))  # Shares of it.
HELD = 2  # The largest sizes, which are forecast.
FEWEST = 3  # Points of a curve that a law is fitted to.


def scaling_of(config: Config, kept: Kept, runs: Sequence[Run]) -> list[Result]:
  """Errors of scaling laws: loss by data, and by the size of the model."""
  del config, kept
  curves = list(data_curves(runs))
  rows = [row for share in SEEN for row in _by_data(curves, share)]
  return rows + _by_size(curves)


class DataCurve(NamedTuple):
  """Loss by data, at each budget that of the best learning rate for it.

  Attributes:
    repeat: number of the seed of each learning rate.
    run: the one that is best with all of the data.
    samples_T: a budget is a shorter run, as the learning rate is constant.
    loss_T: in distribution, nats a token.
  """

  repeat: int
  run: Run
  samples_T: np.ndarray
  loss_T: np.ndarray


def data_curves(runs: Sequence[Run]) -> Iterator[DataCurve]:
  """Of every width and repeat of which some run came to its end."""
  for (_, repeat), alike in by_repeat(runs).items():
    loss_NT = np.array([run.inside.loss_T for run in alike])
    loss_NT = np.maximum(np.where(np.isnan(loss_NT), np.inf, loss_NT), LEAST)
    best = alike[int(np.argmin(loss_NT[:, -1]))]
    at = budgets(loss_NT.shape[1])
    if best.whole:
      samples_T = best.step_T[at] * best.batch_size
      yield DataCurve(repeat, best, samples_T, loss_NT.min(axis=0)[at])


def budgets(looks: int) -> np.ndarray:
  """Which looks are budgets: a half as much data in two steps, or so."""
  return np.unique([max(round(share * looks), 1) - 1 for share in BUDGETS])


def _by_data(curves: Sequence[DataCurve], share: float) -> list[Result]:
  """The loss with all data, by the laws' fits to budgets up to a share."""
  pairs, size = [], f'{100 * share:g}'
  for curve in curves:
    seen_T = curve.samples_T <= share * curve.samples_T[-1]
    pairs.append((curve.samples_T[seen_T], curve.loss_T[seen_T]))
  rows = []
  for law, said_NQ in _laws(pairs, [curve.samples_T[-1:] for curve in curves]):
    for curve, (said,) in zip(curves, said_NQ, strict=True):
      came, n = curve.loss_T[-1], len(pairs[0][0])
      rows += _errors(curve.run, f'data: {law}', size, said, came, n)
  return rows


def _by_size(curves: Sequence[DataCurve]) -> list[Result]:
  """The losses of the largest sizes, by the laws' fits to the smaller ones."""
  rows, pairs, later = [], [], []
  for repeat in sorted({curve.repeat for curve in curves}):
    alike = [curve for curve in curves if curve.repeat == repeat]
    alike = sorted(alike, key=lambda curve: curve.run.parameters)
    size_N = np.array([curve.run.parameters for curve in alike], float)
    loss_N = np.array([curve.loss_T[-1] for curve in alike])
    if len(alike) >= FEWEST + HELD:
      pairs.append((size_N[:-HELD], loss_N[:-HELD]))
      later.append(alike[-HELD:])
  asked = [np.array([each.run.parameters for each in held]) for held in later]
  for law, said_NQ in _laws(pairs, asked):
    for (size_N, _), held, said_Q in zip(pairs, later, said_NQ, strict=True):
      for curve, said in zip(held, said_Q, strict=True):
        run, came, n = curve.run, curve.loss_T[-1], len(size_N)
        of_run = (run, f'size: {law}', str(run.parameters))
        rows += _errors(*of_run, said, came, n)
        rows.append(run.row(*of_run[1:], 'forecast', said, n))
        rows.append(run.row(*of_run[1:], 'came', came, n))
  return rows


def _laws(
  pairs: Sequence[tuple[np.ndarray, np.ndarray]], asked: Sequence[np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
  """Each law's values [N, Q]; none where points are fewer than parameters."""
  points = min((len(x_T) for x_T, _ in pairs), default=0)
  for law in LAWS:
    shape = family(law)
    if points < max(FEWEST, len(shape.parameters)):
      continue
    fit = least_squares.fit(shape, least_squares.points(pairs))
    yield law, least_squares.predict(shape, fit, np.array(asked, float))


def _errors(
  run: Run, split: str, size: str, said: float, came: float, n: int
) -> list[Result]:
  """Of a loss that is forecast, in nats and as a ratio's logarithm."""
  ratio = np.abs(np.log(np.maximum(said, LEAST) / came))
  return [
    run.row(split, size, 'final_error', abs(said - came), n),
    run.row(split, size, 'log_error', ratio, n),
  ]
