"""Sorting numbers by naming them: the answer is their tags, smallest first.

A row reads `t : number , t : number = t t <end>`. Tags are symbols of their
own, a cyclic run of them from a random one on, so that they tell nothing of the
numbers (McLeish et al. 2024, arXiv 2405.17399). With a trace each tag of the
answer is followed by its number, `= t : number , t : number <end>`. Equal
numbers keep their order.

Shape key: B examples, T tokens, K numbers of a row, N places (least significant
first, whatever the order of the tokens), S = 2 size axes, X tokens of an item.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.layout import Part, ask, join, symbol
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Batch, Structure

Instance = tuple[tuple[int, int], ...]  # tag and number of each item
OPENING = 3  # ':', ',' and '=' stand before the tags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sorting(NumberTask):
  """The task of sorting; see the module's docstring."""

  tags: int = option(
    100, 'number of tags, the most numbers of a row', minimum=2
  )
  lengths: Literal['mixed', 'equal'] = option(
    'mixed',
    'digits of each number: any number of them up to the size, or just as many',
  )
  trace: bool = option(False, 'write the number after each tag of the answer')

  axes: ClassVar[tuple[str, ...]] = ('digits', 'count')
  seen: ClassVar[tuple[str, ...]] = ('=',)

  @property
  def separators(self) -> tuple[str, ...]:
    return (':', ',', '=', *(f'tag {t}' for t in range(self.tags)))

  @property
  def runs(self) -> int:
    """Most numbers of a row, those of a trace included."""
    return self.tags * (2 if self.trace else 1)

  def token_length(self, max_size: int) -> int:
    """Items of tag, ':', number and what follows; then the answer."""
    items = max_size * (max_size + 3)
    return 2 * items if self.trace else items + max_size + 1

  def largest_ids(self, max_size: int) -> dict[str, int]:
    return {
      'position': self.token_length(max_size) - 1,
      'place': max_size - 1,
      'role': 2 + OPENING + 1 + 2,
      'run': self.runs,
    }

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform numbers, the longest of exactly the given length.

    Row contents do not depend on max_size when B is 1.

    Raises:
      UsageError: more numbers than tags.
    """
    if max_size > self.tags:
      raise UsageError(
        f'{max_size} numbers need as many tags; --task.tags={self.tags}'
      )
    rows = size_BS.shape[0]
    digits_B, count_B = size_BS[:, 0], size_BS[:, 1]
    size_BK = self._sizes(key, digits_B, count_B, max_size)
    first_B = jax.random.randint(named(key, 'tag'), (rows,), 0, self.tag_runs)
    number_BKN = self.numbers(key, size_BK, max_size)
    return self.encode(number_BKN, size_BK, first_B)

  def _sizes(
    self, key: jax.Array, digits_B: jax.Array, count_B: jax.Array, most: int
  ) -> jax.Array:
    """Digits of each number, [B, K]; 0 beyond the count."""
    there_BK = jnp.arange(most)[None] < count_B[:, None]
    if self.lengths == 'equal':
      return jnp.where(there_BK, digits_B[:, None], 0)

    def draw(rank: jax.Array) -> jax.Array:
      # One key a number: the numbers of a row do not depend on their most.
      own = named(key, 'size', rank)
      return jax.random.randint(own, digits_B.shape, 1, digits_B + 1)

    drawn_BK = jax.vmap(draw, out_axes=1)(jnp.arange(most))
    full_B = jax.random.randint(named(key, 'full'), count_B.shape, 0, count_B)
    full_BK = jnp.arange(most)[None] == full_B[:, None]
    size_BK = jnp.where(full_BK, digits_B[:, None], drawn_BK)
    return jnp.where(there_BK, size_BK, 0)

  def ranked(self, number_BKN: jax.Array, size_BK: jax.Array) -> jax.Array:
    """Items [B, K] in ascending order, absent ones last; stable."""
    rows, items, _ = number_BKN.shape

    def by(order_BK: jax.Array, key_BK: jax.Array) -> jax.Array:
      key_BK = jnp.take_along_axis(key_BK, order_BK, axis=1)
      again_BK = jnp.argsort(key_BK, axis=1, stable=True)
      return jnp.take_along_axis(order_BK, again_BK, axis=1)

    start_BK = jnp.broadcast_to(jnp.arange(items)[None], (rows, items))
    # By one place after another, from the lowest: exact at any length.
    order_BK, _ = jax.lax.scan(
      lambda order_BK, key_BK: (by(order_BK, key_BK), None),
      start_BK,
      jnp.moveaxis(number_BKN, -1, 0),
    )
    return by(order_BK, (size_BK == 0).astype(jnp.int32))

  def encode(
    self, number_BKN: jax.Array, size_BK: jax.Array, first_B: jax.Array
  ) -> Batch:
    """The batch of given digits; numbers of size 0, at the end, are absent."""
    rows, items, max_size = number_BKN.shape
    tag_BK = self.base + OPENING + self.tag_run(first_B, items)
    order_BK = self.ranked(number_BKN, size_BK)
    answer_BK = jnp.take_along_axis(tag_BK, order_BK, axis=1)
    prompt = self._items(tag_BK, number_BKN, size_BK)
    if self.trace:
      sorted_BKN = jnp.take_along_axis(number_BKN, order_BK[..., None], axis=1)
      sizes_BK = jnp.take_along_axis(size_BK, order_BK, axis=1)
      answer = self._items(answer_BK, sorted_BKN, sizes_BK)
    else:
      answer = [Part(answer_BK, jnp.sum(size_BK > 0, axis=1))]
    equals, end = symbol(self.token('='), rows), symbol(self.end, rows)
    length = self.token_length(max_size)
    parts = (*prompt, equals, *answer, end)
    tokens_BT, start_BP = join(parts, length, self.pad)
    most = length - max_size * (max_size + 3)
    return ask(tokens_BT, start_BP[:, items + 1], most, self.pad)

  @property
  def tag_runs(self) -> int:
    """How many ways there are to tag a row."""
    return self.tags

  def tag_run(self, first_B: jax.Array, items: int) -> jax.Array:
    """The tags of a row, [B, K], by the number of its way."""
    return (first_B[:, None] + jnp.arange(items)[None]) % self.tags

  def _items(
    self, tag_BK: jax.Array, number_BKN: jax.Array, size_BK: jax.Array
  ) -> list[Part]:
    """`tag : number ,` of each item that is there; the last without ','."""
    last_B1 = jnp.sum(size_BK > 0, axis=1, keepdims=True) - 1
    goes_on_BK = jnp.arange(size_BK.shape[1])[None] < last_B1
    item = jax.vmap(self._item, in_axes=1)
    items_K = item(tag_BK, number_BKN, size_BK, goes_on_BK)
    return [
      jax.tree.map(lambda field, k=k: field[k], items_K)
      for k in range(size_BK.shape[1])
    ]

  def _item(
    self,
    tag_B: jax.Array,
    number_BN: jax.Array,
    size_B: jax.Array,
    goes_on_B: jax.Array,
  ) -> Part:
    """`tag : number`, and ',' where another item follows."""
    place_X = jnp.arange(-2, number_BN.shape[1] + 1)[None]
    digits = self.part(number_BN, size_B).tokens
    item_BX = jnp.pad(digits, ((0, 0), (2, 1)))
    item_BX = jnp.where(place_X == -2, tag_B[:, None], item_BX)
    item_BX = jnp.where(place_X == -1, self.token(':'), item_BX)
    item_BX = jnp.where(place_X == size_B[:, None], self.token(','), item_BX)
    return Part(item_BX, size_B + 2 + goes_on_B).only(size_B > 0)

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Numbers of the prompt have one role, those of a trace another.

    All tags have one role; a number's run is its rank in the row.
    """
    structure = super().structure(tokens_BT)
    digit_BT = tokens_BT < self.base
    number_BT = jnp.cumsum(tokens_BT == self.token(':'), axis=1) - 1
    run_BT = jnp.clip(number_BT, 0, self.runs - 1)
    answer_BT = jnp.cumsum(tokens_BT == self.token('='), axis=1) > 0
    # Separators, then all tags as one, then the end and the padding.
    kind_BT = jnp.minimum(tokens_BT - self.base, OPENING)
    rest_BT = jnp.maximum(tokens_BT - self.end + 1, 0)
    role_BT = jnp.where(digit_BT, answer_BT, 2 + kind_BT + rest_BT)
    return structure.replace(
      role=role_BT.astype(jnp.int32),
      run=jnp.where(digit_BT, run_BT, self.runs),
      roles=2 + OPENING + 1 + 2,
    )

  def from_integers(
    self,
    rows: Sequence[Sequence[int]],
    max_size: int | None = None,
    first_tag: int = 0,
  ) -> Batch:
    """The batch of given lists of non-negative Python integers.

    Raises:
      UsageError: a number does not fit, or they are more than the tags.
    """
    longest = max(map(len, rows))
    digits = max(len(self.digits(x)) for row in rows for x in row)
    needed = max(longest, digits)
    places = needed if max_size is None else max_size
    if needed > places or longest > self.tags:
      raise UsageError(
        f'a size of {needed} where {places} fit, with {self.tags} tags'
      )
    number_BKN, size_BK = self.spelt(rows, places, places)
    first_B = jnp.full(len(rows), first_tag, jnp.int32)
    return self.encode(jnp.asarray(number_BKN), jnp.asarray(size_BK), first_B)

  def finds_least(self, targets_BQ: jax.Array) -> jax.Array:
    """bool [B, Q]: the answer's tokens up to the tag of the least number."""
    first_1Q = jnp.arange(targets_BQ.shape[1])[None] == 0
    return jnp.broadcast_to(first_1Q, targets_BQ.shape)

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[Instance, Instance | tuple[int, ...] | None]:
    """Items (tag and number), and the answer: tags, or items of a trace."""
    tokens = [int(token) for token in np.asarray(tokens_T)]
    equals = tokens.index(self.token('='))
    instance = self._read_items(tokens[:equals])
    rest = tokens[equals + 1 :]
    if self.end not in rest:
      return instance, None
    rest = rest[: rest.index(self.end)]
    if self.trace:
      return instance, self._read_items(rest)
    return instance, tuple(token - self.base - OPENING for token in rest)

  def _read_items(self, tokens: Sequence[int]) -> Instance | None:
    """What `tag : number , tag : number` spells; None if it is not that."""
    items, comma, colon = [], self.token(','), self.token(':')
    item: list[int] = []
    for token in (*tokens, comma):
      if token != comma:
        item.append(token)
        continue
      number = self.value(item[2:])
      if len(item) < 3 or item[1] != colon or number is None:
        return None
      items.append((item[0] - self.base - OPENING, number))
      item = []
    return tuple(items)

  def oracle(self, instance: Instance) -> Instance | tuple[int, ...]:
    """Tags in ascending order of the numbers, by Python's stable sort."""
    ordered = tuple(sorted(instance, key=lambda item: item[1]))
    return ordered if self.trace else tuple(tag for tag, _ in ordered)
