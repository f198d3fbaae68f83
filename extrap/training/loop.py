"""The one training loop: dispatches of many steps, logged and saved.

The programs are those of `extrap/training/trainer.py`; the host only logs, one
dispatch late, and saves.

Shape key: R replicas, K steps of a dispatch.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from extrap.compilation import copied
from extrap.errors import UsageError
from extrap.training.checkpoints import Checkpoints
from extrap.training.config import TrainConfig
from extrap.training.distributed import to_host
from extrap.training.problem import Params, Problem
from extrap.training.sharding import ShardingRules
from extrap.training.state import TrainState
from extrap.training.trainer import Trainer, make_trainer

Record: TypeAlias = dict[str, np.ndarray]
Logger: TypeAlias = Callable[[int, Record], None]


@dataclasses.dataclass(frozen=True)
class Fit:
  """What training gives back; every array has a leading replica axis.

  Attributes:
    params: parameters after the last finite step.
    best: parameters at the best held-out value, or None.
    ema: averaged parameters, or None.
    state: all of it, over the mesh.
    finite: bool [R], on the host; false where a replica was frozen.
    history: one record a dispatch: 'step' and, as [R], each metric.
    steps: steps done in all; seconds: time of this call; start: first step.
  """

  state: TrainState
  finite: np.ndarray
  history: list[Record]
  steps: int
  start: int
  seconds: float
  preempted: bool = False

  @property
  def params(self) -> Params:
    return self.state.params

  @property
  def best(self) -> Params | None:
    return self.state.best and self.state.best.params

  @property
  def ema(self) -> Params | None:
    return self.state.ema

  def each(self) -> list[Params]:
    """Parameters of every replica, on the host; all processes must call it."""
    params_R = to_host(self.params)
    return [
      jax.tree.map(lambda leaf, at=replica: leaf[at], params_R)
      for replica in range(len(self.finite))
    ]

  @property
  def diverged(self) -> bool:
    """Whether no replica is left."""
    return not self.finite.any()


def fit(
  problem: Problem,
  config: TrainConfig,
  *,
  replicas: int = 1,
  seed: int = 0,
  hparams: Mapping[str, jax.typing.ArrayLike] | None = None,
  data: jax.Array | dict | None = None,
  mesh: Mesh | None = None,
  rules: ShardingRules | None = None,
  checkpoints: Checkpoints | None = None,
  init_from: Checkpoints | None = None,
  params: Params | None = None,
  begin: Callable[[int], None] = lambda step: None,
  log: Logger | None = None,
  stop: Callable[[], bool] = lambda: False,
) -> Fit:
  """Trains a population; by itself it writes nothing.

  Args:
    problem: what is minimised.
    config: steps, optimizer and dispatch.
    replicas: R, seeds trained side by side in one program.
    seed: replica r is the run that `seed + r` would be by itself.
    hparams: numbers to sweep, scalars or [R]; they replace the config's and
      the problem's.
    data: stored arrays that the problem finds in `ctx.data`.
    mesh: devices; one by default.
    rules: which logical axis lies along which mesh axis.
    checkpoints: where to save and to resume from.
    init_from: another run; without a checkpoint of its own, this one starts
      from the other's last parameters, with a fresh optimizer.
    params: likewise, of a population of this size; what they lack, as an
      encoding's own, is drawn as if from scratch.
    begin: called once with the step that training starts or goes on from.
    log: called as log(step, record), one dispatch late.
    stop: asked between dispatches; when true, saves and returns.

  Returns:
    The last and best parameters of every replica, with their history.

  Raises:
    UsageError: the schedule ends before `config.steps`, sizes do not divide
      the mesh, or `params` are of another model.
  """
  trainer = make_trainer(
    problem,
    config,
    replicas=replicas,
    seed=seed,
    hparams=hparams,
    data=data,
    mesh=mesh,
    rules=rules,
  )
  start, state = _start(trainer, checkpoints, init_from, params)
  if start > config.steps:
    raise UsageError(
      f'--steps={config.steps}, but this run has made {start} steps already'
    )
  begin(start)
  return _drive(trainer, state, start, checkpoints, log, stop)


def _start(
  trainer: Trainer,
  own: Checkpoints | None,
  other: Checkpoints | None,
  params: Params | None,
) -> tuple[int, TrainState]:
  """Its own checkpoint, or else another run's parameters, or scratch."""
  if own is not None and (restored := own.restore(trainer.abstract)):
    return restored
  state = trainer.create()
  if other is not None:
    found = other.restore(trainer.abstract)
    if found is None:
      raise UsageError(f'--init_from: {other.folder} has no checkpoint')
    params = found[1].params
  elif params is not None:
    params = _completed(params, state.params)
  return 0, state if params is None else _beginning(state, params)


def _completed(given: Params, fresh: Params) -> Params:
  """Copies of the given parameters, and fresh ones where they have none."""
  known, drawn = map(traverse_util.flatten_dict, (given, fresh))
  unlike = [
    path
    for path, leaf in known.items()
    if path not in drawn or drawn[path].shape != leaf.shape
  ]
  if unlike:
    raise UsageError(
      f'parameters of another model: {"/".join(unlike[0])} is not of this one'
    )
  return traverse_util.unflatten_dict(drawn | copied(known))


def _beginning(state: TrainState, params: Params) -> TrainState:
  """A fresh state whose parameters are these."""
  state = state.replace(params=params)
  # Copies, as buffers are donated.
  if state.ema is not None:
    state = state.replace(ema=copied(params))
  if state.best is not None:
    state = state.replace(best=state.best.replace(params=copied(params)))
  return state


def _drive(
  trainer: Trainer,
  state: TrainState,
  start: int,
  checkpoints: Checkpoints | None,
  log: Logger | None,
  stop: Callable[[], bool],
) -> Fit:
  """Dispatches until the last step; logs the dispatch before the last."""
  config, run = trainer.config, trainer.dispatch()
  history, pending, step = [], None, start
  began = time.perf_counter()

  def fetch() -> None:
    for record in _records(*pending) if pending else ():
      history.append(record)
      if log is not None:
        log(int(record['step']), record)

  preempted = False
  for first, steps in _dispatches(start, config):
    state, metrics = run(state, first, steps)
    fetch()
    step, pending = first + steps, (first, metrics)
    over = history and not np.isfinite(history[-1]['train/loss']).any()
    if (
      over and not np.logical_and(*to_host((state.finite, state.learned))).any()
    ):
      break
    preempted = stop()
    if checkpoints is not None:
      last = preempted or over or step == config.steps
      checkpoints.save(step, state, force=last)
    if preempted or over:
      break
  fetch()
  finite = to_host(state.finite)
  seconds = time.perf_counter() - began
  return Fit(state, finite, history, step, start, seconds, preempted)


def _dispatches(start: int, config: TrainConfig) -> Iterator[tuple[int, int]]:
  """(first step, number of steps), ending on multiples of the dispatch."""
  size = config.steps_per_dispatch
  while start < config.steps:
    end = min((start // size + 1) * size, config.steps)
    yield start, end - start
    start = end


def _records(first: int, metrics: Mapping[str, jax.Array]) -> list[Record]:
  """A dispatch's means of training, and each held-out value at its own step."""
  values = jax.device_get(dict(metrics))
  last = first + len(values['train/loss'])
  mean = {n: v.mean(axis=0) for n, v in values.items() if n[:6] == 'train/'}
  records = {last: {'step': np.asarray(last)} | mean}
  for name, value_KR in values.items():
    rows = np.isfinite(value_KR).any(axis=1) & (name not in mean)
    for row in np.flatnonzero(rows):
      step = first + int(row) + 1
      record = records.setdefault(step, {'step': np.asarray(step)})
      record[name] = value_KR[row]
  return [records[step] for step in sorted(records)]
