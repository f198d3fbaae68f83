"""Encodings around one that turns queries and keys by their positions."""

import dataclasses

from extrap.errors import UsageError
from extrap.models.positions.position import ALL_PAIRS
from extrap.models.positions.wrapped import Wrapped

TURNS = ('rotate', 'query_map', 'key_map')
OTHERS = ('embed', 'gate', 'key_bias', 'pair_bias', 'combine', 'visible')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turned(Wrapped):
  """Hands on other queries, keys or positions to be turned.

  The base is rotary or one that stretches it; whatever has another way of
  telling positions (a bias, a mask, a table) is refused, as it would go on
  telling the true ones.
  """

  def __post_init__(self) -> None:
    base = self.base
    if len(base.layers) > 1:  # Each of them will be asked.
      return
    turns, acts = map(base.acts, TURNS), map(base.acts, OTHERS + ALL_PAIRS)
    if not any(turns) or any(acts):
      raise UsageError(
        f'--model.position={self.name} needs a base that turns queries and '
        f'keys, and nothing else, such as rotary: not --model.position.base='
        f'{base.name}'
      )
