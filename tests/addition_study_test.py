"""The addition study from flags to report, small, and what goes wrong."""

import json
import os
import shutil
import signal

import pytest

from experiments import addition
from extrap import cli, study
from extrap.evaluation.results import Provenance, read_csv, select

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
  '--lengths=3,6,45',
  '--compare_up_to=45',
  '--grid=3',
  '--carries=5',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(addition.main, addition.Config, argv=['addition', *flags])
  return caught.value.code or 0


@pytest.fixture(scope='module')
def folder(tmp_path_factory, quick_compile):
  path = tmp_path_factory.mktemp('runs') / 'run'
  assert run(*TINY, '--compare=learned', f'--workdir={path}') == 0
  return path


@pytest.fixture
def copy(folder, tmp_path):
  return shutil.copytree(folder, tmp_path / 'run')


def test_run_folder_has_everything(folder):
  for name in (
    'report.md',
    'config.json',
    'flags.txt',
    'environment.json',
    'metrics.jsonl',
    'results.csv',
    'certificate.csv',
    'plots/accuracy.png',
    'plots/grid.png',
    'plots/training.png',
  ):
    assert (folder / name).stat().st_size > 0, name
  status = json.loads((folder / 'status.json').read_text())
  assert (status['state'], status['step']) == ('done', 12)
  assert list(folder.glob('tensorboard/events*'))


def test_report_shows_its_pictures_and_tables(folder):
  report = (folder / 'report.md').read_text()
  for text in (
    '](plots/accuracy.png)',
    '](plots/grid.png)',
    '| digits',
    'out of table',
    'FAILED',
    'Not certified.',
    'trainable parameters',
    '--flagfile=',
  ):
    assert text in report, text
  assert 'Hence the sum is right' not in report


def test_rows_of_every_part(folder):
  results, comments = read_csv(folder / 'results.csv')
  assert any(line.startswith('command:') for line in comments)
  grid = select(results, split=('in_distribution',))
  assert len([r for r in grid if 'x' in r.size]) == 9 * 2
  # The learned table has 128 rows: 45 digits are beyond it, a blank.
  beyond = select(results, arm='learned', size='45')
  assert beyond and all(r.value is None and r.n == 0 for r in beyond)
  assert {r.checkpoint for r in select(results, arm='learned')} == {
    'last',
    'best',
  }
  assert {r.seed for r in results} == {0, 1}
  assert {r.split for r in results if r.split[:5] == 'carry'} == {
    f'carry:{kind}'
    for kind in (
      'chain',
      'nines',
      'zeros',
      'palindromes',
      'alternating',
      'same',
      'unequal',
    )
  }


def test_again_says_that_it_is_done(folder, capsys):
  before = (folder / 'report.md').stat().st_mtime_ns
  assert run(*TINY, '--compare=learned', f'--workdir={folder}') == 0
  assert f'done already: {folder}/report.md' in capsys.readouterr().out
  assert (folder / 'report.md').stat().st_mtime_ns == before


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


def test_certify_fails_for_an_untrained_model(folder, capsys):
  assert run(f'--certify={folder}') == 1
  out = capsys.readouterr().out
  assert out.count('FAILED') == 2 and 'the model says' in out


def test_another_config_is_refused_naming_the_field(copy, capsys):
  code = run(*TINY, '--train.learning_rate=0.1', f'--workdir={copy}')
  assert code == 2
  line = _error(capsys)
  assert 'train.learning_rate' in line and '--workdir' in line
  assert json.loads((copy / 'status.json').read_text())['state'] == 'done'


def test_more_steps_after_the_schedule_ended_are_refused(copy, capsys):
  code = run(*TINY, '--steps=20', '--compare=learned', f'--workdir={copy}')
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
  folder, tmp_path, monkeypatch, capsys
):
  path = tmp_path / 'run'
  command = (*TINY, f'--workdir={path}', '--eval=none')
  log = study._Observer.log

  def log_and_terminate(self, step, record):
    log(self, step, record)
    os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(study._Observer, 'log', log_and_terminate)
    assert run(*command) == 75
  assert 'SIGTERM' in _error(capsys)
  status = json.loads((path / 'status.json').read_text())
  assert status['state'] == 'preempted' and 0 < status['step'] < 12
  assert run(*command) == 0
  assert _losses(path) == _losses(folder)


def test_certificate_is_not_of_a_run_that_goes_on(copy, monkeypatch):
  """A restored model is the saved one: nothing is trained on the way."""
  config = study.read_config(copy, 'addition', addition.Config)
  problem = addition.make_problem(config, config.model.position)
  newest = copy / 'checkpoints' / '12'
  shutil.rmtree(newest)
  restored = study.restore_arm(problem, config, copy / 'checkpoints')
  assert (restored.state.step == 8).all() and restored.steps == 8


def test_each_arm_is_trained_once():
  config = addition.Config(compare=('rotary', 'place_window', 'rotary'))
  assert list(config.positions) == ['place_window', 'rotary']
  assert config.positions['place_window'] is config.model.position


def test_frozen_replicas_are_marked_in_their_rows():
  source = Provenance(
    study='s',
    arm='a',
    rung='r',
    seeds=(5, 6),
    steps=(3, 12),
    samples=(24, 96),
    flops=(1.0, 4.0),
    seconds=1.0,
  )
  first, second = source.exact_match('beyond', '9', [1, 2], 4)
  assert (first.seed, first.steps, first.samples, first.flops) == (5, 3, 24, 1)
  assert (second.seed, second.steps, second.value) == (6, 12, 0.5)


def test_truncated_checkpoint_falls_back_and_says_so(copy, capfd):
  newest = copy / 'checkpoints' / '12'
  files = [path for path in newest.rglob('*') if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:-20])
  status = json.loads((copy / 'status.json').read_text())
  status['state'] = 'failed'
  (copy / 'status.json').write_text(json.dumps(status))
  code = run(*TINY, '--compare=learned', f'--workdir={copy}', '--eval=none')
  assert code == 0
  assert '12' in capfd.readouterr().err
  assert (copy / 'checkpoints' / '12').is_dir()
  assert len(_losses(copy)) == 3  # No step twice.


def _error(capsys):
  lines = capsys.readouterr().err.strip().splitlines()
  errors = [line for line in lines if line.startswith('error:')]
  assert len(errors) == 1
  return errors[0]
