"""Signals as replicas of one program: how rates are chosen, and all trained.

Shape key: O options, F forms, R replicas, T times.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from experiments.periodic_arms import ARMS, Learned
from extrap.compilation import jit_once
from extrap.kept import Kept
from extrap.randomness import named
from extrap.series import SeriesProblem
from extrap.study_training import TUNING_SEED, train_arm, training_seconds
from extrap.tasks.periodic_signals import FORMS, PeriodicSignals
from extrap.training import distributed
from extrap.training.loop import Fit

if TYPE_CHECKING:
  from experiments.periodic import Config

RATES = (1e-3, 3e-3, 1e-2)
TRIALS = 2  # Signals of each form that choose a rate.


@dataclasses.dataclass(frozen=True, eq=False)
class Signals:
  """What is drawn: a row for each form and seed, seeds of a form side by side.

  Attributes:
    seed: of the first row.
    form_R: the form of each.
    frequency_R: its frequency.
    value_RT: its values at all times.
  """

  seed: int
  form_R: tuple[str, ...]
  frequency_R: np.ndarray
  value_RT: np.ndarray


@dataclasses.dataclass(frozen=True)
class Choice:
  """How an arm is trained on a form, and what choosing it took."""

  learning_rate: float
  scale: str
  samples: int


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """An arm after training, a replica for each signal.

  Attributes:
    problem: what was trained.
    fit: what training gave back.
    found_RT: predictions at all times, nan where it failed.
    seconds: that a replica took.
  """

  problem: SeriesProblem
  fit: Fit
  found_RT: np.ndarray
  seconds: float


def draw_signals(config: Config, seeds: int, seed: int) -> Signals:
  """So many signals of each form."""
  task, rows = config.task, []
  for place, form in enumerate(config.forms):
    first = seed + place * seeds
    draw = jit_once(jax.vmap(functools.partial(_draw, task, form)))
    rows.append(draw(first + np.arange(seeds)))
  frequency_R, value_RT = (
    np.concatenate(part) for part in zip(*rows, strict=True)
  )
  names = itertools.chain(*([form] * seeds for form in config.forms))
  return Signals(seed, tuple(names), frequency_R, value_RT)


def _draw(
  task: PeriodicSignals, form: str, seed: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Frequency and values of a seed."""
  signal = task.draw(named(jax.random.key(seed), 'signal'), FORMS[form])
  return signal.frequency, task.values_T(signal, FORMS[form])


def make_problem(
  config: Config, arm: Learned, signals: Signals
) -> SeriesProblem:
  """An arm on the points that are trained on."""
  seen_T = config.task.split_T('train')
  times = config.task.times_T[seen_T] / config.task.half_range
  return SeriesProblem(
    model=arm.model(config.width),
    time_B=np.asarray(times, 'f4'),
    value_RB=np.asarray(signals.value_RT[:, seen_T], 'f4'),
    factor=arm.factor(config.steps),
  )


def choose(config: Config, kept: Kept, name: str) -> list[Choice]:
  """For each form what has the least error on the points held out.

  All rates and scales are tried side by side, on signals of their own.
  """
  arm, steps = ARMS[name], -(-config.steps // 4)
  options = list(itertools.product(RATES, arm.scales))
  seed = config.seed + TUNING_SEED
  signals = draw_signals(config, TRIALS, seed)
  count = len(signals.form_R)
  recipe = dataclasses.replace(config.train, steps=steps, schedule_steps=steps)
  short = dataclasses.replace(
    config, steps=steps, seed=seed, replicas=count * len(options), train=recipe
  )
  hparams = {
    'learning_rate': [rate for rate, _ in options for _ in range(count)],
    'scale': [scale_of(config, s) for _, s in options for _ in range(count)],
    'series': list(range(count)) * len(options),
  }
  problem = make_problem(short, arm, signals)
  folder = kept.run.path / 'arms' / name / 'trials'
  of_run = (kept.run, f'{name}, trials', kept.stop)
  trained = train_arm(problem, short, *of_run, folder, hparams)
  found_RT = predictions(config, problem, trained, hparams['scale'])
  truth_RT = np.tile(signals.value_RT, (len(options), 1))
  error_R = error_at(config, 'validation', found_RT, truth_RT)
  error_OF = error_R.reshape(len(options), len(config.forms), TRIALS).mean(2)
  samples = TRIALS * len(options) * steps * config.task.points
  return [
    Choice(*options[best], samples) for best in np.argmin(error_OF, axis=0)
  ]


def train(
  config: Config,
  kept: Kept,
  name: str,
  signals: Signals,
  chosen: Sequence[Choice],
) -> Trained:
  """Trains an arm on all signals, each form as was chosen for it."""
  arm, folder = ARMS[name], kept.run.path / 'arms' / name
  hparams = as_hparams(config, chosen, config.replicas)
  population = dataclasses.replace(config, replicas=len(signals.form_R))
  problem = make_problem(config, arm, signals)
  fit = train_arm(
    problem, population, kept.run, name, kept.stop, folder, hparams
  )
  found_RT = predictions(config, problem, fit, hparams['scale'])
  seconds = training_seconds(folder) / population.replicas
  return Trained(problem, fit, found_RT, seconds)


def as_hparams(
  config: Config, chosen: Sequence[Choice], each: int
) -> dict[str, list[float]]:
  """Numbers of every replica, where a form has as many as `each`."""
  rows = [choice for choice in chosen for _ in range(each)]
  return {
    'series': list(range(len(rows))),
    'scale': [scale_of(config, choice.scale) for choice in rows],
    'learning_rate': [choice.learning_rate for choice in rows],
  }


def scale_of(config: Config, name: str) -> float:
  """What times that are scaled to -1..1 are multiplied by."""
  return {'range': 1.0, 'raw': config.task.half_range}[name]


def predictions(
  config: Config, problem: SeriesProblem, trained: Fit, scale_R: Sequence[float]
) -> np.ndarray:
  """Of every replica at all times, [R, T]; nan where it is not finite."""
  times = np.asarray(config.task.times_T / config.task.half_range, 'f4')
  predict = jit_once(jax.vmap(problem.predict, (0, None, 0)))
  params = distributed.to_host(trained.params)
  found_RT1 = predict(params, times[:, None], jnp.asarray(scale_R, 'f4'))
  found_RT = np.asarray(found_RT1, 'f8')[..., 0]
  return np.where(trained.finite[:, None], found_RT, np.nan)


def error_at(
  config: Config, where: str, found_RT: np.ndarray, truth_RT: np.ndarray
) -> np.ndarray:
  """Mean squared error of each row, [R]; infinite where it failed."""
  there_T = config.task.split_T(where)
  error_R = np.mean((found_RT - truth_RT)[:, there_T] ** 2, axis=1)
  return np.nan_to_num(error_R, nan=np.inf)
