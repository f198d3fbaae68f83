"""Stopping rules, replayed on runs that were made to their end.

The rules of LC-PFN (Adriaensen et al. 2023, arXiv 2310.20447, section 4.3):
  none      every run to its end
  fine      the forecast after every epoch; coarse: after 10, 20, 40 and 80 %
  patience  no new best of its own for more than k epochs
as in `extrap.curves.stopping`, for all epochs of all runs at once: a run goes
on while the best so far is below what some later epoch exceeds by the chance.

Shape key: N runs, T epochs, E features of what the network makes of an epoch.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from extrap.curves import mixtures
from extrap.curves.lcpfn import LCPFN
from extrap.curves.stopping import COARSE, due, since_best

PATIENCE = (0, 1, 5, 10, 20, 50)
RULES = ('none', 'fine', 'coarse', *(f'patience {k}' for k in PATIENCE))
ROWS = 20  # Runs that are forecast at a time.


@dataclasses.dataclass(frozen=True)
class Pool:
  """Runs of one task, of the same number of epochs.

  Attributes:
    value_NT: normalised, 1 is best; nan once a run has diverged.
    upper_NT: after each epoch, what no later one exceeds but by the chance.
  """

  value_NT: np.ndarray
  upper_NT: np.ndarray

  @classmethod
  def of(cls, model: LCPFN, value_NT: np.ndarray, chance: float) -> Self:
    """Normalised runs with what the network says after each of their epochs.

    What fails in its first epoch has made no progress.
    """
    value_NT = np.array(value_NT, float)
    value_NT[:, 0] = np.nan_to_num(value_NT[:, 0], nan=0.0)
    return cls(value_NT, upper_bounds(model, value_NT, chance))

  @property
  def epochs(self) -> int:
    return self.value_NT.shape[1]

  def take(self, rows: np.ndarray) -> Self:
    return type(self)(self.value_NT[rows], self.upper_NT[rows])


class SpeedUp(NamedTuple):
  """How much sooner a rule comes to a mean regret than no stopping does.

  Attributes:
    same: to what no stopping has when the budget is spent.
    as_good: to what the rule has then, for which no stopping may go on.
    regret: what the rule has then, normalised.
    ended: whether a pool had no run left before, in some order.
  """

  same: float
  as_good: float
  regret: float
  ended: bool


class Search(NamedTuple):
  """A pool gone through to its last run, in one order.

  Attributes:
    spent: of the epochs of all runs, the share that was made.
    regret: the best of the pool less the best found, normalised.
  """

  spent: float
  regret: float


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
    stops_T = since_best(value_T[:there]) > int(rule.split()[1])
  else:
    checks = COARSE if rule == 'coarse' else ()
    stops_T = pool.upper_NT[row, :there] <= np.maximum(own_T, best)
    stops_T &= due(count_T, pool.epochs, checks)
  return int(np.argmax(stops_T)) + 1 if stops_T.any() else there


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


def search(rule: str, pool: Pool, order_N: np.ndarray) -> Search:
  """What a rule saves on a whole pool, and what it loses."""
  best = best_by_epoch(rule, pool, order_N, None)
  spent = len(best) / np.isfinite(pool.value_NT).sum()
  return Search(float(spent), float(np.nanmax(pool.value_NT) - best[-1]))


def random_orders(runs: int, count: int, seed: int) -> list[np.ndarray]:
  """So many random orders of runs."""
  draw = np.random.default_rng(seed)
  return [draw.permutation(runs) for _ in range(count)]


def speed_ups(
  pool: Pool, orders: Sequence[np.ndarray], runs: int
) -> dict[str, SpeedUp]:
  """Of every rule, over no stopping, with a budget of so many whole runs."""
  budget = runs * pool.epochs
  whole, _ = regrets('none', pool, orders, None)
  level = whole[min(budget, len(whole)) - 1]
  found = {}
  for rule in RULES:
    regret, ended = regrets(rule, pool, orders, budget)
    found[rule] = SpeedUp(
      _first_below(whole, level) / _first_below(regret, level),
      _first_below(whole, regret[-1]) / _first_below(regret, regret[-1]),
      float(regret[-1]),
      ended,
    )
  return found


def _first_below(regret: np.ndarray, level: float) -> float:
  """Epochs until a regret is at most a level; infinite if it never is."""
  below = np.flatnonzero(regret <= level + 1e-12)
  return float(below[0] + 1) if len(below) else math.inf
