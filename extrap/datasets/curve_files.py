"""Where files of real learning curves come from, and whether they are whole.

A source is some files of a public repository at one commit. `curves.sha256`
lists them as `sha256sum` does, so that in the folder that holds all sources
`sha256sum --check` compares them too.
"""

import dataclasses
import functools
import hashlib
import importlib.resources
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

from extrap.errors import ExtrapError
from extrap.evaluation.results import write_bytes

SECONDS = 30  # To wait for an answer.
RAW = 'https://raw.githubusercontent.com'


@dataclasses.dataclass(frozen=True)
class Source:
  """Files of a repository.

  Attributes:
    name: of the folder in which they are kept.
    repository: owner and name on GitHub.
    commit: 40 hex digits.
    below: their folder in the repository.
    licence: of the data.
    citation: whom to name.
    metrics: what its runs measured, the usual one first.
    setting: numbers that a run was configured with.
    series: numbers that go along with a run's values.
  """

  name: str
  repository: str
  commit: str
  below: str
  licence: str
  citation: str
  metrics: tuple[str, ...]
  setting: tuple[str, ...] = ()
  series: tuple[str, ...] = ()

  @property
  def url(self) -> str:
    """What a file's name is put behind to have its address."""
    return f'{RAW}/{self.repository}/{self.commit}/{self.below}'

  @property
  def checksums(self) -> dict[str, str]:
    """SHA-256 in hex by file, its name relative to the source's folder."""
    start = f'{self.name}/'
    return {
      name.removeprefix(start): checksum
      for name, checksum in checksums().items()
      if name.startswith(start)
    }


@functools.cache
def checksums() -> dict[str, str]:
  """SHA-256 in hex of the files of all sources."""
  listed = importlib.resources.files('extrap.datasets') / 'curves.sha256'
  lines = listed.read_text('utf-8').splitlines()
  return {name: checksum for checksum, name in map(str.split, lines)}


def folder_of(source: Source, folder: str | os.PathLike[str]) -> Path:
  """The folder of a source.

  Args:
    source: which.
    folder: that holds one folder a source.

  Raises:
    ExtrapError: it is not there; the message says how to get it.
  """
  path = Path(folder) / source.name
  if not path.is_dir():
    raise ExtrapError(
      f'{folder} has no folder {source.name}: download('
      f'{source.name!r}, {os.fspath(folder)!r}) of extrap.datasets.real_curves '
      f'fills it from {source.url}'
    )
  return path


def verify(source: Source, folder: str | os.PathLike[str]) -> Path:
  """The folder of a source, if its files are all there and whole.

  Raises:
    ExtrapError: one is missing, or is not that of the commit.
  """
  path = folder_of(source, folder)
  for name, checksum in source.checksums.items():
    if not (path / name).is_file():
      raise ExtrapError(f'{path / name} is missing; it is {source.url}/{name}')
    if _checksum((path / name).read_bytes()) != checksum:
      raise ExtrapError(
        f'{path / name} is damaged or another version; it is not '
        f'{source.url}/{name}'
      )
  return path


def download(source: Source, folder: str | os.PathLike[str]) -> Path:
  """The folder of a source, with the files that it lacked.

  Args:
    source: which.
    folder: that holds, or is to hold, one folder a source.

  Raises:
    ExtrapError: a file cannot be had or written, or is not that of the commit.
  """
  path = Path(folder) / source.name
  for name, checksum in source.checksums.items():
    if (path / name).is_file():
      continue
    content = _read(f'{source.url}/{name}')
    if _checksum(content) != checksum:
      raise ExtrapError(f'{source.url}/{name}: is not whole, try again')
    write_bytes(path / name, content)
  return verify(source, folder)


def _read(url: str) -> bytes:
  try:
    with urllib.request.urlopen(url, timeout=SECONDS) as file:
      return file.read()
  except (OSError, ValueError, HTTPException) as error:
    reason = ' '.join(str(error).split())
    raise ExtrapError(f'{url}: cannot be downloaded: {reason}') from error


def _checksum(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()
