"""Frozen dataclasses as absl flags, and as JSON.

A study is configured by a tree of frozen dataclasses. Each leaf is a flag with
a dotted name, and a field may be a *choice* from a registry:

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
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

from absl import flags

from extrap.errors import ExtrapError, UsageError

Config: TypeAlias = Any  # An instance of a frozen dataclass.
Value: TypeAlias = Any  # What a field holds.
Type: TypeAlias = Any  # A class or a typing construct, as in an annotation.
Json: TypeAlias = dict[str, Any]
T = TypeVar('T')

_MISSING = dataclasses.MISSING
_DEPTH = 2  # Choices within a choice that have flags; others their defaults.
_SCALARS = {
  bool: flags.BooleanParser,
  int: flags.IntegerParser,
  float: flags.FloatParser,
  str: flags.ArgumentParser,
}


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


def define_flags(
  config_type: type, flag_values: flags.FlagValues, prefix: str = ''
) -> None:
  """Defines one flag a leaf of `config_type`.

  Args:
    config_type: A frozen dataclass.
    flag_values: Where to define the flags.
    prefix: 'teacher' names them `--teacher.depth`.
  """
  for flag in _flags(config_type, _MISSING, _path(prefix)):
    flags.DEFINE_flag(flag, flag_values)


def from_flags(
  config_type: type[T], flag_values: flags.FlagValues, prefix: str = ''
) -> T:
  """Returns the configuration that parsed flags describe.

  Raises:
    UsageError: A value is out of bounds or missing, or a field was given which
      the selected entry of a registry lacks.
  """
  _set_defaults(config_type, flag_values, _path(prefix))
  config = _build(config_type, _MISSING, flag_values, _path(prefix))
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


def check_bounds(config: Config, prefix: str = '') -> None:
  """Raises a UsageError if a value is outside the bounds of its `option`."""
  for field in _fields(type(config)):
    name, value = _path(prefix) + field.flag, getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      check_bounds(value, name)
    elif value is not None and not field.within_bounds(value):
      raise UsageError(f'--{name}={_text(value)}: must be {field.bounds}')


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
  for flag in _flags(config_type, _MISSING, _path(prefix)):
    if flag.name in omit or flag.name not in flag_values:
      continue
    flag = flag_values[flag.name]
    if flag.value is not None:
      lines.append(f'--{flag.name}={_flagfile_text(flag)}\n')
  return ''.join(lines)


def to_json(config: Config) -> Json:
  """Returns nested plain data; a choice is {'choice': name, **fields}.

  Raises:
    ExtrapError: A field of a type without a plain form (a function, a dtype) is
      not at its default, so that `from_json` could not restore it.
  """
  return _to_json(config, '', lambda field: True)


def from_json(config_type: type[T], data: Json) -> T:
  """Inverse of `to_json`.

  Raises:
    ExtrapError: A key is unknown or missing, or a value has the wrong type.
    UsageError: A value is out of bounds.
  """
  config = _from_json(config_type, data, '')
  check_bounds(config)
  return config


def fingerprint(config: Config) -> str:
  """Returns 8 hex digits that name the run: all fields with identity."""
  data = _to_json(config, '', lambda field: field.identity)
  text = json.dumps(data, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def differences(old: Config, new: Config) -> list[str]:
  """Returns one line for each identity field in which `new` is another run."""
  return list(_differences(old, new, ''))


# Fields.


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


class _Serializer(flags.ArgumentSerializer):
  """Writes any value the way its flag reads it."""

  def serialize(self, value: Value) -> str:
    """Returns the text after `--name=`."""
    if isinstance(value, bool):
      return str(value).lower()
    if isinstance(value, tuple | list):
      return flags.CsvListSerializer(',').serialize(value)
    return str(value)


@dataclasses.dataclass(frozen=True)
class _Field:
  """A dataclass field, with what flags and JSON need to know of it.

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
    return self.source.metadata.get('registry')

  @property
  def identity(self) -> bool:
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
    return not self.optional and dataclasses.is_dataclass(self.type)

  @property
  def is_opaque(self) -> bool:
    return not (self.registry or self.is_tree or self.parser)

  @property
  def has_flag(self) -> bool:
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
    low, high = (self.source.metadata.get(b) for b in ('minimum', 'maximum'))
    bounds = ((low, '>='), (high, '<='))
    return ' and '.join(f'{sign} {b}' for b, sign in bounds if b is not None)

  @property
  def help(self) -> str:
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
def _fields(owner: type) -> tuple[_Field, ...]:
  """Returns the fields that the constructor of a dataclass takes."""
  hints = typing.get_type_hints(owner)
  sources = [field for field in dataclasses.fields(owner) if field.init]
  fields = tuple(_field(source, hints[source.name]) for source in sources)
  for field in fields:
    if field.is_opaque and 'help' in field.source.metadata:
      raise TypeError(f'{owner.__name__}.{field.name}: no flag for its type')
  return fields


def _field(source: dataclasses.Field, hint: Type) -> _Field:
  args = typing.get_args(hint)
  is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
  if is_union and len(args) == 2 and type(None) in args:
    hint = args[0] if args[1] is type(None) else args[1]
    return _Field(source.name, hint, True, source)
  return _Field(source.name, hint, False, source)


def _is_frozen_dataclass(entry: type) -> bool:
  return dataclasses.is_dataclass(entry) and entry.__dataclass_params__.frozen


def _path(prefix: str) -> str:
  return f'{prefix}.' if prefix else ''


def _text(value: Value) -> str:
  return 'none' if value is None else _Serializer().serialize(value)


# Flags.


class _Selecting(flags.Flag):
  """Selects an entry; selecting another forgets the fields of the first.

  So `--flagfile=yarn.txt --position=alibi` does not give yarn's fields to
  alibi, whereas fields given before the first selection are kept.
  """

  fields: list[flags.Flag]

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
    self.fields = []

  def parse(self, argument: str) -> None:
    """Selects the entry called `argument`."""
    if argument not in self.parser.enum_values:
      raise flags.IllegalFlagValueError(
        f'flag --{self.name}: {self.registry.explain_unknown(argument)}'
      )
    super().parse(argument)


def _flags(owner: type, default: Config, path: str) -> Iterator[flags.Flag]:
  """Yields the flags of `owner`, with the defaults of `default` if given."""
  for field in _fields(owner):
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
    _Serializer(),
    name,
    default,
    help,
    boolean=isinstance(parser, flags.BooleanParser),
    allow_using_method_names=True,
  )


def _choice_flags(
  field: _Field, default: Config, path: str
) -> Iterator[flags.Flag]:
  """Yields the selecting flag, then one for each field of any entry."""
  registry = field.registry
  selected = None if default is None else registry.name_of(default)
  select = _ChoiceFlag(registry, path, selected, field.help)
  yield select
  told = {registry: field.original} if field.original else {}
  select.fields = list(_inner_flags(registry, default, path, told, _DEPTH))
  yield from select.fields


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
    yield select
    select.fields = list(
      _inner_flags(*inner, None, flag, told | {registry: path}, depth - 1)
    )
    yield from select.fields


def _shared_parser(owners: Mapping[str, _Field]) -> flags.ArgumentParser:
  """Returns the parser of a field of several entries.

  Entries that disagree on the type share a text flag, which the selected entry
  reads with its own type.
  """
  parsers = {owner.type: owner.parser for owner in owners.values()}
  return flags.ArgumentParser() if len(parsers) > 1 else parsers.popitem()[1]


def _entry_fields(
  registry: Registry, depth: int
) -> dict[str, dict[str, _Field]]:
  """Returns, by field name, the entries that have a flag for it."""
  owners: dict[str, dict[str, _Field]] = {}
  for entry in registry.names():
    for field in _entry_flags(registry.get(entry)):
      if depth or not field.registry:
        owners.setdefault(field.name, {})[entry] = field
  return owners


def _entry_flags(entry: type) -> list[_Field]:
  """Returns the fields of an entry that have flags: leaves and choices."""
  fields = [field for field in _fields(entry) if field.has_flag]
  return [field for field in fields if field.parser or field.registry]


def _defaults(
  registry: Registry, owners: Mapping[str, _Field], default: Config
) -> dict[str, Value]:
  """Returns each entry's default of a field, the selected one's for its own."""
  selected = None if default is None else registry.name_of(default)
  return {
    entry: owner.default(default if entry == selected else _MISSING)
    for entry, owner in owners.items()
  }


def _entry_help(owners: dict[str, _Field], defaults: dict[str, Value]) -> str:
  """Returns each distinct help text, with the entries' own defaults."""
  notes: dict[str, list[str]] = {}
  for entry, field in owners.items():
    given = defaults[entry]
    if field.registry and given is not _MISSING:
      given = field.registry.name_of(given)
    text = 'required' if given is _MISSING else _text(given) or "''"
    notes.setdefault(field.help, []).append(f'{entry}: {text}')
  return '; '.join(
    f'{help} ({", ".join(entries)})'.strip() for help, entries in notes.items()
  )


def _set_defaults(
  owner: type, flag_values: flags.FlagValues, path: str
) -> None:
  """Makes the selected presets the defaults of the flags they name."""
  for field in _fields(owner):
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
  for field in sorted(_fields(owner), key=lambda field: bool(field.original)):
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
  field: _Field,
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


# JSON.


def _to_json(
  config: Config, path: str, is_kept: Callable[[_Field], bool]
) -> Json:
  data = {}
  for field in filter(is_kept, _fields(type(config))):
    name, value = path + field.name, getattr(config, field.name)
    if value is None and field.original:
      data[field.name] = None
    elif field.registry:
      fields = _to_json(value, name + '.', is_kept)
      data[field.name] = {'choice': field.registry.name_of(value), **fields}
    elif field.is_tree:
      data[field.name] = _to_json(value, name + '.', is_kept)
    elif field.is_opaque:
      _require_default(field, value, name)
    else:
      data[field.name] = _leaf_to_json(field, value, name)
  return data


def _leaf_to_json(field: _Field, value: Value, name: str) -> Value:
  """Returns plain data that is the same for equal values (1 and 1.0)."""
  if value is None and field.optional:
    return None
  value = field.parse(value, name)
  return list(value) if isinstance(value, tuple) else value


def _require_default(field: _Field, value: Value, name: str) -> None:
  default = field.default()
  if value is not default and value != default:
    raise ExtrapError(
      f'{name}: {value!r} has no JSON form; leave the field at its default'
    )


def _from_json(owner: type[T], data: Json, path: str) -> T:
  fields = {f.name: f for f in _fields(owner) if not f.is_opaque}
  _require_keys(data, fields, path)
  return owner(
    **{
      name: _value_from_json(field, data[name], path + name)
      for name, field in fields.items()
    }
  )


def _value_from_json(field: _Field, data: Value, name: str) -> Value:
  if data is None and field.original:
    return None
  if field.registry:
    if not isinstance(data, Mapping) or 'choice' not in data:
      raise ExtrapError(f"{name}: needs a key 'choice', found {data!r}")
    fields = {key: value for key, value in data.items() if key != 'choice'}
    if data['choice'] not in field.registry.names():
      problem = field.registry.explain_unknown(data['choice'])
      raise ExtrapError(f'{name}: {problem}')
    entry = field.registry.get(data['choice'])
    return _from_json(entry, fields, name + '.')
  if field.is_tree:
    return _from_json(field.type, data, name + '.')
  if data is None and field.optional:
    return None
  return _leaf_from_json(field, data, name)


def _leaf_from_json(field: _Field, data: Value, name: str) -> Value:
  """Returns the value; unlike a flag, it does not turn text into numbers."""
  try:
    value = field.parser.parse(data)
    plain = list(value) if isinstance(value, tuple) else value
    is_exact = plain == data or plain != plain  # NaN.
  except (TypeError, ValueError, OverflowError):
    is_exact = False
  if not is_exact:
    hint = field.source.type
    hint = hint if isinstance(hint, str) else inspect.formatannotation(hint)
    raise ExtrapError(f'{name}: {data!r} is not of type {hint}')
  return value


def _require_keys(data: Json, fields: Mapping[str, _Field], path: str) -> None:
  if not isinstance(data, Mapping):
    raise ExtrapError(f'{path.rstrip(".")}: needs fields, found {data!r}')
  for problem, names in (
    ('unknown', data.keys() - fields.keys()),
    ('missing', fields.keys() - data.keys()),
  ):
    if names:
      keys = ', '.join(path + name for name in sorted(names))
      raise ExtrapError(
        f'{problem} in the configuration: {keys}; '
        'use the version of the program that wrote it'
      )


def _differences(old: Config, new: Config, path: str) -> Iterator[str]:
  if type(old) is not type(new):
    was, now = type(old).__name__, type(new).__name__
    yield _difference(path.rstrip('.') or 'configuration', was, now)
    return
  for field in _fields(type(old)):
    if not field.identity or field.is_opaque:
      continue
    name = path + field.name
    was, now = getattr(old, field.name), getattr(new, field.name)
    if field.registry and type(was) is not type(now):
      names = map(field.registry.name_of, (was, now))
      yield _difference(name, *names)
    elif field.registry or field.is_tree:
      yield from _differences(was, now, name + '.')
    else:
      was, now = (_leaf_to_json(field, value, name) for value in (was, now))
      if json.dumps(was) != json.dumps(now):
        yield _difference(name, _text(was), _text(now))


def _difference(name: str, was: str, now: str) -> str:
  return f'{name}: {was} in the run, {now} asked for'
