"""The fields of a configuration, as flags and JSON see them.

Annotations are resolved and the metadata of `extrap.config` is read here and
nowhere else: what reads and writes a value, its default, its bounds.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Literal, TypeAlias

from absl import flags

from extrap.config import Config, Registry, Value
from extrap.errors import UsageError

Type: TypeAlias = Any  # A class or a typing construct, as in an annotation.

_MISSING = dataclasses.MISSING
_SCALARS = {
  bool: flags.BooleanParser,
  int: flags.IntegerParser,
  float: flags.FloatParser,
  str: flags.ArgumentParser,
}


def check_bounds(config: Config, prefix: str = '') -> None:
  """Raises a UsageError if a value is outside the bounds of its `option`."""
  for field in fields_of(type(config)):
    name, value = dotted(prefix) + field.flag, getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      check_bounds(value, name)
    elif value is not None and not field.within_bounds(value):
      raise UsageError(f'--{name}={text_of(value)}: must be {field.bounds}')


class _LiteralParser(flags.EnumParser):
  """Parser of `Literal[...]`, whose values need not be strings."""

  def __init__(self, values: tuple[Value, ...]) -> None:
    self._values = {str(value): value for value in values}
    super().__init__(self._values)
    self.syntactic_help = f'one of {"|".join(self._values)}'

  def parse(self, argument: Value) -> Value:
    """Returns the value that is written like `argument`."""
    return self._values[super().parse(str(argument))]


class _TupleParser(flags.ListParser):
  """Parser of `tuple[int, ...]` and of `tuple[int, float]`."""

  def __init__(self, items: tuple[Type, ...]) -> None:
    super().__init__()
    self._any_length = items[1:] == (...,)
    self._parsers = [_SCALARS[item]() for item in items if item is not ...]

  def parse(self, argument: str | list | tuple) -> tuple[Value, ...]:
    """Returns the tuple written in `argument`, or its elements converted."""
    is_text = isinstance(argument, str)
    items = super().parse(argument) if is_text else list(argument)
    parsers = self._parsers * (len(items) if self._any_length else 1)
    if len(items) != len(parsers):
      raise ValueError(f'{len(items)} values where {len(parsers)} are needed')
    return tuple(p.parse(item) for p, item in zip(parsers, items, strict=True))


class Serializer(flags.ArgumentSerializer):
  """Writes any value the way its flag reads it."""

  def serialize(self, value: Value) -> str:
    """Returns the text after `--name=`."""
    if isinstance(value, bool):
      return str(value).lower()
    if isinstance(value, tuple | list):
      return flags.CsvListSerializer(',').serialize(value)
    return str(value)


@dataclasses.dataclass(frozen=True)
class Field:
  """A field of a dataclass that holds settings.

  Attributes:
    name: Name in its dataclass.
    type: Resolved annotation; `X` where it says `X | None`.
    optional: Whether it says `X | None`.
    source: The field itself.
  """

  name: str
  type: Type
  optional: bool
  source: dataclasses.Field

  @property
  def registry(self) -> Registry | None:
    """What there is to choose from, if this is a choice."""
    return self.source.metadata.get('registry')

  @property
  def identity(self) -> bool:
    """Whether another value makes it another run."""
    return self.source.metadata.get('identity', True)

  @property
  def flag(self) -> str:
    """Its flag's name in the flags of its dataclass."""
    return self.source.metadata.get('flag_name', self.name)

  @property
  def original(self) -> str | None:
    """Path of the choice that this one changes, if it does."""
    return self.source.metadata.get('original')

  @property
  def is_tree(self) -> bool:
    """Whether it holds a dataclass of a type that is known beforehand."""
    return not self.optional and dataclasses.is_dataclass(self.type)

  @property
  def is_opaque(self) -> bool:
    """Whether its type has neither flag nor JSON, such as a function's."""
    return not (self.registry or self.is_tree or self.parser)

  @property
  def has_flag(self) -> bool:
    """Whether there is a flag for it, or for what it holds."""
    return not self.is_opaque and self.source.metadata.get('flag', True)

  @functools.cached_property
  def parser(self) -> flags.ArgumentParser | None:
    """What reads a leaf; None if this is not one."""
    if self.type in _SCALARS:
      return _SCALARS[self.type]()
    args = typing.get_args(self.type)
    if typing.get_origin(self.type) is Literal:
      # By keyword: absl shares parsers between equal positional arguments, and
      # Literal[1] equals Literal[True].
      return _LiteralParser(values=args)
    is_tuple = typing.get_origin(self.type) is tuple
    items = args[:1] if args[1:] == (...,) else args
    if is_tuple and all(item in _SCALARS for item in items):
      return _TupleParser(args)
    return None

  def default(self, owner: Config = _MISSING) -> Value:
    """Returns the default: that of `owner`, if given, or MISSING if none."""
    if owner is not _MISSING:
      return getattr(owner, self.name)
    if self.source.default_factory is not _MISSING:
      return self.source.default_factory()
    return self.source.default

  @property
  def bounds(self) -> str:
    """Its bounds in words, as in '>= 1 and <= 99'; '' if there are none."""
    low, high = (self.source.metadata.get(b) for b in ('minimum', 'maximum'))
    bounds = ((low, '>='), (high, '<='))
    return ' and '.join(f'{sign} {b}' for b, sign in bounds if b is not None)

  @property
  def help(self) -> str:
    """What `--help` says, with unit and bounds."""
    metadata = self.source.metadata
    notes = '; '.join(filter(None, (metadata.get('unit'), self.bounds)))
    return metadata.get('help', '') + (f' [{notes}]' if notes else '')

  def within_bounds(self, value: Value) -> bool:
    """Whether a number, or every element of a tuple, is; NaN never is."""
    low, high = (self.source.metadata.get(b) for b in ('minimum', 'maximum'))
    items = value if isinstance(value, tuple) else (value,)
    return all(
      (low is None or item >= low) and (high is None or item <= high)
      for item in items
    )

  def parse(self, value: Value, label: str) -> Value:
    """Returns `value`, text or not, as this leaf's type."""
    try:
      return self.parser.parse(value)
    except (TypeError, ValueError, OverflowError) as error:
      raise UsageError(f'{label}: {error}') from error


@functools.cache
def fields_of(owner: type) -> tuple[Field, ...]:
  """Returns the fields that the constructor of a dataclass takes.

  Raises:
    TypeError: An `option` is of a type that has no flag.
  """
  hints = typing.get_type_hints(owner)
  sources = [field for field in dataclasses.fields(owner) if field.init]
  fields = tuple(_field(source, hints[source.name]) for source in sources)
  for field in fields:
    if field.is_opaque and 'help' in field.source.metadata:
      raise TypeError(f'{owner.__name__}.{field.name}: no flag for its type')
  return fields


def _field(source: dataclasses.Field, hint: Type) -> Field:
  args = typing.get_args(hint)
  is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
  if is_union and len(args) == 2 and type(None) in args:
    hint = args[0] if args[1] is type(None) else args[1]
    return Field(source.name, hint, True, source)
  return Field(source.name, hint, False, source)


def dotted(prefix: str) -> str:
  """Returns what the names below `prefix` begin with: 'teacher.', or ''."""
  return f'{prefix}.' if prefix else ''


def text_of(value: Value) -> str:
  """Returns a value as a message shows it."""
  return 'none' if value is None else Serializer().serialize(value)
