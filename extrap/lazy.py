"""Names of a package that are imported when they are first used."""

import importlib
from collections.abc import Callable, Mapping


def getter(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
  """A `__getattr__` for a package: the names, by the modules they are in."""

  def get(name: str) -> object:
    if name not in homes:
      raise AttributeError(f'module {package!r} has no attribute {name!r}')
    return getattr(importlib.import_module(homes[name]), name)

  return get
