"""Needles: a key and the digits of its value, somewhere in a haystack.

A row reads `.. k v1 .. vD .. ? k v1 .. vD <end>`: the digits that follow the
key are asked for where it stands again. With one needle in a repeated sentence
it is the passkey test (Mohtashami and Jaggi 2023, arXiv 2305.16300; used by
CoCA and DeciMamba); `RULER` has the needle tests of that benchmark (Hsieh et
al. 2024, arXiv 2404.06654; NVIDIA/RULER, scripts/synthetic.yaml): several keys,
several values of a key, several queries, and needles as haystack.

Where it differs. Words are single symbols, so that the lesson is to find and
not to read; the question is the key alone. All values of a key are asked for in
the order of the context, where RULER takes them in any order. RULER's keys and
values of 32 hexadecimal digits are left out. Depths are those of all tokens,
not of 40 cuts. Keys of a row differ.

Dense supervision: with `asks='turns'` and as many queries as needles every
needle is asked for in turn, `? k1 v1 .. k2 v2 ..`, the keys given; one row
then trains many look-ups. Answers are then scored by teacher forcing alone:
greedy decoding would have to make up the keys.

Stress: digits as filler, so that a digit alone gives nothing away; needles as
haystack; and depths, `at_depth`. Chance: base^-digits a value; one that copies
the value of any needle of the row is right once in as many as there are, and
where values are alike by chance.

In the length study (`experiments/retrieval_length.py`): trained at 64 tokens
with digits=2, keys=32, needles=queries=8 in turns, or at 512 with 64 keys and
16 needles; tested at 1 to 16 times the length and eleven depths, the first
needle asked for. Needles as haystack take a key for as many tokens as one has.

Shape key: B examples, N tokens of the longest context, K needles, D digits, W
tokens of a needle, Q keys asked for, V values of a key, X tokens.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import named
from extrap.tasks.haystack import HaystackTask, Items, hidden
from extrap.tasks.layout import Part
from extrap.tasks.symbols import Instance, Tokens, pick, whole
from extrap.tasks.task import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needles(HaystackTask):
  """The task of finding needles; see the module's docstring."""

  base: int = option(10, 'base of the digits', minimum=2)
  digits: int = option(5, 'digits of a value', minimum=1)
  keys: int = option(64, 'keys there are', minimum=1)
  fillers: int = option(32, 'symbols of the filler', minimum=1)
  needles: int = option(1, 'keys of a row, at least', minimum=1)
  values: int = option(1, 'needles, hence values, of each key', minimum=1)
  queries: int = option(1, 'keys asked for', minimum=1)
  asks: Literal['list', 'turns'] = option(
    'list', 'all keys and then all values, or each key before its values'
  )
  haystack: Literal['random', 'repeat', 'digits', 'needles'] = option(
    'random',
    'the filler: random symbols, a sentence over and over, random digits, or '
    'as many needles as fit',
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.queries > self.needles:
      raise UsageError(
        f'--task.queries={self.queries}: there are {self.needles} needles '
        '(--task.needles)'
      )
    if self.haystack == 'needles' and self.values > 1:
      raise UsageError('--task.haystack=needles: it has one value a key')

  @property
  def alphabet(self) -> dict[str, int]:
    return {'digit': self.base, 'key': self.keys, 'filler': self.fillers}

  @property
  def width(self) -> int:
    """Tokens of a needle."""
    return 1 + self.digits

  @property
  def shortest(self) -> int:
    return self.needles * self.values * self.width

  @property
  def question(self) -> int:
    return self.queries if self.asks == 'list' else 1

  @property
  def longest(self) -> int:
    further = 0 if self.asks == 'list' else self.queries - 1
    return self.queries * self.values * self.digits + further

  @property
  def stress(self) -> dict[str, 'Needles']:
    kinds = ['digits'] if self.values > 1 else ['digits', 'needles']
    return {
      kind: dataclasses.replace(self, haystack=kind)
      for kind in kinds
      if kind != self.haystack
    }

  def chance(self, length: int) -> float:
    return float(self.base) ** -(self.queries * self.values * self.digits)

  def most(self, max_size: int) -> int:
    """Most needles of a row."""
    fit = max_size // self.width if self.haystack == 'needles' else 0
    return max(self.needles * self.values, fit)

  def check_size(self, max_size: int) -> None:
    super().check_size(max_size)
    self.check_enough(max_size, self.most(max_size) // self.values, 'keys')

  def hide(
    self,
    key: jax.Array,
    length_B: jax.Array,
    max_size: int,
    share_B: jax.Array | None,
  ) -> Batch:
    rows, most = len(length_B), self.most(max_size)
    name_BX = self.some(named(key, 'keys'), 'key', rows, most // self.values)
    own_BK1 = jnp.repeat(name_BX, self.values, axis=1)[..., None]
    digits = (rows, most, self.digits)
    digit_BKD = self.random(named(key, 'digits'), 'digit', digits)
    needle_BKW = jnp.concatenate([own_BK1, digit_BKD], axis=-1)
    items = Items(needle_BKW, self._widths(length_B, most))
    filler_BN = self._filler(named(key, 'filler'), (rows, max_size))
    tokens_BN, order_BK = hidden(key, items, filler_BN, length_B, share_B)
    context = Part(tokens_BN, length_B)
    value_BQX = self._asked(order_BK, digit_BKD)
    return self._ask(context, name_BX[:, : self.queries], value_BQX)

  def _widths(self, length_B: jax.Array, most: int) -> jax.Array:
    """Tokens of each needle, [B, K]; 0 beyond those of a row."""
    if self.haystack == 'needles':
      count_B1 = length_B[:, None] // self.width
    else:
      count_B1 = jnp.full((len(length_B), 1), most)
    return jnp.where(jnp.arange(most)[None] < count_B1, self.width, 0)

  def _filler(self, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    if self.haystack == 'repeat':
      sentence_N = jnp.arange(shape[1]) % self.fillers
      return jnp.broadcast_to(self.token('filler') + sentence_N, shape)
    kind = 'digit' if self.haystack == 'digits' else 'filler'
    return self.random(key, kind, shape)

  def _asked(self, order_BK: jax.Array, digit_BKD: jax.Array) -> jax.Array:
    """Digits of all values of the first keys, in the order of the context."""
    rows = len(order_BK)
    place_BK = jnp.argsort(order_BK, axis=1)[:, : self.queries * self.values]
    place_BQV = jnp.sort(place_BK.reshape(rows, self.queries, -1), axis=-1)
    needle_BX = pick(order_BK, place_BQV.reshape(rows, -1))
    digit_BXD = jnp.take_along_axis(digit_BKD, needle_BX[..., None], axis=1)
    return digit_BXD.reshape(rows, self.queries, -1)

  def _ask(
    self, context: Part, name_BQ: jax.Array, value_BQX: jax.Array
  ) -> Batch:
    rows = len(name_BQ)
    if self.asks == 'list':
      return self.row(context, name_BQ, whole(value_BQX.reshape(rows, -1)))
    turn_BQX = jnp.concatenate([name_BQ[..., None], value_BQX], axis=-1)
    turn_BX = turn_BQX.reshape(rows, -1)
    batch = self.row(context, turn_BX[:, :1], whole(turn_BX[:, 1:]))
    # Further keys stand in the answer, given; its end does not.
    token_Q = jnp.arange(self.longest + 1)
    given_Q = (token_Q + 1) % turn_BQX.shape[2] == 0
    given_Q &= token_Q < self.longest
    return batch.replace(mask=batch.mask & ~given_Q[None])

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[Instance, Tokens | None]:
    """See `QuestionTask.read`; keys of an answer in turns are its question."""
    instance, answer = super().read(tokens_T)
    if self.asks == 'list' or answer is None:
      return instance, answer
    step = self.values * self.digits + 1
    values = (answer[at : at + step - 1] for at in range(0, len(answer), step))
    question = (*instance[1], *answer[step - 1 :: step])
    return (instance[0], question), tuple(d for value in values for d in value)

  def oracle(self, instance: Instance) -> Tokens:
    """What follows each key, wherever it stands in the context."""
    context, question = instance
    answer: list[int] = []
    for key in question:
      for at, token in enumerate(context):
        if token == key:
          answer += context[at + 1 : at + self.width]
    return tuple(answer)


# Those of single symbols as keys and numbers as values.
RULER: Mapping[str, Needles] = {
  'niah_single_1': Needles(digits=7, haystack='repeat'),
  'niah_single_2': Needles(digits=7),
  'niah_single_3': Needles(base=16, digits=32),
  'niah_multikey_1': Needles(digits=7, needles=4),
  'niah_multikey_2': Needles(digits=7, haystack='needles'),
  'niah_multivalue': Needles(digits=7, values=4),
  'niah_multiquery': Needles(digits=7, needles=4, queries=4),
}
