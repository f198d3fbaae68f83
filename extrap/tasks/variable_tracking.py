"""Variable tracking: which variables hold a value, through assignments?

A row reads `.. x1 = v .. x2 = x1 .. x3 = x2 .. ? v x1 x2 x3 <end>`: statements
of one or more chains, in the order of each chain, with filler between (RULER,
Hsieh et al. 2024, arXiv 2404.06654; NVIDIA/RULER, scripts/data/synthetic/
variable_tracking.py: one chain, four hops, in 4096 tokens and more).

Where it differs. Variables and values are single symbols, a statement three.
Variables are asked for in the order of the chain, where RULER takes them in any
order. Fed its own answer, or the right one, a model finds each next variable
in a single hop; with `asks='value'` the question is the last variable of the
chain and the answer its value, which is all hops at once.

Stress: 'chains', three further chains; 'hops', twice as many hops where the
value is asked for. Chance: 1 in `values` for a value, or the variables without
repetition.

In the length study: trained at 64 or 128 tokens with variables=values=32,
hops=2, chains=2, tested at 1 to 16 times the length.

Shape key: B examples, N tokens of the longest context, K statements, C chains,
H statements of a chain.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.haystack import Items, laid, slots
from extrap.tasks.layout import Part
from extrap.tasks.symbols import (
  Instance,
  QuestionTask,
  Tokens,
  distinct,
  pick,
  whole,
)
from extrap.tasks.task import Batch

WIDTH = 3  # tokens of a statement


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariableTracking(QuestionTask):
  """The task of following assignments; see the module's docstring."""

  variables: int = option(64, 'variables there are', minimum=1)
  values: int = option(32, 'values there are', minimum=1)
  fillers: int = option(32, 'symbols of the filler', minimum=1)
  chains: int = option(1, 'chains of a row', minimum=1)
  hops: int = option(4, 'assignments from variable to variable', minimum=0)
  asks: Literal['variables', 'value'] = option(
    'variables',
    'all variables that hold a value, or the value of the last of a chain',
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    needed = {'variables': self.statements, 'values': self.chains}
    for field, count in needed.items():
      if count > getattr(self, field):
        raise UsageError(
          f'--task.{field}={getattr(self, field)}: {self.chains} chains of '
          f'{self.hops} hops need {count}'
        )

  @property
  def statements(self) -> int:
    """Statements of a row."""
    return self.chains * (self.hops + 1)

  @property
  def alphabet(self) -> dict[str, int]:
    names = {'variable': self.variables, 'value': self.values}
    return names | {'filler': self.fillers, '=': 1}

  @property
  def shortest(self) -> int:
    return WIDTH * self.statements

  @property
  def question(self) -> int:
    return 1

  @property
  def longest(self) -> int:
    return self.hops + 1 if self.asks == 'variables' else 1

  @property
  def stress(self) -> dict[str, 'VariableTracking']:
    harder = {'chains': dataclasses.replace(self, chains=self.chains + 3)}
    if self.asks == 'value':
      harder['hops'] = dataclasses.replace(self, hops=2 * self.hops)
    return harder

  def chance(self, length: int) -> float:
    if self.asks == 'value':
      return 1 / self.values
    return 1 / math.perm(self.variables, self.hops + 1)

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    self.check_size(max_size)
    length_B, most = self.lengths(size_BS), self.statements
    rows, filler = len(length_B), named(key, 'filler')
    names, values = named(key, 'variables'), named(key, 'values')
    variable_BK = self.some(names, 'variable', rows, most)
    variable_BCH = variable_BK.reshape(rows, self.chains, -1)
    value_BC = self.some(values, 'value', rows, self.chains)
    statement_BKW = self._statements(key, variable_BCH, value_BC)
    items = Items(statement_BKW, jnp.full((rows, most), WIDTH))
    item_BN, _ = slots(named(key, 'places'), items, length_B, max_size)
    filler_BN = self.random(filler, 'filler', (rows, max_size))
    context = Part(laid(item_BN, items, filler_BN), length_B)
    question_B1, answer_BX = value_BC[:, :1], variable_BCH[:, 0]
    if self.asks == 'value':
      question_B1, answer_BX = answer_BX[:, -1:], question_B1
    return self.row(context, question_B1, whole(answer_BX))

  def _statements(
    self, key: jax.Array, variable_BCH: jax.Array, value_BC: jax.Array
  ) -> jax.Array:
    """Statements [B, K, W], chains shuffled together, each in its order."""
    rows, most = len(value_BC), self.statements
    chain_BK = distinct(named(key, 'order'), rows, most, most)
    chain_BK //= self.hops + 1
    of_BKC = chain_BK[..., None] == jnp.arange(self.chains)[None, None]
    hop_BKC = jnp.cumsum(of_BKC, axis=1) - 1
    hop_BK = jnp.sum(jnp.where(of_BKC, hop_BKC, 0), axis=-1)
    index_BK = chain_BK * (self.hops + 1) + hop_BK
    source_BCH = jnp.concatenate(
      [value_BC[..., None], variable_BCH[..., :-1]], axis=-1
    )
    target_BK = pick(variable_BCH.reshape(rows, -1), index_BK)
    source_BK = pick(source_BCH.reshape(rows, -1), index_BK)
    equals_BK = jnp.full_like(target_BK, self.token('='))
    return jnp.stack([target_BK, equals_BK, source_BK], axis=-1)

  def oracle(self, instance: Instance) -> Tokens:
    """Assignments carried out one after another."""
    context, (asked,) = instance
    held: dict[int, int] = {}
    for at, token in enumerate(context):
      if token == self.token('='):
        source = context[at + 1]
        held[context[at - 1]] = held.get(source, source)
    if self.asks == 'value':
      return (held[asked],)
    return tuple(name for name, value in held.items() if value == asked)
