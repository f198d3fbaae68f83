"""A language model as a problem: every byte of a window from those before it.

Shape key: B examples, T tokens, N bytes of the text.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from extrap.datasets.stdlib_text import Text
from extrap.encoding_limits import check_reads, check_table
from extrap.errors import UsageError
from extrap.models.transformer import Transformer
from extrap.randomness import named
from extrap.tasks.text import RunningText
from extrap.training.problem import Context, Metrics, Params

TEXT = RunningText()


@struct.dataclass
class Excerpt:
  """Windows of a text with what follows each of their bytes.

  Attributes:
    tokens: int32 [B, T].
    level: int32 [B, T], as in the text.
    targets: int32 [B, T], the next bytes.
  """

  tokens: jax.Array
  level: jax.Array
  targets: jax.Array


def stored(text: Text) -> Mapping[str, np.ndarray]:
  """What `LanguageProblem` reads in `ctx.data`."""
  return {'token': text.token_N, 'level': text.level_N}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageProblem:
  """A causal language model of bytes, on windows of one length.

  `ctx.data` is what `stored` makes of a text. Windows begin anywhere in it, all
  places equally likely; they are drawn anew in every step.

  Attributes:
    model: called as model(tokens, structure, queries, key=, train=).
    length: bytes that a window holds, and predictions that it makes.
    batch_size: windows a step.
  """

  model: Transformer
  length: int = 64
  batch_size: int = 32

  def __post_init__(self) -> None:
    if self.length < 2:
      raise UsageError(f'windows of {self.length} bytes: at least 2')
    position = self.model.config.position
    check_reads(position, TEXT.reads, 'of text')
    check_table(position, TEXT, self.length, train=True)

  def init(self, key: jax.Array) -> Params:
    tokens_BT = jnp.zeros((1, self.length), jnp.int32)
    structure = TEXT.structure(tokens_BT, tokens_BT)
    return self.model.init(key, tokens_BT, structure)['params']

  def sample(self, ctx: Context) -> Excerpt:
    token_N, level_N = (jnp.asarray(ctx.data[n]) for n in ('token', 'level'))
    start_B = jax.random.randint(
      named(ctx.key, 'start'),
      (self.batch_size,),
      0,
      token_N.shape[0] - self.length,
    )
    index_BT = start_B[:, None] + jnp.arange(self.length)[None]
    return Excerpt(
      tokens=token_N[index_BT].astype(jnp.int32),
      level=level_N[index_BT],
      targets=token_N[index_BT + 1].astype(jnp.int32),
    )

  def loss(
    self, params: Params, batch: Excerpt, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """Mean cross-entropy of all bytes, in nats."""
    logits_BTV = self.model.apply(
      {'params': params},
      batch.tokens,
      TEXT.structure(batch.tokens, batch.level),
      key=ctx.key,
      train=True,
    )
    loss_BT = optax.softmax_cross_entropy_with_integer_labels(
      logits_BTV, batch.targets
    )
    return jnp.mean(loss_BT), {}
