"""Forecasts of the sweep's own curves from their first parts.

Loss and exact match are forecast as they are, and exact match by what single
tokens come to, too.

Suffix keys: N runs, T looks, Q later looks that are scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.own_curves_runs import METRICS, Run
from extrap.curves.cuts import (
  Cut,
  Found,
  Item,
  by_family,
  by_network,
  cut,
  guarded,
  scores_of,
)
from extrap.curves.lcpfn import LCPFN, SHIPPED
from extrap.curves.least_squares import Settings
from extrap.curves.normalise import Normalisation, error, loss_from
from extrap.evaluation.emergence import likelihood, whole_answer
from extrap.evaluation.results import Result
from extrap.kept import Kept
from extrap.reporting.progress import Progress
from extrap.tasks.addition import Addition

if TYPE_CHECKING:
  from experiments.own_curves import Config

NETWORK, GUARDED, NAIVE = 'lcpfn', 'lcpfn_guarded', 'last_value'
CUTOFFS = (0.1, 0.2, 0.4, 0.8)
GUESSING = math.log(Addition().vocab_size)  # The loss of a uniform guess.
MOST = 2 * GUESSING  # A larger loss that is forecast counts as this.
LEAST = 1e-6  # Smaller losses have no logarithm that says anything.
FORECAST = ('loss', 'exact_match')
ROUTES = ('loss', 'token_accuracy')  # By which exact match is forecast, too.


def network_of(config: Config) -> LCPFN:
  """The network that forecasts."""
  return LCPFN.load(config.weights or SHIPPED)


def forecasts_of(
  config: Config, kept: Kept, runs: Sequence[Run]
) -> list[Result]:
  """Errors of forecasts of every run that came to its end."""
  runs, rows = [run for run in runs if run.whole], []
  if not runs:
    return rows
  model, methods = network_of(config), (NETWORK, *config.families)
  with Progress(len(CUTOFFS) * len(methods), 'forecast', unit='sets') as shown:
    for share in CUTOFFS:
      cuts = {
        metric: cut([item_of(run, metric) for run in runs], share)
        for metric in METRICS
      }
      for number, method in enumerate(methods, start=1):
        kept.check()
        rows += _forecast(model, method, runs, cuts, f'{100 * share:g}')
        shown.update(CUTOFFS.index(share) * len(methods) + number)
  return rows


def item_of(run: Run, metric: str) -> Item:
  """A curve as it is forecast: loss, or a share that is wrong."""
  value_T, how = run.inside.of(metric), normalisation_of(metric)
  value_T = np.maximum(value_T, LEAST) if metric == 'loss' else 1 - value_T
  time_T = np.arange(1.0, len(value_T) + 1)
  return Item(run.arm, run.step_T, value_T, time_T, how)


def normalisation_of(metric: str) -> Normalisation:
  """Of what `item_of` gives."""
  return loss_from(GUESSING) if metric == 'loss' else error()


def forecast_by(
  model: LCPFN, method: str, metric: str, cuts: Sequence[Cut]
) -> Found:
  """What a method says.

  Outside of the metric's bounds counts as at them, and a fit that failed as at
  the worse.
  """
  if method == NETWORK:
    found = by_network(model, cuts)
  else:
    # Shares come to 0, which has no logarithm.
    found = by_family(method, cuts, Settings(log=metric == 'loss'))
  inside = [
    np.clip(np.nan_to_num(median_Q, nan=0.0), 0.0, 1.0)
    for median_Q in found.median
  ]
  return found._replace(median=inside)


def _forecast(
  model: LCPFN,
  method: str,
  runs: Sequence[Run],
  cuts: Mapping[str, Sequence[Cut]],
  seen: str,
) -> list[Result]:
  """Rows of one method after one cutoff."""
  found = {
    metric: forecast_by(model, method, metric, cuts[metric])
    for metric in METRICS
  }
  rows = []
  for metric in FORECAST:
    split, of_metric = f'{metric}: {method}', (cuts[metric], found[metric])
    rows += _direct(runs, *of_metric, split, seen)
    if method == NETWORK:
      careful = guarded(found[metric])
      for run, log_Q in zip(runs, careful.log_density, strict=True):
        of_run = (f'{metric}: {GUARDED}', seen, 'log_density', np.mean(log_Q))
        rows.append(run.row(*of_run, len(log_Q)))
  for route in ROUTES:
    split = f'exact_match by {route}: {method}'
    rows += _by_route(runs, route, cuts[route], found[route], split, seen)
  return rows


def _direct(
  runs: Sequence[Run],
  cuts: Sequence[Cut],
  found: Found,
  split: str,
  seen: str,
) -> list[Result]:
  """Of a metric by its own first part."""
  rows, scores = [], scores_of(cuts, found)
  for run, each, median_Q, score in zip(
    runs, cuts, found.median, scores, strict=True
  ):
    said = _in_units(each.item, median_Q)[-1]
    log_density, rmse, mae, _ = score
    values = {
      'final_error': abs(said - each.item.value_T[-1]),
      **dict(rmse=rmse, mae=mae, log_density=log_density),
    }
    rows += [
      run.row(split, seen, metric, value, len(median_Q))
      for metric, value in values.items()
    ]
  return rows


def _by_route(
  runs: Sequence[Run],
  route: str,
  cuts: Sequence[Cut],
  found: Found,
  split: str,
  seen: str,
) -> list[Result]:
  """Of exact match, as p^n by what is forecast of single tokens."""
  rows = []
  for run, each, median_Q in zip(runs, cuts, found.median, strict=True):
    token_Q = token_of(route, _in_units(each.item, median_Q))
    said_Q = whole_answer(token_Q, run.inside.tokens)
    off = abs(said_Q[-1] - run.inside.exact_match_T[-1])
    rows.append(run.row(split, seen, 'final_error', off, 1))
  return rows


def token_of(route: str, value_T: np.ndarray) -> np.ndarray:
  """How often a token is right, or how likely it is, of what is forecast."""
  return likelihood(value_T) if route == 'loss' else 1 - value_T


def _in_units(item: Item, median_Q: np.ndarray) -> np.ndarray:
  """A forecast in units of the metric."""
  return np.minimum(item.normalisation.inverse(median_Q), MOST)
