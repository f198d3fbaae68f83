"""The addition study from flags to report, small, and what goes wrong."""

import dataclasses
import json

import pytest

from experiments import addition
from extrap import cli
from extrap.evaluation.results import Provenance, read_csv, select
from extrap.models.positions import FIRE, Coupling2, NoPosition
from extrap.tasks.addition import Addition

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
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'run'
  assert run(*TINY, '--compare=learned', f'--workdir={path}') == 0
  return path


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
  assert 'Hence the answer is right' not in report


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


def test_certify_fails_for_an_untrained_model(folder, capsys):
  assert run(f'--certify={folder}') == 1
  out = capsys.readouterr().out
  assert out.count('FAILED') == 2 and 'the model says' in out


def test_each_arm_is_trained_once():
  config = addition.Config(compare=('rotary', 'place_window', 'rotary'))
  assert list(config.positions) == ['place_window', 'rotary']
  assert config.positions['place_window'] is config.model.position
  assert config.trained == config.positions
  alone = dataclasses.replace(config, eval='none')
  assert list(alone.trained) == ['place_window']


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


@pytest.mark.parametrize(
  ('task', 'position', 'rung'),
  [
    (Addition(order='msb'), NoPosition(), 'L0 none'),
    (Addition(), NoPosition(), 'L1 reversed'),
    (Addition(), Coupling2(), 'L4 coupling'),
    (Addition(hints=9), NoPosition(), 'L1 reversed, index hints'),
    (Addition(hints=9), FIRE(), 'L2 smooth relative, index hints'),
  ],
)
def test_rows_name_what_is_given_away(task, position, rung):
  assert addition.rung_of(task, position) == rung
