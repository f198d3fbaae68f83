"""Sequence tasks as a problem: cross-entropy on the answer's tokens.

Shape key: B examples, Q answer queries, S size axes, V vocabulary.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from extrap.encoding_limits import check_table
from extrap.errors import UsageError
from extrap.evaluation.exact_match import exact_match, token_accuracy
from extrap.models.transformer import Loops
from extrap.randomness import named
from extrap.tasks.task import (
  Batch,
  Task,
  log_uniform_sizes,
  uniform_sizes,
)
from extrap.training.problem import Context, Metrics, Params


def random_loops(key: jax.Array, recurrences: int) -> Loops:
  """Loops without and with a gradient, n and k.

  n is uniform in 0 .. R - 1 and k in 1 .. min(R - n, R / 2), as in the code of
  McLeish et al.
  """
  cut = jax.random.randint(named(key, 'cut'), (), 0, recurrences)
  most = jnp.minimum(recurrences - cut, max(recurrences // 2, 1))
  return cut, jax.random.randint(named(key, 'trained'), (), 1, most + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceProblem:
  """A model that learns a task on sizes min_size .. max_size.

  Attributes:
    task: what is learned.
    model: called as model(tokens, structure, queries, key=, train=).
    max_size: largest training size.
    min_size: smallest training size.
    sizes: how training sizes are drawn: every tuple equally likely, or short
      ones more often, each size of a tuple log-uniform.
    batch_size: examples a step.
    validation_size: size of the held-out examples that `evaluate` draws,
      1.5 max_size by default: beyond training, short of every test.
    validation_examples: how many.
    watched: further sizes whose held-out exact match is recorded, as
      'exact_match_<size>'; nothing is chosen by it.
    by_token: whether to record, beside every exact match, the share of single
      tokens that are right, 'token_accuracy', and how many an answer has on
      average, 'tokens'; of watched sizes the loss, too.
    progressive: share of the progressive loss of looped models (McLeish et al.
      2024, arXiv 2405.17399; Bansal et al. 2022, arXiv 2202.05826): that of a
      random number of loops with a gradient, after some without one.
  """

  task: Task
  model: nn.Module
  max_size: int
  min_size: int = 1
  sizes: Literal['uniform', 'log_uniform'] = 'uniform'
  batch_size: int = 128
  validation_size: int | None = None
  validation_examples: int = 128
  watched: tuple[int, ...] = ()
  by_token: bool = False
  progressive: float = 0.0

  def __post_init__(self) -> None:
    if not 1 <= self.min_size <= self.max_size:
      raise UsageError(
        f'training sizes {self.min_size}..{self.max_size}: sizes start at 1'
      )
    if not 0 <= self.progressive <= 1:
      raise UsageError(
        f'progressive loss: a share of {self.progressive} is not in 0..1'
      )
    config = getattr(self.model, 'config', None)
    if config is not None:
      if self.progressive and config.loops != 'fixed':
        raise UsageError('progressive loss: it needs a fixed number of loops')
      position = config.position
      check_table(position, self.task, self.max_size, train=True)
      for size in (self._held_out_size, *self.watched):
        check_table(position, self.task, size)

  @property
  def _held_out_size(self) -> int:
    return self.validation_size or self.max_size * 3 // 2

  @property
  def trained_tokens(self) -> int:
    """Tokens of the longest row of training."""
    return self.task.token_length(self.max_size)

  def init(self, key: jax.Array) -> Params:
    batch = self._draw(named(key, 'shape'), 1, self.min_size, self.max_size)
    structure = self.task.structure(batch.tokens)
    variables = self.model.init(key, batch.tokens, structure, batch.queries)
    return variables['params']

  def sample(self, ctx: Context) -> Batch:
    return self._draw(ctx.key, self.batch_size, self.min_size, self.max_size)

  def loss(
    self, params: Params, batch: Batch, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    if not self.progressive:
      return self._score(params, batch, ctx.key, train=True)
    loops = random_loops(named(ctx.key, 'loops'), self.model.config.recurrences)
    part, metrics = self._score(params, batch, ctx.key, True, loops)
    if self.progressive == 1:
      return part, metrics
    whole, metrics = self._score(params, batch, ctx.key, True)
    return whole + self.progressive * (part - whole), metrics

  def weight(self, batch: Batch) -> jax.Array:
    """The tokens that the mean loss is over."""
    return jnp.sum(batch.mask)

  def evaluate(self, params: Params, ctx: Context) -> Metrics:
    """Loss and exact match at the validation size, the same draw each time."""
    loss, metrics = self._held_out(params, ctx, self._held_out_size)
    found = {'loss': loss} | metrics
    for size in self.watched:
      loss, metrics = self._held_out(params, ctx, size)
      if self.by_token:
        metrics = {'loss': loss} | metrics
      found |= {f'{name}_{size}': value for name, value in metrics.items()}
    return found

  def _held_out(
    self, params: Params, ctx: Context, size: int
  ) -> tuple[jax.Array, Metrics]:
    batch = self._draw(ctx.key, self.validation_examples, size, size)
    return self._score(params, batch, None, train=False)

  def _draw(self, key: jax.Array, rows: int, low: int, high: int) -> Batch:
    draw = uniform_sizes if self.sizes == 'uniform' else log_uniform_sizes
    size_BS = draw(named(key, 'sizes'), rows, len(self.task.axes), low, high)
    return self.task.sample(named(key, 'examples'), size_BS, max_size=high)

  def _score(
    self,
    params: Params,
    batch: Batch,
    key: jax.Array | None,
    train: bool,
    loops: Loops | None = None,
  ) -> tuple[jax.Array, Metrics]:
    further = {} if loops is None else {'loops': loops}
    logits_BQV = self.model.apply(
      {'params': params},
      batch.tokens,
      self.task.structure(batch.tokens),
      batch.queries,
      key=key,
      train=train,
      **further,
    )
    loss_BQ = optax.softmax_cross_entropy_with_integer_labels(
      logits_BQV, batch.targets
    )
    loss = jnp.sum(loss_BQ * batch.mask) / jnp.sum(batch.mask)
    match_B = exact_match(logits_BQV, batch)
    metrics = {'exact_match': jnp.mean(match_B.astype(jnp.float32))}
    if self.by_token:
      metrics['token_accuracy'] = token_accuracy(logits_BQV, batch)
      metrics['tokens'] = jnp.mean(jnp.sum(batch.mask, axis=1) * 1.0)
    return loss, metrics
