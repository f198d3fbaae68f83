"""What tasks on rows of symbols share: kinds of tokens, questions, draws.

The answer stands somewhere in the row and has to be found, kept or counted. A
row is a context and a question, `context ? question answer <end>`, or asks
within the context. Structure counts tokens and tells nothing else of them:
there are no places to align, and an encoding is on its own.

Shape key: B examples, T tokens, N tokens of the longest context, Q answer
queries, S = 1 size axis, X what there is to choose from, K what is chosen.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config_fields import check_bounds
from extrap.errors import UsageError
from extrap.tasks.layout import Part, ask, join, symbol
from extrap.tasks.task import Batch, Structure

Tokens = tuple[int, ...]
Instance = tuple[Tokens, Tokens]  # of context and question


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymbolTask:
  """Rows of symbols; see the module's docstring.

  A row's size is the length of its context, in tokens.
  """

  axes: ClassVar[tuple[str, ...]] = ('length',)

  def __post_init__(self) -> None:
    check_bounds(self, 'task')

  @property
  def alphabet(self) -> dict[str, int]:
    """Kinds of tokens, in their order, and how many there are of each."""
    raise NotImplementedError

  @property
  def shortest(self) -> int:
    """The shortest context; smaller sizes count as this one."""
    return 1

  @property
  def stress(self) -> dict[str, 'SymbolTask']:
    """By name, settings with the same tokens that are harder than this one."""
    return {}

  def chance(self, length: int) -> float:
    """Mean exact match of a guess that knows what answers look like alone."""
    raise NotImplementedError

  def token_length(self, max_size: int) -> int:
    return max_size

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """See `Task.sample`.

    Row contents do not depend on max_size when B is 1.

    Raises:
      UsageError: no row fits, or the longest needs more symbols than there are.
    """
    raise NotImplementedError

  def draw(self, key: jax.Array, size_BS: jax.Array, max_size: int) -> Batch:
    """`sample` as the sampler of a suite: that of a stress setting, say."""
    return self.sample(key, size_BS, max_size=max_size)

  @property
  def kinds(self) -> dict[str, int]:
    """All kinds of tokens but the end and the padding."""
    return self.alphabet

  @property
  def vocab_size(self) -> int:
    return self.pad + 1

  @property
  def end(self) -> int:
    return sum(self.kinds.values())

  @property
  def pad(self) -> int:
    return self.end + 1

  @property
  def names(self) -> list[str]:
    """What each token is called."""
    symbols = [
      kind if count == 1 else f'{kind} {index}'
      for kind, count in self.kinds.items()
      for index in range(count)
    ]
    return [*symbols, 'the end', 'padding']

  def token(self, kind: str, index: int = 0) -> int:
    """A token of a kind, the first one if no other."""
    kinds = self.kinds
    before = itertools.takewhile(lambda name: name != kind, kinds)
    return sum(kinds[name] for name in before) + index

  def index(self, kind: str, token: int) -> int | None:
    """Which token of a kind one is, on the host; None if it is of another."""
    index = token - self.token(kind)
    return index if 0 <= index < self.kinds[kind] else None

  def random(
    self, key: jax.Array, kind: str, shape: tuple[int, ...]
  ) -> jax.Array:
    """Random tokens of a kind."""
    index = jax.random.randint(key, shape, 0, self.kinds[kind])
    return self.token(kind) + index

  def some(self, key: jax.Array, kind: str, rows: int, count: int) -> jax.Array:
    """Random tokens of a kind, [B, K], those of a row distinct."""
    return self.token(kind) + distinct(key, rows, count, self.kinds[kind])

  def lengths(self, size_BS: jax.Array) -> jax.Array:
    """Tokens of each context, [B]."""
    return jnp.maximum(size_BS[:, 0], self.shortest)

  def check_size(self, max_size: int) -> None:
    """Refuses what no row fits."""
    if max_size < self.shortest:
      raise UsageError(
        f'a length of {max_size}: {type(self).__name__} needs '
        f'{self.shortest} or more'
      )

  def check_enough(self, max_size: int, needed: int, field: str) -> None:
    """Refuses to need more symbols than there are."""
    if needed > getattr(self, field):
      raise UsageError(
        f'a length of {max_size} needs {needed} {field}; '
        f'--task.{field}={getattr(self, field)}'
      )

  def largest_ids(self, max_size: int) -> dict[str, int]:
    last = self.token_length(max_size) - 1
    return {'position': last, 'place': last, 'role': 0, 'run': 0}

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Tokens counted from the first; they are one run, in one role."""
    index_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    none_BT = jnp.zeros_like(index_BT)
    return Structure(
      index=index_BT,
      position=index_BT,
      place=index_BT,
      role=none_BT,
      run=none_BT,
      anchor=none_BT,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionTask(SymbolTask):
  """Rows `context ? question answer <end>`; answer and end are asked for."""

  @property
  def kinds(self) -> dict[str, int]:
    return self.alphabet | {'?': 1}

  @property
  def question(self) -> int:
    """Tokens of a question, without its '?'."""
    return 0

  @property
  def longest(self) -> int:
    """Tokens of the longest answer, without its end."""
    raise NotImplementedError

  def token_length(self, max_size: int) -> int:
    """Context, '?', question, answer and end."""
    return max_size + 1 + self.question + self.longest + 1

  def row(self, context: Part, question_BX: jax.Array, answer: Part) -> Batch:
    """The batch of given parts."""
    rows, max_size = context.tokens.shape
    parts = (
      context,
      symbol(self.token('?'), rows),
      whole(question_BX),
      answer,
      symbol(self.end, rows),
    )
    tokens_BT, start_BP = join(parts, self.token_length(max_size), self.pad)
    return ask(tokens_BT, start_BP[:, 3], self.longest + 1, self.pad)

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[Instance, Tokens | None]:
    """Context, question and answer, None if it has no end, of a row."""
    tokens = [int(token) for token in np.asarray(tokens_T)]
    mark = tokens.index(self.token('?'))
    rest = mark + 1 + self.question
    instance = tuple(tokens[:mark]), tuple(tokens[mark + 1 : rest])
    if self.end not in tokens:
      return instance, None
    return instance, tuple(tokens[rest : tokens.index(self.end)])


def whole(tokens_BX: jax.Array) -> Part:
  """A part all of whose tokens count."""
  return Part(tokens_BX, jnp.full(tokens_BX.shape[0], tokens_BX.shape[1]))


def distinct(
  key: jax.Array,
  rows: int,
  count: int,
  among: int,
  allowed_BX: jax.Array | None = None,
) -> jax.Array:
  """Draws without replacement, int32 [B, K], uniform in 0 .. among - 1.

  Args:
    key: a typed key; rows: B; count: K; among: X.
    allowed_BX: those drawn first, in random order; the others come after them.
  """
  score_BX = jax.random.uniform(key, (rows, among))
  if allowed_BX is not None:
    score_BX = jnp.where(allowed_BX, score_BX, -1.0)
  return jax.lax.top_k(score_BX, count)[1]


def marked(index_BK: jax.Array, count_B: jax.Array, among: int) -> jax.Array:
  """The first so many of indices that differ as a mask, bool [B, X]."""
  row_B1 = jnp.arange(len(count_B))[:, None]
  counts_BK = jnp.arange(index_BK.shape[1])[None] < count_B[:, None]
  index_BK = jnp.where(counts_BK, index_BK, among)
  mask_BX = jnp.zeros((len(count_B), among), bool)
  return mask_BX.at[row_B1, index_BK].set(True, mode='drop')


def pick(tokens_BX: jax.Array, index_BK: jax.Array) -> jax.Array:
  """Entries of each row by their index, the nearest one beyond the ends."""
  return jnp.take_along_axis(tokens_BX, index_BK, axis=1, mode='clip')
