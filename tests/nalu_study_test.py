"""The study of arithmetic units: a small run, its tables, bad input."""

import dataclasses

import jax.numpy as jnp
import pytest

from experiments import nalu
from experiments.nalu_tables import sparsity_mean, success_table, time_table
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv, select
from extrap.factors import Ramp
from extrap.tasks.arithmetic import Arithmetic
from tests import made_rows

SMALL = (
  '--units=nau,linear',
  '--ops=sub,div',
  '--decay=none,cosine',
  '--replicas=3',
  '--block=2',
  '--steps=40',
  '--task.inputs=8',
  '--threshold=corrected',
  '--train.evaluate_every=20',
  '--train.steps_per_dispatch=20',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(nalu.main, nalu.Config, argv=['nalu', *flags])
  return caught.value.code


def test_a_small_run_scores_every_seed_once_and_goes_on(tmp_path, capsys):
  folder = tmp_path / 'run'
  assert run(f'--workdir={folder}', *SMALL) == 0
  assert 'train seeds 2 to 2' in capsys.readouterr().err
  results, comments = read_csv(folder / 'results.csv')
  assert comments[0].startswith('command: ')
  for unit in ('nau', 'linear'):
    for operation in ('sub', 'div'):
      tests = set()
      for arm in (unit, f'{unit}, cosine'):
        rows = select(results, arm=arm, split=operation, metric='solved')
        assert [row.seed for row in rows] == [0, 1, 2]
        assert {(row.steps, row.size, row.n) for row in rows} == {(40, '8', 1)}
        test = select(results, arm=arm, split=operation, metric='test')
        tests |= {row.value for row in test}
      # Seeds differ, and so does a learning rate that falls.
      assert len(tests) == 6
  assert 'Solved' in (folder / 'report.md').read_text(encoding='utf-8')
  before = (folder / 'results.csv').read_bytes()
  assert run(f'--workdir={folder}', *SMALL) == 0
  assert 'train' not in capsys.readouterr().err
  assert (folder / 'results.csv').read_bytes() == before


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'units': ('nmu', 'none')}, '--units=none: name each once'),
    ({'ops': ('mul', 'mul')}, '--ops=mul: name each once'),
    ({'steps': 1500}, 'no multiple of --train.evaluate_every=1000'),
    (
      {'task': dataclasses.replace(nalu.Config().task, inputs=50)},
      '--threshold=corrected',
    ),
    ({'eval': 'none'}, 'always evaluates'),
    ({'decay': ('linear',)}, '--decay=linear: name each once, of none, cosine'),
    (
      {
        'decay': ('none', 'cosine'),
        'train': dataclasses.replace(nalu.Config().train, schedule='cosine'),
      },
      'a factor of a constant rate, not of --train.schedule=cosine',
    ),
    (
      {'train': dataclasses.replace(nalu.Config().train, optimizer='adamw')},
      'optimizer=adamw --train.clip=0: one of adam',
    ),
    (
      {'train': dataclasses.replace(nalu.Config().train, evaluate_every=0)},
      'evaluate_every=0',
    ),
    (
      {
        'ops': ('root',),
        'task': Arithmetic(trained=(-2.0, 2.0)),
        'threshold': 'corrected',
      },
      'root needs inputs that are not negative',
    ),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    nalu.check(dataclasses.replace(nalu.Config(), **changes))


def rows_of_nmu(solved, as_published=True):
  """Rows of as many seeds, some of them solved, at growing steps."""
  n = len(solved)
  source = made_rows.source(
    'nalu', 'nmu', n, {'as_published': as_published}, steps=(5_000_000,) * n
  )
  rows, size = [], '100'
  for replica, right in enumerate(solved):
    rows.append(source.row(replica, 'mul', size, 'solved', right, 1, right))
    step = 1000.0 * (replica + 1) if right else None
    rows.append(source.row(replica, 'mul', size, 'step', step, 1))
    rows.append(
      source.row(replica, 'mul', size, 'sparsity', 0.1 + right / 10, 1)
    )
  return rows


def test_success_is_compared_with_what_was_published_of_as_many_steps():
  (line,) = success_table(rows_of_nmu([1] * 9 + [0])).rows
  assert line[:4] == ['nmu', 'mul', '9 of 10', '90.0 %']
  assert line[5:] == ['98 of 100', '-38.4..1.6', 'yes']
  (line,) = success_table(rows_of_nmu([0] * 10)).rows
  assert line[-1] == 'no'
  (line,) = success_table(rows_of_nmu([1], as_published=False)).rows
  assert line[5:] == ['', '', '']


def test_steps_are_those_of_solved_runs():
  (line,) = time_table(rows_of_nmu([1, 1, 1, 0])).rows
  assert line[:5] == ['nmu', 'mul', '2,000', '1,434,500', '2,000']
  assert line[6:8] == ['1.52e+06 (1.5e+06)', '2.0e-01']
  assert time_table(rows_of_nmu([0, 0])).rows == []
  (alone,) = time_table(rows_of_nmu([1, 0])).rows
  assert (alone[2], alone[5], alone[8]) == ('1,000', '', '')
  (line,) = time_table(rows_of_nmu([1, 1], as_published=False)).rows
  assert (line[3], line[6], line[9]) == ('', '', '')


def test_what_is_compared_with_the_published_runs_is_made_as_they_were():
  default = nalu.Config()
  assert default.as_published
  train = default.train
  adam = (train.optimizer, train.learning_rate, train.b1, train.b2)
  assert adam == ('adam', 1e-3, 0.9, 0.999)
  assert (train.epsilon, train.clip, train.schedule) == (1e-8, 0.0, 'constant')
  assert (default.hidden, default.batch_size) == (2, 128)
  quicker = dataclasses.replace(train, steps_per_dispatch=5000)
  assert dataclasses.replace(default, train=quicker, block=3).as_published
  cosine = dataclasses.replace(train, schedule='cosine')
  for changes in (
    {'steps': 1000},
    {'hidden': 10},
    {'onset': 0.4},
    {'pinned': True},
    {'threshold': 'corrected'},
    {'train': cosine},
  ):
    assert not dataclasses.replace(default, **changes).as_published
  ramps = {name: arm.ramp for name, arm in nalu.problem(default).arms.items()}
  assert ramps['nmu'] == Ramp(10.0, 1_000_000, 2_000_000)
  assert ramps['nau'] == Ramp(0.01, 5_000, 50_000)
  sooner = nalu.problem(dataclasses.replace(default, onset=0.4)).arms['nmu']
  assert sooner.ramp == Ramp(10.0, 400_000, 800_000)
  assert ramps['linear'].factor == ramps['nac_add'].factor == 0


def test_a_model_is_trained_with_each_decay_and_compared_without():
  config = dataclasses.replace(
    nalu.Config(), units=('linear',), decay=('none', 'cosine'), steps=2000
  )
  arms = nalu.problem(config).arms
  assert list(arms) == ['linear', 'linear, cosine']
  steps = (0, 1000, 2000)
  rates = [
    [float(arm.rate_at(jnp.int32(step))) for step in steps]
    for arm in arms.values()
  ]
  assert rates[0] == [1, 1, 1]
  assert rates[1] == pytest.approx([1, 0.5, 0], abs=1e-6)
  # A folder's schedule is as long as its first run was to be.
  longer = dataclasses.replace(
    config, train=dataclasses.replace(config.train, schedule_steps=1000)
  )
  with pytest.raises(UsageError, match='--steps=2000 goes beyond 1000'):
    nalu.problem(longer)
  nalu.problem(dataclasses.replace(longer, decay=('none',)))
  rows = rows_of_nmu([1])
  rows += [dataclasses.replace(row, arm='nmu, cosine') for row in rows]
  plain, falling = success_table(rows).rows
  assert plain[5] == '98 of 100'
  assert falling[0] == 'nmu, cosine' and falling[5:] == ['', '', '']


def test_sparsity_beyond_a_half_has_no_beta_distribution():
  assert sparsity_mean([0.2, 0.4]).high < 0.5
  assert sparsity_mean([0.2, 0.9]).mean == pytest.approx(0.55)
