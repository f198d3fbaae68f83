"""How the sweep of addition runs is trained, a width at a time.

Suffix key: T looks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from experiments.own_curves_runs import (
  METRICS,
  STUDY,
  Looks,
  Run,
  arm_of,
  write_runs,
)
from extrap.evaluation.results import Provenance
from extrap.kept import Kept
from extrap.models import Transformer
from extrap.reporting.writers import Record, read_jsonl
from extrap.sequence import SequenceProblem
from extrap.study_training import account, train_arm
from extrap.tasks.addition import Addition
from extrap.training import distributed

if TYPE_CHECKING:
  from experiments.own_curves import Config


def make_problem(config: Config, width: int) -> SequenceProblem:
  """One width."""
  model = dataclasses.replace(config.model, width=width, ffn_width=4 * width)
  return SequenceProblem(
    task=Addition(),
    model=Transformer(model, Addition().vocab_size),
    max_size=config.digits,
    batch_size=config.batch_size,
    validation_examples=config.held_out,
    watched=(config.digits,),
    by_token=True,
  )


def population(config: Config) -> Config:
  """With a replica for each learning rate and seed."""
  return dataclasses.replace(config, replicas=len(_rates(config)))


def _rates(config: Config) -> list[float]:
  """The learning rate of each replica."""
  return [rate for rate in config.rates for _ in range(config.replicas)]


def runs_file(folder: Path, width: int) -> Path:
  """Where a run folder has the curves of a width."""
  return folder / 'arms' / arm_of(width).replace(' ', '_') / 'runs.csv'


def train_width(config: Config, kept: Kept, width: int) -> list[Run]:
  """Trains all learning rates and seeds of a width, and keeps their curves."""
  problem, whole = make_problem(config, width), population(config)
  path, name = runs_file(kept.run.path, width), arm_of(width)
  fit = train_arm(
    problem,
    whole,
    kept.run,
    name,
    kept.stop,
    path.parent,
    {'learning_rate': _rates(config)},
    may_fail=True,
  )
  rung = config.model.position.rung
  source = account(STUDY, name, rung, whole, problem, fit, path.parent)
  records = read_jsonl(path.parent / 'metrics.jsonl')
  parameters = sum(leaf[0].size for leaf in jax.tree.leaves(fit.params))
  runs = curves(config, width, parameters, source, records)
  if distributed.is_first():
    write_runs(path, runs)
  return runs


def curves(
  config: Config,
  width: int,
  parameters: int,
  source: Provenance,
  records: Sequence[Record],
) -> list[Run]:
  """The curves of every replica, from what was recorded.

  Args:
    config: the study's.
    width, parameters: of the model.
    source: what the replicas have cost.
    records: of training.
  """
  looks = [record for record in records if 'held_out/loss' in record]
  step_T = np.array([look['step'] for look in looks], float)
  return [
    Run(
      width=width,
      parameters=parameters,
      learning_rate=rate,
      seed=source.seeds[replica],
      rung=source.rung,
      batch_size=config.batch_size,
      flops=source.flops[replica],
      seconds=source.seconds,
      step_T=step_T,
      **_at_lengths(config, looks, replica, step_T <= source.steps[replica]),
    )
    for replica, rate in enumerate(_rates(config))
  ]


def _at_lengths(
  config: Config, looks: Sequence[Record], replica: int, made_T: np.ndarray
) -> dict[str, Looks]:
  """What held-out sums of N and of 1.5 N digits said of a replica."""

  def of(name: str) -> np.ndarray:
    value_T = [look[f'held_out/{name}'][replica] for look in looks]
    # One that has failed is still scored as it was before.
    return np.where(made_T, value_T, np.nan)

  def at(digits: int, ending: str) -> Looks:
    tokens = looks[0][f'held_out/tokens{ending}'][replica]
    values = (of(f'{metric}{ending}') for metric in METRICS)
    return Looks(digits, tokens, config.held_out, *values)

  n = config.digits
  return {'inside': at(n, f'_{n}'), 'beyond': at(n * 3 // 2, '')}
