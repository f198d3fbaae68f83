"""How far a run is, as its folder tells whoever looks, without jax."""

import fcntl
import json
import os
from pathlib import Path
from typing import Literal, TypedDict

from extrap.errors import ExtrapError

STATUS = 'status.json'
LOCK = 'lock'

State = Literal['running', 'done', 'diverged', 'preempted', 'failed']


class Status(TypedDict, total=False):
  """What status.json holds, or nothing before the first start.

  Attributes:
    state: a `State`, or 'interrupted' from `read_state`.
    step: steps made.
    steps: steps asked for; None where the study does not count them.
    updated: when this was written, ISO 8601.
  """

  state: str
  step: int
  steps: int | None
  updated: str


def read_status(path: str | os.PathLike[str]) -> Status:
  """What status.json says, which after a SIGKILL is still 'running'.

  Args:
    path: a run folder, which need not be there.

  Raises:
    ExtrapError: it is damaged.
  """
  file = Path(path, STATUS)
  try:
    found = json.loads(file.read_text(encoding='utf-8'))
  except (FileNotFoundError, NotADirectoryError):
    return {}
  except (OSError, ValueError) as error:
    raise ExtrapError(f'{file} is unreadable: {error}') from error
  if not _is_status(found):
    raise ExtrapError(f'{file} is unreadable: it holds something else')
  return found


def read_state(path: str | os.PathLike[str]) -> Status:
  """What is true of a run: 'running' only if a process is at work on it.

  One that ended without a word, by SIGKILL or with its machine, is
  'interrupted'. Where a file system has no locks it stays 'running'.

  Args:
    path: a run folder, which need not be there; it is not written.

  Raises:
    ExtrapError: status.json is damaged.
  """
  found = read_status(path)
  if found.get('state') == 'running' and is_held(path) is False:
    return {**found, 'state': 'interrupted'}
  return found


def is_held(path: str | os.PathLike[str]) -> bool | None:
  """Whether a process holds the lock of a run folder.

  Args:
    path: a run folder, which is not written.

  Returns:
    None where that cannot be told, for want of locks or of permission.
  """
  try:
    # Shared: two that look at the same time do not take each other for a run.
    with Path(path, LOCK).open('rb') as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except FileNotFoundError:
    return False
  except BlockingIOError:
    return True
  except OSError:
    return None
  return False


def _is_status(found: object) -> bool:
  return (
    isinstance(found, dict)
    and isinstance(found.get('state', ''), str)
    and isinstance(found.get('step', 0), int)
    and isinstance(found.get('steps'), int | None)
  )
