"""The study of periodic signals, small, and what it refuses."""

import dataclasses
import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments import periodic, periodic_training
from experiments.periodic import Config, check
from experiments.periodic_arms import ARMS, Computed
from experiments.periodic_tables import (
  all_forms_table,
  choices_table,
  form_table,
  seeds_table,
)
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.results import (
  read_csv,
  select,
  untrained,
)
from extrap.reporting.curves import curves_figure
from extrap.tasks.periodic_signals import PeriodicSignals
from tests import made_rows

TASK = PeriodicSignals(points=16)
SMALL = (
  '--arms=zero,tanh,lines,told',
  '--forms=sine,walk',
  '--replicas=2',
  '--steps=8',
  '--width=8',
  '--task.points=20',
  '--train.steps_per_dispatch=8',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(periodic.main, Config, argv=['periodic', *flags])
  return caught.value.code


def test_a_small_run_scores_every_seed_and_goes_on(tmp_path, capsys):
  folder = tmp_path / 'run'
  assert run(f'--workdir={folder}', *SMALL) == 0
  results, comments = read_csv(folder / 'results.csv')
  assert comments[0].startswith('command: ')
  for arm in ('zero', 'tanh', 'lines', 'told'):
    for form, seeds in (('sine', [0, 1]), ('walk', [2, 3])):
      of_cell = select(results, arm=arm, split=form)
      for size, metric in (('1', 'mse'), ('3', 'mse'), ('3', 'solved')):
        rows = select(of_cell, size=size, metric=metric)
        assert [row.seed for row in rows] == seeds
        assert all(row.value >= 0 for row in rows)
      steps = 0 if arm in ('zero', 'told') else 8
      assert {row.steps for row in of_cell} == {steps}
      assert {row.samples for row in of_cell} == {20 * steps}
  zero, told = (
    select(results, arm=arm, split='sine', size='3') for arm in ('zero', 'told')
  )
  assert all(0.3 < row.value < 0.7 for row in select(zero, metric='mse'))
  assert [row.successes for row in select(told, metric='solved')] == [1, 1]
  notes = json.loads(select(results, arm='tanh')[0].hparams)
  assert notes['parameters'] == 8 + 8 + 64 + 8 + 8 + 1
  assert notes['tuning_samples'] == 2 * 6 * 2 * 20
  report = (folder / 'report.md').read_text(encoding='utf-8')
  assert 'not learned' in report and 'few sines' in report
  assert 'Every seed' in report
  assert (folder / 'plots' / 'walk.png').stat().st_size > 1000
  assert '3 of 4 done, so far: ' in capsys.readouterr().err
  before = (folder / 'results.csv').read_bytes()
  assert run(f'--workdir={folder}', *SMALL) == 0
  assert 'train' not in capsys.readouterr().err
  assert (folder / 'results.csv').read_bytes() == before
  # Of a run that has made one of its arms, that one is shown.
  config = Config(forms=('sine', 'walk'), replicas=2)
  periodic.write_report_of(config, tmp_path, select(results, arm='zero'))
  assert 'Every seed' not in (tmp_path / 'report.md').read_text()


def of_task(**changes):
  return {'task': dataclasses.replace(PeriodicSignals(), **changes)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'arms': ('lines', 'line')}, '--arms=line: name each once, of zero'),
    ({'forms': ('sine', 'sine')}, '--forms=sine: name each once'),
    ({'forms': ()}, 'at least one entry'),
    ({'eval': 'none'}, 'always evaluates'),
    ({'width': 7}, '--width=7: sines and cosines'),
    (of_task(slowest=2.0), '--task.slowest=2 is above --task.fastest=1.5'),
    (of_task(points=8), '--task.points=8 resolve frequencies up to 0.667'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))


def test_signals_of_a_seed_stay_the_same():
  config = Config(task=TASK, forms=('sine', 'sawtooth'), replicas=2)
  both = periodic_training.draw_signals(config, 2, 5)
  assert both.form_R == ('sine', 'sine', 'sawtooth', 'sawtooth')
  one = periodic_training.draw_signals(
    dataclasses.replace(config, forms=('sawtooth',)), 2, 7
  )
  np.testing.assert_array_equal(both.value_RT[2:], one.value_RT)
  assert len(set(both.frequency_R.tolist())) == 4


def test_trials_choose_by_points_held_out_inside(monkeypatch):
  config = Config(task=TASK, forms=('sine', 'triangle'), train=Config().train)
  asked = {}

  def predicted(config, problem, trained, scale_R):
    """Best on points held out for one option of each form."""
    del problem, trained, scale_R
    seed = config.seed + periodic_training.TUNING_SEED
    signals = periodic_training.draw_signals(
      config, periodic_training.TRIALS, seed
    )
    there = np.repeat([[5, 0, 1, 2, 3, 4], [5, 1, 2, 3, 0, 4]], 2, axis=0).T
    held_out_T = TASK.split_T('validation')
    off = np.where(held_out_T, there[..., None], 5 - there[..., None])
    return (signals.value_RT + off).reshape(-1, len(TASK.times_T))

  def trained_arm(problem, short, run, label, stop, folder, hparams):
    del run, label, stop, folder
    asked.update(hparams, short=short, problem=problem)

  monkeypatch.setattr(periodic_training, 'train_arm', trained_arm)
  monkeypatch.setattr(periodic_training, 'predictions', predicted)
  kept = type('Kept', (), {'run': None, 'stop': None})
  kept.run = type('Run', (), {'path': Path()})
  first, second = periodic_training.choose(config, kept, 'tanh')
  assert (first.learning_rate, first.scale) == (1e-3, 'raw')
  assert (second.learning_rate, second.scale) == (1e-2, 'range')
  assert asked['short'].seed == config.seed + periodic_training.TUNING_SEED
  assert asked['short'].train.schedule_steps == asked['short'].steps == 1000
  assert set(asked['scale']) == {1.0, TASK.half_range}
  assert asked['problem'].value_RB.shape == (4, 16)
  assert first.samples == 2 * 6 * 1000 * 16


def test_the_lasso_is_that_of_the_sparse_arms():
  task = Config(task=TASK, forms=('sine',), replicas=1)
  signals = periodic_training.draw_signals(task, 1, 0)
  factors = {}
  for name, arm in ARMS.items():
    if not isinstance(arm, Computed):
      factors[name] = periodic_training.make_problem(task, arm, signals).factor
  assert {n for n, f in factors.items() if f.first} == {'lines', 'lines_fixed'}
  assert factors['lines'].steps == 3200 and factors['lines'].last == 0.003


def rows(arm, inside, outside, parameters=5):
  """Rows of one form, `outside` with None for a replica that failed."""
  n = len(outside)
  source = made_rows.source(
    'periodic',
    arm,
    n,
    {
      'parameters': parameters,
      'learning_rate': 0.003,
      'scale': 'raw',
      'tuning_samples': 64,
    },
    rung='nothing',
    steps=(8,) * n,
    samples=(128,) * n,
  )
  made = []
  for replica in range(n):
    row = functools.partial(source.row, replica, 'sine')
    made.append(row('1', 'mse', inside[replica], 9))
    made.append(row('3', 'mse', outside[replica], 9))
  return made


def test_a_failure_counts_and_what_has_not_learned_is_named():
  results = rows('good', [1e-6] * 6, [1e-4, 2e-4, 3e-4, 5e-3, 1e-4, None])
  results += rows('idle', [0.4] * 6, [1e-4] * 6)
  half = rows('half', [1e-6] * 3 + [0.4] * 3, [1e-4] * 6)
  assert form_table(half, 'sine').rows[0][7] == '3 of 3 (44..100 %)'
  some = [1e-6] * 3 + [0.4, None, None]
  failed = rows('failed', some, [1e-4] * 4 + [None] * 2)
  assert form_table(failed, 'sine').rows[0][7] == '3 of 5 (23..88 %)'
  good, idle = form_table(results, 'sine').rows
  assert good[:2] == ['good', 'nothing'] and good[2] == '5'
  assert good[4] == '2.5e-04 (1.0e-04..inf)' and good[6] == 'inf'
  assert good[7] == '4 of 6 (30..90 %)'
  assert idle[-1] == 'not learned'
  assert all_forms_table(results).rows == [
    ['good', '2.5e-04'],
    ['idle', '1.0e-04*'],
  ]
  (line,) = seeds_table(results, 'good').rows
  assert line == ['sine', '4 of 6', '1e-04 2e-04 3e-04 5e-03 1e-04 inf']
  choice = choices_table(results).rows[0]
  assert choice == ['good', 'sine', '0.003', 'raw', '128', '64']


def test_a_replica_that_is_not_finite_has_no_value_and_is_not_solved():
  config = Config(task=TASK, forms=('sine',), replicas=2)
  signals = periodic_training.draw_signals(config, 2, 0)
  found_RT = signals.value_RT.copy()
  found_RT[1] = math.nan
  source = untrained('periodic', 'zero', 'nothing', (0, 1))
  made = periodic.rows_of(config, [source], signals, found_RT)
  outside = select(made, size='3', metric='mse')
  assert [row.value for row in outside] == [0.0, None]
  solved = select(made, metric='solved')
  assert [row.successes for row in solved] == [1, 0]


def test_curves_are_drawn_over_the_signal_and_cut_off_beyond_it():
  times, truth = np.linspace(-3, 3, 50), np.sin(np.linspace(-3, 3, 50))
  found = {name: truth * k for k, name in enumerate('abcd', 1)}
  figure = curves_figure(times, truth, found, 1.0, 'four')
  panels = [axes for axes in figure.axes if axes.axison]
  assert [axes.get_title(loc='left') for axes in panels] == list('abcd')
  for (name, curve), axes in zip(found.items(), panels, strict=True):
    signal, drawn = axes.lines
    np.testing.assert_array_equal(signal.get_ydata(), truth, name)
    np.testing.assert_array_equal(drawn.get_ydata(), curve, name)
    assert axes.get_ylim()[1] < 2.1
