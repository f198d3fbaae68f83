"""Facts with numeric answers, altered in the context: read or remember?

Symbols for AlteredNumericQA (Giraffe, arXiv 2308.10882; abacusai/Long-Context):
questions on documents of which a model may know the answer by heart, so that in
the altered set the answer is changed everywhere in the document. A year moves
by up to ten, another number keeps its digits' count. Whoever answers from
memory is wrong; whoever reads is right.

Here. A world gives each entity a number for good: a year to half of them, one
to three digits to the others. A row's context has facts, `e d1 .. dL`, some of
filler between: `mentions` of the entity that is asked for, and one each of
`facts` others. In a share `altered` of the rows the number of the entity asked
for is another one, by the rule above, in all of its mentions and wherever else
the same number stands; the others are as in the world. A row reads `.. e d1 ..
dL .. ? e d1 .. dL <end>`, and the answer is always that of the context. Trained
with altered=0 the world can be learned by heart and the context ignored, as by
a model before its instruction tuning; with a share, memory has a pull and
reading is needed. `stress` has the two test sets, 'altered' and 'unaltered'
(their FreeFormQA); `remembered` draws the same rows with the world's number as
the answer, to count answers from memory.

Where it differs. There are no documents: a fact is its entity and digits. Years
are 1010 .. 2090 where theirs are 1000 .. 2100. Depths (their first 10 %, middle
and last 10 %) are those of one mention; the other is anywhere.

Chance: memory alone is right on all unaltered rows and no others; see `chance`.

In the length study: trained at 64 or 128 tokens with altered=0.5, entities=64,
facts=4, tested on both sets at 1 to 16 times the length and three depths.

Shape key: B examples, N tokens of the longest context, K facts, E entities, L
digits of the longest number, W tokens of the longest fact.
"""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.haystack import HaystackTask, Items, hidden
from extrap.tasks.layout import Part
from extrap.tasks.symbols import Instance, Tokens, distinct
from extrap.tasks.task import Batch

LONGEST = 4  # digits
NEAR = 10  # years


class World(NamedTuple):
  """What is known of each entity, int32 [E].

  Attributes:
    value: its number; digits: how many it has.
    lowest: of the numbers that it may be altered to; span: how many they are,
      its own among them.
  """

  value: np.ndarray
  digits: np.ndarray
  lowest: np.ndarray
  span: np.ndarray


@functools.cache
def world_of(entities: int, seed: int) -> World:
  """The world of a seed, in which every other entity has a year."""
  draws = np.random.default_rng(seed)
  is_year = np.arange(entities) % 2 == 0
  year = draws.integers(1000 + NEAR, 2100 - NEAR + 1, entities)
  digits = draws.integers(1, LONGEST, entities)
  least, span = 10 ** (digits - 1), 9 * 10 ** (digits - 1)
  number = least + draws.integers(0, span)
  columns = (
    np.where(is_year, year, number),
    np.where(is_year, LONGEST, digits),
    np.where(is_year, year - NEAR, least),
    np.where(is_year, 2 * NEAR + 1, span),
  )
  return World(*(column.astype(np.int32) for column in columns))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlteredFacts(HaystackTask):
  """The task of reading what may be known; see the module's docstring."""

  entities: int = option(64, 'entities there are', minimum=1)
  fillers: int = option(32, 'symbols of the filler', minimum=1)
  mentions: int = option(2, 'times that the fact asked for stands', minimum=1)
  facts: int = option(4, 'facts of other entities in a row', minimum=0)
  altered: float = option(
    0.5, 'share of rows whose answer is altered', minimum=0, maximum=1
  )
  world: int = option(0, 'seed of what is true of the entities', minimum=0)

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.facts + 1 > self.entities:
      raise UsageError(
        f'--task.facts={self.facts}: there are {self.entities} entities, with '
        'the one asked for (--task.entities)'
      )

  @property
  def alphabet(self) -> dict[str, int]:
    return {'digit': 10, 'entity': self.entities, 'filler': self.fillers}

  @property
  def shortest(self) -> int:
    return (self.mentions + self.facts) * (1 + LONGEST)

  @property
  def question(self) -> int:
    return 1

  @property
  def longest(self) -> int:
    return LONGEST

  @property
  def stress(self) -> dict[str, 'AlteredFacts']:
    return {
      'altered': dataclasses.replace(self, altered=1.0),
      'unaltered': dataclasses.replace(self, altered=0.0),
    }

  def chance(self, length: int) -> float:
    """Of what knows the world and the rule, and does not read."""
    guess_E = self.altered / (world_of(self.entities, self.world).span - 1)
    return float(np.mean(np.maximum(1 - self.altered, guess_E)))

  def hide(
    self,
    key: jax.Array,
    length_B: jax.Array,
    max_size: int,
    share_B: jax.Array | None,
  ) -> Batch:
    return self._rows(key, length_B, max_size, share_B)

  def remembered(
    self, key: jax.Array, size_BS: jax.Array, max_size: int
  ) -> Batch:
    """The rows of `sample`, answered from memory; a sampler of a suite."""
    self.check_size(max_size)
    return self._rows(key, self.lengths(size_BS), max_size, remember=True)

  def _rows(
    self,
    key: jax.Array,
    length_B: jax.Array,
    max_size: int,
    share_B: jax.Array | None = None,
    remember: bool = False,
  ) -> Batch:
    rows, world = len(length_B), self._world
    entity_BK = self._entities(named(key, 'facts'), rows)
    digits_BK = world.digits[entity_BK]
    number_BKL = self._spelt(self._values(key, entity_BK), digits_BK)
    name_BK1 = self.token('entity') + entity_BK[..., None]
    fact_BKW = jnp.concatenate([name_BK1, number_BKL], axis=-1)
    filler = named(key, 'filler')
    filler_BN = self.random(filler, 'filler', (rows, max_size))
    items = Items(fact_BKW, 1 + digits_BK)
    tokens_BN, _ = hidden(key, items, filler_BN, length_B, share_B)
    if remember:
      number_BKL = self._spelt(world.value[entity_BK], digits_BK)
    context = Part(tokens_BN, length_B)
    answer = Part(number_BKL[:, 0], digits_BK[:, 0])
    return self.row(context, name_BK1[:, 0], answer)

  @property
  def _world(self) -> World:
    return World(*map(jnp.asarray, world_of(self.entities, self.world)))

  def _entities(self, key: jax.Array, rows: int) -> jax.Array:
    """Of each fact, [B, K]: the one asked for, as often as it is mentioned."""
    entity_BX = distinct(key, rows, 1 + self.facts, self.entities)
    fact_K = np.arange(self.mentions + self.facts) - self.mentions + 1
    return entity_BX[:, np.maximum(fact_K, 0)]

  def _values(self, key: jax.Array, entity_BK: jax.Array) -> jax.Array:
    """The number in each fact; the first is of the entity asked for."""
    value_BK = self._world.value[entity_BK]
    known_B1, shape = value_BK[:, :1], (len(entity_BK), 1)
    alters, other_B1 = named(key, 'alters'), self._other(key, entity_BK[:, :1])
    altered_B1 = jax.random.bernoulli(alters, self.altered, shape)
    now_B1 = jnp.where(altered_B1, other_B1, known_B1)
    # Every occurrence of the number is changed, whatever it is a number of.
    return jnp.where(value_BK == known_B1, now_B1, value_BK)

  def _other(self, key: jax.Array, entity_B1: jax.Array) -> jax.Array:
    """Another number that the rule allows, [B, 1]."""
    world = self._world
    lowest_B1, span_B1 = world.lowest[entity_B1], world.span[entity_B1]
    step = named(key, 'step')
    step_B1 = jax.random.randint(step, entity_B1.shape, 1, span_B1)
    rank_B1 = world.value[entity_B1] - lowest_B1
    return lowest_B1 + (rank_B1 + step_B1) % span_B1

  def _spelt(self, value_BK: jax.Array, digits_BK: jax.Array) -> jax.Array:
    """Tokens of the digits, the most significant first; those beyond, 0."""
    place_BKL = digits_BK[..., None] - 1 - jnp.arange(LONGEST)[None, None]
    power_BKL = 10 ** jnp.maximum(place_BKL, 0)
    return self.token('digit') + value_BK[..., None] // power_BKL % 10

  def oracle(self, instance: Instance) -> Tokens:
    """The digits after the entity, wherever in the context it stands.

    Raises:
      ValueError: its mentions do not agree.
    """
    context, (entity,) = instance
    places = [at for at, token in enumerate(context) if token == entity]
    is_digit = lambda token: self.index('digit', token) is not None  # noqa: E731
    (answer,) = {
      tuple(itertools.takewhile(is_digit, context[at + 1 :])) for at in places
    }
    return answer
