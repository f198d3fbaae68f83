"""The compiled pieces of training a population of replicas.

Everything is a function of (problem, config, seed, step). Sampling, the update
and held-out evaluation run inside one compiled program of many steps.

Shape key: R replicas, K steps of a dispatch, P parts of a batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from extrap.compilation import jit_once
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.training import optimizers
from extrap.training.config import TrainConfig
from extrap.training.distributed import acquaint
from extrap.training.finite import all_finite
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

LARGEST = 2**24  # Up to here float32 has every integer.


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
        lambda state: self.single(state, jnp.int32(0), self.data), self.abstract
      )

  def dispatch(self) -> Callable[[TrainState, jax.Array, int], tuple]:
    """The program: (state, first step, static K) -> (state, metrics [K, R])."""

    def run(
      state: TrainState, first: jax.Array, data: object, steps: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
      step_K = first + jnp.arange(steps)
      # All at once: one key takes as long to make as a step of a tiny model.
      keys_K = jax.vmap(self._keys)(step_K)
      return jax.lax.scan(
        lambda state, at: self._step(state, *at, data), state, (step_K, keys_K)
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

  def single(
    self, state: TrainState, step: jax.Array, data: object
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step, as it is counted and compiled by itself."""
    return self._step(state, step, self._keys(step), data)

  def _keys(self, step: jax.Array) -> dict[str, jax.Array]:
    """Of what each replica draws, and of what else is random in its loss."""
    stream = optional(self.problem, 'stream')

    def make(replica: jax.Array) -> dict[str, jax.Array]:
      source = stream(replica) if stream else replica
      return {
        'sample': self._key(source, 'sample', step),
        'loss': self._key(replica, 'loss', step),
      }

    return jax.vmap(make)(self._replica_R)

  def _step(
    self,
    state: TrainState,
    step: jax.Array,
    keys_R: dict[str, jax.Array],
    data: object,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of all replicas, then held-out evaluation if it is due."""
    over = {'spmd_axis_name': 'replica'}
    state, metrics = jax.vmap(
      lambda state, keys, h: self._update(state, keys, h, step, data), **over
    )(state, keys_R, self.hparams)
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
    keys: dict[str, jax.Array],
    hparams: Mapping[str, jax.Array],
    step: jax.Array,
    data: object,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimizer step of one replica; refused if it is not finite."""
    draw = Context(keys['sample'], step, hparams, data)
    ctx = Context(keys['loss'], step, hparams, data)
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
    finite &= all_finite((grads, params))
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


def check_held(hparams: Mapping[str, jax.typing.ArrayLike], seed: int) -> None:
  """Refuses integers that float32 rounds, so that replicas would be alike.

  Raises:
    UsageError: naming one.
  """
  for name, numbers in hparams.items():
    array = np.asarray(numbers)
    if array.dtype.kind == 'i' and np.abs(array).max() > LARGEST:
      raise UsageError(
        f'--seed={seed}: {name} is beyond {LARGEST}, where float32 no longer '
        'tells numbers apart; give a smaller seed'
      )


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
  check_held(chosen, seed)
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


def _by_rule(rule: str, metrics: Mapping[str, jax.Array]) -> jax.Array:
  """The metric that a rule names, negated if the highest is best."""
  name = rule.removeprefix('-')
  if name not in metrics:
    raise UsageError(
      f'--train.best={rule}: held-out metrics are {", ".join(sorted(metrics))}'
    )
  return -metrics[name] if rule.startswith('-') else metrics[name]
