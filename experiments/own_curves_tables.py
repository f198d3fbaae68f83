"""What the study of our own curves says of its rows: one table a question."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from experiments.own_curves_forecasts import (
  CUTOFFS,
  FORECAST,
  NAIVE,
  ROUTES,
)
from experiments.own_curves_parts import stopping_split
from experiments.own_curves_scaling import LAWS
from extrap.curves.replay import RULES
from extrap.evaluation.results import LENGTH_SPLITS, Result, select, values
from extrap.evaluation.statistics import (
  Interval,
  across_replicas,
  ratio,
  verdict,
)
from extrap.reporting.tables import Table, format_percent

LEARNED = 0.9  # Exact match that a run comes to, for its rise to count.
OVER_RUNS = 'Mean over runs with a bootstrap interval.'
SCORES = ('final_error', 'rmse', 'mae', 'log_density')
# Of emergence, in the order of columns.
RISES = (
  *('exact_match_onset', 'token_accuracy_made', 'log_likelihood_made'),
  *('exact_match_width', 'token_accuracy_width', 'log_likelihood_width'),
  *('gap_loss', 'gap_token_accuracy'),
  *('correlation_loss', 'correlation_token_accuracy'),
)


def all_tables(results: Sequence[Result]) -> dict[str, Table]:
  """Those that have rows, by their headings."""
  tables = {
    'Forecasts': forecast_table(results),
    'Exact match by single tokens': route_table(results),
    'Loss by data': data_table(results),
    'Loss by size': size_table(results),
    'Emergence': emergence_table(results),
    'Stopping': stopping_table(results),
  }
  return {name: table for name, table in tables.items() if table.rows}


def forecast_table(results: Sequence[Result]) -> Table:
  """Errors by metric, share of the run that is seen, and method."""
  splits, rows = _by_split(results), []
  for metric in FORECAST:
    for seen in _cutoffs():
      naive = _values(splits, f'{metric}: {NAIVE}', seen, 'mae')
      for method in _methods(splits, f'{metric}: '):
        of = (splits, f'{metric}: {method}', seen)
        off, rmse, mae, log_density = (_values(*of, name) for name in SCORES)
        if log_density:
          line = [metric, f'{seen} %', method, str(len(log_density))]
          line += [_mean(off), _mean(rmse), _mase(mae, naive)]
          rows.append([*line, _median(log_density), _mean(log_density)])
  headers = [
    *('curve', 'seen', 'method', 'runs', 'error at the end', 'RMSE', 'MASE'),
    *('median log density', 'log density'),
  ]
  caption = (
    f'{OVER_RUNS} Error at the end in nats a token or as a share of answers; '
    'all else of normalised values, over later points. MASE: absolute error '
    'over that of the last value, both summed over runs.'
  )
  return Table(headers, rows, caption)


def route_table(results: Sequence[Result]) -> Table:
  """Exact match as forecast itself, and as p^n of what tokens come to."""
  splits, rows = _by_split(results), []
  for seen in _cutoffs():
    for method in _methods(splits, 'exact_match by loss: '):
      direct, *routes = (
        _values(splits, f'{way}: {method}', seen, 'final_error')
        for way in ('exact_match', *(f'exact_match by {r}' for r in ROUTES))
      )
      if direct:
        gain = np.subtract(direct, routes[0])
        found = across_replicas(gain, method='bootstrap')
        line = [f'{seen} %', method, str(len(direct))]
        line += [f'{np.mean(each):.3f}' for each in (direct, *routes)]
        rows.append([*line, _shown(found), verdict(found)])
  headers = [
    *('seen', 'method', 'runs', 'itself', 'by the likelihood'),
    *('by the accuracy', 'gain of the likelihood', 'itself is worse'),
  ]
  caption = (
    'Mean error of exact match at the end, over runs: forecast itself, or as '
    'p^n of the likelihood or the accuracy of a token that are forecast. Gain: '
    'paired, with a bootstrap interval over runs.'
  )
  return Table(headers, rows, caption)


def data_table(results: Sequence[Result]) -> Table:
  """Errors of the loss with all data, by the share that is seen."""
  rows = []
  for law, size, of in _by_law(results, 'data'):
    off, ratios = _columns(of, 'final_error', 'log_error')
    rows.append([law, f'{size} %', str(len(off)), _mean(off), _mean(ratios)])
  headers = ['law', 'data seen', 'curves', 'error (nats)', 'error (log)']
  caption = (
    'Loss with all of the data, by fits to shorter runs; mean over widths and '
    'repeats with a bootstrap interval. A law needs as many points as it has '
    'parameters.'
  )
  return Table(headers, rows, caption)


def size_table(results: Sequence[Result]) -> Table:
  """Every loss of the largest sizes that was forecast, and what came."""
  rows = []
  for law, size, of in _by_law(results, 'size'):
    said, came, off = _columns(of, 'forecast', 'came', 'final_error')
    line = [law, f'{int(size):,}', str(of[0].n)]
    rows.append([*line, _listed(said), _listed(came), _mean(off)])
  headers = ['law', 'parameters', 'smaller sizes', 'forecast', 'came', 'error']
  caption = (
    'Loss with all data of the largest models, by fits to the smaller ones; '
    'every repeat, nats a token. So few points that this is no more than an '
    'illustration.'
  )
  return Table(headers, rows, caption)


def emergence_table(results: Sequence[Result]) -> Table:
  """How suddenly metrics rise, in runs that learn, and what tells of it."""
  splits, rows = _by_split(results), []
  for split in LENGTH_SPLITS:
    of = splits.get(split, [])
    best = select(of, metric='best')
    learned = {_run_of(row) for row in best if row.value >= LEARNED}
    learned -= {_run_of(row) for row in of if row.value is None}
    if len(learned) < 2:
      continue
    found = {
      name: [
        row.value for row in select(of, metric=name) if _run_of(row) in learned
      ]
      for name in RISES
    }
    wide, narrow = found['log_likelihood_width'], found['exact_match_width']
    gain = across_replicas(np.subtract(wide, narrow), method='bootstrap')
    line = [best[0].size, f'{len(learned)} of {len(best)}']
    line += map(_mean, found.values())
    rows.append([*line, _shown(gain), verdict(gain)])
  headers = [
    *('digits', 'runs', 'onset of exact match', 'made by then: accuracy'),
    *('log likelihood', 'width: exact match', 'accuracy', 'log likelihood'),
    *('gap: by likelihood', 'by accuracy', 'correlation: by likelihood'),
    *('by accuracy', 'sharper', 'exact match is sharper'),
  ]
  caption = (
    f'{OVER_RUNS} Runs count that come to {100 * LEARNED:.0f} % exact match. '
    'Onset: the share of training until exact match has made a tenth of its '
    'range, and what accuracy and log likelihood of a token have made of '
    'theirs by then; width: from a tenth to nine tenths of the own range. Gap: '
    'mean absolute difference of exact match from p^n, over a run. Sharper: '
    'width of the log likelihood less that of exact match, paired.'
  )
  return Table(headers, rows, caption)


def stopping_table(results: Sequence[Result]) -> Table:
  """What each rule saves and loses, by the metric that it watches."""
  splits, rows = _by_split(results), []
  for metric in FORECAST:
    for rule in RULES:
      of = splits.get(stopping_split(metric, rule), [])
      saved, regret, won, same, as_good = _columns(
        of, 'saved', 'regret', 'won', 'same', 'as_good'
      )
      if of:
        line = [metric, rule, of[0].size, str(len(saved))]
        line += [_mean(saved), _mean(regret), format_percent(np.mean(won), 0)]
        rows.append([*line, _listed(same), _listed(as_good)])
  headers = [
    *('watched', 'rule', 'runs', 'orders', 'epochs saved', 'regret'),
    *('winner found', 'speed-up: same', 'as good'),
  ]
  caption = (
    'The whole sweep in random orders; mean over orders with a bootstrap '
    'interval over them, which knows of no other sweep. Regret: the best of '
    'all runs less the best found, normalised. Speed-ups as on Taskset, with a '
    'budget of 20 whole runs.'
  )
  return Table(headers, rows, caption)


def _cutoffs() -> list[str]:
  return [f'{100 * share:g}' for share in CUTOFFS]


def _by_split(results: Sequence[Result]) -> dict[str, list[Result]]:
  splits: dict[str, list[Result]] = {}
  for row in results:
    splits.setdefault(row.split, []).append(row)
  return splits


def _methods(splits: Iterable[str], begins: str) -> list[str]:
  """What follows in splits that begin so."""
  return [s.removeprefix(begins) for s in splits if s.startswith(begins)]


def _by_law(
  results: Sequence[Result], about: str
) -> Iterator[tuple[str, str, list[Result]]]:
  """Every law and size, the least first, with the rows that are of both."""
  for law in LAWS:
    rows = select(results, split=f'{about}: {law}')
    for size in sorted({row.size for row in rows}, key=float):
      yield law, size, select(rows, size=size)


def _values(
  splits: Mapping[str, Sequence[Result]], split: str, size: str, metric: str
) -> list[float]:
  return values(select(splits.get(split, ()), size=size, metric=metric))


def _columns(rows: Sequence[Result], *metrics: str) -> list[list[float]]:
  return [values(select(rows, metric=name)) for name in metrics]


def _run_of(row: Result) -> tuple[str, str, int]:
  return row.arm, row.hparams, row.seed


def _mean(each: Sequence[float]) -> str:
  """With its bootstrap interval; blank of none."""
  return _shown(across_replicas(each, method='bootstrap')) if each else ''


def _mase(mae: Sequence[float], naive: Sequence[float]) -> str:
  """Blank of a guarded network, whose medians are its own, or of no error."""
  return _shown(ratio(mae, naive)) if mae and any(naive) else ''


def _median(each: Sequence[float]) -> str:
  return f'{np.median(each):.3g}' if each else ''


def _shown(found: Interval) -> str:
  return f'{found.mean:.3g} ({found.low:.3g}..{found.high:.3g})'


def _listed(each: Sequence[float]) -> str:
  return ', '.join(f'{value:.3g}' for value in each)
