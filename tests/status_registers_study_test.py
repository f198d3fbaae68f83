"""The study of status registers: small runs of its parts, its tables."""

import dataclasses
import json

import jax
import pytest

from experiments import status_registers as study
from experiments import status_registers_comparisons as comparisons
from experiments import status_registers_composites as composites
from experiments.status_registers_composites import FOLDS
from experiments.status_registers_settings import Config, check
from experiments.status_registers_tables import (
  comparison_table,
  corner_table,
  over_comparisons,
  reach_table,
  scale_table,
)
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv, select
from extrap.study import run_path
from tests import made_rows

SMALL = ('--steps=2', '--redundancy=2', '--replicas=2')


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(study.main, Config, argv=['status_registers', *flags])
  return caught.value.code


def test_comparisons_are_scored_run_by_run_and_the_run_goes_on(
  tmp_path, capsys
):
  folder = tmp_path / 'run'
  flags = (*SMALL, f'--workdir={folder}', '--heads=nsr_sharpened', '--inputs=3')
  flags += ('--parts=comparisons,scales', '--units=1,100', '--scales=0.1,1')
  assert run(*flags) == 0
  assert 'train nsr_sharpened, 3 inputs' in capsys.readouterr().err
  results, comments = read_csv(folder / 'results.csv')
  assert comments[0].startswith('command: ')
  compared_as_asked(select(results, rung='comparisons'))
  scaled_as_asked(select(results, rung='scales', metric='error'))
  report = (folder / 'report.md').read_text(encoding='utf-8')
  assert 'seeds below 0.01' in report and 'plots/inputs_3.png' in report
  before = (folder / 'results.csv').read_bytes()
  assert run(*flags) == 0
  assert 'train' not in capsys.readouterr().err
  assert (folder / 'results.csv').read_bytes() == before


def compared_as_asked(results):
  """Every comparison and seed has a row at every magnitude."""
  errors = select(results, metric='error')
  assert len(errors) == 6 * 7 * 2  # float32 holds numbers of 10^1..10^7.
  cell = select(errors, split='eq', size='100')
  assert [row.replica for row in cell] == [0, 1]
  assert [row.seed for row in cell] == [8, 9]  # '=' is the fifth of six.
  assert {(row.steps, row.samples, row.n) for row in cell} == {(2, 36, 400)}
  assert len({row.value for row in cell}) == 2
  void = {int(row.size) for row in select(results, metric='void_error')}
  assert void == {10**n for n in range(8, 19)}
  assert len(select(results, metric='leak')) == 12


def scaled_as_asked(results):
  """Every unit and scale has seeds of its own."""
  scaled, cells = select(results, split='gt'), {}
  for row in scaled:
    notes = json.loads(row.hparams)
    cells.setdefault((notes['unit'], notes['scale']), []).append(row)
  assert set(cells) == {(u, s) for u in (1.0, 100.0) for s in (0.1, 1.0)}
  assert all([r.replica for r in rows] == [0, 1] for rows in cells.values())
  assert len({row.seed for row in scaled}) == len(scaled) == 8


def test_other_scales_are_another_run():
  parts = dataclasses.replace(Config(), parts=('scales',))
  other = dataclasses.replace(parts, scales=(1.0, 10.0))
  assert run_path(study.STUDY, parts) != run_path(study.STUDY, other)


def test_a_plan_is_that_of_the_whole_population():
  for parts, runs in (('comparisons', 6), ('scales', 2 * 9 * 7), ('lists', 1)):
    config = dataclasses.replace(Config(), parts=(parts,))
    assert study.resolved(config).replicas == 10 * runs
    assert study.problem(config) == study.jobs(config)[0].problem


def test_a_head_of_which_all_runs_fail_stops_no_other(tmp_path):
  flags = ('--heads=nsr,mlp', '--inputs=2', '--train.learning_rate=1e38')
  flags += ('--train.optimizer=sgd', f'--workdir={tmp_path}')
  assert run('--steps=3', '--redundancy=2', '--replicas=2', *flags) == 0
  results, _ = read_csv(tmp_path / 'results.csv')
  assert {row.arm for row in results} == {'nsr, 2 inputs', 'mlp, 2 inputs'}


def test_each_redundancy_is_a_case():
  config = dataclasses.replace(Config(), parts=('redundancy',))
  cases = list(comparisons.CASES['redundancy'](config))
  assert [(case.inputs, case.redundancy) for case in cases] == [
    (inputs, pairs) for inputs in (2, 10) for pairs in (1, 2, 4, 8, 15)
  ]
  assert [job.name for job in study.jobs(config)] == [c.name for c in cases]
  for case in cases:
    problem = comparisons.make_problem(config, case)
    assert problem.head.redundancy == case.redundancy
    assert problem.task.inputs == case.inputs
    sharp = config.sharpness if case.inputs == 10 else 1
    assert problem.sharpening.final == sharp


def test_float64_holds_what_float32_does_not(tmp_path):
  flags = ('--heads=nsr', '--inputs=2', '--dtype=float64')
  assert run(*SMALL, *flags, f'--workdir={tmp_path}') == 0
  results, _ = read_csv(tmp_path / 'results.csv')
  held = select(results, metric='error')
  sizes = {int(row.size) for row in held}
  assert sizes == {10**n for n in range(1, 16)}
  # Two inputs: what differs is their difference, and its digits are there.
  one = select(held, split='gt', replica=0)
  values = [row.value for row in one if int(row.size) < 10**15]
  assert len(values) == 14
  assert max(values) - min(values) < 1e-12


def test_composites_are_scored_at_every_size(tmp_path, monkeypatch):
  monkeypatch.setattr(composites, 'FOLDS', {'count': FOLDS['count']})
  monkeypatch.setattr(composites, 'LENGTHS', (5, 7))
  monkeypatch.setattr(composites, 'LARGEST', (20,))
  monkeypatch.setattr(composites, 'NODES', (10,))
  monkeypatch.setattr(composites, 'BELOW', (10, 20))
  flags = ('--parts=lists,paths', '--heads=nsr')
  assert run(*SMALL, *flags, f'--workdir={tmp_path}') == 0
  results, _ = read_csv(tmp_path / 'results.csv')
  assert {(row.rung, row.arm, row.split, row.size) for row in results} == {
    ('lists', 'nsr, count', 'count', '5x20'),
    ('lists', 'nsr, count', 'count', '7x20'),
    *(
      ('paths', f'nsr{by}, paths', 'paths', size)
      for by in ('', ' and nau')
      for size in ('10x10', '10x20')
    ),
  }
  cell = select(results, size='7x20')
  assert [row.seed for row in cell] == [0, 1]
  assert len({row.value for row in cell}) == 2
  assert {(row.steps, row.samples, row.n) for row in cell} == {(2, 800, 50)}
  report = (tmp_path / 'report.md').read_text()
  for arm in ('nsr, count', 'nsr, paths', 'nsr and nau, paths'):
    assert arm in report


def test_all_heads_but_sharpened_ones_fold_lists():
  config = Config()
  cases = list(composites.CASES['lists'](config))
  assert {case.head for case in cases} == {*config.heads} - {'nsr_sharpened'}
  assert {case.asked for case in cases} == {'minimum', 'count'}
  assert max(case.sizes[-1] for case in cases) == (50, 163_840)


def test_each_head_chooses_between_pieces_of_each_unit():
  cases = list(composites.CASES['pieces'](Config()))
  assert len({case.name for case in cases}) == 2 * 2 * len(Config().heads)
  assert {(case.asked, case.task.comparison) for case in cases} == {
    ('gt', 'gt'),
    ('eq', 'eq'),
  }
  assert max(cases[0].sizes) == (2**14,)
  for case in cases[:: len(Config().heads)]:
    params = jax.eval_shape(
      composites.make_problem(Config(), case).init, jax.random.key(0)
    )
    gated = 'gate' in params['holds']['unit']
    assert gated == ('nalu' in case.name)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'parts': ('graphs',)}, '--parts=graphs: name each once'),
    ({'heads': ('nsr', 'nsr')}, '--heads=nsr: name each once'),
    ({'inputs': ()}, '--inputs=: at least one number'),
    ({'scales': (1.0, 1.0)}, '--scales=1,1: at least one number, and each'),
    ({'eval': 'none'}, 'always evaluates'),
    (
      {'train': dataclasses.replace(Config().train, optimizer='muon')},
      'optimizer=muon: one of adam',
    ),
    (
      {'train': dataclasses.replace(Config().train, schedule_steps=60_000)},
      'less than --train.schedule_steps=60000',
    ),
    (
      {'train': dataclasses.replace(Config().train, evaluate_every=10)},
      'evaluate_every=10',
    ),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))


def test_the_protocol_is_the_published_one():
  config = Config()
  train = config.train
  assert (train.optimizer, train.learning_rate) == ('adam', 1e-3)
  assert (train.b1, train.b2, train.epsilon) == (0.9, 0.999, 1e-8)
  assert (train.clip, train.schedule, train.warmup_steps) == (0, 'constant', 0)
  assert (config.steps, config.replicas, config.redundancy) == (50_000, 10, 10)


def rows_of(errors, metric='error', size=10, split='gt', n=4, unit=1.0):
  """Rows of one comparison, a value a seed."""
  notes = {'dtype': 'float32', 'unit': unit, 'scale': 1.0}
  count = len(errors)
  source = made_rows.source(
    'status_registers', 'nsr', count, notes, rung='comparisons'
  )
  return [
    source.row(replica, split, str(size), metric, value, n)
    for replica, value in enumerate(errors)
  ]


def test_a_seed_is_judged_by_its_worst_column_that_counts():
  rows = rows_of([0.0, 0.0]) + rows_of([0.0, 0.0], split='lt')
  rows += rows_of([0.004, 0.03], size=100)
  rows += rows_of([0.004, 0.01], size=100, split='lt')
  rows += rows_of([0.5, 0.5], 'void_error', 1000)
  rows += rows_of([0.008, 0.004], size=10_000)
  table = reach_table(rows)
  assert table.headers[:4] == ['arm', '10^1', '10^2', '10^4']
  (line,) = table.rows
  assert line[1:6] == ['0', '0.012', '0.006', '0.02', '1 of 2']
  drawn = over_comparisons(rows)
  assert [(r.size, r.replica) for r in drawn][2:4] == [('100', 0), ('100', 1)]
  assert [row.value for row in drawn][2:4] == pytest.approx([0.004, 0.02])
  assert '1000' not in {row.size for row in drawn}
  (line,) = comparison_table(rows).rows
  assert line == ['nsr', '1 of 2 (9..91 %)', '1 of 2 (9..91 %)']


def test_the_corners_of_a_part_are_shown_and_all_of_it_counts():
  rows = []
  for size, errors in (
    ('5x20', [0.0, 0.2]),
    ('5x40', [0.009, 0.5]),
    ('9x20', [0.001, 0.1]),
    ('9x40', [0.002, 0.3]),
    ('7x20', [0.0, float('inf')]),
  ):
    rows += rows_of(errors, size=size)
  table = corner_table(rows)
  assert table.headers[1:5] == ['5x20', '5x40', '9x20', '9x40']
  (line,) = table.rows
  assert line == [
    'nsr',
    '0.1',
    '0.255',
    '0.0505',
    '0.151',
    'inf',
    '1 of 2',
    '9..91',
  ]


def test_scales_are_means_over_seeds():
  rows = rows_of([0.1, 0.3]) + rows_of([0.5, 0.5], unit=10.0)
  table = scale_table(rows, 'gt')
  assert table.headers == ['lambda', '1', '10']
  (line,) = table.rows
  assert line == ['1', '0.200 (0.100..0.300)', '0.500 (0.500..0.500)']
