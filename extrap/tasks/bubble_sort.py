"""Sorting with a trace: every comparison of a bubble sort, digit by digit.

Numbers are padded with zeros to one length. After the list, one round finds the
least number that is left: it carries the least one so far (at first the last of
the list) past the others, `m y s s s`: the tag carried, the tag met, and after
each place, least significant first, how y compares with m so far (`<`, `~` or
`>`). The lesser of the two is carried on, and the other one keeps its turn for
the next round. `, t` ends a round: the tag that it has found. A row of n
numbers of d digits has n (n - 1) / 2 comparisons of d + 2 tokens:

  A:20,B:91=BA<<,ABA~>...    (numbers least significant digit first)

Equal numbers keep their order: the one met stands before the one carried. Tags
follow one another at a random stride: all pairs of them are met on short lists,
while of a cyclic run only neighbours would be. The
structure says which few tokens each token is to read (`see`): the control flow
of the algorithm is given; what is left to learn is to compare, carry and copy.

Shape key: B examples, T tokens, K numbers of a row, N places, R rounds (as many
as numbers), J comparisons of a round, A tokens of an answer, X any.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.errors import UsageError
from extrap.tasks.layout import Part, ask, join, symbol
from extrap.tasks.sorting import OPENING, Instance, Sorting
from extrap.tasks.task import Batch, Structure

Pointer = tuple[jax.Array, jax.Array]  # Index of a token, and whether it is so.
STATES = ('<', '~', '>')
# What a token may be told to read: itself; a digit of the number carried and of
# the one met; both tags and the outcome of the comparison before it; those of
# one of the last round; a tag of the list; the number that is met next.
SLOTS = (
  *('itself', 'digit carried', 'digit met'),
  *('carried', 'met', 'outcome'),
  *('last carried', 'last met', 'last outcome'),
  *('tag', 'next'),
)


class Step(NamedTuple):
  """Where a token of an answer stands; integers of one shape.

  Attributes:
    round: the round.
    turn: the comparison within it.
    column: 0 the tag carried, 1 the tag met, then the places.
    turns: comparisons of that round.
  """

  round: jax.Array
  turn: jax.Array
  column: jax.Array
  turns: jax.Array

  @property
  def tail(self) -> jax.Array:
    """Whether it is of the `, t` that ends a round."""
    return self.turn == self.turns


class Layout(NamedTuple):
  """Digits and numbers of each row, [B, 1]; every index follows from them."""

  digits: jax.Array
  count: jax.Array

  @property
  def width(self) -> jax.Array:
    """Tokens of a comparison."""
    return self.digits + 2

  def begin(self, round_BX: jax.Array) -> jax.Array:
    """Tokens of the answer before a round."""
    before_BX = round_BX * (self.count - 1) - round_BX * (round_BX - 1) // 2
    return self.width * before_BX + 2 * round_BX

  def step(self, token_BX: jax.Array, rounds: int) -> Step:
    """Where the tokens of an answer stand; round `count` is the end."""
    round_BX = jnp.zeros_like(token_BX)
    for r in range(1, rounds + 1):
      begun_B1 = self.begin(jnp.full_like(self.count, r))
      round_BX += (r <= self.count) & (begun_B1 <= token_BX)
    rest_BX = token_BX - self.begin(round_BX)
    turns_BX = self.count - 1 - round_BX
    turn_BX = rest_BX // self.width
    return Step(round_BX, turn_BX, rest_BX - turn_BX * self.width, turns_BX)

  def tag(self, item_BX: jax.Array) -> jax.Array:
    """The tag of a number of the list."""
    return item_BX * (self.digits + 3)

  def comparison(self, round_BX: jax.Array, turn_BX: jax.Array) -> jax.Array:
    """The first token of a comparison, counted from the answer's first."""
    return self.begin(round_BX) + turn_BX * self.width


class Kind(NamedTuple):
  """What a token of an answer is; bools of one shape, at most one of them true.

  Attributes:
    carries, meets: the tags of a comparison.
    compares: an outcome at a place.
    ends, finds: the `,` and the tag that end a round.
  """

  carries: jax.Array
  meets: jax.Array
  compares: jax.Array
  ends: jax.Array
  finds: jax.Array

  @classmethod
  def of(cls, step: Step, layout: Layout) -> 'Kind':
    """The kind of tokens that stand somewhere; none beyond the answer."""
    going_BX = step.round < layout.count
    inside_BX, tail_BX = going_BX & ~step.tail, going_BX & step.tail
    return cls(
      carries=inside_BX & (step.column == 0),
      meets=inside_BX & (step.column == 1),
      compares=inside_BX & (step.column >= 2),
      ends=tail_BX & (step.column == 0),
      finds=tail_BX & (step.column == 1),
    )

  def opens(self, step: Step) -> jax.Array:
    """Whether a round begins with it."""
    alone_BX = self.finds & (step.turns == 0)
    return (self.carries & (step.turn == 0)) | alone_BX


@dataclasses.dataclass(frozen=True, kw_only=True)
class BubbleSort(Sorting):
  """The task of sorting by comparisons; see the module's docstring."""

  seen: ClassVar[tuple[str, ...]] = ()

  def __post_init__(self) -> None:
    if self.trace:
      raise UsageError('the comparisons are the trace: leave --task.trace off')

  @property
  def strides(self) -> tuple[int, ...]:
    """Steps from tag to tag that meet every tag."""
    return tuple(s for s in range(1, self.tags) if math.gcd(s, self.tags) == 1)

  @property
  def tag_runs(self) -> int:
    return self.tags * len(self.strides)

  def tag_run(self, first_B: jax.Array, items: int) -> jax.Array:
    stride_B1 = jnp.array(self.strides)[first_B // self.tags][:, None]
    item_1K = jnp.arange(items)[None]
    return (first_B[:, None] + stride_B1 * item_1K) % self.tags

  def _item_of(self, tokens_BT: jax.Array, tag_BT: jax.Array) -> jax.Array:
    """The number of the list that tags in the answer belong to."""
    layout, _ = self._layout(tokens_BT)
    second_B1 = jnp.take_along_axis(
      tokens_BT, layout.tag(jnp.ones_like(layout.count)), axis=1, mode='clip'
    )
    first_B1 = tokens_BT[:, :1]
    inverse = np.zeros(self.tags, np.int32)
    inverse[list(self.strides)] = [pow(s, -1, self.tags) for s in self.strides]
    inverse_B1 = jnp.asarray(inverse)[(second_B1 - first_B1) % self.tags]
    return (tag_BT - first_B1) * inverse_B1 % self.tags

  @property
  def separators(self) -> tuple[str, ...]:
    return (*super().separators, *STATES)

  def answer_length(self, max_size: int) -> int:
    """Tokens of the longest answer, its end included."""
    comparisons = max_size * (max_size - 1) // 2
    return comparisons * (max_size + 2) + 2 * max_size + 1

  def token_length(self, max_size: int) -> int:
    return max_size * (max_size + 3) + self.answer_length(max_size)

  def largest_ids(self, max_size: int) -> dict[str, int]:
    return {
      'position': self.token_length(max_size) - 1,
      'place': max_size - 1,
      'role': 2,
      'run': self.runs,
    }

  def encode(
    self, number_BKN: jax.Array, size_BK: jax.Array, first_B: jax.Array
  ) -> Batch:
    """The batch of given digits; numbers of size 0, at the end, are absent."""
    rows, items, max_size = number_BKN.shape
    width_B1 = size_BK.max(axis=1, keepdims=True)
    padded_BK = jnp.where(size_BK > 0, width_B1, 0)
    tag_BK = self.base + OPENING + self.tag_run(first_B, items)
    prompt = self._items(tag_BK, number_BKN, padded_BK)
    answer = self._answer(number_BKN, size_BK, tag_BK)
    equals, end = symbol(self.token('='), rows), symbol(self.end, rows)
    parts = (*prompt, equals, answer, end)
    length = self.token_length(max_size)
    tokens_BT, start_BP = join(parts, length, self.pad)
    most = self.answer_length(max_size)
    return ask(tokens_BT, start_BP[:, items + 1], most, self.pad)

  def _answer(
    self, number_BKN: jax.Array, size_BK: jax.Array, tag_BK: jax.Array
  ) -> Part:
    """All rounds."""
    rows, items, places = number_BKN.shape
    turn_BRJX, found_BR = self._rounds(number_BKN, size_BK, tag_BK)
    count_B1 = jnp.sum(size_BK > 0, axis=1, keepdims=True)
    layout = Layout(size_BK.max(axis=1, keepdims=True), count_B1)
    token_A = jnp.arange(self.answer_length(places) - 1)
    token_BA = jnp.broadcast_to(token_A, (rows, len(token_A)))
    step = layout.step(token_BA, items)
    at_BA = step.round * (items - 1) + step.turn
    at_BA = at_BA * (places + 2) + step.column
    # One more, for rows of a single number: they compare nothing.
    turn_BX = jnp.pad(turn_BRJX.reshape(rows, -1), ((0, 0), (0, 1)))
    inside_BA = jnp.take_along_axis(turn_BX, at_BA, axis=1, mode='clip')
    found_BA = jnp.take_along_axis(found_BR, step.round, axis=1, mode='clip')
    tail_BA = jnp.where(step.column == 0, self.token(','), found_BA)
    tokens_BA = jnp.where(step.tail, tail_BA, inside_BA)
    return Part(tokens_BA, layout.begin(count_B1)[:, 0])

  def _rounds(
    self, number_BKN: jax.Array, size_BK: jax.Array, tag_BK: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Tokens of all comparisons, [B, R, J, 2 + N], and tags found, [B, R]."""
    order_BK = self.ranked(number_BKN, size_BK)
    rows, items = order_BK.shape
    met_BRJ, carried_BRJ, found_BR = bubble(
      order_BK, jnp.sum(size_BK > 0, axis=1)
    )

    def of(table: jax.Array, rank: jax.Array) -> jax.Array:
      """What the numbers of some ranks have."""
      flat_BX = rank.reshape(rows, -1).clip(0, items - 1)
      item_BX = jnp.take_along_axis(order_BK, flat_BX, axis=1)
      item = item_BX.reshape(rows, -1, *[1] * (table.ndim - 2))
      picked = jnp.take_along_axis(table, item, axis=1)
      return picked.reshape(*rank.shape, *table.shape[2:])

    state_BRJN = compared(of(number_BKN, met_BRJ), of(number_BKN, carried_BRJ))
    tags = (of(tag_BK, rank)[..., None] for rank in (carried_BRJ, met_BRJ))
    turn_BRJX = [*tags, state_BRJN + self.token('~')]
    return jnp.concatenate(turn_BRJX, axis=-1), of(tag_BK, found_BR)

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Each token of an answer is told what to read; see `SLOTS`."""
    structure = super().structure(tokens_BT)
    index_BT, length = structure.index, tokens_BT.shape[1]
    layout, equals_B1 = self._layout(tokens_BT)
    token_BT = jnp.maximum(index_BT - equals_B1, 0)
    # What is told is what the token after each is made from.
    step = layout.step(token_BT, self._most(length))
    kind, begin_B1 = Kind.of(step, layout), equals_B1 + 1
    pointers = [
      *self._digits(tokens_BT, layout, step, kind, begin_B1),
      *_decided(layout, step, kind, begin_B1),
      *_lost(layout, step, kind, begin_B1),
      _more(layout, step, kind, begin_B1),
    ]
    itself = Kind.of(layout.step(token_BT - 1, self._most(length)), layout)
    answer_BT = index_BT >= equals_B1
    role_BT = 1 * itself.carries + 2 * itself.meets
    past = [
      jnp.where(answer_BT & there & (at >= 0) & (at <= index_BT), at, length)
      for at, there in pointers
    ]
    return structure.replace(
      role=jnp.where(token_BT > 0, role_BT, 0),
      roles=3,
      see=(index_BT, *past),
    )

  def _layout(self, tokens_BT: jax.Array) -> tuple[Layout, jax.Array]:
    """What the list's tokens tell, and the index of the '=' behind it."""
    equals_B1 = _first(tokens_BT == self.token('='))
    comma_B1 = _first(tokens_BT == self.token(','))
    digits_B1 = jnp.maximum(jnp.minimum(equals_B1, comma_B1) - 2, 1)
    count_B1 = jnp.maximum((equals_B1 + 1) // (digits_B1 + 3), 1)
    return Layout(digits_B1, count_B1), equals_B1

  def _digits(
    self,
    tokens_BT: jax.Array,
    layout: Layout,
    step: Step,
    kind: Kind,
    begin_B1: jax.Array,
  ) -> list[Pointer]:
    """The digits that are compared."""
    place_BT = step.column - 2
    if self.order == 'msb':
      place_BT = layout.digits - 1 - place_BT
    start_BT = begin_B1 + layout.comparison(step.round, step.turn)

    def digit(tag_at_BT: jax.Array) -> jax.Array:
      tag_BT = jnp.take_along_axis(tokens_BT, tag_at_BT, axis=1, mode='clip')
      item_BT = self._item_of(tokens_BT, tag_BT)
      return layout.tag(item_BT) + 2 + place_BT

    return [(digit(start_BT + tag), kind.compares) for tag in (0, 1)]

  def _most(self, tokens: int) -> int:
    """The most numbers of a row of so many tokens: those of one digit."""
    count = 1
    while 4 * count + 3 * count * (count - 1) // 2 <= tokens:
      count += 1
    return min(count, self.tags)

  def finds_least(self, targets_BQ: jax.Array) -> jax.Array:
    """The first round."""
    comma_BQ = targets_BQ == self.token(',')
    before_BQ = jnp.cumsum(comma_BQ, axis=1) - comma_BQ
    tag_BQ = jnp.pad(comma_BQ, ((0, 0), (1, 0)))[:, :-1] & (before_BQ == 1)
    return (before_BQ == 0) | tag_BQ

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[Instance, tuple[int, ...] | None]:
    """Items (tag and number), and the tags found; None without an end."""
    tokens = [int(token) for token in np.asarray(tokens_T)]
    equals = tokens.index(self.token('='))
    instance = self._read_items(tokens[:equals])
    rest = tokens[equals + 1 :]
    if self.end not in rest:
      return instance, None
    rest = rest[: rest.index(self.end)]
    comma = self.token(',')
    found = [b for a, b in itertools.pairwise(rest) if a == comma]
    return instance, tuple(tag - self.base - OPENING for tag in found)


def _decided(
  layout: Layout, step: Step, kind: Kind, begin_B1: jax.Array
) -> list[Pointer]:
  """The comparison just made, which decides what is carried on, or found."""
  made_BX = (step.turn > 0) & (kind.carries | kind.ends | kind.finds)
  at_BX = begin_B1 + layout.comparison(step.round, step.turn - 1)
  # Else the outcome is the token itself.
  outcome = (at_BX + layout.width - 1, made_BX & kind.finds)
  return [(at_BX, made_BX), (at_BX + 1, made_BX), outcome]


def _lost(
  layout: Layout, step: Step, kind: Kind, begin_B1: jax.Array
) -> list[Pointer]:
  """What has its turn: a number that lost in the last round.

  In the first round, the tags of the list from its end.
  """
  wanted_BX = kind.meets | kind.opens(step)
  turn_BX = jnp.where(kind.meets, step.turn + 1, 0)
  at_BX = begin_B1 + layout.comparison(step.round - 1, turn_BX)
  lost_BX, listed_BX = (
    wanted_BX & there for there in (step.round > 0, step.round == 0)
  )
  return [
    *((at_BX + x, lost_BX) for x in (0, 1, layout.width - 1)),
    (layout.tag(layout.count - 1 - turn_BX), listed_BX),
  ]


def _more(
  layout: Layout, step: Step, kind: Kind, begin_B1: jax.Array
) -> Pointer:
  """That the round goes on: what is met next in it.

  Where one number is left there is no next, but this is not yet the end: the
  outcome by which it has lost tells that.
  """
  last_BX = begin_B1 + layout.comparison(step.round - 1, step.turn + 1)
  listed_BX = layout.tag(layout.count - 2 - step.turn)
  next_BX = jnp.where(step.round > 0, last_BX + 1, listed_BX)
  left_BX = kind.ends & (step.turns == 0) & (step.round > 0)
  lost_BX = begin_B1 + layout.comparison(step.round - 1, step.turn)
  next_BX = jnp.where(left_BX, lost_BX + layout.width - 1, next_BX)
  return next_BX, left_BX | (kind.carries & (step.turn > 0))


def bubble(
  order_BK: jax.Array, count_B: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The ranks that a bubble sort meets, carries and finds.

  Args:
    order_BK: items in ascending order, absent ones last.
    count_B: items that are there.

  Returns:
    Ranks met and carried, [B, R, J], and found, [B, R].
  """
  rank_BK = jnp.argsort(order_BK, axis=1)
  place_K = jnp.arange(order_BK.shape[1])[None]
  backwards_BK = jnp.maximum(count_B[:, None] - 1 - place_K, 0)
  left_BK = jnp.take_along_axis(rank_BK, backwards_BK, axis=1)
  left_BK = jnp.where(place_K < count_B[:, None], left_BK, place_K)
  rounds = []
  for _ in range(order_BK.shape[1]):
    least_BK = jax.lax.cummin(left_BK, axis=1)
    met_BJ, carried_BJ = left_BK[:, 1:], least_BK[:, :-1]
    rounds.append((met_BJ, carried_BJ, least_BK[:, -1]))
    loser_BJ = jnp.maximum(met_BJ, carried_BJ)
    none_B1 = jnp.full_like(left_BK[:, :1], order_BK.shape[1])
    left_BK = jnp.concatenate([loser_BJ, none_B1], axis=1)
  return tuple(jnp.stack(ranks, axis=1) for ranks in zip(*rounds, strict=True))


def compared(met: jax.Array, carried: jax.Array) -> jax.Array:
  """-1, 0 or 1 at each place: how the lower places compare, [..., N]."""
  return jax.lax.associative_scan(
    lambda low, high: jnp.where(high == 0, low, high),
    jnp.sign(met - carried),
    axis=-1,
  )


def _first(there_BT: jax.Array) -> jax.Array:
  """The index of the first true, [B, 1]; T where there is none."""
  index_BT = jnp.where(
    there_BT, jnp.arange(there_BT.shape[1])[None], there_BT.shape[1]
  )
  return index_BT.min(axis=1, keepdims=True)
