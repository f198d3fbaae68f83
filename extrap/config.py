"""How a study is configured: a tree of frozen dataclasses, and choices.

Each leaf of the tree is a flag with a dotted name, and a field may be a
*choice* from a registry:

  POSITIONS = Registry('position')

  @POSITIONS.register('yarn')
  @dataclasses.dataclass(frozen=True)
  class Yarn:
    scale: float = option(16.0, 'Stretch of the trained context', minimum=1)

  @dataclasses.dataclass(frozen=True)
  class Study:
    steps: int = option(1000, 'Length of training', unit='steps')
    position: object = choice(POSITIONS, 'yarn', 'Position encoding')

gives `--steps=500 --position=yarn --position.scale=8`. Registries are read when
flags are defined, so an entry registered by a user is a value of the flag.

An entry may hold choices, too, such as an encoding around another one, where
`base: object = choice(POSITIONS, 'yarn', 'What it changes')`: that is set by
`--position=around --position.base=yarn --position.base.scale=8`.

Here a configuration is declared. `config_flags` makes flags of it and reads
them; `config_json` writes it down, and tells one run from another.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from extrap.errors import ExtrapError, UsageError

Config: TypeAlias = Any  # An instance of a frozen dataclass.
Value: TypeAlias = Any  # What a field holds.
T = TypeVar('T')


class Registry:
  """Named frozen dataclasses of one kind.

  Attributes:
    kind: What the entries are, in the singular, for messages.
  """

  def __init__(self, kind: str) -> None:
    self.kind = kind
    self._entries: dict[str, type] = {}

  def register(self, name: str) -> Callable[[type[T]], type[T]]:
    """Returns a decorator that adds a frozen dataclass under `name`.

    Raises:
      TypeError: The class is not a frozen dataclass.
      ValueError: The name or the class is registered already, or a field is
        called 'choice', which is where JSON keeps the entry's name.
    """

    def add(entry: type[T]) -> type[T]:
      label = f'{self.kind} {name!r}'
      if not _is_frozen_dataclass(entry):
        raise TypeError(f'{label}: {entry.__name__} is not a frozen dataclass')
      if name in self._entries:
        raise ValueError(f'{label} is registered twice')
      if entry in self._entries.values():
        raise ValueError(
          f'{label}: {entry.__name__} is already {self.name_of(entry)!r}'
        )
      if any(field.name == 'choice' for field in dataclasses.fields(entry)):
        raise ValueError(f"{label}: a field cannot be called 'choice'")
      self._entries[name] = entry
      return entry

    return add

  def names(self) -> tuple[str, ...]:
    """Returns the names, sorted."""
    return tuple(sorted(self._entries))

  def get(self, name: str) -> type:
    """Returns the entry called `name`; UsageError where there is none."""
    if name not in self._entries:
      raise UsageError(self.explain_unknown(name))
    return self._entries[name]

  def name_of(self, entry: Config | type) -> str:
    """Returns the name of an entry, or of an instance of one."""
    entry = entry if isinstance(entry, type) else type(entry)
    for name, known in self._entries.items():
      if known is entry:
        return name
    raise ExtrapError(
      f'{entry.__name__} is not a registered {self.kind}; register it first'
    )

  def explain_unknown(self, name: str) -> str:
    """Returns one line for a name that is not here, with the closest one."""
    close = difflib.get_close_matches(str(name), self._entries, n=1)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    known = ', '.join(self.names()) or 'none'
    return f'unknown {self.kind} {name!r}; {hint}known: {known}'


def option(
  default: T,
  help: str,
  *,
  unit: str = '',
  identity: bool = True,
  minimum: float | None = None,
  maximum: float | None = None,
) -> T:
  """A dataclass field that is documented where it is defined.

  Args:
    default: An immutable value; a frozen dataclass instance is a sub-tree.
      `dataclasses.MISSING` makes the flag obligatory.
    help: What `--help` says.
    unit: The unit of the value, for `--help`.
    identity: Whether a run with another value is another run. False for what
      may change when a run is resumed: steps, logging.
    minimum: Smallest allowed value, for every element of a tuple.
    maximum: Largest allowed value, likewise.
  """
  metadata = {
    'help': help,
    'unit': unit,
    'identity': identity,
    'minimum': minimum,
    'maximum': maximum,
  }
  return dataclasses.field(default=default, metadata=metadata)


def choice(
  registry: Registry, default_name: str, help: str, **fields: Value
) -> Value:
  """A dataclass field that holds an instance of an entry of `registry`.

  Args:
    registry: What there is to choose from.
    default_name: The default's name.
    help: What `--help` says.
    **fields: Of the default, where they differ from what its class has.
  """
  return dataclasses.field(
    default_factory=lambda: registry.get(default_name)(**fields),
    metadata={'registry': registry, 'help': help},
  )


def changed(registry: Registry, original: str, flag: str, help: str) -> Value:
  """A dataclass field that may hold another choice, changed by flags.

  `changed(POSITIONS, 'model.position', 'eval.position', ..)` makes
  `--eval.position.scale=16` the model's encoding with another scale, and
  `--eval.position=yarn` another encoding. It holds None where no flag is given.
  Settings that say how to look at a run do not make it another run.

  Args:
    registry: What there is to choose from.
    original: Path of a choice in the same dataclass, or in the trees in it.
    flag: What its flags are called, whatever the field is.
    help: What `--help` says.
  """
  metadata = {'original': original, 'flag_name': flag, 'identity': False}
  return dataclasses.field(
    default=None, metadata=metadata | {'registry': registry, 'help': help}
  )


def preset(
  default_name: str, presets: Mapping[str, Mapping[str, Value]], help: str
) -> str:
  """A dataclass field whose value gives other flags their defaults.

  Args:
    default_name: One of the presets.
    presets: By name, what each makes the default of other flags of the same
      dataclass and the trees in it, as in {'large': {'model.width': 1024}}. A
      flag that is given keeps its value. An instance that is made in Python has
      the defaults of its class instead; `from_arguments` knows presets.
    help: What `--help` says.
  """
  metadata = {'help': help, 'presets': presets}
  return dataclasses.field(default=default_name, metadata=metadata)


def _is_frozen_dataclass(entry: type) -> bool:
  return dataclasses.is_dataclass(entry) and entry.__dataclass_params__.frozen
