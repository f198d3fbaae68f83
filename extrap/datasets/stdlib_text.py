"""Python's own standard library as text: code that every installation carries.

Nothing is downloaded, but the text differs from version to version and with
what a distribution has patched: its hash goes with every number, and numbers
are compared within one hash alone.

Rules. Modules are the *.py below the folder of the standard library, in the
order of their dotted names. Left out are installed packages, tests, tables
(encodings, pydoc_data), tools with data of their own (idlelib, lib2to3,
turtledemo, ensurepip, distutils), settings of the machine that Python was built
on, and what is not UTF-8 or does not parse. Line ends become '\\n', every
character beyond ASCII becomes one '?', so that bytes are below 128; and each
module begins with a byte 0, which no source holds. A tenth of the modules is
for validation, by the SHA-256 of their names: windows of text never decide.

Levels count what has begun so far: modules, classes and functions. A class or a
function begins with the byte behind its keyword: at the keyword's first byte a
level would tell what follows.

Shape key: N bytes.
"""

import ast
import dataclasses
import functools
import hashlib
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extrap.errors import ExtrapError

SEPARATOR = b'\0'
VALIDATION = 10  # One module in so many.
LEFT_OUT = re.compile(
  r'(site|dist)-packages|tests?|idle_test|__pycache__|encodings|pydoc_data|'
  r'idlelib|lib2to3|turtledemo|ensurepip|distutils|config-.*|_sysconfigdata.*'
)
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Where statements hold others.
BLOCKS = ('body', 'orelse', 'finalbody', 'handlers', 'cases')


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
  """Bytes with their levels.

  Attributes:
    token_N: uint8, below 128.
    level_N: int32, how many modules, classes and functions have begun.
  """

  token_N: np.ndarray
  level_N: np.ndarray

  def __len__(self) -> int:
    return len(self.token_N)


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
  """Text to train on, and text of other modules.

  Attributes:
    train, validation: disjoint by module.
    modules: how many are in each.
    sha256: of the names and the bytes of all modules, 64 hex digits.
    python: the version of the Python that read it.
  """

  train: Text
  validation: Text
  modules: tuple[int, int]
  sha256: str
  python: str


class Module(NamedTuple):
  """What one file holds.

  Attributes:
    text: its bytes, below 128.
    starts: where classes and functions begin in it.
  """

  text: bytes
  starts: list[int]


@functools.cache
def read(folder: str | None = None) -> Corpus:
  """The standard library of this Python, or the modules below a folder.

  Raises:
    ExtrapError: there are no such modules, or none in one of the two splits.
  """
  path = folder or sysconfig.get_paths()['stdlib']
  modules = dict(sorted(_modules(Path(path))))
  held_out = {name for name in modules if is_held_out(name)}
  trained = modules.keys() - held_out
  if not (trained and held_out):
    raise ExtrapError(
      f'{path} holds {len(modules)} modules of Python (*.py) that can be read, '
      'too few to train on some and test on others: take a Python that carries '
      'the sources of its standard library, or another folder of modules'
    )
  return Corpus(
    train=_joined(of for name, of in modules.items() if name in trained),
    validation=_joined(of for name, of in modules.items() if name in held_out),
    modules=(len(trained), len(held_out)),
    sha256=_digest(modules),
    python=platform.python_version(),
  )


def is_held_out(module: str) -> bool:
  """Whether a module, by its dotted name, is for validation."""
  digest = hashlib.sha256(module.encode()).digest()
  return int.from_bytes(digest[:8], 'big') % VALIDATION == 0


def starts(source: str) -> list[int]:
  """Where classes and functions begin: the characters behind their keywords.

  Args:
    source: of a module, with '\\n' at the ends of its lines.

  Raises:
    SyntaxError, ValueError: it does not parse.
  """
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    tree = ast.parse(source)
  lengths = [len(line) + 1 for line in source.split('\n')]
  line_starts = [0, *np.cumsum(lengths).tolist()]
  found = []
  for node in _definitions(tree):
    # No character beyond ASCII stands before it in its line.
    first = line_starts[node.lineno - 1] + node.col_offset
    keyword = 'class' if isinstance(node, ast.ClassDef) else 'def'
    found.append(source.index(keyword, first) + len(keyword))
  return sorted(found)


def _definitions(node: ast.AST) -> Iterator[DEFINITIONS]:
  """All classes and functions inside a node; expressions hold none."""
  for block in BLOCKS:
    for child in getattr(node, block, ()):
      if isinstance(child, DEFINITIONS):
        yield child
      yield from _definitions(child)


def _modules(folder: Path) -> Iterator[tuple[str, Module]]:
  """Modules below a folder by their dotted names, in no order."""
  for path, folders, files in os.walk(folder):
    folders[:] = [name for name in folders if not LEFT_OUT.fullmatch(name)]
    for file in files:
      name, end = os.path.splitext(file)
      if end != '.py' or LEFT_OUT.fullmatch(name):
        continue
      module = _module(Path(path, file))
      if module is not None:
        packages = Path(path).relative_to(folder).parts
        yield '.'.join((*packages, name)), module


def _module(path: Path) -> Module | None:
  """What a file holds, None if it is no source in UTF-8."""
  try:
    source = path.read_bytes().decode('utf-8-sig')
    source = source.replace('\r\n', '\n').replace('\r', '\n')
    # Python refuses a byte 0 itself.
    return Module(source.encode('ascii', 'replace'), starts(source))
  except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
    return None


def _joined(modules: Iterable[Module]) -> Text:
  """Modules one behind another, each behind a separator that begins it."""
  texts, begins, length = [], [], 0
  for module in modules:
    texts.append(SEPARATOR + module.text)
    begins += [length, *(length + 1 + at for at in module.starts)]
    length += len(texts[-1])
  level_N = np.zeros(length, np.int32)
  level_N[begins] = 1
  token_N = np.frombuffer(b''.join(texts), np.uint8)
  return Text(token_N, np.cumsum(level_N, dtype=np.int32))


def _digest(modules: Mapping[str, Module]) -> str:
  """A hash that no two sets of modules share."""
  digest = hashlib.sha256()
  for name, module in modules.items():
    digest.update(name.encode() + SEPARATOR + module.text + SEPARATOR)
  return digest.hexdigest()
