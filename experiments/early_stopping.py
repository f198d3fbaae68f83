"""Stopping training runs by forecasts: how much sooner the best is found.

Claimed elsewhere. LC-PFN (Adriaensen et al. 2023, arXiv 2310.20447, section
4.3): runs come one after the other, with a budget of 20 whole ones, and a run
is given up once at no later epoch its chance to beat the best so far is above
5 %. On Taskset, among the best tenth of each task's settings, the best is found
3.3 times as fast on average, 2 to 6 times on each of 12 tasks. Absolute numbers
are not published.

Here. The same twelve tasks of 1,000 runs each, 50 epochs, and the same rules:
  none      every run to its end
  fine      the forecast after every epoch; coarse: after 10, 20, 40 and 80 %
  patience  no new best of its own for more than k epochs, k of 0, 1, 5, 10, 20,
            50
in two pools, the tenth of the runs that end best, and all. 40 orders a task.
Losses become 0..1 by `loss_from` of the loss before training. A run that
diverges takes the epochs that it has, one at least.

Protocol. Regret: the best loss of the pool at any epoch, less the best found so
far, both normalised; its mean over orders. Speed-up: the epochs that no
stopping takes to come to a regret over those that a rule takes. The regret is
the one that no stopping has when the budget is spent ('same'), or the one that
the rule has then ('as good'), for which no stopping may go on beyond the budget
until the pool has no run left: that bounds how large a speed-up can be seen,
and 'capped' counts the tasks in which a rule has used up the pool within the
budget. Mean over tasks with a bootstrap interval over tasks. Nothing is chosen
by these numbers: the network was trained on curves of its prior alone, and
chance and shares are published.

Measured (`results/early_stopping.csv`, the network that comes along,
`results/lcpfn.csv`). In the best tenth the rule after every epoch is as fast as
claimed: 3.30 times (2.91 to 3.72; on single tasks 2.27 to 4.77) as no stopping,
with a quarter of its regret at the end, though in all tasks it has no run left
by then; after four epochs alone 2.81 (2.51 to 3.13). Patience is at best 1.06
times as fast, and with 0 or 1 epochs it loses runs that would have been best.
Among all runs, of which most are flat or diverge, forecasts are 2.03 times as
fast (1.91 to 2.16), and patience with 0 epochs 4.31 (3.23 to 5.39), 1 epoch
3.94: who gives up at the first epoch without a new best needs no forecast
there. The paper shows the best tenth.

Command:
  python -m experiments.early_stopping --data=FOLDER     2 minutes on two cores
where FOLDER holds the sources of `extrap.datasets.real_curves`.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping

import numpy as np
from absl import flags

from extrap import cli
from extrap.config import option
from extrap.curves.lcpfn import LCPFN, SHIPPED
from extrap.curves.normalise import loss_from
from extrap.curves.replay import RULES, Pool, random_orders, speed_ups
from extrap.datasets.curve_set import CurveSet
from extrap.datasets.real_curves import load
from extrap.errors import UsageError
from extrap.evaluation.statistics import across_replicas
from extrap.kept import write_table
from extrap.reporting.progress import Progress
from extrap.reporting.tables import text

CLAIM = 'training runs stopped by forecasts, 3.3 times as fast'
TIME = 'minutes on two CPU cores'

POOLS = {'best tenth': 0.1, 'all': 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this study."""

  data: str = option('', 'folder that holds a folder taskset')
  weights: str = option(str(SHIPPED), 'file of the network')
  chance: float = option(
    0.05, 'of a new best, that keeps a run going', minimum=0.0, maximum=1.0
  )
  orders: int = option(40, 'of the runs, for each task and pool', minimum=1)
  budget: int = option(20, 'whole runs', unit='runs', minimum=1)
  csv: str | None = option(None, 'where to write the table')


def normalised(curves: CurveSet) -> np.ndarray:
  """Losses of a task as 0..1 without the one before training, [N, T]."""
  before = float(np.nanmedian(curves.value_NT[:, 0]))
  return np.asarray(loss_from(before).forward(curves.value_NT[:, 1:]))


def pools_of(config: Config) -> Mapping[str, Mapping[str, Pool]]:
  """By pool and task."""
  curves, model = load('taskset', config.data), LCPFN.load(config.weights)
  tasks = sorted(set(curves.task_N.tolist()))
  found: dict[str, dict[str, Pool]] = {name: {} for name in POOLS}
  with Progress(len(tasks), 'forecast tasks') as progress:
    for number, task in enumerate(tasks, start=1):
      value_NT = normalised(curves.take(curves.task_N == task))
      pool = Pool.of(model, value_NT, config.chance)
      last_N = np.nan_to_num(value_NT[:, -1], nan=-1.0)  # The last of all.
      for name, share in POOLS.items():
        best_N = np.argsort(-last_N, kind='stable')
        found[name][task] = pool.take(best_N[: round(share * len(last_N))])
      progress.update(number)
  return found


HEADERS = [
  *('pool', 'rule', 'tasks', 'capped', 'same', 'same_low', 'same_high'),
  *('same_least', 'same_most', 'as_good', 'as_good_low', 'as_good_high'),
  *('regret', 'regret_over_none'),
]


def rows_of(config: Config) -> list[list[str]]:
  """A row a pool and rule: means over tasks."""
  rows = []
  for name, pools in pools_of(config).items():
    each = [
      speed_ups(
        pool,
        random_orders(len(pool.value_NT), config.orders, seed),
        config.budget,
      )
      for seed, pool in enumerate(pools.values())
    ]
    for rule in RULES:
      same, as_good, regret, capped = zip(
        *(found[rule] for found in each), strict=True
      )
      none = np.mean([found['none'].regret for found in each])
      speed, good = (
        across_replicas(values, method='bootstrap')
        for values in (same, as_good)
      )
      numbers = [speed.mean, speed.low, speed.high, min(same), max(same)]
      numbers += [good.mean, good.low, good.high]
      numbers += [np.mean(regret), np.mean(regret) / none if none else math.nan]
      row = [name, rule, str(len(each)), f'{sum(capped):.0f}']
      rows.append(row + [f'{number:.4g}' for number in numbers])
  return rows


def main(config: Config, flag_values: flags.FlagValues) -> None:
  """Prints the table."""
  del flag_values
  if not config.data:
    raise UsageError(
      '--data=FOLDER: name the folder that holds taskset; download() of '
      'extrap.datasets.real_curves fills one'
    )
  rows = rows_of(config)
  print(text(HEADERS, rows))
  if config.csv is not None:
    write_table(config.csv, HEADERS, rows)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
