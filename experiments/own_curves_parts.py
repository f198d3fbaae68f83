"""What the sweep of addition runs is asked, one part a question.

Every part makes rows of curves alone, whether they were just trained or come
from a file.

Suffix keys: N runs, T looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.own_curves_forecasts import (
  FORECAST,
  GUESSING,
  forecasts_of,
  network_of,
)
from experiments.own_curves_runs import STUDY, Looks, Run, rounded
from experiments.own_curves_scaling import scaling_of
from extrap.curves.normalise import loss_from
from extrap.curves.replay import (
  RULES,
  Pool,
  random_orders,
  search,
  speed_ups,
)
from extrap.evaluation.emergence import (
  agreement,
  likelihood,
  made_by,
  rise,
  whole_answer,
)
from extrap.evaluation.results import Result, length_split, untrained
from extrap.kept import Kept

if TYPE_CHECKING:
  from experiments.own_curves import Config

BUDGET = 20  # Whole runs, for speed-ups; as published.


def emergence_of(
  config: Config, kept: Kept, runs: Sequence[Run]
) -> list[Result]:
  """How suddenly metrics rise, and how exact match follows from tokens."""
  del config, kept
  return [
    row
    for run in runs
    if run.whole
    for looks in run.looks
    for row in _emergence(run, looks)
  ]


def _emergence(run: Run, looks: Looks) -> list[Result]:
  """Of one run at one length."""
  values = {'best': looks.exact_match_T.max()}
  onset = rise(run.step_T, looks.exact_match_T).onset
  for metric, value_T in rising(looks).items():
    found = rise(run.step_T, value_T)
    values |= {
      f'{metric}_onset': found.onset,
      f'{metric}_width': found.width,
      f'{metric}_made': made_by(run.step_T, value_T, onset),
    }
  for route, token_T in (
    ('loss', likelihood(looks.loss_T)),
    ('token_accuracy', looks.token_accuracy_T),
  ):
    told_T = whole_answer(token_T, looks.tokens)
    found = agreement(looks.exact_match_T, told_T)
    values |= {
      f'correlation_{route}': found.correlation,
      f'gap_{route}': found.gap,
    }
  split = length_split(looks.digits, run.inside.digits)
  return [
    run.row(split, str(looks.digits), metric, value, looks.held_out)
    for metric, value in values.items()
  ]


def rising(looks: Looks) -> dict[str, np.ndarray]:
  """Metrics that are compared, more is better."""
  return {
    'exact_match': looks.exact_match_T,
    'token_accuracy': looks.token_accuracy_T,
    'log_likelihood': -looks.loss_T,
  }


def stopping_of(
  config: Config, kept: Kept, runs: Sequence[Run]
) -> list[Result]:
  """What each rule saves on the sweep, and what it loses, in random orders."""
  model, count = network_of(config), len(runs)
  orders, rows = random_orders(count, config.orders, config.seed), []
  source = untrained(STUDY, 'sweep', runs[0].rung, range(config.orders))
  for metric in FORECAST:
    kept.check()
    value_NT = np.array([_normalised(run, metric) for run in runs])
    pool = Pool.of(model, value_NT, config.chance)
    faster = speed_ups(pool, orders, BUDGET)
    for rule in RULES:
      of_rule = (stopping_split(metric, rule), str(count))
      for number, order_N in enumerate(orders):
        found = search(rule, pool, order_N)
        values = {'saved': 1 - found.spent, 'regret': found.regret}
        values['won'] = float(found.regret == 0)
        rows += [
          source.row(number, *of_rule, name, rounded(value), count)
          for name, value in values.items()
        ]
      for name in ('same', 'as_good'):
        value = rounded(getattr(faster[rule], name))
        rows.append(source.row(0, *of_rule, name, value, len(orders)))
  return rows


def stopping_split(metric: str, rule: str) -> str:
  """What rows of a rule are called that watches a metric."""
  return f'stopping by {metric}: {rule}'


def _normalised(run: Run, metric: str) -> np.ndarray:
  """0..1, 1 is best, [T]; nan once a run has failed."""
  value_T = run.inside.of(metric).copy()
  if metric == 'loss':
    there_T = np.isfinite(value_T)
    value_T[there_T] = loss_from(GUESSING).forward(value_T[there_T])
  return value_T


PARTS: Mapping[str, Callable[[Config, Kept, Sequence[Run]], list[Result]]] = {
  'forecasts': forecasts_of,
  'scaling': scaling_of,
  'emergence': emergence_of,
  'stopping': stopping_of,
}
