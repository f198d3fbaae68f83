"""Tests of training/run_folder.py."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extrap.config import option
from extrap.config_json import fingerprint, to_json
from extrap.errors import Diverged, ExtrapError, Preempted, UsageError
from extrap.reporting import run_state
from extrap.reporting.run_state import read_state
from extrap.training import run_folder
from extrap.training.run_folder import RunFolder, default_path


@dataclasses.dataclass(frozen=True)
class Config:
  depth: int = option(2, 'layers')
  steps: int = option(100, 'length of training', identity=False)


def _open(path: Path, config: Config = Config(), **kwargs) -> RunFolder:
  return RunFolder.open(path, config, **{'study': 'addition', **kwargs})


def _json(path: Path) -> dict:
  return json.loads(path.read_text())


def test_files_of_a_new_run(tmp_path: Path) -> None:
  path = tmp_path / 'runs' / 'one'
  with _open(path, flags='--depth=2\n') as folder:
    assert folder.metrics == path / 'metrics.jsonl'
    assert folder.checkpoints == path / 'checkpoints'
    assert folder.plots == path / 'plots'
    folder.status('running', 7)
  assert _json(path / 'config.json') == {
    'study': 'addition',
    'config': to_json(Config()),
  }
  assert (path / 'flags.txt').read_text() == '--depth=2\n'
  assert 'versions' in _json(path / 'environment.json')
  status = _json(path / 'status.json')
  assert status.pop('updated').endswith('+00:00')
  assert status == {'state': 'running', 'step': 7, 'steps': 100}
  assert list(path.glob('*.partial')) == []


def test_done_until_more_steps_are_asked_for(tmp_path: Path) -> None:
  with _open(tmp_path) as folder:
    assert not folder.is_done
    folder.status('done', 100)
    assert folder.is_done
  with _open(tmp_path) as folder:
    assert folder.is_done
  with _open(tmp_path, Config(steps=200)) as folder:
    assert not folder.is_done
  assert _json(tmp_path / 'status.json')['state'] == 'running'
  assert _json(tmp_path / 'status.json')['step'] == 100
  assert _json(tmp_path / 'config.json')['config']['steps'] == 200


@pytest.mark.parametrize(
  ('error', 'state'),
  [
    (ValueError('x'), 'failed'),
    (KeyboardInterrupt(), 'failed'),
    (Diverged('x'), 'diverged'),
    (Preempted('x'), 'preempted'),
  ],
)
def test_records_how_it_ended(
  error: BaseException, state: str, tmp_path: Path
) -> None:
  with pytest.raises(type(error)), _open(tmp_path) as folder:
    folder.status('running', 3)
    raise error
  status = _json(tmp_path / 'status.json')
  assert (status['state'], status['step']) == (state, 3)


def test_another_configuration_is_refused(tmp_path: Path) -> None:
  _open(tmp_path).close()
  with pytest.raises(UsageError, match=r'depth.*another --workdir'):
    _open(tmp_path, Config(depth=3))
  with pytest.raises(UsageError, match='run of addition, not of copying'):
    _open(tmp_path, study='copying')
  (tmp_path / 'config.json').write_text('{"study": "addition", "config": {}}')
  with pytest.raises(UsageError, match='another version'):
    _open(tmp_path)
  (tmp_path / 'config.json').write_text('{"study": "addi')
  with pytest.raises(ExtrapError, match=r'config\.json is unreadable'):
    _open(tmp_path)


def test_other_versions_are_told_one_a_line(
  tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
  _open(tmp_path).close()
  assert capsys.readouterr().err == ''
  environment = _json(tmp_path / 'environment.json')
  environment['versions']['jax'] = '0.0.1'
  environment['versions']['optax'] = None
  (tmp_path / 'environment.json').write_text(json.dumps(environment))
  _open(tmp_path).close()
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 2
  assert any('jax 0.0.1 -> ' in line for line in lines)
  assert _json(tmp_path / 'environment.json') == environment


def test_what_is_not_a_run_is_refused_and_kept(tmp_path: Path) -> None:
  (tmp_path / 'thesis.tex').write_text('text')
  with pytest.raises(UsageError, match='not empty and not a run'):
    _open(tmp_path)
  with pytest.raises(UsageError, match='is a file'):
    _open(tmp_path / 'thesis.tex')
  with pytest.raises(UsageError, match='bucket'):
    _open('gs://bucket/run')
  assert os.listdir(tmp_path) == ['thesis.tex']


def test_what_a_killed_start_leaves_is_no_stranger(tmp_path: Path) -> None:
  (tmp_path / 'lock').write_text('pid 1 on host')
  (tmp_path / 'config.json.partial').write_text('{')
  with _open(tmp_path) as folder:
    assert not folder.is_done


def test_nothing_is_half_written(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  folder = _open(tmp_path)
  before = (tmp_path / 'status.json').read_text()

  def full(*args: object) -> None:
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(ExtrapError, match=r'status\.json cannot be .*No space'):
    folder.status('running', 9)
  assert (tmp_path / 'status.json').read_text() == before
  folder.close()


def test_the_first_error_is_the_one_that_leaves(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def refuse(*args: object) -> None:
    raise OSError(28, 'No space left on device')

  with pytest.raises(Diverged), _open(tmp_path):
    monkeypatch.setattr(os, 'replace', refuse)
    raise Diverged('all replicas')


def test_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  (tmp_path / 'file').touch()
  below = tmp_path / 'file' / 'run'
  with pytest.raises(ExtrapError, match=str(below)) as error:
    _open(below)
  assert '\n' not in str(error.value)

  # For root permission bits do not count.
  def refuse(*args: object, **kwargs: object) -> None:
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(Path, 'mkdir', refuse)
  with pytest.raises(ExtrapError, match='new: Permission denied'):
    _open(tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


_HOLD = """
import sys, time
from tests.run_folder_test import _open
folder = _open(sys.argv[1])
print('open', flush=True)
time.sleep(60)
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
  with subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(tmp_path)],
    stdout=subprocess.PIPE,
    cwd=Path(__file__).parents[1],
  ) as other:
    assert other.stdout.readline() == b'open\n'
    try:
      with pytest.raises(ExtrapError, match=f'pid {other.pid} ') as error:
        _open(tmp_path)
      assert '\n' not in str(error.value)
    finally:
      other.send_signal(signal.SIGKILL)
  assert f'pid {other.pid} ' in (tmp_path / 'lock').read_text()
  _open(tmp_path).close()  # The lock of a dead process is none.


def test_lock_is_given_back(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  with _open(tmp_path):
    with pytest.raises(ExtrapError, match=f'pid {os.getpid()} '):
      _open(tmp_path)
  with pytest.raises(UsageError):
    _open(tmp_path, Config(depth=3))
  with monkeypatch.context() as patch:
    patch.setattr(run_folder, 'environment', lambda _: 1 / 0)
    (tmp_path / 'environment.json').unlink()
    with pytest.raises(ZeroDivisionError):
      _open(tmp_path)
  _open(tmp_path).close()


def test_other_processes_of_the_job_do_not_write(tmp_path: Path) -> None:
  folder = _open(tmp_path / 'absent', primary=False)
  folder.status('running', 1)
  folder.close()
  assert not (tmp_path / 'absent').exists()
  with _open(tmp_path) as first:
    first.status('done', 100)
    before = sorted(tmp_path.iterdir())
    with _open(tmp_path, primary=False) as second:
      assert second.is_done
      second.status('failed', 1)
    assert sorted(tmp_path.iterdir()) == before
  assert _json(tmp_path / 'status.json')['state'] == 'done'
  with pytest.raises(UsageError, match='depth'):
    _open(tmp_path, Config(depth=3), primary=False)


def test_default_path() -> None:
  path = default_path('addition', Config())
  assert path == Path('runs') / f'addition-{fingerprint(Config())}'
  assert path == default_path('addition', Config(steps=5))
  assert path != default_path('addition', Config(depth=5))


def test_a_run_that_is_at_work_and_one_that_was_killed(tmp_path: Path) -> None:
  code = f"""
import time
from tests.run_folder_test import _open, Path
folder = _open(Path({str(tmp_path / 'run')!r}))
folder.status('running', 5)
print('open', flush=True)
time.sleep(60)
"""
  process = subprocess.Popen(
    [sys.executable, '-c', code],
    cwd=Path(__file__).parents[1],
    stdout=subprocess.PIPE,
  )
  try:
    assert process.stdout.readline() == b'open\n'
    assert read_state(tmp_path / 'run')['state'] == 'running'
  finally:
    process.kill()
    process.communicate()
  files = sorted(os.listdir(tmp_path / 'run'))
  found = read_state(tmp_path / 'run')
  assert (found['state'], found['step'], found['steps']) == (
    'interrupted',
    5,
    100,
  )
  assert _json(tmp_path / 'run' / 'status.json')['state'] == 'running'
  assert sorted(os.listdir(tmp_path / 'run')) == files


def test_the_state_of_a_run_from_outside(tmp_path: Path) -> None:
  assert read_state(tmp_path / 'missing') == {}
  assert not (tmp_path / 'missing').exists()
  with _open(tmp_path) as folder:
    folder.status('running', 7)
    assert read_state(tmp_path)['state'] == 'running'
    folder.status('done', 100)
  assert read_state(tmp_path)['state'] == 'done'
  (tmp_path / 'status.json').write_text('{"state": "running"}')
  (tmp_path / 'lock').unlink()
  assert read_state(tmp_path)['state'] == 'interrupted'
  assert not (tmp_path / 'lock').exists()
  for text in ('{', '3', '{"step": "x"}', '{"steps": "x"}', '{"state": 1}'):
    (tmp_path / 'status.json').write_text(text)
    with pytest.raises(ExtrapError, match=r'status\.json is unreadable'):
      read_state(tmp_path)


def test_where_there_are_no_locks_running_is_all_that_is_known(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def flock(*args: object) -> None:
    raise OSError(38, 'Function not implemented')

  _open(tmp_path).close()
  monkeypatch.setattr(run_state.fcntl, 'flock', flock)
  assert run_state.is_held(tmp_path) is None
  assert read_state(tmp_path)['state'] == 'running'
