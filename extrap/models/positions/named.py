"""Encodings by their names, looked up when they are asked for.

A study can so list encodings that are registered elsewhere, or later.
"""

import dataclasses
from collections.abc import Mapping

from extrap.config import Value
from extrap.config_fields import check_bounds
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS, Position


@dataclasses.dataclass(frozen=True)
class Named:
  """What `--model.position=<name>` and the flags below it describe.

  Attributes:
    name: in the registry.
    settings: by name; an encoding within this one is `Named`, too.
  """

  name: str
  settings: Mapping[str, Value] = dataclasses.field(default_factory=dict)

  def make(self) -> Position:
    """The encoding.

    Raises:
      UsageError: there is none of that name, or it has no such setting.
    """
    entry = POSITIONS.get(self.name)
    known = [field.name for field in dataclasses.fields(entry)]
    for setting in self.settings:
      if setting not in known:
        raise UsageError(
          f'position {self.name!r} has no {setting!r}; '
          f'has: {", ".join(known) or "no fields"}'
        )
    position = entry(**{k: _made(v) for k, v in self.settings.items()})
    check_bounds(position, 'model.position')
    return position


def _made(value: Value) -> Value:
  return value.make() if isinstance(value, Named) else value
