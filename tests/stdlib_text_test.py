"""The standard library as text: rules, splits, hash and levels."""

import asyncio.events
import io
import platform
import tokenize
import typing
from pathlib import Path

import numpy as np
import pytest

from extrap.datasets.stdlib_text import is_held_out, read, starts
from extrap.errors import ExtrapError

SOURCE = '''"""def f(): is no function, nor is class C."""
import os  # def g():

@decorate
async  def first(x=lambda: 0):
  text = "class D:"
  class Inner: pass
  return text

class Outer(Base):
  if os:
    def second(self): return 1
  else:
    def third(self): ...
  try:
    class A: ...
  except ValueError:
    def fourth(): ...
  finally:
    with os:
      def fifth(): ...
  match os:
    case 1:
      def sixth(): ...
  define = classes = 0
'''


def by_tokens(source):
  """The ends of the keywords that a tokenizer finds."""
  lines = [0]
  for line in source.split('\n'):
    lines.append(lines[-1] + len(line) + 1)
  return [
    lines[token.end[0] - 1] + token.end[1]
    for token in tokenize.generate_tokens(io.StringIO(source).readline)
    if token.type == tokenize.NAME and token.string in ('def', 'class')
  ]


@pytest.fixture
def folder(tmp_path):
  """Forty modules, of which some are for validation."""
  for number in reversed(range(40)):
    (tmp_path / f'm{number}.py').write_text(f'x = {number}\n')
  return tmp_path


def fresh(folder):
  """What is in a folder now."""
  read.cache_clear()
  return read(str(folder))


def test_the_standard_library_is_text_of_many_modules():
  corpus = read()
  assert corpus is read()
  assert corpus.python == platform.python_version()
  for text, count in zip(
    (corpus.train, corpus.validation), corpus.modules, strict=True
  ):
    assert text.token_N.dtype == np.uint8 and text.token_N.max() < 128
    assert (text.token_N == 0).sum() == count > 10
    assert len(text) == len(text.level_N) > 100_000
    assert set(np.diff(text.level_N)) == {0, 1}
    # A level rises behind a keyword, or where a module begins.
    rises = np.flatnonzero(np.diff(text.level_N, prepend=0))
    for at in rises[::20]:
      before = text.token_N[max(at - 5, 0) : at].tobytes()
      assert text.token_N[at] == 0 or before.endswith((b'def', b'class'))
  assert 0.02 < len(corpus.validation) / len(corpus.train) < 0.3


def test_classes_and_functions_begin_behind_their_keywords():
  found = starts(SOURCE)
  assert len(found) == 9
  assert found == by_tokens(SOURCE)
  for module in (typing, asyncio.events):
    source = Path(module.__file__).read_text('utf-8')
    assert starts(source) == by_tokens(source)


def test_modules_follow_one_another_by_name_and_never_divide(folder):
  corpus = fresh(folder)
  names = sorted(f'm{number}' for number in range(40))
  for text, held_out in ((corpus.train, False), (corpus.validation, True)):
    chosen = [name for name in names if is_held_out(name) == held_out]
    wanted = ''.join(f'\0x = {name[1:]}\n' for name in chosen)
    assert text.token_N.tobytes().decode() == wanted
    assert text.level_N[-1] == len(chosen) > 0
  # More text of one module moves no other to another split.
  (folder / 'm0.py').write_text('x = 0\n' * 50)
  longer = fresh(folder)
  assert longer.modules == corpus.modules
  assert longer.sha256 != corpus.sha256


def test_the_hash_is_of_every_byte_and_name(folder):
  first = fresh(folder).sha256
  assert fresh(folder).sha256 == first
  (folder / 'm7.py').write_text('y = 7\n')
  changed = fresh(folder).sha256
  (folder / 'm7.py').rename(folder / 'm77.py')
  assert len({first, changed, fresh(folder).sha256}) == 3


def test_what_is_left_out_and_what_becomes_of_characters(folder):
  before = fresh(folder)
  for place in ('test', 'lib/tests', 'site-packages', 'idlelib', 'config-3.x'):
    path = folder / place
    path.mkdir(parents=True)
    (path / 'module.py').write_text('x = 1\n')
  (folder / '_sysconfigdata__linux.py').write_text('x = 1\n')
  (folder / 'notes.txt').write_text('no module')
  (folder / 'broken.py').write_text('def (')
  (folder / 'latin.py').write_bytes(b'x = "\xe9"\n')
  (folder / 'zero.py').write_bytes(b'x = 1\0\n')
  assert fresh(folder).sha256 == before.sha256
  source = 'é = "ü€"\r\nif é:\r  def fé(): ...\r'
  (folder / 'other.py').write_bytes(source.encode('utf-8-sig'))
  after = fresh(folder)
  text = after.validation if is_held_out('other') else after.train
  plain = b'? = "??"\nif ?:\n  def f?(): ...\n'
  at = text.token_N.tobytes().index(plain)
  rises = np.diff(text.level_N)[at - 1 : at + len(plain) - 1]
  assert np.flatnonzero(rises).tolist() == [plain.index(b' f?')]


@pytest.mark.parametrize('place', ['nothing', 'empty', 'few'])
def test_without_sources_one_line_says_what_to_do(place, tmp_path):
  if place != 'nothing':
    (tmp_path / place).mkdir()
  if place == 'few':
    (tmp_path / place / 'm0.py').write_text('x = 0\n')
  with pytest.raises(ExtrapError, match='take a Python that carries') as caught:
    read(str(tmp_path / place))
  assert '\n' not in str(caught.value) and place in str(caught.value)


def test_a_library_in_an_archive_has_no_sources(monkeypatch, tmp_path):
  import sysconfig

  archive = str(tmp_path / 'python311.zip')
  monkeypatch.setattr(sysconfig, 'get_paths', lambda: {'stdlib': archive})
  read.cache_clear()
  with pytest.raises(ExtrapError, match=r'python311\.zip holds 0 modules'):
    read()
  read.cache_clear()
