"""A sweep as data: which flags change, what each run is called.

An override is a dict from the dotted name of a flag to its value, and a sweep
is a list of them:

  product(axis('model.position', 'none', 'rotary'), seeds(2))

is [{'model.position': 'none', 'seed': 0}, ...], four runs.
"""

import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from extrap.errors import UsageError

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | Sequence[Scalar]
Override: TypeAlias = dict[str, Value]
Sweep: TypeAlias = list[Override]

_FIELD = re.compile(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)*', re.ASCII)
# Without capitals: some file systems take 'GELU' and 'gelu' for the same.
_SAFE = re.compile(r'[a-z0-9._=,-]+')
_LONGEST = 100
_LAST = ('replicas', 'seed')


def axis(field: str, *values: Value) -> Sweep:
  """One run a value of a flag."""
  if not _FIELD.fullmatch(field):
    raise UsageError(f'{field!r} is not the name of a flag, as in model.depth')
  return [{field: value} for value in values]


def product(*sweeps: Sweep) -> Sweep:
  """Every combination; the last sweep changes fastest.

  Raises:
    UsageError: two of them set the same flag.
  """
  return [_merge(parts) for parts in itertools.product(*sweeps)]


def zip_(*sweeps: Sweep) -> Sweep:
  """The first runs of all, the second runs of all, and so on.

  Raises:
    UsageError: they differ in length, or set the same flag.
  """
  if len({len(sweep) for sweep in sweeps}) > 1:
    lengths = ', '.join(
      f'{"+".join(sweep[0]) if sweep else "nothing"} has {len(sweep)}'
      for sweep in sweeps
    )
    raise UsageError(f'what is zipped differs in length: {lengths}')
  return [_merge(parts) for parts in zip(*sweeps, strict=True)]


def chain(*sweeps: Sweep) -> Sweep:
  """The runs of one after those of the other."""
  return list(itertools.chain(*sweeps))


def seeds(count: int, first: int = 0) -> Sweep:
  """One run a seed; see `as_replicas`."""
  return axis('seed', *range(first, first + count))


def as_replicas(runs: Sweep, most: int | None = None) -> Sweep:
  """Runs that differ in nothing but consecutive seeds, as one program each.

  A study trains --replicas seeds, from --seed upwards, side by side. Runs
  without a seed, or with their own number of replicas, are left alone.

  Args:
    runs: a sweep.
    most: seeds of one program; None for no limit.

  Returns:
    A sweep that trains the same seeds, in the order of their first runs.
  """
  groups: dict[object, tuple[Override, list[int]]] = {}
  for run in runs:
    rest = {field: value for field, value in run.items() if field != 'seed'}
    is_free = 'seed' in run and 'replicas' not in run
    shared = rest if is_free else run
    group = groups.setdefault((is_free, _identity(shared)), (shared, []))
    if is_free:
      group[1].append(_seed(run['seed']))
  return [
    {**rest, **part}
    for rest, found in groups.values()
    for part in (_stretches(sorted(set(found)), most) if found else [{}])
  ]


def named(runs: Iterable[Override]) -> dict[str, Override]:
  """The runs by name, each once."""
  return {name(run): run for run in runs}


def name(run: Override) -> str:
  """A file name that is the same for equal settings, and for no others.

  'model.position=abacus,seed=3': sorted, seeds last. What is long, or has
  characters that a file name should not have, gets a hash behind '+'.
  """
  settings = _identity(run)
  plain = ','.join(f'{field}={value}' for field, value in settings) or 'base'
  is_ambiguous = any(',' in value for _, value in settings)
  if _SAFE.fullmatch(plain) and len(plain) <= _LONGEST and not is_ambiguous:
    return plain
  digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
  readable = re.sub(r'[^a-z0-9._=,-]+', '_', plain.lower())
  return f'{readable[:_LONGEST]}+{digest}'


def flags(run: Override) -> list[str]:
  """The command line, sorted so that a choice precedes its fields."""
  return [f'--{field}={text(value)}' for field, value in sorted(run.items())]


def text(value: Value) -> str:
  """A value as a flag reads it.

  Raises:
    UsageError: it has no such form.
  """
  if isinstance(value, list | tuple):
    out = io.StringIO()
    csv.writer(out, lineterminator='').writerow(map(_scalar_text, value))
    return out.getvalue()
  return _scalar_text(value)


def parse_axis(given: str) -> Sweep:
  """Reads 'model.depth=2,4'; a value with a comma has double quotes around.

  Raises:
    UsageError: it is not like that.
  """
  field, equals, values = given.partition('=')
  try:
    (row,) = csv.reader([values], strict=True, skipinitialspace=True)
  except (csv.Error, ValueError) as error:
    raise UsageError(f'{given}: {error}') from error
  if not equals or not row:
    raise UsageError(f'{given!r} is not like model.depth=2,4')
  return axis(field.strip(), *(value.strip() for value in row))


def read_file(path: str | Path) -> Sweep:
  """Reads a JSON list of objects, each of them one run.

  Raises:
    UsageError: the file is missing, or something else.
  """
  try:
    runs = json.loads(Path(path).read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise UsageError(f'{path}: {error}') from error
  if not isinstance(runs, list) or not runs:
    raise UsageError(f'{path}: needs a list of objects, one a run')
  for number, run in enumerate(runs, 1):
    if not isinstance(run, dict):
      raise UsageError(f'{path}, run {number}: {run!r} is not an object')
    try:
      for field, value in run.items():
        axis(field, text(value))
    except UsageError as error:
      raise UsageError(f'{path}, run {number}: {error}') from error
  return runs


def _scalar_text(value: Scalar) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  is_scalar = isinstance(value, str | int | float)
  if not is_scalar or not _is_argument(str(value)):
    raise UsageError(f'{value!r} is not a value of a flag')
  return str(value)


def _is_argument(value: str) -> bool:
  """Whether a command line can hold it: no zero byte, no half characters."""
  try:
    return b'\0' not in value.encode()
  except UnicodeEncodeError:
    return False


def _merge(parts: Iterable[Mapping[str, Value]]) -> Override:
  merged: Override = {}
  for part in parts:
    for field, value in part.items():
      if field in merged:
        raise UsageError(f'{field} is swept twice')
      merged[field] = value
  return merged


def _identity(run: Override) -> tuple[tuple[str, str], ...]:
  """The settings as text, in the order of the name."""
  fields = sorted(run, key=lambda field: (field in _LAST, field))
  return tuple((field, text(run[field])) for field in fields)


def _seed(value: Value) -> int:
  try:
    return int(text(value))
  except ValueError as error:
    raise UsageError(f'seed={text(value)}: not a whole number') from error


def _stretches(found: Sequence[int], most: int | None) -> Sweep:
  """Consecutive seeds together, in parts that differ by one at most."""
  runs = []
  keyed = itertools.groupby(enumerate(found), lambda pair: pair[1] - pair[0])
  for _, pairs in keyed:
    stretch = [seed for _, seed in pairs]
    parts = -(-len(stretch) // (most or len(stretch)))
    bounds = [len(stretch) * part // parts for part in range(parts + 1)]
    runs += [
      {'replicas': high - low, 'seed': stretch[low]}
      for low, high in itertools.pairwise(bounds)
    ]
  return runs
