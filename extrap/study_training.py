"""How a study trains: progress, metrics, checkpoints, resumption, cost."""

import contextlib
import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from absl import logging

from extrap.errors import Diverged, Preempted, UsageError
from extrap.evaluation.results import Provenance
from extrap.reporting.progress import Progress
from extrap.reporting.writers import (
  JsonLinesWriter,
  MultiWriter,
  TensorBoardWriter,
  read_jsonl,
)
from extrap.study import StudyConfig
from extrap.training import distributed
from extrap.training.checkpoints import Checkpoints
from extrap.training.flops import count_step_flops, count_update_flops
from extrap.training.loop import Fit, Record, fit
from extrap.training.problem import BatchProblem, Params, Problem
from extrap.training.ramp import examples_until
from extrap.training.run_folder import RunFolder
from extrap.training.sharding import make_mesh
from extrap.training.trainer import make_trainer

ConfigT = TypeVar('ConfigT', bound='StudyConfig')
TUNING_SEED = 1_000_000  # Far from the seeds that are scored.


def train_arm(
  problem: Problem,
  config: StudyConfig,
  run: RunFolder,
  label: str,
  stop: Callable[[], bool],
  folder: Path | None = None,
  hparams: Mapping[str, Sequence[float]] | None = None,
  data: dict[str, np.ndarray] | None = None,
  may_fail: bool = False,
  params: Params | None = None,
) -> Fit:
  """Trains with progress, metrics, checkpoints and resumption.

  Args:
    problem: what is minimised.
    config: the study's.
    run: the run folder; its status follows the main arm.
    label: names the arm in progress lines.
    stop: whether SIGTERM has come, as from `terminated`; one for the whole
      study, so that none is lost between two arms.
    folder: where a further arm keeps its files; None for the main arm.
    hparams: numbers of each replica, in place of the config's.
    data: stored arrays that all replicas read; arguments of the program, so
      that others of their shapes need no other program.
    may_fail: whether a population of which nothing is finite is a result, too.
    params: what a further arm begins with, see `fit`.

  Raises:
    Preempted: after SIGTERM, everything saved.
    Diverged: no replica is finite any more.
  """
  where = folder or run.path
  with contextlib.ExitStack() as stack:
    observer = _Observer(config, run if folder is None else None, where, label)
    stack.callback(observer.close)
    every = config.train.save_every or config.steps
    checkpoints = stack.enter_context(Checkpoints(where / 'checkpoints', every))
    other = None
    if config.init_from and folder is None:
      source = Path(config.init_from) / 'checkpoints'
      other = stack.enter_context(Checkpoints(source, None))
    trained = fit(
      problem,
      config.train,
      replicas=config.replicas,
      seed=config.seed,
      hparams=hparams,
      data=data,
      mesh=make_mesh(config.mesh),
      checkpoints=checkpoints,
      init_from=other,
      params=params,
      begin=observer.begin,
      log=observer.log,
      stop=stop,
    )
  # One that still sums its checkpoint is waited for here, not at the exit.
  distributed.on_all(True)
  # Compiled programs are large, and this one has done its work.
  jax.clear_caches()
  gc.collect()
  if folder is None:
    run.status('running', trained.steps)
  if trained.preempted:
    raise Preempted(
      f'stopped by SIGTERM at step {trained.steps}, which is saved in {where}; '
      'run the same command again to go on'
    )
  if trained.diverged and not may_fail:
    raise Diverged(
      f'{label}: every replica has a loss that is not finite; see {where}, and '
      'try a lower --train.learning_rate'
    )
  return trained


def tune(
  problem: Problem,
  config: ConfigT,
  run: RunFolder,
  label: str,
  stop: Callable[[], bool],
  folder: Path,
  rates: Sequence[float],
  steps: int,
) -> tuple[float, dict[str, float]]:
  """Chooses a learning rate by the training loss of a short run each.

  Every training example is fresh, so that this is the loss in distribution.
  It is the mean over the last tenth of the run; the seed is not one of the
  study's.

  Args:
    problem, run, label, stop: as for `train_arm`.
    config: the study's.
    folder: where the short runs are kept.
    rates: learning rates to try, side by side.
    steps: steps of each, with a schedule of that length.

  Returns:
    The best learning rate, and the loss of each.

  Raises:
    Diverged: all of them.
  """
  # A rate that has learned goes on: a replica that stops has no loss.
  train = dataclasses.replace(
    config.train, steps=steps, schedule_steps=steps, enough=0.0
  )
  short = dataclasses.replace(
    config,
    steps=steps,
    replicas=len(rates),
    seed=config.seed + TUNING_SEED,
    train=train,
  )
  rates = list(rates)
  hparams = {'learning_rate': rates}
  train_arm(problem, short, run, f'{label}, rates', stop, folder, hparams)
  records = read_jsonl(folder / 'metrics.jsonl')
  trained = [r for r in records if 'train/loss' in r]
  late = [r['train/loss'] for r in trained if r['step'] > 0.9 * steps]
  loss_R = np.nan_to_num(np.mean(late, axis=0), nan=np.inf)
  best = rates[int(np.argmin(loss_R))]
  return best, dict(zip(map(str, rates), loss_R.tolist(), strict=True))


def restore_arm(
  problem: Problem, config: StudyConfig, checkpoints: Path
) -> Fit:
  """The state that a run was left in, without training or writing."""
  trainer = make_trainer(
    problem, config.train, replicas=config.replicas, seed=config.seed
  )
  with Checkpoints(checkpoints, None) as source:
    found = source.restore(trainer.abstract)
  if found is None:
    raise UsageError(f'{checkpoints} holds no checkpoint')
  step, state = found
  finite = distributed.to_host(state.finite)
  return Fit(state, finite, history=[], steps=step, start=step, seconds=0.0)


class _Observer:
  """Follows one training: progress, metrics files, status."""

  def __init__(
    self,
    config: StudyConfig,
    run: RunFolder | None,
    folder: Path,
    label: str,
  ) -> None:
    self._config, self._run, self._folder = config, run, folder
    self._label, self._stack = label, contextlib.ExitStack()

  def begin(self, start: int) -> None:
    """Opens what is written to, without what lies after `start`."""
    with distributed.shared_fate():
      self._open(start)

  def _open(self, start: int) -> None:
    resumed = start or None
    first = distributed.is_first()
    writers = ()
    if first:
      writers = (
        JsonLinesWriter(self._folder / 'metrics.jsonl', resumed),
        TensorBoardWriter(self._folder / 'tensorboard', resumed),
      )
    self._writer = MultiWriter(*writers)
    self._stack.callback(self._writer.close)
    if start and first:
      logging.info('%s: resumed at step %d', self._label, start)
    total = self._config.steps
    if start < total:
      if first:
        print(f'{self._label}: compiling', file=sys.stderr)
      label = f'train {self._label}'
      progress = Progress(total, label, start=start, shown=first)
      self._progress = self._stack.enter_context(progress)
    self._time = time.perf_counter()

  def log(self, step: int, record: Record) -> None:
    now = time.perf_counter()
    scalars = {
      name: value.tolist() for name, value in record.items() if name != 'step'
    }
    self._writer.write(step, scalars | {'seconds': now - self._time})
    self._time = now
    # Held-out values may have a record of their own, between two dispatches.
    loss_R = record.get('train/loss', np.nan)
    if np.isfinite(loss_R).any():  # Some replica still learns.
      self._progress.update(step, loss=np.nanmean(loss_R))
    if self._run is not None:
      self._run.status('running', step)

  def close(self) -> None:
    self._stack.close()


def training_seconds(folder: Path) -> float:
  """Time spent on the recorded steps, over all starts of a run.

  Known to the first process, which reports it.
  """
  if not distributed.is_first():
    return 0.0
  return sum(
    record['seconds'] for record in read_jsonl(folder / 'metrics.jsonl')
  )


def account(
  study: str,
  arm: str,
  rung: str,
  config: StudyConfig,
  problem: BatchProblem,
  trained: Fit,
  folder: Path,
  data: Mapping[str, np.ndarray] | None = None,
) -> Provenance:
  """What a trained arm has cost, for its rows.

  Args:
    study: its name.
    arm: the arm's name.
    rung: how much alignment its encoding gives away.
    config: the study's.
    problem: what was trained.
    trained: the outcome.
    folder: where its metrics are.
    data: stored arrays that the problem reads.
  """
  steps = tuple(distributed.to_host(trained.state.step).tolist())
  samples = tuple(
    examples_until(config.train, step, problem.batch_size) for step in steps
  )
  each = count_step_flops(problem, trained.params, data) / problem.batch_size
  update = count_update_flops(config.train, trained.params)
  return Provenance(
    study=study,
    arm=arm,
    rung=rung,
    seeds=config.seeds,
    steps=steps,
    samples=samples,
    flops=tuple(
      n * each + step * update for n, step in zip(samples, steps, strict=True)
    ),
    seconds=training_seconds(folder) / config.replicas,
  )
