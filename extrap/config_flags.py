"""A configuration as absl flags: which flags it has, and what they describe.

A leaf is a flag. A choice is a flag that selects an entry, and one more for
each field that any entry has; which of them may be given is known only when
all flags are parsed, so the selected entry reads and refuses them then.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Container, Iterator, Mapping
from typing import TypeVar

from absl import flags

from extrap.config import Config, Registry, Value
from extrap.config_fields import (
  Field,
  Serializer,
  check_bounds,
  dotted,
  fields_of,
  text_of,
)
from extrap.errors import UsageError

T = TypeVar('T')

_MISSING = dataclasses.MISSING
_DEPTH = 2  # Choices within a choice that have flags; others their defaults.
_HEADING = 'extrap.config'  # What `--help` prints above the flags.


def define_flags(
  config_type: type, flag_values: flags.FlagValues, prefix: str = ''
) -> None:
  """Defines one flag a leaf of `config_type`.

  Args:
    config_type: A frozen dataclass.
    flag_values: Where to define the flags.
    prefix: 'teacher' names them `--teacher.depth`.
  """
  for flag in _flags(config_type, _MISSING, dotted(prefix)):
    flags.DEFINE_flag(flag, flag_values, _HEADING)


def from_flags(
  config_type: type[T], flag_values: flags.FlagValues, prefix: str = ''
) -> T:
  """Returns the configuration that parsed flags describe.

  Raises:
    UsageError: A value is out of bounds or missing, or a field was given which
      the selected entry of a registry lacks.
  """
  _set_defaults(config_type, flag_values, dotted(prefix))
  config = _build(config_type, _MISSING, flag_values, dotted(prefix))
  check_bounds(config, prefix)
  return config


def from_arguments(config_type: type[T], *arguments: str) -> T:
  """Returns what a command line describes, as in '--size=large'.

  Raises:
    UsageError: As for a program with these arguments.
  """
  flag_values = flags.FlagValues()
  define_flags(config_type, flag_values)
  try:
    flag_values(['', *arguments])
  except flags.Error as error:
    raise UsageError(str(error)) from error
  return from_flags(config_type, flag_values)


def flags_text(
  config_type: type,
  flag_values: flags.FlagValues,
  *,
  omit: Container[str] = (),
  prefix: str = '',
) -> str:
  """Returns a flagfile which gives the present configuration again.

  Args:
    config_type: What `define_flags` was called with.
    flag_values: The parsed flags.
    omit: Names of flags to leave out, as in ('workdir',).
    prefix: As for `define_flags`.

  Returns:
    A line `--name=value` for each flag that has a value.

  Raises:
    UsageError: A flagfile cannot hold a value (a line break, outer spaces).
  """
  lines = []
  for flag in _flags(config_type, _MISSING, dotted(prefix)):
    if flag.name in omit or flag.name not in flag_values:
      continue
    flag = flag_values[flag.name]
    if flag.value is not None:
      lines.append(f'--{flag.name}={_flagfile_text(flag)}\n')
  return ''.join(lines)


class _Selecting(flags.Flag):
  """Selects an entry; selecting another forgets the fields of the first.

  So `--flagfile=yarn.txt --position=alibi` does not give yarn's fields to
  alibi, whereas fields given before the first selection are kept.
  """

  fields: list[flags.Flag]  # Set by who makes it.

  def parse(self, argument: str) -> None:
    """Selects the entry called `argument`."""
    if self.present and argument != self.value:
      for field in self.fields:
        field.unparse()
    super().parse(argument)


class _ChoiceFlag(_Selecting, flags.EnumFlag):
  """Knows the entries."""

  def __init__(
    self, registry: Registry, name: str, default: str | None, help: str
  ) -> None:
    super().__init__(
      name, default, help, registry.names(), allow_using_method_names=True
    )
    self.registry = registry

  def parse(self, argument: str) -> None:
    """Selects the entry called `argument`."""
    if argument not in self.parser.enum_values:
      raise flags.IllegalFlagValueError(
        f'flag --{self.name}: {self.registry.explain_unknown(argument)}'
      )
    super().parse(argument)


def _flags(owner: type, default: Config, path: str) -> Iterator[flags.Flag]:
  """Yields the flags of `owner`, with the defaults of `default` if given."""
  for field in fields_of(owner):
    if not field.has_flag:
      continue
    name, value = path + field.flag, field.default(default)
    if field.registry:
      yield from _choice_flags(field, value, name)
    elif field.is_tree:
      yield from _flags(field.type, value, name + '.')
    else:
      value = None if value is _MISSING else value
      yield _flag(field.parser, name, value, field.help)


def _flag(
  parser: flags.ArgumentParser,
  name: str,
  default: Value,
  help: str,
  kind: type[flags.Flag] = flags.Flag,
) -> flags.Flag:
  return kind(
    parser,
    Serializer(),
    name,
    default,
    help,
    boolean=isinstance(parser, flags.BooleanParser),
    allow_using_method_names=True,
  )


def _choice_flags(
  field: Field, default: Config, path: str
) -> Iterator[flags.Flag]:
  """Yields the selecting flag, then one for each field of any entry."""
  registry = field.registry
  selected = None if default is None else registry.name_of(default)
  select = _ChoiceFlag(registry, path, selected, field.help)
  told = {registry: field.original} if field.original else {}
  select.fields = list(_inner_flags(registry, default, path, told, _DEPTH))
  yield from (select, *select.fields)


def _inner_flags(
  registry: Registry,
  default: Config,
  path: str,
  told: Mapping[Registry, str],
  depth: int,
) -> Iterator[flags.Flag]:
  """Yields one flag for each field of any entry, and of choices in it.

  Args:
    registry: The entries.
    default: The selected one, for `--help`; None: none is.
    path: Its flag.
    told: The flags of choices whose fields `--help` has told of.
    depth: How many choices deep the flags may go.
  """
  for name, owners in _entry_fields(registry, depth).items():
    flag = f'{path}.{name}'
    help = f'As --{told[registry]}.{name}.' if registry in told else ''
    help = help or _entry_help(owners, _defaults(registry, owners, default))
    inner = {owner.registry for owner in owners.values() if owner.registry}
    if not inner:
      yield _flag(_shared_parser(owners), flag, None, help)
      continue
    if len(inner) > 1:
      raise TypeError(f'--{flag}: choices from several registries')
    select = _flag(flags.ArgumentParser(), flag, None, help, _Selecting)
    select.fields = list(
      _inner_flags(*inner, None, flag, told | {registry: path}, depth - 1)
    )
    yield from (select, *select.fields)


def _shared_parser(owners: Mapping[str, Field]) -> flags.ArgumentParser:
  """Returns the parser of a field of several entries.

  Entries that disagree on the type share a text flag, which the selected entry
  reads with its own type.
  """
  parsers = {owner.type: owner.parser for owner in owners.values()}
  return flags.ArgumentParser() if len(parsers) > 1 else parsers.popitem()[1]


def _entry_fields(
  registry: Registry, depth: int
) -> dict[str, dict[str, Field]]:
  """Returns, by field name, the entries that have a flag for it."""
  owners: dict[str, dict[str, Field]] = {}
  for entry in registry.names():
    for field in _entry_flags(registry.get(entry)):
      if depth or not field.registry:
        owners.setdefault(field.name, {})[entry] = field
  return owners


def _entry_flags(entry: type) -> list[Field]:
  """Returns the fields of an entry that have flags: leaves and choices."""
  fields = [field for field in fields_of(entry) if field.has_flag]
  return [field for field in fields if field.parser or field.registry]


def _defaults(
  registry: Registry, owners: Mapping[str, Field], default: Config
) -> dict[str, Value]:
  """Returns each entry's default of a field, the selected one's for its own."""
  selected = None if default is None else registry.name_of(default)
  return {
    entry: owner.default(default if entry == selected else _MISSING)
    for entry, owner in owners.items()
  }


def _entry_help(owners: dict[str, Field], defaults: dict[str, Value]) -> str:
  """Returns each distinct help text, with the entries' own defaults."""
  notes: dict[str, list[str]] = {}
  for entry, field in owners.items():
    given = defaults[entry]
    if field.registry and given is not _MISSING:
      given = field.registry.name_of(given)
    text = 'required' if given is _MISSING else text_of(given) or "''"
    notes.setdefault(field.help, []).append(f'{entry}: {text}')
  return '; '.join(
    f'{help} ({", ".join(entries)})'.strip() for help, entries in notes.items()
  )


def _set_defaults(
  owner: type, flag_values: flags.FlagValues, path: str
) -> None:
  """Makes the selected presets the defaults of the flags they name."""
  for field in fields_of(owner):
    presets = field.source.metadata.get('presets')
    if presets:
      chosen = presets[flag_values[path + field.name].value]
      for name, value in chosen.items():
        flag_values.set_default(path + name, value)


def _build(
  owner: type[T], default: Config, flag_values: flags.FlagValues, path: str
) -> T:
  values = {}
  # What is changed comes after what it changes.
  for field in sorted(fields_of(owner), key=lambda field: bool(field.original)):
    name, value = path + field.flag, field.default(default)
    if not field.has_flag:
      pass
    elif field.original:
      value = _build_changed(field, values, flag_values, name)
    elif field.registry:
      value = _build_choice(field.registry, value, flag_values, name)
    elif field.is_tree:
      value = _build(field.type, value, flag_values, name + '.')
    else:
      value = flag_values[name].value
      _require(value is not None or field.optional, name)
    if value is not _MISSING:
      values[field.name] = value
  return owner(**values)


def _build_changed(
  field: Field,
  values: Mapping[str, Value],
  flag_values: flags.FlagValues,
  path: str,
) -> Config | None:
  """Returns the choice that is changed, if any flag changes it."""
  if flag_values[path].value is None and not _given(flag_values, path):
    return None
  first, *others = field.original.split('.')
  original = functools.reduce(getattr, others, values[first])
  return _build_choice(field.registry, original, flag_values, path)


def _build_choice(
  registry: Registry, default: Config, flag_values: flags.FlagValues, path: str
) -> Config:
  """Returns the selected entry with the fields that were given."""
  name = flag_values[path].value
  if name is None:
    _require(default is not _MISSING, path)
    name = registry.name_of(default)
  if name not in registry.names():
    raise UsageError(f'--{path}: {registry.explain_unknown(name)}')
  entry = registry.get(name)
  owner = default if type(default) is entry else _MISSING
  fields = {field.name: field for field in _entry_flags(entry)}
  values = {}
  for given in _given(flag_values, path):
    field_name, _, inner = given.partition('.')
    field, flag = fields.get(field_name), f'{path}.{given}'
    if field is None or (inner and not field.registry):
      has = ', '.join(fields) or 'no fields'
      raise UsageError(
        f'--{flag}: {registry.kind} {name!r} has no {given!r}; has: {has}'
      )
    if not field.registry:
      value = flag_values[flag].value
      values[field_name] = field.parse(value, f'--{flag}={value}')
    elif field_name not in values:
      values[field_name] = _build_choice(
        field.registry,
        field.default(owner),
        flag_values,
        f'{path}.{field_name}',
      )
  if owner is not _MISSING:
    return dataclasses.replace(owner, **values)
  for field in fields.values():
    is_given = field.name in values or field.default() is not _MISSING
    _require(is_given, f'{path}.{field.name}')
  return entry(**values)


def _given(flag_values: flags.FlagValues, path: str) -> list[str]:
  """Returns the names, after a choice's own, of its flags that have a value."""
  return [
    flag.removeprefix(f'{path}.')
    for flag in flag_values
    if flag.startswith(f'{path}.') and flag_values[flag].value is not None
  ]


def _require(condition: bool, flag: str) -> None:
  if not condition:
    raise UsageError(f'--{flag}: needs a value, there is no default')


def _flagfile_text(flag: flags.Flag) -> str:
  """Returns the value as absl will read it, or raises a UsageError."""
  text = flag.serializer.serialize(flag.value)
  # absl strips the lines of a flagfile, and lists strip their elements.
  is_line = text == text.strip() and not {'\n', '\r'} & set(text)
  if is_line and flag.serializer.serialize(flag.parser.parse(text)) == text:
    return text
  raise UsageError(
    f'--{flag.name}: {text!r} does not fit in a flagfile; '
    'use a value without line breaks and outer spaces'
  )
