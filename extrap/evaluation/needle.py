"""A name that stands once in a text, and is to be written again at its end.

A line `name = 0` with a name of random letters lies somewhere in text of
validation; the last line begins with the first letters of that name, and the
rest is asked for. Nothing but the line can tell: as a control the same is asked
where the line has another name. Which letters come often is learned from any
text, so that the control is above one in 26.

This is copying, which takes a model some training to learn; `brackets` asks for
what it learns long before.

Shape key: N prompts, T tokens, Q of them asked for, W letters of a name.
"""

from typing import NamedTuple

import jax
import numpy as np

from extrap.datasets.stdlib_text import Text
from extrap.errors import UsageError
from extrap.evaluation.length import Asked, Scores
from extrap.randomness import named

LETTERS = 8  # Of a name.
GIVEN = 3  # The first of them: no other name among thousands begins so.
REST = LETTERS - GIVEN
CHANCE = 1 / 26  # That a letter is right by a blind guess.
BEFORE, AFTER, ASKING = b'\n', b' = 0\n', b'\n'
LINE = len(BEFORE) + LETTERS + len(AFTER)
QUESTION = len(ASKING) + LETTERS


class Found(NamedTuple):
  """Of each prompt and replica.

  Attributes:
    right_RNW: bool, which letters of the rest are right.
    loss_RNW: float32, their loss in nats.
  """

  right_RNW: np.ndarray
  loss_RNW: np.ndarray


def prompts(
  text: Text, end_N: np.ndarray, length: int, asked: int, shown: bool = True
) -> Asked:
  """Prompts of a length, in text that ends where windows do.

  Names and depths are those of a prompt's number, whatever the length; depths
  are uniform between the beginning and the question.

  Args:
    text: that of validation.
    end_N: from `length.ends`.
    length: T.
    asked: Q, the last tokens, of which `of_rest` takes those of the rest; as in
      `length.windows`, so that one program serves both.
    shown: whether the line has the name that is asked for.

  Raises:
    UsageError: the length does not hold line and question.
  """
  hay = length + 1 - LINE - QUESTION
  if hay < 1 or asked < REST:
    raise UsageError(
      f'a prompt of {length} bytes with {asked} of them asked for: at least '
      f'{LINE + QUESTION} and {REST}'
    )
  count = len(end_N)
  name_NW = _names(count, 'asked for')
  line_NW = name_NW if shown else _names(count, 'another')
  depth_N1 = np.asarray(jax.random.uniform(_key('depth'), (count, 1)))
  before_N1 = np.floor(depth_N1 * (hay + 1)).astype(np.int64)
  place_1T = np.arange(length + 1)[None]
  in_line_NT = (place_1T >= before_N1) & (place_1T < before_N1 + LINE)
  asks_1T = place_1T > length - QUESTION
  # Bytes of line and question are on the level of those before them.
  hay_NT = np.where(place_1T < before_N1, place_1T, place_1T - LINE)
  hay_NT = np.where(in_line_NT, before_N1 - 1, np.minimum(hay_NT, hay - 1))
  source_NT = end_N[:, None] - hay + np.maximum(hay_NT, 0)
  token_NT = np.where(
    in_line_NT,
    _along(_spelt(BEFORE, line_NW, AFTER), place_1T - before_N1),
    text.token_N[source_NT],
  )
  token_NT[:, asks_1T[0]] = _spelt(ASKING, name_NW)
  query_Q = np.arange(length - asked, length, dtype=np.int32)
  return Asked(
    token_NT=token_NT[:, :-1],
    level_NT=text.level_N[source_NT[:, :-1]],
    query_NQ=np.broadcast_to(query_Q, (count, asked)),
    target_NQ=token_NT[:, -asked:].astype(np.int32),
  )


def of_rest(scores: Scores) -> Found:
  """What was made of the letters that are not given."""
  return Found(scores.right_RNQ[..., -REST:], scores.loss_RNQ[..., -REST:])


def _key(purpose: str) -> jax.Array:
  return named(jax.random.key(0), 'needle', purpose)


def _names(count: int, purpose: str) -> np.ndarray:
  """Random small letters, uint8 [N, W]."""
  low, high = ord('a'), ord('z') + 1
  drawn = jax.random.randint(_key(purpose), (count, LETTERS), low, high)
  return np.asarray(drawn, np.uint8)


def _spelt(*parts: bytes | np.ndarray) -> np.ndarray:
  """Parts one behind another, uint8 [N, ..]; bytes are the same in all rows."""
  rows = max(len(part) for part in parts if not isinstance(part, bytes))
  return np.concatenate(
    [
      np.tile(np.frombuffer(part, np.uint8), (rows, 1))
      if isinstance(part, bytes)
      else part
      for part in parts
    ],
    axis=1,
  )


def _along(line_NX: np.ndarray, place_NT: np.ndarray) -> np.ndarray:
  """The bytes of a line at some places; any byte outside of it."""
  inside_NT = np.clip(place_NT, 0, line_NX.shape[1] - 1)
  return np.take_along_axis(line_NX, inside_NT, axis=1)
