"""A run is repeated, resumed and restored exactly, or refused."""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import pytest

from experiments import addition
from extrap import cli, study, study_training
from extrap.kept import Kept

TINY = (
  '--steps=12',
  '--replicas=2',
  '--batch_size=8',
  '--model.width=16',
  '--model.heads=2',
  '--model.ffn_width=16',
  '--train.steps_per_dispatch=4',
  '--train.evaluate_every=4',
  '--train.save_every=4',
  '--eval=none',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(addition.main, addition.Config, argv=['addition', *flags])
  return caught.value.code or 0


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'run'
  assert run(*TINY, f'--workdir={path}') == 0
  return path


@pytest.fixture
def copy(folder, tmp_path):
  return shutil.copytree(folder, tmp_path / 'run')


def test_flagfile_repeats_the_run_bit_for_bit(folder, tmp_path):
  again = tmp_path / 'again'
  flags = folder / 'flags.txt'
  assert 'workdir' not in flags.read_text()
  code = run(f'--flagfile={flags}', f'--workdir={again}', '--eval=none')
  assert code == 0
  assert _losses(again) == _losses(folder)


def _losses(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['train/loss'] for line in lines]


def test_another_config_is_refused_naming_the_field(copy, capsys):
  code = run(*TINY, '--train.learning_rate=0.1', f'--workdir={copy}')
  assert code == 2
  line = _error(capsys)
  assert 'train.learning_rate' in line and '--workdir' in line
  assert json.loads((copy / 'status.json').read_text())['state'] == 'done'


def test_more_steps_after_the_schedule_ended_are_refused(copy, capsys):
  code = run(*TINY, '--steps=20', f'--workdir={copy}')
  assert code == 2
  line = _error(capsys)
  assert '--steps' in line and '--train.schedule_steps' in line


def test_fewer_steps_are_refused_before_anything_is_written(copy, capsys):
  before = (copy / 'config.json').read_text()
  assert run(*TINY, '--steps=8', f'--workdir={copy}') == 2
  assert '--steps=8' in _error(capsys)
  assert (copy / 'config.json').read_text() == before
  assert json.loads((copy / 'status.json').read_text())['state'] == 'done'


def test_sigterm_saves_and_the_same_command_goes_on(
  folder, tmp_path, monkeypatch, capsys, caplog
):
  path = tmp_path / 'run'
  command = (*TINY, f'--workdir={path}', '--eval=none')
  log = study_training._Observer.log

  def log_and_terminate(self, step, record):
    log(self, step, record)
    os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(study_training._Observer, 'log', log_and_terminate)
    assert run(*command) == 75
  assert 'SIGTERM' in _error(capsys)
  status = json.loads((path / 'status.json').read_text())
  assert status['state'] == 'preempted' and 0 < status['step'] < 12
  assert run(*command) == 0
  assert f'resumed at step {status["step"]}' in caplog.text
  assert _losses(path) == _losses(folder)


def test_certificate_is_not_of_a_run_that_goes_on(copy, monkeypatch):
  """A restored model is the saved one: nothing is trained on the way."""
  config = study.read_config(copy, 'addition', addition.Config)
  problem = addition.make_problem(config, config.model.position)
  newest = copy / 'checkpoints' / '12'
  shutil.rmtree(newest)
  restored = study_training.restore_arm(problem, config, copy / 'checkpoints')
  assert (restored.state.step == 8).all() and restored.steps == 8


def test_truncated_checkpoint_falls_back_and_says_so(folder, copy, capfd):
  newest = copy / 'checkpoints' / '12'
  files = [path for path in newest.rglob('*') if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:-20])
  status = json.loads((copy / 'status.json').read_text())
  status['state'] = 'failed'
  (copy / 'status.json').write_text(json.dumps(status))
  code = run(*TINY, f'--workdir={copy}', '--eval=none')
  assert code == 0
  assert '12' in capfd.readouterr().err
  assert (copy / 'checkpoints' / '12').is_dir()
  assert _losses(copy) == _losses(folder)  # No step twice.


def _error(capsys):
  lines = capsys.readouterr().err.strip().splitlines()
  errors = [line for line in lines if line.startswith('error:')]
  assert len(errors) == 1
  return errors[0]


def test_rows_tell_where_a_run_began_elsewhere(copy):
  kept = Kept(SimpleNamespace(path=copy), lambda: False)
  kept.rows('here', 1, lambda: [])
  assert not [line for line in kept.comments if line.startswith('begun on')]
  path = copy / 'environment.json'
  begun = json.loads(path.read_text())
  begun['devices'] = {'platform': 'gpu', 'kind': 'H100', 'count': 1}
  there = {'cores': 16, 'cpu': 'Xeon', 'git': {'commit': 'a1b2'}}
  path.write_text(json.dumps(begun | there))
  kept.rows('there', 1, lambda: [])
  assert 'begun on: 16 cores Xeon, 1 x H100; commit: a1b2' in kept.comments


def test_rows_tell_where_those_that_they_are_made_of_are_from(copy):
  Kept(SimpleNamespace(path=copy), lambda: False).rows('inner', 1, lambda: [])
  (part,) = (copy / 'parts').glob('inner-*')
  text = part.read_text().replace('# commit: ', '# commit: earlier, ')
  part.write_text(text)
  kept = Kept(SimpleNamespace(path=copy), lambda: False)
  for name in ('outer', 'another'):
    kept.rows(name, 1, lambda: kept.rows('inner', 1, lambda: []))
    again = Kept(SimpleNamespace(path=copy), lambda: False)
    again.rows(name, 1, lambda: [])
    assert any(note.startswith('commit: earlier') for note in again.comments)
