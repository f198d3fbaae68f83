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
import functools
import math
import sys
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from extrap import cli
from extrap.config import option
from extrap.curves import mixtures
from extrap.curves.lcpfn import LCPFN, SHIPPED
from extrap.curves.normalise import loss_from
from extrap.curves.stopping import COARSE
from extrap.datasets.curve_set import CurveSet
from extrap.datasets.real_curves import load
from extrap.errors import UsageError
from extrap.evaluation.statistics import across_replicas
from extrap.kept import write_table
from extrap.reporting.progress import Progress
from extrap.reporting.tables import text

CLAIM = 'training runs stopped by forecasts, 3.3 times as fast'
TIME = 'minutes on two CPU cores'

PATIENCE = (0, 1, 5, 10, 20, 50)
RULES = ('none', 'fine', 'coarse', *(f'patience {k}' for k in PATIENCE))
POOLS = {'best tenth': 0.1, 'all': 1.0}
ROWS = 20  # Runs that are forecast at a time.


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


@dataclasses.dataclass(frozen=True)
class Pool:
  """Runs of one task.

  Attributes:
    value_NT: normalised, 1 is best; nan once a run has diverged.
    upper_NT: after each epoch, what no later one exceeds but by the chance.
  """

  value_NT: np.ndarray
  upper_NT: np.ndarray

  @property
  def epochs(self) -> int:
    return self.value_NT.shape[1]

  def take(self, rows: np.ndarray) -> 'Pool':
    return Pool(self.value_NT[rows], self.upper_NT[rows])


def normalised(curves: CurveSet) -> np.ndarray:
  """Losses of a task as 0..1 without the one before training, [N, T]."""
  before = float(np.nanmedian(curves.value_NT[:, 0]))
  return np.asarray(loss_from(before).forward(curves.value_NT[:, 1:]))


def upper_bounds(
  model: LCPFN, value_NT: np.ndarray, chance: float
) -> np.ndarray:
  """[N, T]: the largest later quantile, of 1 less the chance; 1 at the end.

  A run goes on while the best so far is below it.
  """
  filled_NT = np.nan_to_num(value_NT, nan=0.0).astype(np.float32)
  upper = functools.partial(_upper, model.model, model.params, 1 - chance)
  parts = []
  for start in range(0, len(filled_NT), ROWS):
    part_NT = filled_NT[start : start + ROWS]
    padded_NT = np.pad(part_NT, ((0, ROWS - len(part_NT)), (0, 0)))
    parts.append(np.asarray(upper(padded_NT))[: len(part_NT)])
  return np.minimum(np.concatenate(parts), 1.0)  # Nothing is better than 1.


@functools.partial(jax.jit, static_argnums=(0,))
def _upper(
  model: object, params: dict, p: jax.Array, value_NT: jax.Array
) -> jax.Array:
  """`upper_bounds` of some runs, all epochs in one pass."""
  bound = model.bind({'params': params})
  length = value_NT.shape[1]
  time_NT = jnp.broadcast_to(jnp.arange(1.0, length + 1), value_NT.shape)
  state_NTE, level_NT = bound.states(time_NT, value_NT)
  time_T = jnp.arange(1.0, length + 1)

  def at(cutoff: jax.Array) -> jax.Array:
    """The largest quantile after one epoch, [N]."""
    state_NE, level_N = state_NTE[:, cutoff], level_NT[:, cutoff]
    asked_NT = jnp.broadcast_to(jnp.maximum(time_T, cutoff + 2), value_NT.shape)
    time_N = jnp.full(level_N.shape, cutoff + 1.0)
    forecast = bound.forecast(state_NE, level_N, time_N, asked_NT)
    return mixtures.quantile(forecast, p).max(axis=1)

  upper_TN = jax.lax.map(at, jnp.arange(length - 1))
  return jnp.concatenate([upper_TN.T, jnp.ones((len(value_NT), 1))], axis=1)


def length_of(rule: str, pool: Pool, row: int, best: float) -> int:
  """Epochs that a run makes under a rule, with the best of runs before it."""
  value_T = pool.value_NT[row]
  there = int(np.isfinite(value_T).sum())
  own_T = np.maximum.accumulate(value_T[:there])
  count_T = np.arange(1, there + 1)
  if rule == 'none':
    return there
  if rule.startswith('patience'):
    since_T = count_T - 1 - _latest_best(value_T[:there])
    stops_T = since_T > int(rule.split()[1])
  else:
    stops_T = pool.upper_NT[row, :there] <= np.maximum(own_T, best)
    stops_T &= (count_T > 1) & (count_T < pool.epochs)
    if rule == 'coarse':
      at = [math.ceil(share * pool.epochs) for share in COARSE]
      stops_T &= np.isin(count_T, at)
  return int(np.argmax(stops_T)) + 1 if stops_T.any() else there


def _latest_best(value_T: np.ndarray) -> np.ndarray:
  """Where the best value up to each point was, the first of equal ones."""
  best_T = np.maximum.accumulate(value_T)
  new_T = np.append(True, best_T[1:] > best_T[:-1])
  return np.maximum.accumulate(np.where(new_T, np.arange(len(value_T)), 0))


def best_by_epoch(
  rule: str, pool: Pool, order_N: np.ndarray, budget: int | None
) -> np.ndarray:
  """The best value found after each epoch until the budget or pool ends."""
  found, spent, best = [], 0, 0.0
  for row in order_N:
    count = length_of(rule, pool, row, best)
    best_T = np.maximum.accumulate(np.maximum(pool.value_NT[row, :count], best))
    found.append(best_T)
    best, spent = float(best_T[-1]), spent + count
    if budget is not None and spent >= budget:
      break
  return np.concatenate(found)[:budget]


def regrets(
  rule: str, pool: Pool, orders: Sequence[np.ndarray], budget: int | None
) -> tuple[np.ndarray, bool]:
  """Mean regret over orders after each epoch, and if the pool has ended."""
  rows = [best_by_epoch(rule, pool, order_N, budget) for order_N in orders]
  length = budget or max(map(len, rows))
  ended = any(len(row) < length for row in rows)
  padded = [np.pad(row, (0, length - len(row)), mode='edge') for row in rows]
  return np.nanmax(pool.value_NT) - np.mean(padded, axis=0), ended


def speed_ups(pool: Pool, config: Config, seed: int) -> dict[str, list[float]]:
  """By rule: both speed-ups, the regret at the end, and if the pool ended."""
  order = np.random.default_rng(seed)
  orders = [order.permutation(len(pool.value_NT)) for _ in range(config.orders)]
  budget = config.budget * pool.epochs
  whole, _ = regrets('none', pool, orders, None)
  level = whole[min(budget, len(whole)) - 1]
  found = {}
  for rule in RULES:
    regret, ended = regrets(rule, pool, orders, budget)
    found[rule] = [
      _first_below(whole, level) / _first_below(regret, level),
      _first_below(whole, regret[-1]) / _first_below(regret, regret[-1]),
      float(regret[-1]),
      float(ended),
    ]
  return found


def _first_below(regret: np.ndarray, level: float) -> float:
  """Epochs until a regret is at most a level; infinite if it never is."""
  below = np.flatnonzero(regret <= level + 1e-12)
  return float(below[0] + 1) if len(below) else math.inf


def pools_of(config: Config) -> Mapping[str, Mapping[str, Pool]]:
  """By pool and task."""
  curves, model = load('taskset', config.data), LCPFN.load(config.weights)
  tasks = sorted(set(curves.task_N.tolist()))
  found: dict[str, dict[str, Pool]] = {name: {} for name in POOLS}
  with Progress(len(tasks), 'forecast tasks') as progress:
    for number, task in enumerate(tasks, start=1):
      value_NT = normalised(curves.take(curves.task_N == task))
      # What fails in its first epoch has made no progress.
      value_NT[:, 0] = np.nan_to_num(value_NT[:, 0], nan=0.0)
      upper_NT = upper_bounds(model, value_NT, config.chance)
      pool = Pool(value_NT, upper_NT)
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
      speed_ups(pool, config, seed) for seed, pool in enumerate(pools.values())
    ]
    for rule in RULES:
      same, as_good, regret, capped = zip(
        *(found[rule] for found in each), strict=True
      )
      none = np.mean([found['none'][2] for found in each])
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
