"""Tests of the Makefile, of .ci/run and of what a package depends on."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MARKER = '# --- development: left out of the package ---'

# A Python that notes what it is asked, and does what the test wants: `venv`
# makes a copy of it, `pip` runs the commands in PIP.
FAKE = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
  *'import ensurepip'*) exit "${NO_VENV:-0}" ;;
  *'-m venv'*)
    for folder; do :; done
    mkdir -p "$folder/bin"
    cp "$0" "$folder/bin/python" ;;
  *'-m pip'*) eval "$PIP" ;;
esac
"""

needs_make = pytest.mark.skipif(not shutil.which('make'), reason='needs make')


@pytest.fixture
def project(tmp_path: Path) -> Path:
  """A folder with the Makefile, a fake Python and nothing else."""
  for name in ('Makefile', 'requirements.txt'):
    shutil.copy(ROOT / name, tmp_path)
  (tmp_path / 'python').write_text(FAKE)
  (tmp_path / 'python').chmod(0o755)
  return tmp_path


def _environment(project: Path, **changes: str) -> dict[str, str]:
  kept = {k: v for k, v in os.environ.items() if 'MAKE' not in k}
  kept.pop('PYTHON', None)
  return kept | {'CALLS': str(project / 'calls'), 'PIP': 'exit 0'} | changes


def _make(project: Path, *args: str, **changes: str):
  return subprocess.run(
    ['make', *args],
    cwd=project,
    env=_environment(project, **changes),
    capture_output=True,
    text=True,
    timeout=60,
  )


def _pip_calls(project: Path) -> int:
  return (project / 'calls').read_text().count('-m pip install')


def _errors(text: str) -> list[str]:
  """What is said besides make's own 'make: *** [demo] Error 1'."""
  return [line for line in text.splitlines() if not line.startswith('make')]


@needs_make
def test_help_is_the_default_and_lists_the_targets(project: Path) -> None:
  done = _make(project)
  names = [line.split()[:2] for line in done.stdout.splitlines()]
  wanted = ['help', 'demo', 'test', 'test-slow', 'lint', 'clean']
  assert names == [['make', name] for name in wanted]
  assert not (project / 'calls').exists()


@needs_make
def test_installs_once_and_again_when_requirements_change(
  project: Path,
) -> None:
  python = f'PYTHON={project}/python'
  done = _make(project, python, 'demo')
  assert done.returncode == 0, done.stderr
  assert 'about a minute' in done.stdout
  assert '-m experiments.addition' in (project / 'calls').read_text()
  assert _pip_calls(project) == 1
  assert _make(project, python, 'demo').stdout == ''
  assert _pip_calls(project) == 1
  future = time.time() + 10
  os.utime(project / 'requirements.txt', (future, future))
  _make(project, python, 'demo')
  assert _pip_calls(project) == 2
  assert (project / 'calls').read_text().count('-m venv') == 1


@needs_make
def test_test_lints_and_leaves_out_slow_tests(project: Path) -> None:
  python = f'PYTHON={project}/python'
  done = _make(project, '-n', python, 'test', 'WORKERS=2')
  assert 'ruff check' in done.stdout and 'ruff format' in done.stdout
  assert "pytest -q -n 2 --dist worksteal -m 'not slow'" in done.stdout
  done = _make(project, '-n', python, 'test-slow')
  assert '-m slow' in done.stdout


@needs_make
def test_compiled_programs_are_kept(project: Path) -> None:
  (project / 'show.mk').write_text('include Makefile\nshow:; @env\n')
  environment = _environment(project)
  for name in list(environment):
    if name.startswith('JAX_'):
      del environment[name]
  done = subprocess.run(
    ['make', '-f', 'show.mk', 'show'],
    cwd=project,
    env=environment,
    capture_output=True,
    text=True,
  )
  lines = done.stdout.splitlines()
  assert f'JAX_COMPILATION_CACHE_DIR={project}/.cache/jax' in lines
  assert 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0' in lines
  assert 'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1' in lines


@needs_make
def test_failed_installation_leaves_no_environment(project: Path) -> None:
  pip = 'echo WARNING: retrying; echo ERROR: no such version; exit 1'
  done = _make(project, f'PYTHON={project}/python', 'demo', PIP=pip)
  assert done.returncode != 0
  assert _errors(done.stderr) == ['installation failed: ERROR: no such version']
  assert not (project / '.venv').exists()


@needs_make
def test_failed_installation_keeps_an_environment_that_was_there(
  project: Path,
) -> None:
  (project / '.venv' / 'bin').mkdir(parents=True)
  shutil.copy(project / 'python', project / '.venv' / 'bin' / 'python')
  assert _make(project, 'demo', PIP='exit 1').returncode != 0
  assert (project / '.venv' / 'bin' / 'python').exists()
  assert _make(project, 'demo').returncode == 0
  assert '-m venv' not in (project / 'calls').read_text()


@needs_make
def test_interrupted_installation_leaves_no_environment(project: Path) -> None:
  # Where the tests run in the background, an interrupt is ignored, and what
  # they start would inherit that.
  heed = (
    'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);'
    'os.execvp(sys.argv[1], sys.argv[1:])'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', heed, 'make', f'PYTHON={project}/python', 'demo'],
    cwd=project,
    env=_environment(project, PIP='sleep 30'),
    start_new_session=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  end = time.time() + 20
  while time.time() < end:
    calls = project / 'calls'
    if calls.exists() and '-m pip' in calls.read_text():
      break
    time.sleep(0.05)
  assert (project / '.venv').exists()
  os.killpg(process.pid, signal.SIGINT)  # As Ctrl-C does.
  assert process.wait(20) != 0
  assert not (project / '.venv').exists()


@needs_make
def test_no_python(project: Path) -> None:
  tools = project / 'tools'
  tools.mkdir()
  for name in ('sh', 'make', 'rm', 'touch', 'tail'):
    (tools / name).symlink_to(shutil.which(name))
  # One that is there, but too old.
  (tools / 'python3').write_text('#!/bin/sh\nexit 1\n')
  (tools / 'python3').chmod(0o755)
  done = _make(project, 'demo', PATH=str(tools))
  assert done.returncode != 0
  (line,) = _errors(done.stderr)
  assert line.startswith('there is no Python 3.11 or newer')
  assert not (project / '.venv').exists()


@needs_make
def test_python_that_cannot_be_used(project: Path) -> None:
  done = _make(project, 'PYTHON=/no/such/python', 'demo')
  assert done.returncode != 0
  (line,) = _errors(done.stderr)
  assert line.startswith('PYTHON=/no/such/python is not Python 3.11')
  done = _make(project, f'PYTHON={project}/python', 'demo', NO_VENV='1')
  assert done.returncode != 0
  (line,) = _errors(done.stderr)
  assert 'has no venv module' in line
  assert not (project / '.venv').exists()


def test_ci_runs_make_test_in_the_repository(tmp_path: Path) -> None:
  fake = tmp_path / 'make'
  fake.write_text('#!/bin/sh\necho "$PWD: make $*"; exit 7\n')
  fake.chmod(0o755)
  done = subprocess.run(
    [ROOT / '.ci' / 'run'],
    cwd=tmp_path,
    env={**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
    capture_output=True,
    text=True,
  )
  assert done.stdout == f'{ROOT}: make test\n'
  assert done.returncode == 7


def _requirements(text: str) -> dict[str, Requirement]:
  lines = [line for line in text.splitlines() if line and line[0] != '#']
  return {Requirement(line).name: Requirement(line) for line in lines}


def test_requirements_have_a_floor_and_a_cap() -> None:
  text = (ROOT / 'requirements.txt').read_text()
  for requirement in _requirements(text).values():
    operators = {spec.operator for spec in requirement.specifier}
    assert operators == {'>=', '<'}, requirement


def test_package_leaves_out_what_development_needs(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  given: dict = {}
  fake = types.SimpleNamespace(setup=given.update)
  monkeypatch.setitem(sys.modules, 'setuptools', fake)
  runpy.run_path(str(ROOT / 'setup.py'))
  found = _requirements('\n'.join(given['install_requires']))
  package, development = (ROOT / 'requirements.txt').read_text().split(MARKER)
  assert found == _requirements(package)
  assert {'jax', 'flax', 'optax', 'orbax-checkpoint'} <= found.keys()
  assert {'pytest', 'ruff'} <= _requirements(development).keys()
