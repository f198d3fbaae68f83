"""Which bracket is open: one byte of a text to remember, however far it lies.

Two prompts differ in that byte alone: a line begins with `x = (`, or with
`x = [`, somewhere in text of validation, and words follow up to the end. They
are told apart where the bracket that closes the one is more likely than the
other after the one than it is after the other: which bracket is the more common
does not matter, and chance is a half.

A model of code learns this early. How many pairs are told apart says what is
known at all, and nats say how much is made of it.

Shape key: N pairs of prompts, T tokens, Q of them asked for, R replicas.
"""

import keyword
import re

import jax
import numpy as np

from extrap.datasets.stdlib_text import Text
from extrap.errors import UsageError
from extrap.evaluation.length import Asked, Scores
from extrap.randomness import named

OPENING, CLOSING = b'([', b')]'
LINE = b'\nx = '
LEAST = 4  # Bytes of words.
WORD = re.compile(rb'[a-z_]{3,}')


def prompts(text: Text, end_N: np.ndarray, length: int, asked: int) -> Asked:
  """Prompts of a length, [2 N, T]: all of the first bracket, then the others.

  Depths are those of a pair's number, whatever the length; they are uniform.

  Args:
    text: that of validation.
    end_N: where the text of each pair ends, from `length.ends`.
    length: T.
    asked: Q; in the last two places both closing brackets are asked for after
      the last token.

  Raises:
    UsageError: the length does not hold line and words.
  """
  least = len(LINE) + 1 + LEAST
  if length < least or asked < len(CLOSING):
    raise UsageError(
      f'a prompt of {length} bytes with {asked} of them asked for: at least '
      f'{least} and {len(CLOSING)}'
    )
  key = named(jax.random.key(0), 'brackets', 'depth')
  depth_N = np.asarray(jax.random.uniform(key, (len(end_N),)))
  before_N = np.floor(depth_N * (length - least + 1)).astype(np.int64)
  pairs = list(zip(end_N.tolist(), before_N.tolist(), strict=True))
  token_NT = np.stack(
    [
      np.frombuffer(_prompt(text, *pair, length, bracket), np.uint8)
      for bracket in OPENING
      for pair in pairs
    ]
  )
  place_NT = end_N[:, None] - length + np.arange(length)[None]
  query_Q = np.minimum(np.arange(asked) + length - asked + 1, length - 1)
  target_NQ = np.zeros((len(token_NT), asked), np.int32)
  target_NQ[:, -len(CLOSING) :] = np.frombuffer(CLOSING, np.uint8)[None]
  return Asked(
    token_NT=token_NT,
    level_NT=np.tile(text.level_N[place_NT], (len(OPENING), 1)),
    query_NQ=np.broadcast_to(query_Q.astype(np.int32), target_NQ.shape),
    target_NQ=target_NQ,
  )


def apart(scores: Scores) -> np.ndarray:
  """Nats by which the brackets of each pair are told apart, [R, N].

  The log odds of the closing brackets, after the one less after the other:
  positive where they are, 0 where the model does not know.
  """
  odds_RN = scores.loss_RNQ[..., -1] - scores.loss_RNQ[..., -2]
  first_RN, second_RN = np.split(odds_RN, len(OPENING), axis=1)
  return first_RN - second_RN


def share(apart_RN: np.ndarray) -> np.ndarray:
  """Which share of the pairs is told apart, [R]; a tie is a half."""
  return (apart_RN > 0).mean(axis=1) + (apart_RN == 0).mean(axis=1) / 2


def _prompt(
  text: Text, end: int, before: int, length: int, bracket: int
) -> bytes:
  """Text, the line with its bracket, and words, of which the last is no end."""
  hay = text.token_N[end - length : end].tobytes()
  words = [w for w in WORD.findall(hay) if not keyword.iskeyword(w.decode())]
  line = b', '.join(words or [b'name']) + b', '
  room = length - before - len(LINE) - 1
  filled = (line * -(-room // len(line)))[:room]
  kept = filled.rstrip(b', ')
  filled = kept + b'e' * (room - len(kept))
  return hay[:before] + LINE + bytes([bracket]) + filled
