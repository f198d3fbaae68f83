"""The same encoding with other settings."""

import dataclasses

from extrap.config import Value
from extrap.config_fields import check_bounds
from extrap.errors import UsageError
from extrap.models.positions.position import Position


def with_settings(position: Position, **settings: Value) -> Position:
  """An encoding as it is, but for some settings.

  For tests of a trained model: `with_settings(position, scale=16)`. The
  parameters that it was trained with must fit the settings.

  Args:
    position: the encoding.
    **settings: by name; `**{'base.scale': 16}` is one of what it is around.

  Raises:
    UsageError: it has no such setting, or not that value.
  """
  changes: dict[str, Value] = {}
  for name, value in settings.items():
    first, _, inner = name.partition('.')
    fields = [field.name for field in dataclasses.fields(position)]
    if first not in fields:
      raise UsageError(
        f'position {position.name!r} has no {first!r}; '
        f'has: {", ".join(fields) or "no fields"}'
      )
    if inner:
      base = changes.get(first, getattr(position, first))
      if not isinstance(base, Position):
        raise UsageError(
          f'{first!r} of position {position.name!r} has no settings'
        )
      value = with_settings(base, **{inner: value})
    changes[first] = value
  changed = dataclasses.replace(position, **changes)
  check_bounds(changed, 'model.position')
  return changed
