"""The one training loop: a population of replicas, many steps a dispatch.

Everything is a function of (problem, config, seed, step). Sampling, the update
and held-out evaluation run inside one compiled program; the host only logs,
one dispatch late, and saves.

Shape key: R replicas, K steps of a dispatch, P parts of a batch.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from extrap.compilation import copied, jit_once
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.training import optimizers
from extrap.training.checkpoints import Checkpoints
from extrap.training.config import TrainConfig
from extrap.training.distributed import acquaint, to_host
from extrap.training.problem import (
  Context,
  Examples,
  Params,
  Problem,
  optional,
  own_hparams,
)
from extrap.training.ramp import parts_at
from extrap.training.sharding import (
  ShardingRules,
  check_divides,
  make_mesh,
  state_shardings,
)
from extrap.training.state import Best, TrainState, create_state

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

  @property
  def diverged(self) -> bool:
    """Whether no replica is left."""
    return not self.finite.any()


@dataclasses.dataclass(frozen=True)
class Trainer:
  """The compiled pieces of one population; `fit` drives them.

  Attributes:
    problem: what is minimised.
    config: how.
    replicas: R; seed: replica r trains as a single run with seed + r.
    hparams: float32 [R] each.
    data: stored arrays that every replica reads.
    mesh, rules: where things lie.
  """

  problem: Problem
  config: TrainConfig
  replicas: int
  seed: int
  hparams: Mapping[str, np.ndarray]
  data: jax.Array | dict | None
  mesh: Mesh
  rules: ShardingRules

  def create(self) -> TrainState:
    """The state before the first step, sharded over the mesh."""
    with self.rules.on(self.mesh):
      make = jit_once(
        jax.vmap(lambda r, h: nn.unbox(self._create(r, h))),
        out_shardings=self.shardings,
      )
      return make(self._replica_R, self.hparams)

  @functools.cached_property
  def abstract(self) -> TrainState:
    """Shapes, types and shardings of the state, to restore into."""
    shapes = jax.eval_shape(
      jax.vmap(lambda r, h: nn.unbox(self._create(r, h))),
      self._replica_R,
      self.hparams,
    )
    return jax.tree.map(
      lambda leaf, at: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=at
      ),
      shapes,
      self.shardings,
    )

  @functools.cached_property
  def shardings(self) -> TrainState:
    one = jax.tree.map(lambda x: x[0], (self._replica_R, self.hparams))
    boxed = jax.eval_shape(self._create, *one)
    return state_shardings(boxed, self.mesh, self.rules)

  @property
  def _replica_R(self) -> np.ndarray:
    # On the host: every process of a job has its own devices.
    return np.arange(self.replicas, dtype=np.int32)

  def _key(self, replica: jax.Array, *names: str | jax.Array) -> jax.Array:
    return named(jax.random.key(self.seed + replica), *names)

  def _create(
    self, replica: jax.Array, hparams: Mapping[str, jax.Array]
  ) -> TrainState:
    return create_state(
      self.problem.init(self._key(replica, 'init')),
      optimizers.make_optimizer(self.config, hparams),
      ema=self.config.ema > 0,
      best=self._evaluates,
    )

  @property
  def _evaluates(self) -> bool:
    has = optional(self.problem, 'evaluate') is not None
    return has and self.config.evaluate_every > 0

  def check(self) -> None:
    """Traces a step without compiling it: what is wrong is said at once."""
    with self.rules.on(self.mesh):
      jax.eval_shape(
        lambda state: self._step(state, jnp.int32(0), self.data), self.abstract
      )

  def dispatch(self) -> Callable[[TrainState, jax.Array, int], tuple]:
    """The program: (state, first step, static K) -> (state, metrics [K, R])."""

    def run(
      state: TrainState, first: jax.Array, data: object, steps: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
      return jax.lax.scan(
        lambda state, step: self._step(state, step, data),
        state,
        first + jnp.arange(steps),
      )

    replicated = NamedSharding(self.mesh, P())
    program = jax.jit(
      run,
      static_argnums=3,
      donate_argnums=0,
      out_shardings=(self.shardings, replicated),
    )

    def call(state: TrainState, first: int, steps: int) -> tuple:
      with self.rules.on(self.mesh):
        return program(state, jnp.int32(first), self.data, steps)

    return call

  def _step(
    self, state: TrainState, step: jax.Array, data: object
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of all replicas, then held-out evaluation if it is due."""
    over = {'spmd_axis_name': 'replica'}
    state, metrics = jax.vmap(
      lambda state, r, h: self._update(state, r, h, step, data), **over
    )(state, self._replica_R, self.hparams)
    if not self._evaluates:
      return state, metrics
    evaluate = jax.vmap(
      lambda state, r, h: self._evaluate(state, r, h, step, data), **over
    )
    shapes = jax.eval_shape(evaluate, state, self._replica_R, self.hparams)

    def skip(state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
      nothing = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), shapes[1]
      )
      return state, nothing

    # The condition is the same for all replicas: a branch, not a select.
    state, held_out = jax.lax.cond(
      (step + 1) % self.config.evaluate_every == 0,
      lambda state: evaluate(state, self._replica_R, self.hparams),
      skip,
      state,
    )
    return state, metrics | held_out

  def _update(
    self,
    state: TrainState,
    replica: jax.Array,
    hparams: Mapping[str, jax.Array],
    step: jax.Array,
    data: object,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimizer step of one replica; refused if it is not finite."""
    stream = optional(self.problem, 'stream')
    source = stream(replica) if stream else replica
    draw = Context(self._key(source, 'sample', step), step, hparams, data)
    ctx = Context(self._key(replica, 'loss', step), step, hparams, data)
    batch = jax.tree.map(self._over_data, self.problem.sample(draw))
    (loss, metrics), grads = self._differentiate(state.params, batch, ctx)
    optimizer = optimizers.make_optimizer(self.config, hparams)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    if scale := optional(self.problem, 'scale_updates'):
      updates = scale(updates, ctx)
    params = optax.apply_updates(state.params, updates)
    if project := optional(self.problem, 'project'):
      params = project(params, ctx)
    norm = optax.tree.norm(grads)
    finite = state.finite & jnp.isfinite(loss)
    # A step can overflow from a finite loss; a norm, from a finite gradient.
    for leaf in jax.tree.leaves((grads, params)):
      finite &= jnp.isfinite(leaf).all()
    new = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    if state.ema is not None:
      new = new.replace(
        ema=optax.incremental_update(params, state.ema, 1 - self.config.ema)
      )
    moves = finite & ~state.learned
    new = jax.tree.map(lambda new, old: jnp.where(moves, new, old), new, state)
    new = new.replace(finite=finite | (state.finite & state.learned))
    metrics = {'loss': loss, 'grad_norm': norm} | metrics
    # A frozen replica has no metrics, even if its old parameters still would.
    return new, {
      f'train/{name}': jnp.where(moves, value, jnp.nan)
      for name, value in metrics.items()
    }

  def _over_data(self, leaf: jax.Array) -> jax.Array:
    """Spreads a batch's first axis over the mesh's data axis."""
    if leaf.ndim == 0 or self.mesh.shape['data'] == 1:
      return leaf
    check_divides(self.mesh, 'data', leaf.shape[0], 'the batch size')
    return jax.lax.with_sharding_constraint(leaf, P('data'))

  def _differentiate(
    self, params: Params, batch: Examples, ctx: Context
  ) -> tuple[tuple[jax.Array, dict[str, jax.Array]], Params]:
    """Loss, metrics and gradient, of the whole batch or summed over parts.

    Each part has its own key; parts count by `problem.weight`, so that without
    randomness in the loss the gradient is that of the whole batch, or of as
    much of it as a ramp has reached.
    """
    differentiate = jax.value_and_grad(self.problem.loss, has_aux=True)
    parts = self.config.accumulate
    if parts == 1:
      return differentiate(params, batch, ctx)
    weigh = optional(self.problem, 'weight') or (lambda rows: jnp.ones(()))
    split = jax.tree.map(self._split, batch)
    taken = parts
    if self.config.ramp:
      taken = parts_at(self.config, ctx.step)
    share_P = jax.lax.map(weigh, split)
    share_P = jnp.where(jnp.arange(parts) < taken, share_P, 0)
    share_P = share_P / jnp.sum(share_P)

    def add(total: tuple, part: tuple) -> tuple:
      index, share, rows = part
      own = ctx.replace(key=named(ctx.key, 'part', index))
      (loss, metrics), grads = differentiate(params, rows, own)
      # Parts have equally many rows, which is what metrics are means of.
      metrics = jax.tree.map(lambda x: x / (taken * share), metrics)
      result = (loss, metrics), grads
      return jax.tree.map(lambda t, x: t + share * x, total, result)

    def add_taken(total: tuple, part: tuple) -> tuple[tuple, None]:
      if not self.config.ramp:
        return add(total, part), None
      # The condition is the same for all replicas: what is left out is free.
      goes = part[0] < taken
      return jax.lax.cond(goes, add, lambda total, _: total, total, part), None

    shapes = jax.eval_shape(differentiate, params, batch, ctx)
    zero = jax.tree.map(
      lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)),
      shapes,
    )
    parts_P = (jnp.arange(parts), share_P, split)
    return jax.lax.scan(add_taken, zero, parts_P)[0]

  def _split(self, leaf: jax.Array) -> jax.Array:
    """[B, ...] -> [parts, B / parts, ...], every device keeping its rows."""
    parts = self.config.accumulate
    if leaf.ndim == 0:
      return jnp.broadcast_to(leaf, (parts,))
    if leaf.shape[0] % (parts * self.mesh.shape['data']):
      raise UsageError(
        f'--train.accumulate={parts} does not divide the batch size='
        f'{leaf.shape[0]} over --mesh.data={self.mesh.shape["data"]}'
      )
    rows = leaf.reshape(-1, parts, *leaf.shape[1:])
    return jax.lax.with_sharding_constraint(
      jnp.moveaxis(rows, 1, 0), P(None, 'data')
    )

  def _evaluate(
    self,
    state: TrainState,
    replica: jax.Array,
    hparams: Mapping[str, jax.Array],
    step: jax.Array,
    data: object,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """Held-out metrics of one replica, and its best parameters so far."""
    # The key has no step: every evaluation sees the same examples.
    ctx = Context(self._key(replica, 'evaluate'), step, hparams, data)
    params = state.params if state.ema is None else state.ema
    metrics = self.problem.evaluate(params, ctx)
    value = _by_rule(self.config.best, metrics)
    # An equal value counts: among ties the longest trained is kept.
    better = state.finite & (value <= state.best.value)
    best = jax.tree.map(
      lambda new, old: jnp.where(better, new, old),
      Best(params, value, step + 1),
      state.best,
    )
    if self.config.enough:
      if 'exact_match' not in metrics:
        raise UsageError('--train.enough needs a held-out exact_match')
      learned = metrics['exact_match'] >= self.config.enough
      state = state.replace(learned=state.learned | learned)
    named_metrics = {f'held_out/{name}': v for name, v in metrics.items()}
    return state.replace(best=best), named_metrics


def make_trainer(
  problem: Problem,
  config: TrainConfig,
  *,
  replicas: int = 1,
  seed: int = 0,
  hparams: Mapping[str, jax.typing.ArrayLike] | None = None,
  data: jax.Array | dict | None = None,
  mesh: Mesh | None = None,
  rules: ShardingRules | None = None,
) -> Trainer:
  """The compiled pieces of a population; arguments and errors as for `fit`."""
  optimizers.check_schedule(config)
  mesh = mesh or make_mesh()
  check_divides(mesh, 'replica', replicas, '--replicas')
  acquaint(mesh)
  chosen = optimizers.default_hparams(config)
  chosen |= own_hparams(problem, range(seed, seed + replicas))
  chosen |= hparams or {}
  return Trainer(
    problem=problem,
    config=config,
    replicas=replicas,
    seed=seed,
    hparams=optimizers.as_replicas(chosen, replicas),
    data=data,
    mesh=mesh,
    rules=rules or ShardingRules(),
  )


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
    begin: called once with the step that training starts or goes on from.
    log: called as log(step, record), one dispatch late.
    stop: asked between dispatches; when true, saves and returns.

  Returns:
    The last and best parameters of every replica, with their history.

  Raises:
    UsageError: the schedule ends before `config.steps`, or sizes do not divide
      the mesh.
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
  start, state = _start(trainer, checkpoints, init_from)
  if start > config.steps:
    raise UsageError(
      f'--steps={config.steps}, but this run has made {start} steps already'
    )
  begin(start)
  return _drive(trainer, state, start, checkpoints, log, stop)


def _start(
  trainer: Trainer, own: Checkpoints | None, other: Checkpoints | None
) -> tuple[int, TrainState]:
  """Its own checkpoint, or else another run's parameters, or scratch."""
  if own is not None and (restored := own.restore(trainer.abstract)):
    return restored
  state = trainer.create()
  if other is None:
    return 0, state
  found = other.restore(trainer.abstract)
  if found is None:
    raise UsageError(f'--init_from: {other.folder} has no checkpoint')
  params = found[1].params
  state = state.replace(params=params)
  # Copies, as buffers are donated.
  if state.ema is not None:
    state = state.replace(ema=copied(params))
  if state.best is not None:
    state = state.replace(best=state.best.replace(params=copied(params)))
  return 0, state


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


def _by_rule(rule: str, metrics: Mapping[str, jax.Array]) -> jax.Array:
  """The metric that a rule names, negated if the highest is best."""
  name = rule.removeprefix('-')
  if name not in metrics:
    raise UsageError(
      f'--train.best={rule}: held-out metrics are {", ".join(sorted(metrics))}'
    )
  return -metrics[name] if rule.startswith('-') else metrics[name]


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
