"""Trained arithmetic models: how each run did, and what it has cost.

What the studies of arithmetic units share around an `ArithmeticProblem`.

Shape key: N evaluations, R replicas.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.arithmetic_criterion import Solved, solved
from extrap.evaluation.results import Provenance, Result
from extrap.kept import Kept
from extrap.regression import ArithmeticProblem, Params
from extrap.reporting.writers import read_jsonl
from extrap.study import StudyConfig
from extrap.study_training import train_arm, training_seconds
from extrap.training import distributed
from extrap.training.config import TrainConfig
from extrap.training.flops import count_step_flops
from extrap.training.loop import Fit

ConfigT = TypeVar('ConfigT', bound=StudyConfig)

PLAIN = ('adam', 'rmsprop', 'sgd')  # They neither decay nor normalise.
APART = (*PLAIN, 'rotated_adam')  # Nor does this, of several matrices.
HARMLESS = ('steps', 'schedule_steps', 'save_every', 'steps_per_dispatch')
# As in the original: every step counts, and each thousandth is scored.
TRAIN = TrainConfig(
  optimizer='adam',
  learning_rate=1e-3,
  b2=0.999,
  clip=0.0,
  schedule='constant',
  warmup_steps=0,
  evaluate_every=1_000,
  steps_per_dispatch=1_000,
  save_every=50_000,
)


def check_runs(config: StudyConfig) -> None:
  """Refuses training in which runs mix, or whose end is not scored."""
  every, optimizer = config.train.evaluate_every, config.train.optimizer
  if optimizer not in APART or config.train.clip:
    raise UsageError(
      f'--train.optimizer={optimizer} --train.clip={config.train.clip:g}: one '
      f'of {", ".join(APART)}, without clipping, so that the runs of a seed do '
      'not mix'
    )
  if not every or config.steps % every:
    raise UsageError(
      f'--steps={config.steps} is no multiple of --train.evaluate_every='
      f'{every}: the last steps would not be scored'
    )


def trained_alike(
  one: StudyConfig, other: StudyConfig, fields: Sequence[str]
) -> bool:
  """Whether runs of two configs may be compared.

  Args:
    one: a config.
    other: another.
    fields: what else matters, beside how they are trained.
  """
  harmless = {name: getattr(other.train, name) for name in HARMLESS}
  if dataclasses.replace(one.train, **harmless) != other.train:
    return False
  return all(getattr(one, name) == getattr(other, name) for name in fields)


def seed_blocks(config: StudyConfig, size: int) -> dict[str, range]:
  """Replicas of each block of seeds, by its name."""
  starts = range(0, config.replicas, size)
  ends = [min(first + size, config.replicas) for first in starts]
  return {
    f'seeds {config.seed + a} to {config.seed + b - 1}': range(a, b)
    for a, b in zip(starts, ends, strict=True)
  }


def of_block(config: ConfigT, replicas: range) -> ConfigT:
  """A config of those replicas alone."""
  first = config.seed + replicas.start
  return dataclasses.replace(config, seed=first, replicas=len(replicas))


@dataclasses.dataclass(frozen=True)
class Runs:
  """A trained population.

  Attributes:
    params: the last, on the host.
    records: what was noted at each evaluation.
    finite: bool [R], false of a replica that was frozen.
    source: what one of the runs that share a program has cost, whatever its
      arm.
  """

  params: Params
  records: Sequence[Mapping[str, object]]
  finite: np.ndarray
  source: Provenance

  def solved(self, arm: str, operation: str, threshold: float) -> Solved:
    """The criterion on what was noted of one arm and operation."""
    found = solved(
      np.array([record['step'] for record in self.records]),
      *(
        self._series(f'held_out/{what}/{arm}/{operation}')
        for what in ('validation', 'test', 'sparsity')
      ),
      threshold,
    )
    return found.where(self.finite)

  def _series(self, name: str) -> np.ndarray:
    # What is nan in all seeds is not recorded.
    none = [None] * len(self.finite)
    return np.array([record.get(name, none) for record in self.records], float)

  def source_of(self, arm: str, **notes: object) -> Provenance:
    """What a run of an arm has cost, with further notes."""
    notes = json.loads(self.source.hparams) | notes
    return dataclasses.replace(self.source, arm=arm, hparams=json.dumps(notes))


def train_runs(
  study: str,
  problem: ArithmeticProblem,
  config: StudyConfig,
  kept: Kept,
  name: str,
  label: str = '',
  data: dict[str, np.ndarray] | None = None,
) -> Runs:
  """Trains all arms of some seeds.

  Args:
    study: its name.
    problem: what is trained.
    config: the study's.
    kept: the run folder; files are in arms/<name>.
    name: of this training, and in progress lines unless they have a label.
    label: in progress lines.
    data: for the problem.

  Raises:
    Preempted, Diverged: as `train_arm`.
  """
  folder = kept.run.path / 'arms' / name.replace(' ', '_')
  label = label or name
  trained = train_arm(
    problem, config, kept.run, label, kept.stop, folder, data=data
  )
  records = read_jsonl(folder / 'metrics.jsonl')
  records = [r for r in records if 'held_out/loss' in r]  # It is finite.
  source = _account(study, problem, config, trained, folder)
  params = distributed.to_host(trained.params)
  return Runs(params, records, trained.finite, source)


def _account(
  study: str,
  problem: ArithmeticProblem,
  config: StudyConfig,
  trained: Fit,
  folder: Path,
) -> Provenance:
  """What one of the runs that share a program has cost."""
  runs = sum(len(arm.operations) for arm in problem.arms.values())
  each = count_step_flops(problem, trained.params) / runs
  steps = tuple(distributed.to_host(trained.state.step).tolist())
  return Provenance(
    study=study,
    arm='',
    rung='',
    seeds=config.seeds,
    steps=steps,
    samples=tuple(step * problem.batch_size for step in steps),
    flops=tuple(step * each for step in steps),
    seconds=training_seconds(folder) / config.replicas / runs,
    checkpoint='validation',
    hparams=json.dumps({'runs_a_seed': runs}),
  )


def rows_of(
  source: Provenance,
  split: str,
  size: str,
  found: Solved,
  metrics: Sequence[str] = ('step', 'test', 'sparsity'),
  suffix: str = '',
) -> list[Result]:
  """One row a metric and replica: whether it was solved, and more.

  Args:
    source: of the arm.
    split: what was learned.
    size: how many inputs.
    found: the criterion.
    metrics: further fields of it.
    suffix: of the names of all metrics.
  """
  rows = []
  for replica, success in enumerate(found.success):
    of_run = (replica, split, size)
    name, success = f'solved{suffix}', int(success)
    rows.append(source.row(*of_run, name, float(success), 1, success))
    for metric in metrics:
      value = float(getattr(found, metric)[replica])
      value = value if np.isfinite(value) else None
      rows.append(source.row(*of_run, metric + suffix, value, 1))
  return rows
