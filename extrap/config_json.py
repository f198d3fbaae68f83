"""A configuration as JSON, and by it what makes a run another run."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from extrap.config import Config, Value
from extrap.config_fields import Field, check_bounds, fields_of, text_of
from extrap.errors import ExtrapError

Json: TypeAlias = dict[str, Any]
T = TypeVar('T')


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


def _to_json(
  config: Config, path: str, is_kept: Callable[[Field], bool]
) -> Json:
  data = {}
  for field in filter(is_kept, fields_of(type(config))):
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


def _leaf_to_json(field: Field, value: Value, name: str) -> Value:
  """Returns plain data that is the same for equal values (1 and 1.0)."""
  if value is None and field.optional:
    return None
  value = field.parse(value, name)
  return list(value) if isinstance(value, tuple) else value


def _require_default(field: Field, value: Value, name: str) -> None:
  default = field.default()
  if value is not default and value != default:
    raise ExtrapError(
      f'{name}: {value!r} has no JSON form; leave the field at its default'
    )


def _from_json(owner: type[T], data: Json, path: str) -> T:
  fields = {f.name: f for f in fields_of(owner) if not f.is_opaque}
  _require_keys(data, fields, path)
  return owner(
    **{
      name: _value_from_json(field, data[name], path + name)
      for name, field in fields.items()
    }
  )


def _value_from_json(field: Field, data: Value, name: str) -> Value:
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


def _leaf_from_json(field: Field, data: Value, name: str) -> Value:
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


def _require_keys(data: Json, fields: Mapping[str, Field], path: str) -> None:
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
  for field in fields_of(type(old)):
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
        yield _difference(name, text_of(was), text_of(now))


def _difference(name: str, was: str, now: str) -> str:
  return f'{name}: {was} in the run, {now} asked for'
