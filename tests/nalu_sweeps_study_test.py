"""The sweeps of arithmetic units: a small run, its tables, bad input."""

import dataclasses
import json
import re

import numpy as np
import pytest

from experiments import nalu_sweeps
from experiments.nalu_sweeps import Config
from experiments.nalu_sweeps_settings import SWEEPS, Setting, setting_name
from experiments.nalu_sweeps_tables import (
  beside_table,
  sweep_table,
  threshold_table,
)
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.arithmetic_criterion import nearly_perfect_error
from extrap.evaluation.results import read_csv, select
from extrap.factors import Ramp
from extrap.reporting.shares import Shares, shares_figure
from tests import made_rows

SMALL = (
  '--sweeps=inputs',
  '--units=nmu,nac_mul',
  '--replicas=3',
  '--steps=20',
  '--train.evaluate_every=10',
  '--train.steps_per_dispatch=10',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(nalu_sweeps.main, Config, argv=['nalu_sweeps', *flags])
  return caught.value.code


def changed(**changes):
  return dataclasses.replace(Config(), **changes)


@pytest.mark.slow
def test_a_small_run_scores_each_value_once_and_goes_on(tmp_path, capsys):
  folder = f'--workdir={tmp_path / "run"}'
  assert run(folder, *SMALL, '--values=4,10') == 0
  shown = capsys.readouterr()
  assert 'train inputs=10, seeds 0 to 2, 2 of 2' in shown.err
  results, comments = read_csv(tmp_path / 'run' / 'results.csv')
  assert comments[0].startswith('command: ')
  for unit in ('nmu', 'nac_mul'):
    tests = set()
    for value in ('4', '10'):
      cell = select(results, arm=unit, split=f'inputs={value}')
      rows = select(cell, metric='solved')
      assert [row.seed for row in rows] == [0, 1, 2]
      assert {(row.steps, row.size) for row in rows} == {(20, value)}
      tests |= {row.value for row in select(cell, metric='test')}
      notes = json.loads(rows[0].hparams)
      task = SWEEPS['inputs'][value].task
      assert notes['threshold'] == nearly_perfect_error(task, 'mul')
    assert len(tests) == 6
  report = (tmp_path / 'run' / 'report.md').read_text(encoding='utf-8')
  assert '(plots/inputs.png)' in report
  assert re.search(r'inputs=4 +\| +[\d.e-]+ \| +7.1e-08', report)
  assert (tmp_path / 'run' / 'plots' / 'inputs.png').exists()
  assert run(folder, *SMALL, '--values=10') == 0
  assert 'train' not in capsys.readouterr().err
  again, _ = read_csv(tmp_path / 'run' / 'results.csv')
  assert again == select(results, split='inputs=10')


def test_a_pace_is_that_of_steps_and_of_regularisers():
  config, setting = changed(pace=0.1), SWEEPS['inputs']['300']
  assert config.steps_at(setting) == 1_500_000
  assert config.steps_at(Setting()) == 500_000
  ramp = nalu_sweeps.problem(config, setting).arms['nmu'].ramp
  assert ramp == Ramp(10.0, 100_000, 200_000)
  assert Config().as_published and not config.as_published
  assert changed(pace=0.00101).steps_at(Setting()) == 5_000


def test_weights_are_pinned_where_that_is_asked_for():
  assert nalu_sweeps.problem(changed(pinned=True), Setting()).pinned
  assert not nalu_sweeps.problem(Config(), Setting()).pinned


def test_shares_are_compared_where_thresholds_are_alike():
  config, same = nalu_sweeps.Config(), {}
  for value in ('4', '50'):
    name = setting_name('inputs', value)
    threshold = nalu_sweeps.threshold_of(config, name)
    same[value] = nalu_sweeps.same_threshold(name, threshold)
  assert same == {'4': False, '50': True}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'sweeps': ('size',)}, '--sweeps=size: name each once, of inputs, hidden'),
    ({'sweeps': ('hidden',), 'values': ('11',)}, '--values=11: name each once'),
    (
      {'sweeps': ('hidden', 'overlap'), 'values': ('3',)},
      '--values=3 has nothing of overlap: 0, 0.1, 0.25',
    ),
    ({'units': ('nau',)}, '--units=nau: name each once, of'),
    (
      {'units': ('nalu',), 'sweeps': ('factor',), 'values': ('1',)},
      '--units=nalu has nothing that factor varies at 1',
    ),
    (
      {
        'units': ('nalu',),
        'sweeps': ('inputs', 'factor'),
        'values': ('4', '0.1'),
      },
      '--units=nalu has nothing that factor varies at 0.1',
    ),
    ({'steps': 1500}, 'no multiple of --train.evaluate_every=1000'),
    ({'eval': 'none'}, 'always evaluates'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message) as caught:
    nalu_sweeps.check(changed(**changes))
  assert '\n' not in str(caught.value)


def test_the_default_is_what_was_published_and_is_trained_once():
  config = Config()
  nalu_sweeps.check(config)
  assert config.as_published and config.replicas == 50
  counts = [len(values) for values in config.chosen.values()]
  assert counts == [14, 9, 7, 6, 4, 6]
  # Each sweep has the defaults.
  assert list(config.settings).count('default') == 1
  assert len(config.settings) == sum(counts) - 5
  assert len(config.parts) == 5 * len(config.settings)
  of, replicas = config.parts['hidden=3, seeds 40 to 49']
  assert (of, list(replicas)) == ('hidden=3', list(range(40, 50)))
  steps = {
    setting.task.inputs: config.steps_at(setting) // 1_000_000
    for setting in config.settings.values()
  }
  assert (steps[100], steps[125], steps[200]) == (5, 10, 10)
  assert (steps[225], steps[300]) == (15, 15)
  short = changed(steps=1000)
  assert {short.steps_at(of) for of in short.settings.values()} == {1000}
  assert not short.as_published


def test_a_setting_changes_one_thing():
  plain = nalu_sweeps.problem(Config(), Setting())
  assert plain.task.inputs == 100 and len(plain.arms) == 5
  assert plain.arms['nmu'].model.hidden == 2

  def of(sweep, value):
    return nalu_sweeps.problem(Config(), SWEEPS[sweep][value])

  wide = of('hidden', '10')
  assert wide.task == plain.task and wide.arms['nalu'].model.hidden == 10
  far = of('range', '-2..2').task
  assert (far.trained, far.tested) == ((-2.0, 2.0), (-6.0, -2.0, 2.0, 6.0))
  assert (of('overlap', '0.75').task.second, plain.task.second) == (7, 13)
  assert (of('subset', '0.05').task.size, plain.task.size) == (5, 25)
  # Only two units have a regulariser.
  strong = of('factor', '100').arms
  assert list(strong) == ['nmu', 'nac_mul_nmu']
  ramps = strong['nmu'].ramp, plain.arms['nmu'].ramp
  assert ramps[0] == dataclasses.replace(ramps[1], factor=100.0)
  assert plain.arms['nalu'].ramp.factor == 0


def test_published_thresholds_are_used_where_they_are_known():
  config = changed(sweeps=('inputs', 'overlap'), values=('4', '1'))
  own = nearly_perfect_error(SWEEPS['inputs']['4'].task, 'mul')
  assert nalu_sweeps.threshold_of(config, 'inputs=4') == own != 7.1e-8
  published = dataclasses.replace(config, threshold='published')
  assert nalu_sweeps.threshold_of(published, 'inputs=4') == 7.1e-8
  assert nalu_sweeps.published_threshold('hidden=3') == 0.160011
  assert nalu_sweeps.published_threshold('overlap=1') is None


def rows_of(unit, split, solved, as_published=True):
  """Rows of as many seeds, at growing steps."""
  n = len(solved)
  notes = {'as_published': as_published, 'threshold': 0.16}
  source = made_rows.source('nalu_sweeps', unit, n, notes)
  rows = []
  for r, right in enumerate(solved):
    rows.append(source.row(r, split, '100', 'solved', right, 1, right))
    step = 1000.0 * (r + 1) if right else None
    rows.append(source.row(r, split, '100', 'step', step, 1))
  return rows


def test_tables_have_published_shares_beside_runs_that_are_alike():
  results = rows_of('nmu', 'default', [1] * 10)
  results += rows_of('nmu', 'hidden=10', [1] * 3 + [0] * 7)
  results += rows_of('nalu', 'hidden=10', [0] * 10, as_published=False)
  table = sweep_table(results, 'hidden', ('2', '9', '10'))
  first, second, third = table.rows
  assert first[:4] == ['2', 'nmu', '10 of 10', '100 %']
  assert first[5:] == ['5,500', '100 %', '-27.8..7.1', 'yes']
  assert second[:3] == ['10', 'nmu', '3 of 10']
  assert second[6] == '63 %' and second[-1] == 'no'
  assert third[:3] == ['10', 'nalu', '0 of 10']
  assert third[5:] == ['', '', '', '']
  # The defaults are in every sweep.
  (line,) = sweep_table(results, 'overlap', ('0.5',)).rows
  assert line[:3] == ['0.5', 'nmu', '10 of 10']
  assert setting_name('overlap', '0.5') == 'default'


def test_runs_that_are_not_alike_stand_beside_what_was_published():
  results = rows_of('nmu', 'default', [1] * 10, as_published=False)
  results += rows_of('nmu', 'hidden=10', [1] * 3 + [0] * 7, as_published=False)
  lines = beside_table(results, 'nmu').rows
  # The defaults are in every sweep, but once in each.
  assert [line[1] for line in lines if line[2] == '10 of 10'] == [
    *('100', '2', '1..2', '0.5', '0.25', '10')
  ]
  (line,) = (line for line in lines if line[2] == '3 of 10')
  assert line[:2] == ['outputs of the first layer', '10']
  assert line[-1] == '63 %'


def test_sweeps_of_which_nothing_is_done_are_not_shown(tmp_path):
  results = rows_of('nmu', 'inputs=4', [1, 0])
  nalu_sweeps.write_report_of(Config(), tmp_path, results)
  report = (tmp_path / 'report.md').read_text(encoding='utf-8')
  assert re.findall('(?m)^## .*', report) == [
    '## Solved, by inputs',
    '## Thresholds',
    '## By inputs, as a picture',
    '## How it was made',
  ]


def test_thresholds_are_those_that_are_used_beside_published_ones():
  results = [
    *rows_of('nmu', 'default', [1]),
    *rows_of('nmu', 'factor=1', [1]),
    *rows_of('nmu', 'range=10..20', [1]),
    *rows_of('nmu', 'overlap=1', [1]),
  ]
  lines = {line[0]: line[1:] for line in threshold_table(results).rows}
  assert lines['default'] == ['0.16', '0.16', '1.000']
  assert lines['factor=1'] == lines['default']
  assert lines['range=10..20'][1] == '505.5'
  assert lines['overlap=1'][1:] == ['not known', '']


def test_pictures_have_published_shares_as_lines_of_their_own():
  share_X = np.array([0.5, np.nan, 1.0])
  none_X = np.full(3, np.nan)
  lines = {
    'one': Shares(share_X, share_X - 0.1, share_X, np.array([0.25, 0.5, 0.75])),
    'two': Shares(share_X, share_X, share_X, none_X),
  }
  figure = shares_figure(lines, ('a', 'b', 'c'), 'title', 'what', 'note')
  (axes,) = figure.axes
  drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
  assert set(drawn) == {'one', 'one, published', 'two'}
  np.testing.assert_allclose(drawn['one'], [50, np.nan, 100])
  np.testing.assert_allclose(drawn['one, published'], [25, 50, 75])
  assert [text.get_text() for text in axes.get_xticklabels()] == ['a', 'b', 'c']
