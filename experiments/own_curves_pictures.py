"""Pictures of the sweep: emergence, and forecasts of its runs.

Suffix keys: T looks, Q looks that are forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.own_curves_forecasts import GUESSING, network_of
from experiments.own_curves_runs import Run
from extrap.curves.lcpfn import LCPFN
from extrap.curves.normalise import loss_from, unit
from extrap.evaluation.emergence import whole_answer
from extrap.reporting.emergence import Improvement, emergence_plot
from extrap.reporting.forecasts import SHADES, Drawn, forecast_plot
from extrap.reporting.report import picture

if TYPE_CHECKING:
  from experiments.own_curves import Config

SHARE = 0.4  # Of a run that is seen.


def pictures(
  config: Config, runs: Sequence[Run], folder: Path
) -> list[tuple[str, str]]:
  """Sections of a report, of one run a width."""
  runs, plots = examples(runs), folder / 'plots'
  if not runs:
    return []
  model, report = network_of(config), folder / 'report.md'
  made = {'Emergence': draw_emergence(runs, plots / 'emergence.png')}
  for metric in ('exact_match', 'loss'):
    made[f'Forecasts of {metric} after {SHARE:.0%}'] = forecast_plot(
      [drawn(model, run, metric) for run in runs],
      plots / f'{metric}.png',
      f'{metric} at {runs[0].inside.digits} digits',
    )
  return [(name, picture(name, path, report)) for name, path in made.items()]


def examples(runs: Sequence[Run]) -> list[Run]:
  """The first seed of the second learning rate of each width, if it is whole.

  They are not chosen by how they did.
  """
  rates = sorted({run.learning_rate for run in runs})[:2]
  chosen = [run for run in runs if run.learning_rate == rates[-1] and run.whole]
  first: dict[int, Run] = {}
  for run in sorted(chosen, key=lambda run: run.seed):
    first.setdefault(run.width, run)
  return [first[width] for width in sorted(first)]


def draw_emergence(runs: Sequence[Run], path: Path) -> Path:
  """Exact match beside the log likelihood of a token."""
  shown = [
    Improvement(
      run.arm,
      run.step_T,
      run.inside.exact_match_T,
      whole_answer(run.inside.token_accuracy_T, run.inside.tokens),
      -run.inside.loss_T,
    )
    for run in runs
  ]
  title = f'Addition, {runs[0].inside.digits} digits'
  return emergence_plot(shown, path, title)


def drawn(model: LCPFN, run: Run, metric: str) -> Drawn:
  """A run, what the network says after its first part, and what came."""
  value_T = run.inside.of(metric)
  how = loss_from(GUESSING) if metric == 'loss' else unit()
  seen, count = max(round(SHARE * len(value_T)), 1), len(value_T)
  found = model.predict(
    [value_T[:seen]], 100, at=np.arange(seen + 1, count + 1), normalisation=how
  )
  bands = {
    share: tuple(end_NQ[0] for end_NQ in found.interval(share / 100))
    for share in SHADES
  }
  return Drawn(
    name=run.arm,
    step_T=run.step_T[:seen],
    value_T=value_T[:seen],
    step_Q=run.step_T[seen:],
    median_Q=found.median()[0],
    bands=bands,
    step_U=run.step_T[seen:],
    value_U=value_T[seen:],
  )
