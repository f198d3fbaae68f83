"""Rows that are made once and kept in a run folder, and where they are from."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from extrap.errors import ExtrapError, Preempted
from extrap.evaluation.results import Result, read_csv, write_csv, write_text
from extrap.reporting.environment import environment, git_state, hardware
from extrap.training import distributed
from extrap.training.run_folder import RunFolder


@dataclasses.dataclass
class Kept:
  """Rows that are made once and kept in the run folder.

  Attributes:
    run: the run folder.
    stop: asked before each part; true ends the run, to go on later.
    comments: where the parts come from; more than one set after an
      interruption.
  """

  run: RunFolder
  stop: Callable[[], bool]
  comments: list[str] = dataclasses.field(default_factory=list)

  def has(self, name: str, identity: object) -> bool:
    """Whether a part is there; arguments as for `rows`."""
    path, there = self._path(name, identity), False
    with distributed.shared_fate():
      if distributed.is_first():
        there = self._read(path)[0] is not None
    return distributed.from_first(there)

  def rows(
    self, name: str, identity: object, make: Callable[[], list[Result]]
  ) -> list[Result]:
    """The rows of a part, made if they are not there.

    Args:
      name: of the file, for people.
      identity: all that they depend on, beside the run's config.
      make: makes them.
    """
    self.check()
    path = self._path(name, identity)
    results, comments = None, []
    with distributed.shared_fate():
      if distributed.is_first():
        results, comments = self._read(path)
    if distributed.from_first(results is None):
      # What it is made of may have been kept before, by another commit.
      of_run, self.comments = self.comments, []
      results = make()
      comments += [c for c in self.comments if c not in comments]
      self.comments = of_run
      with distributed.shared_fate():
        if distributed.is_first():
          write_csv(path, results, comments)
    results = results or []  # The first process alone needs them.
    self.comments += [c for c in comments if c not in self.comments]
    return results

  def _path(self, name: str, identity: object) -> Path:
    """The file of a part."""
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:8]
    return self.run.path / 'parts' / f'{name}-{digest}.csv'

  def _read(self, path: Path) -> tuple[list[Result] | None, list[str]]:
    """A part's rows, none if it is to be made, and where they come from."""
    with contextlib.suppress(ExtrapError):
      return read_csv(path)
    return None, provenance() + self._begun_elsewhere()

  def _begun_elsewhere(self) -> list[str]:
    """Hardware and commit of the run's first start, if on other hardware.

    Starts in between leave no trace here.
    """
    path = self.run.path / 'environment.json'
    first = json.loads(path.read_text(encoding='utf-8'))
    if hardware(first) == hardware(environment(jax.devices())):
      return []
    commit = (first['git'] or {}).get('commit', 'unknown')
    return [f'begun on: {hardware(first)}; commit: {commit}']

  def check(self) -> None:
    """Ends the run where SIGTERM has come."""
    if self.stop():
      raise Preempted(
        f'stopped by SIGTERM, what was done is kept in {self.run.path}; run '
        'the same command again to go on'
      )


def provenance() -> list[str]:
  """Command, commit and hardware, the comments of a results file."""
  program = 'python -m ' + _module()
  git = git_state(Path(__file__)) or {'commit': 'unknown', 'dirty': False}
  dirty = ' with uncommitted changes' if git['dirty'] else ''
  return [
    f'command: {shlex.join([*program.split(), *sys.argv[1:]])}',
    f'commit: {git["commit"]}{dirty}',
    f'hardware: {hardware(environment(jax.devices()))}',
  ]


def write_table(
  path: str | os.PathLike[str],
  headers: Sequence[str],
  rows: Sequence[Sequence[str]],
) -> Path:
  """Writes a CSV file with its command, commit and hardware on top."""
  out = io.StringIO()
  out.writelines(f'# {line}\n' for line in provenance())
  csv.writer(out, lineterminator='\n').writerows([headers, *rows])
  return write_text(path, out.getvalue())


def _module() -> str:
  """The name of the program, as after `python -m`."""
  spec = getattr(sys.modules['__main__'], '__spec__', None)
  return spec.name if spec is not None else Path(sys.argv[0]).stem
