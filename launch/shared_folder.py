"""Where a command keeps its run, as the machines that run it see it."""

import posixpath
from collections.abc import Sequence

from extrap.errors import UsageError

_LOCAL = ('/tmp', '/var/tmp', '/dev/shm')


def flag_value(command: Sequence[str], name: str) -> str | None:
  """The last value that a command line gives to a flag; None if it has none."""
  found = None
  for word, following in zip(command, [*command[1:], ''], strict=True):
    flag, has_value, value = word.partition('=')
    if flag in (f'--{name}', f'-{name}'):
      found = value if has_value else following
  return found or None


def check(command: Sequence[str], *, where: str, how: str) -> str:
  """Returns the run folder of a command, if other machines can share it.

  Args:
    command: what runs on every machine.
    where: what the default is local to, as in 'each worker'.
    how: how a folder comes to be shared.

  Raises:
    UsageError: it is not given, or is on a disk of one machine only.
  """
  folder = flag_value(command, 'workdir')
  if folder is not None and folder.startswith('/'):
    # What is left of `/mnt/../tmp` is `/tmp`.
    folder = posixpath.normpath(folder)
  if folder is None:
    problem = (
      'the command has no --workdir, and the default, runs/..., is '
      f'local to {where}'
    )
  elif '://' in folder:
    problem = f'--workdir={folder} is an address, not a path'
  elif not folder.startswith('/'):
    problem = f'--workdir={folder} is relative, hence local to {where}'
  elif any(f'{folder}/'.startswith(f'{local}/') for local in _LOCAL):
    problem = f'--workdir={folder} is local to {where}'
  else:
    return folder
  raise UsageError(f'{problem}; {how}')
