"""Index hints: a symbol of its place before each digit.

Zhou et al. 2024 (arXiv 2402.09371; first in Zhou et al. 2023, arXiv
2310.16028): digits of one place have the same symbol in both operands and in
the answer, so that to find a place is to find a symbol. Symbols of a row follow
one another from a random first one on, which trains more of them than numbers
have places. In both digit orders place q has the symbol q after the first: in
the published reversed format it is q before, the same up to their names.

Shape key: B examples, T tokens, L tokens of a part.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from extrap.tasks.layout import Part
from extrap.tasks.numbers import NumberTask
from extrap.tasks.task import Structure


def hinted(part: Part, symbol_B: jax.Array, lowest_first: bool) -> Part:
  """A number with the hint of its place before each digit.

  Args:
    part: its digits, in the order in which they are written.
    symbol_B: the token of place 0.
    lowest_first: whether the order starts at place 0.
  """
  rank_1L = jnp.arange(part.tokens.shape[1])[None]
  place_BL = rank_1L if lowest_first else part.width[:, None] - 1 - rank_1L
  hint_BL = jnp.broadcast_to(symbol_B[:, None] + place_BL, part.tokens.shape)
  pair_BL2 = jnp.stack([hint_BL, part.tokens], axis=-1)
  return Part(pair_BL2.reshape(len(symbol_B), -1), 2 * part.width)


def hinted_structure(
  structure: Structure, hint_BT: jax.Array, delimiter_BT: jax.Array
) -> Structure:
  """Places and numbers of a row; a hint has its digit's place, and no number.

  Args:
    structure: as if hints were delimiters.
    hint_BT: which tokens are hints; delimiter_BT: what stands between numbers.
  """
  digits_BT = jnp.cumsum(structure.digit, axis=1)
  before_BT = jax.lax.cummax(jnp.where(delimiter_BT, digits_BT, 0), axis=1)
  rank_BT = digits_BT - before_BT
  number_BT = jnp.cumsum(delimiter_BT, axis=1)
  run_BT = jnp.minimum(number_BT, structure.runs - 1)
  run_BT = jnp.where(structure.digit, run_BT, structure.runs)
  # A digit counts itself.
  place_BT = jnp.where(structure.digit, rank_BT - 1, -1)
  return structure.replace(
    place=jnp.where(hint_BT, rank_BT, place_BT), run=run_BT
  )


def without_hints(
  task: NumberTask, tokens: Sequence[int], first_hint: int
) -> tuple[list[int], bool]:
  """A row without its hints, and whether those of the answer are right.

  Args:
    task: its '=' and end delimit the answer.
    tokens: a row of tokens.
    first_hint: the first token that is a hint; those up to the end are, too.
  """
  is_hint = lambda token: first_hint <= token < task.end  # noqa: E731
  plain = [token for token in tokens if not is_hint(token)]
  equals = tokens.index(task.token('='))
  answer = tokens[equals + 1 :]
  answer = answer[: answer.index(task.end)] if task.end in answer else answer
  lowest = min(filter(is_hint, tokens[:equals]), default=first_hint)
  places = range(len(answer) // 2)
  if task.order == 'msb':
    places = reversed(places)
  right = answer[::2] == [lowest + place for place in places]
  return plain, right and len(answer) % 2 == 0
