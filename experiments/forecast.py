"""Forecasts learning curves of your own.

  python -m experiments.forecast --csv=my_curves.csv

reads curves (one a column, or rows of id, step and value; metrics.jsonl of a
run, a run folder, or TensorBoard files), forecasts those that have not yet come
to the horizon, and draws them. By default the horizon is the last step of the
longest curve; --horizon=200 goes further. --seen=0.3 hides all but the first
30 % of every curve, and shows what came beside what was forecast.

The forecaster is a network that was trained on curves of a prior alone
(`experiments/lcpfn.py`; LC-PFN, Adriaensen et al. 2023, arXiv 2310.20447). It
expects curves that approach a limit, noisy or not. Metrics of any range are
brought to 0..1 first (`extrap/curves/normalise.py`), all curves of a file as
one kind of metric: --kind says which, --low and --up give bounds where they are
known. A curve that cannot be forecast is told, and the others are.

--forecaster=scaling asks a network that was trained on scaling laws instead
(`experiments/scaling_pfn.py`): for a loss or an error against data, size or
compute (a column called step, examples, tokens, parameters, flops or x), which
falls by a share with every doubling, up to 49 times as far as it is seen; an
accuracy is forecast by its error, and what has no bound needs --low or --up.
--forecaster=pow4 fits that family, or any other of `extrap/curves/families.py`,
with intervals by a residual bootstrap: too narrow where the family has not the
curve's shape.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from extrap import cli
from extrap.arms import check_names
from extrap.config import option
from extrap.curves.bounded import BoundedForecast
from extrap.curves.families import FAMILIES
from extrap.curves.fitted import FittedForecast
from extrap.curves.forecast import Forecast
from extrap.curves.lcpfn import LCPFN
from extrap.curves.normalise import (
  Kind,
  Normalisation,
  kind_of_all,
  suited,
)
from extrap.curves.reading import MINIMUM, Curve, read_curves
from extrap.curves.scaling_pfn import ScalingPFN, recent, unfit
from extrap.errors import UsageError
from extrap.reporting.forecasts import SHADES, Drawn, forecast_plot
from extrap.reporting.tables import text

CLAIM = 'your own learning curves, forecast with intervals'
TIME = 'seconds on a CPU'

NETWORK, SCALING = 'lcpfn', 'scaling'
DRAWN = 12  # Curves in a figure.
ASKED = 40  # Steps of a line in it.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this command."""

  csv: str = option('', 'file or folder with curves: CSV, JSON lines, events')
  metric: str | None = option(
    None, 'which metric or column to read (default: see the readers)'
  )
  kind: Kind = option(
    'auto',
    'what the values are: accuracy or error in 0..1, percent or percent_error '
    'in 0..100, loss, or without bounds score (more is better) or cost',
  )
  low: float | None = option(None, 'hard lower bound of the metric')
  up: float | None = option(None, 'hard upper bound of the metric')
  horizon: float | None = option(
    None,
    'step to forecast (default: the last of the longest curve)',
    minimum=1e-30,
    maximum=1e30,
  )
  seen: float = option(
    1.0, 'share of every curve that is shown', minimum=0.0, maximum=1.0
  )
  beat: float | None = option(
    None, 'a value to beat (default: the best that another curve has shown)'
  )
  forecaster: str = option(
    NETWORK,
    f'{NETWORK} or {SCALING}, the networks, or a family to fit, such as pow4',
  )
  plot: str = option('forecast.png', "the figure's file ('': none)")
  weights: str | None = option(
    None, 'file of the network, the one that comes along if none is named'
  )


@dataclasses.dataclass(frozen=True)
class Run:
  """A curve, what is shown of it, and why it is not forecast, if so."""

  curve: Curve
  shown: int
  normalisation: Normalisation | None
  reason: str = ''

  @property
  def step_T(self) -> np.ndarray:
    return self.curve.step_T[: self.shown]

  @property
  def value_T(self) -> np.ndarray:
    return self.curve.value_T[: self.shown]


def main(config: Config, flag_values: flags.FlagValues) -> None:
  """Reads, forecasts, prints and draws."""
  if not config.csv:
    raise UsageError('--csv=FILE: name the file or folder with the curves')
  check_names('forecaster', [config.forecaster], (NETWORK, SCALING, *FAMILIES))
  curves = read_curves(config.csv, config.metric, minimum=1)
  horizon = config.horizon or max(curve.step_T[-1] for curve in curves)
  shown = [shown_of(config, curve, horizon) for curve in curves]
  kind = kind_of(config, curves, shown)
  runs = [
    prepare(config, curve, count, horizon, kind)
    for curve, count in zip(curves, shown, strict=True)
  ]
  able = [run for run in runs if not run.reason]
  if not able:
    raise UsageError(
      f'{config.csv}: no curve can be forecast: {runs[0].curve.name!r} '
      f'{runs[0].reason}; see --horizon and --seen'
    )
  forecasts = predict(config, able, horizon)
  print(table(config, runs, able, forecasts, horizon))
  for run in runs:
    if run.reason:
      print(f'not forecast: {run.curve.name} {run.reason}')
  if config.plot:
    shown = list(zip(able, forecasts, strict=True))[:DRAWN]
    drawn = [draw(run, found, horizon) for run, found in shown]
    path = forecast_plot(drawn, config.plot, f'{Path(config.csv).name}')
    rest = len(able) - len(drawn)
    print(f'figure: {path}' + f' (the first {DRAWN} curves)' * (rest > 0))


def shown_of(config: Config, curve: Curve, horizon: float) -> int:
  """How many points of a curve are shown."""
  if config.seen == 1 and curve.step_T[-1] >= horizon:
    return len(curve.step_T)  # It is there already.
  within = int((curve.step_T < horizon).sum())
  return min(within, math.floor(config.seen * len(curve.step_T)))


def kind_of(
  config: Config, curves: Sequence[Curve], shown: Sequence[int]
) -> Kind:
  """What the metric of a file is, by all that is shown of it."""
  seen = [
    curve.value_T[:count]
    for curve, count in zip(curves, shown, strict=True)
    if count >= MINIMUM
  ]
  return kind_of_all(seen) if config.kind == 'auto' and seen else config.kind


def prepare(
  config: Config, curve: Curve, shown: int, horizon: float, kind: Kind
) -> Run:
  """A curve with its normalisation, or with why it cannot be forecast."""
  run = Run(curve, shown, None)
  seen_T = run.value_T
  if curve.step_T[-1] >= horizon and shown == len(curve.step_T):
    reason = f'has come to step {horizon:g} already'
  elif shown < MINIMUM:
    reason = f'shows {shown} points; {MINIMUM} are needed'
  elif np.ptp(seen_T) == 0:
    reason = f'is constant, {seen_T[0]:g}'
  else:
    try:
      found = normalisation(config, seen_T, kind)
      found.check(seen_T, curve.name)
    except UsageError as error:
      reason = f'cannot be normalised: {error}'
    else:
      run = dataclasses.replace(run, normalisation=found)
      reason = no_law(run, horizon) if config.forecaster == SCALING else ''
  return dataclasses.replace(run, reason=reason)


def no_law(run: Run, horizon: float) -> str:
  """Why no scaling law can go on with a curve, or nothing."""
  step_T, value_T = after_start(run)
  if reason := unfit(step_T, value_T, np.array([horizon])):
    return reason
  try:
    recent(step_T, value_T, run.normalisation)
  except UsageError as error:
    return f'follows no scaling law: {error}'
  return ''


def after_start(run: Run) -> tuple[np.ndarray, np.ndarray]:
  """Steps and values without step 0, where no scaling law has a value."""
  there_T = run.step_T > 0
  return run.step_T[there_T], run.value_T[there_T]


def normalisation(
  config: Config, seen_T: np.ndarray, kind: Kind
) -> Normalisation:
  """How a curve's metric becomes 0..1, with the bounds that are known."""
  found = suited(seen_T, kind)
  low = found.hard_low if config.low is None else config.low
  up = found.hard_up if config.up is None else config.up
  soft_low, soft_up = max(found.soft_low, low), min(found.soft_up, up)
  return Normalisation(found.minimise, low, soft_low, soft_up, up)


def predict(
  config: Config, runs: Sequence[Run], horizon: float
) -> list[Forecast | BoundedForecast]:
  """Of each, from what is seen to the horizon, the last step being that."""
  if config.forecaster == SCALING:  # To which another start is another law.
    model = ScalingPFN.load(config.weights)
    curves = [after_start(run) for run in runs]
    later_NQ = np.stack([later_of(run, horizon) for run in runs])
    how_N = [run.normalisation for run in runs]
    return _rows(model.predict(curves, later_NQ, how_N))
  # The first step of the network and of families is 1, and here it may be 0.
  offset = max(0.0, 1.0 - min(run.step_T[0] for run in runs))
  step_N = [run.step_T + offset for run in runs]
  later_NQ = offset + np.stack([later_of(run, horizon) for run in runs])
  if config.forecaster == NETWORK:
    model = LCPFN.load(config.weights)
    return _by_network(model, runs, step_N, later_NQ, horizon + offset)
  curves = [(step_T, r.value_T) for step_T, r in zip(step_N, runs, strict=True)]
  how_N = [run.normalisation for run in runs]
  name = config.forecaster
  return _rows(FittedForecast.predict(name, curves, later_NQ, how_N))


def _rows(found: BoundedForecast) -> list[BoundedForecast]:
  """The forecasts of single curves."""
  return [found.of_row(row) for row in range(len(found.step_NQ))]


def _by_network(
  model: LCPFN,
  runs: Sequence[Run],
  step_N: Sequence[np.ndarray],
  later_NQ: np.ndarray,
  horizon: float,
) -> list[Forecast]:
  """All in one pass."""
  found = model.predict(
    [run.value_T for run in runs],
    horizon,
    at=later_NQ,
    steps=step_N,
    normalisation=[run.normalisation for run in runs],
  )
  mixture = jax.device_get(found.mixture)
  return [
    Forecast(
      later_NQ[row : row + 1],
      jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], mixture),
      [run.normalisation],
    )
    for row, run in enumerate(runs)
  ]


def later_of(run: Run, horizon: float) -> np.ndarray:
  """Steps that are forecast of a run, [Q]; the last is the horizon."""
  return np.linspace(run.step_T[-1], horizon, ASKED + 1)[1:]


def table(
  config: Config,
  runs: Sequence[Run],
  able: Sequence[Run],
  forecasts: Sequence[Forecast | BoundedForecast],
  horizon: float,
) -> str:
  """One row a curve, at the horizon."""
  rows = []
  for run, found in zip(able, forecasts, strict=True):
    beat = to_beat(config, runs, run)
    better = '-' if beat is None else _chance(found, beat)
    ends = (found.interval(share / 100) for share in sorted(SHADES))
    rows.append(
      [
        run.curve.name,
        f'{run.step_T[-1]:g}',
        f'{run.value_T[-1]:.4g}',
        f'{found.median()[0, -1]:.4g}',
        *(f'{low[0, -1]:.4g} to {high[0, -1]:.4g}' for low, high in ends),
        better,
        *[came(run, horizon)] * (config.seen < 1),
      ]
    )
  step = f'{horizon:g}'
  headers = ['curve', 'seen to', 'last', f'at step {step}']
  headers += [f'{share} %' for share in sorted(SHADES)]
  headers += ['P(better)'] + ['came'] * (config.seen < 1)
  return text(headers, rows)


def to_beat(config: Config, runs: Sequence[Run], run: Run) -> float | None:
  """The value that was asked for, or the best that other curves have shown."""
  if config.beat is not None:
    return config.beat
  others = [each.value_T for each in runs if each is not run and each.shown]
  if not others:
    return None
  best = np.min if run.normalisation.minimise else np.max
  return float(best(np.concatenate(others)))


def _chance(found: Forecast | BoundedForecast, beat: float) -> str:
  share = float(found.probability_better(beat)[0, -1])
  return f'{100 * share:.3g} % ({beat:.4g})'


def came(run: Run, horizon: float) -> str:
  """The value at the horizon, where it is known."""
  at = np.flatnonzero(run.curve.step_T == horizon)
  return f'{run.curve.value_T[at[0]]:.4g}' if len(at) else ''


def draw(run: Run, found: Forecast | BoundedForecast, horizon: float) -> Drawn:
  """A curve, its forecast and what came, as the figure shows them."""
  bands = {
    share: tuple(end[0] for end in found.interval(share / 100))
    for share in SHADES
  }
  return Drawn(
    name=run.curve.name,
    step_T=run.step_T,
    value_T=run.value_T,
    step_Q=later_of(run, horizon),
    median_Q=found.median()[0],
    bands=bands,
    step_U=run.curve.step_T[run.shown :],
    value_U=run.curve.value_T[run.shown :],
  )


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
