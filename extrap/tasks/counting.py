"""Counting: what is the value of a variable after a program?

A row reads `s1 .. sn ? x v <end>`. Statements set a variable to 0, increment
one, or do nothing; one variable is asked for (Golovneva et al. 2024, "CoPE",
arXiv 2405.18719; facebookresearch/RAM, projects/cope/scripts/
count_data_gen.py). Which kind a statement is goes by weights, 50 dummies to 7
increments to 1 set; a variable that is set is any of them, one that is
incremented or asked for any that has been set. Values go up to 10.

Where it differs. A statement is one token, where `a = 0 ;` has four. An
increment without a variable, or beyond 10, becomes a dummy, where the source
draws another statement. A row without a set gets one anywhere, where the source
draws another row.

Published: 3 to 512 statements, one, three or five variables, ten thousand rows
for a hundred epochs; errors of absolute, relative and contextual encodings with
three variables 67.6, 17.8 and 1.2 %.

Stress: 'busy', as many increments as dummies, which makes larger values;
'idle', ten times the dummies. Chance: values are not equally likely. One that
knows which is the most frequent is right on 17 % of rows at 64 statements, 20 %
at 128 and 26 % at 512 (4,000 rows each; the same for one to five variables).

In the length study: trained at 64 or 128 statements with one and three
variables, tested at 1 to 16 times the length.

Shape key: B examples, N statements of the longest program, V variables.
"""

import dataclasses

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import Part
from extrap.tasks.symbols import Instance, QuestionTask, Tokens, pick, whole
from extrap.tasks.task import Batch

LARGEST = 10  # value of a variable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(QuestionTask):
  """The task of counting increments; see the module's docstring."""

  variables: int = option(3, 'variables there are', minimum=1)
  dummies: float = option(
    50.0, 'weight of statements that do nothing', minimum=0
  )
  increments: float = option(7.0, 'weight of increments', minimum=0)
  sets: float = option(1.0, 'weight of statements that set to 0', minimum=0)

  def __post_init__(self) -> None:
    super().__post_init__()
    if not self.dummies + self.increments + self.sets > 0:
      raise UsageError(
        'no statement has a weight: --task.dummies, --task.increments, '
        '--task.sets'
      )

  @property
  def alphabet(self) -> dict[str, int]:
    names = ('set', 'increment', 'variable')
    of_each = dict.fromkeys(names, self.variables)
    return {'value': LARGEST + 1} | of_each | {'dummy': 1}

  @property
  def question(self) -> int:
    return 1

  @property
  def longest(self) -> int:
    return 1

  @property
  def stress(self) -> dict[str, 'Counting']:
    return {
      'busy': dataclasses.replace(self, increments=self.dummies),
      'idle': dataclasses.replace(self, dummies=10 * self.dummies),
    }

  def chance(self, length: int) -> float:
    """All values alike; see the module's docstring for the best guess."""
    return 1 / (LARGEST + 1)

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    self.check_size(max_size)
    length_B = self.lengths(size_BS)
    set_BN, wants_BN = self._statements(key, length_B, max_size)
    draws, shape = named(key, 'increment'), set_BN.shape
    set_at_BN = jax.random.randint(named(key, 'set'), shape, 0, self.variables)
    set_BNV = set_BN[..., None] & self._is_of(set_at_BN)
    known_BNV = jnp.cumsum(set_BNV, axis=1) > 0
    grow_at_BN = chosen(jax.random.uniform(draws, shape), known_BNV)
    grow_BNV = wants_BN[..., None] & known_BNV & self._is_of(grow_at_BN)
    count_BNV = since_set(grow_BNV, set_BNV)
    grow_BN = (grow_BNV & (count_BNV <= LARGEST)).any(axis=-1)
    tokens_BN = jnp.full(shape, self.token('dummy'))
    increment_BN = self.token('increment') + grow_at_BN
    tokens_BN = jnp.where(grow_BN, increment_BN, tokens_BN)
    tokens_BN = jnp.where(set_BN, self.token('set') + set_at_BN, tokens_BN)
    context = Part(tokens_BN, length_B)
    return self._ask(key, context, known_BNV[:, -1:], count_BNV[:, -1])

  def _is_of(self, variable_BN: jax.Array) -> jax.Array:
    """Which variable is meant, bool [B, N, V]."""
    each_V = jnp.arange(self.variables)[None, None]
    return variable_BN[..., None] == each_V

  def _ask(
    self,
    key: jax.Array,
    context: Part,
    known_B1V: jax.Array,
    count_BV: jax.Array,
  ) -> Batch:
    draw_B1 = jax.random.uniform(named(key, 'asked'), (len(count_BV), 1))
    asked_B1 = chosen(draw_B1, known_B1V)
    value_B1 = jnp.minimum(pick(count_BV, asked_B1), LARGEST)
    question_B1 = self.token('variable') + asked_B1
    return self.row(context, question_B1, whole(self.token('value') + value_B1))

  def _statements(
    self, key: jax.Array, length_B: jax.Array, max_size: int
  ) -> tuple[jax.Array, jax.Array]:
    """Which statements set, and which would increment, bool [B, N]."""
    shape = (len(length_B), max_size)
    total = self.dummies + self.increments + self.sets
    draw_BN = jax.random.uniform(named(key, 'kinds'), shape) * total
    inside_BN = jnp.arange(max_size)[None] < length_B[:, None]
    set_BN = inside_BN & (draw_BN < self.sets)
    forced = named(key, 'forced')
    forced_B = jax.random.randint(forced, length_B.shape, 0, length_B)
    forced_BN = jnp.arange(max_size)[None] == forced_B[:, None]
    set_BN |= forced_BN & ~set_BN.any(axis=1, keepdims=True)
    increment_BN = draw_BN < self.sets + self.increments
    return set_BN, inside_BN & increment_BN & ~set_BN

  def oracle(self, instance: Instance) -> Tokens:
    """A program run statement by statement."""
    program, (asked,) = instance
    values: dict[int, int] = {}
    for statement in program:
      variable = self.index('set', statement)
      if variable is not None:
        values[variable] = 0
      variable = self.index('increment', statement)
      if variable is not None:
        values[variable] += 1
    return (self.token('value', values[self.index('variable', asked)]),)


def chosen(draw_BN: jax.Array, among_BNV: jax.Array) -> jax.Array:
  """One that there is, by a uniform number in 0 .. 1; V if there is none."""
  count_BN = jnp.sum(among_BNV, axis=-1)
  rank_BN = jnp.floor(draw_BN * count_BN).astype(jnp.int32)
  passed_BNV = jnp.cumsum(among_BNV, axis=-1) <= rank_BN[..., None]
  return jnp.sum(passed_BNV, axis=-1)


def since_set(grows_BNV: jax.Array, set_BNV: jax.Array) -> jax.Array:
  """How often each variable has grown since it was last set, [B, N, V]."""
  total_BNV = jnp.cumsum(grows_BNV, axis=1)
  before_BNV = jnp.where(set_BNV, total_BNV, 0)
  return total_BNV - jax.lax.cummax(before_BNV, axis=1)
