"""What a number was computed with: versions, machine, commit."""

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import jax

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')

# Where the launchers of far-away machines write what `commit_text` gives: the
# code arrives there without its history.
COMMIT_VARIABLE = 'EXTRAP_COMMIT'

# What `json.dump` takes; see `environment`.
Environment = dict[str, object]
GitState = dict[str, str | bool]


def environment(devices: Sequence['jax.Device'] | None = None) -> Environment:
  """Describes this process, ready for JSON.

  Args:
    devices: `jax.devices()`, where it is known; asking for it here would
      start a backend that nobody needs.

  Returns:
    Python, platform, cpu, cores, versions (None where absent), devices
    (platform, kind and count, or None), git (commit and dirty, or None
    where nothing tells).
  """
  return {
    'python': platform.python_version(),
    'platform': platform.platform(),
    'cpu': _cpu_model(),
    'cores': cores(),
    'versions': {name: _version(name) for name in PACKAGES},
    'devices': _describe(devices) if devices else None,
    'git': git_state(__file__),
  }


def version_differences(
  old: Mapping[str, object], new: Mapping[str, object]
) -> list[str]:
  """Lists what changed between two environments.

  Args:
    old: an environment, as `environment` made it or as read from JSON.
    new: another one.

  Returns:
    For example ['jax 0.10.2 -> 0.11.0', 'optax 0.2.8 -> absent'].
  """
  before = {'python': old['python'], **old['versions']}
  after = {'python': new['python'], **new['versions']}
  return [
    f'{name} {before.get(name) or "absent"} -> {after.get(name) or "absent"}'
    for name in before | after
    if before.get(name) != after.get(name)
  ]


def hardware(env: Mapping[str, object]) -> str:
  """Names the machine: '16 cores AMD EPYC 7B13, 4 x NVIDIA H100'."""
  cores = '1 core' if env['cores'] == 1 else f'{env["cores"]} cores'
  line = f'{cores} {env["cpu"]}'
  devices = env['devices']
  if devices is None:
    return line
  if devices['platform'] == 'cpu':
    simulated = devices['count'] > 1
    return f'{line}, CPU' + f' as {devices["count"]} devices' * simulated
  return f'{line}, {devices["count"]} x {devices["kind"]}'


def peak_memory_bytes() -> int:
  """Returns the most memory this process has held, in bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  # Linux counts in KiB, macOS in bytes.
  return peak if sys.platform == 'darwin' else peak * 1024


def git_state(path: str | os.PathLike[str]) -> GitState | None:
  """Finds the commit that a file belongs to.

  Args:
    path: a file.

  Returns:
    The commit and whether its checkout is dirty. Where git is absent, or does
    not track the file, as for a package installed inside a checkout: what a
    launcher has told, else None.
  """
  path = Path(path).resolve()
  tracked = _run('git', '-C', path.parent, 'ls-files', '--error-unmatch', path)
  state = checkout_state(path.parent) if tracked else None
  return state or _read_commit(os.environ.get(COMMIT_VARIABLE, ''))


def checkout_state(folder: str | os.PathLike[str]) -> GitState | None:
  """The commit of a checkout and whether it is dirty; None if it is none."""
  commit = _run('git', '-C', folder, 'rev-parse', 'HEAD')
  if not commit:
    return None
  status = _run('git', '-C', folder, 'status', '--porcelain')
  return {'commit': commit, 'dirty': status != ''}


def commit_text(state: GitState) -> str:
  """As in '1f0c...' or '1f0c...-dirty', for `COMMIT_VARIABLE`."""
  return f'{state["commit"]}{"-dirty" if state["dirty"] else ""}'


def _read_commit(text: str) -> GitState | None:
  """Inverse of `commit_text`; None for any other text."""
  found = re.fullmatch(r'([0-9a-f]{40,64})(-dirty)?', text)
  return {'commit': found[1], 'dirty': bool(found[2])} if found else None


def _describe(devices: Sequence['jax.Device']) -> dict[str, str | int]:
  first = devices[0]
  return {
    'platform': first.platform,
    'kind': first.device_kind,
    'count': len(devices),
  }


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def cores() -> int:
  """Counts the cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _cpu_model() -> str:
  if sys.platform == 'darwin':
    name = _run('sysctl', '-n', 'machdep.cpu.brand_string')
    return name or platform.machine()
  try:
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
  except OSError:
    return platform.machine()
  names = (line for line in lines if line.startswith('model name'))
  return next(names, platform.machine()).split(':')[-1].strip()


def _run(*command: str | os.PathLike[str]) -> str | None:
  """Runs a command; returns its output, or None if it fails."""
  try:
    done = subprocess.run(
      command, capture_output=True, text=True, check=True, timeout=20
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip()
