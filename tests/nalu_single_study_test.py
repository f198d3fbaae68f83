"""The study of single modules: a small run, its tables, bad input."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import nalu_single
from experiments.nalu_single import OPS, PRIMER, RANGES, Config
from experiments.nalu_single_tables import (
  LOOSE,
  detail_table,
  overview_table,
  represented,
)
from extrap import cli
from extrap.arithmetic_runs import Runs
from extrap.errors import UsageError
from extrap.evaluation.arithmetic_criterion import single_module_error
from extrap.evaluation.results import read_csv, select
from extrap.factors import Growth, Ramp
from extrap.guarded_gradients import Limits
from extrap.models.units import UNITS
from extrap.training.problem import Context
from tests import made_rows

SMALL = (
  '--units=nau,nmu',
  '--ops=add,mul',
  '--replicas=3',
  '--steps=40',
  '--train.evaluate_every=20',
  '--train.steps_per_dispatch=20',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(nalu_single.main, Config, argv=['nalu_single', *flags])
  return caught.value.code


def test_a_small_run_scores_every_seed_on_every_range_and_goes_on(
  tmp_path, capsys, caplog
):
  folder = f'--workdir={tmp_path / "run"}'
  with jax.log_compiles():
    assert run(folder, *SMALL, '--ranges=1..2,-2..2') == 0
  # One program serves both ranges: the second at least finds it in the cache.
  keys = re.findall(r"cache hit .*'(jit_run-[0-9a-f]+)'", caplog.text)
  assert len(set(keys)) == 1
  shown = capsys.readouterr()
  assert 'train range -2..2, 2 of 2' in shown.err
  assert 'cannot represent' in shown.out
  results, _ = read_csv(tmp_path / 'run' / 'results.csv')
  tests = {}
  for unit, op in (('nau', 'add'), ('nmu', 'mul')):
    for name in ('1..2', '-2..2'):
      cell = select(results, arm=unit, split=f'{op}:{name}')
      for metric in ('solved', f'solved{LOOSE}'):
        rows = select(cell, metric=metric)
        assert [row.seed for row in rows] == [0, 1, 2]
        assert {(row.steps, row.size, row.n) for row in rows} == {(40, '2', 1)}
      tests[op, name] = [row.value for row in select(cell, metric='test')]
      assert len(set(tests[op, name])) == 3
  # Inputs of U[2, 6] and of both signs are not equally hard.
  assert tests['add', '1..2'] != tests['add', '-2..2']
  report = (tmp_path / 'run' / 'report.md').read_text(encoding='utf-8')
  assert '(plots/solved.png)' in report
  assert (tmp_path / 'run' / 'plots' / 'solved.png').exists()
  assert run(folder, *SMALL, '--ranges=1..2') == 0
  assert 'train' not in capsys.readouterr().err
  again, _ = read_csv(tmp_path / 'run' / 'results.csv')
  assert again == [row for row in results if row.split.endswith(':1..2')]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'units': ('nmu', 'none')}, '--units=none: name each once, of dmu'),
    ({'units': ('primer', 'nmu')}, '--units=primer: name each once'),
    ({'units': ()}, '--units needs at least one'),
    ({'ops': ('root',)}, '--ops=root: name each once, of add, sub'),
    ({'ranges': ('1..3',)}, r'--ranges=1..3: name each once, of -20..-10'),
    ({'units': ('nmu', 'relu6'), 'ops': ('div',)}, 'represents nothing of'),
    ({'steps': 1500}, 'no multiple of --train.evaluate_every=1000'),
    ({'eval': 'none'}, 'always evaluates'),
    (
      {'train': dataclasses.replace(Config().train, clip=1.0)},
      'without clipping',
    ),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message) as caught:
    nalu_single.check(dataclasses.replace(Config(), **changes))
  assert '\n' not in str(caught.value)


def test_the_default_is_the_primers_benchmark():
  config = Config()
  nalu_single.check(config)
  assert config.as_published and config.cells == config.trained == PRIMER
  runs = sum(map(len, config.trained.values()))
  assert (runs, runs * len(RANGES) * config.replicas) == (23, 5175)
  train = config.train
  adam = (train.optimizer, train.learning_rate, train.b1, train.b2)
  assert adam == ('adam', 1e-3, 0.9, 0.999)
  assert (config.steps, config.batch_size) == (50_000, 128)
  assert not dataclasses.replace(config, steps=1000).as_published


def test_units_are_trained_as_they_were():
  config = dataclasses.replace(Config(), units=('all',))
  arms = nalu_single.problem(config).arms
  late = Ramp(10.0, 20_000, 35_000)
  assert arms['nmu'].ramp == arms['nmru'].ramp == late
  assert arms['nau'].ramp == Ramp(0.01, 20_000, 35_000)
  for unit in ('npu', 'real_npu'):
    assert (arms[unit].rate, arms[unit].operations) == (5.0, ('mul', 'div'))
    schedules = [Growth(1e-7, 1e-5), Growth(1e-9, 1e-7)]
    assert arms[unit].schedules == schedules
  inalu = arms['inalu']
  assert (inalu.limits, inalu.below) == (Limits(element=0.1), 1.0)
  assert inalu.ramp.at(jnp.int32(10_000)) == 0
  assert float(inalu.ramp.at(jnp.int32(10_001))) == pytest.approx(0.05)
  assert (arms['nru'].rate, arms['nmru'].limits.norm) == (1000.0, 1.0)
  for unit in ('nac_add', 'nalu', 'g_nalu', 'dmu', 'linear'):
    assert not arms[unit].regularised and arms[unit].rate == 1
  assert arms['mul_mcfc'].model.unit.trash_cells == 0


def test_every_unit_is_trained_on_what_it_represents_and_on_nothing_else():
  config = dataclasses.replace(Config(), units=('all',))
  assert config.cells == dict.fromkeys(UNITS.names(), OPS)
  assert config.trained['dmu'] == OPS and 'relu6' not in config.trained
  assert config.trained['nmu'] == ('mul',)
  problem = nalu_single.problem(config)
  data = {'trained': np.ones(4, np.float32), 'tested': np.ones(4, np.float32)}
  ctx = Context(jax.random.key(0), jnp.int32(0), {'offset': 0.0}, data)

  def step():
    params = problem.init(ctx.key)
    learn = jax.grad(lambda p: problem.loss(p, problem.sample(ctx), ctx)[0])
    return learn(params), problem.evaluate(params, ctx)

  grads, metrics = jax.eval_shape(step)
  assert set(grads) == set(config.trained)
  tested = {name for name in metrics if name.startswith('test/')}
  wanted = {f'test/{u}/{op}' for u, ops in config.trained.items() for op in ops}
  assert tested == wanted


def runs_of(**errors):
  """Two evaluations of runs whose test errors are those, on products."""
  test = list(errors.values())
  record = {
    'step': 1000,
    'held_out/validation/nmu/mul': [1.0] * len(test),
    'held_out/test/nmu/mul': [1.0] * len(test),
    'held_out/sparsity/nmu/mul': [0.5] * len(test),
  }
  last = record | {'step': 2000, 'held_out/test/nmu/mul': test}
  last['held_out/validation/nmu/mul'] = [0.5] * len(test)
  seeds = tuple(range(len(test)))
  source = made_rows.source(
    'nalu_single', '', len(seeds), steps=(2000,) * len(test)
  )
  return Runs({}, [record, last], np.ones(len(test), bool), source)


def scored(units=('nmu',), name='1..2', **changes):
  """Rows of two seeds, of which one is below the first threshold."""
  config = dataclasses.replace(Config(), units=units, replicas=2, **changes)
  loose = single_module_error('mul', RANGES[name][1], 1e-4)
  runs = runs_of(close=0.5 * loose, closer=0.005 * loose)
  return [
    row
    for op in ('add', 'mul')
    for row in nalu_single.rows_of_cell(config, runs, 'nmu', op, name)
  ]


def test_both_conventions_are_scored_from_the_same_runs():
  products = select(scored(), split='mul:1..2')
  counts = {
    metric: [row.successes for row in select(products, metric=metric)]
    for metric in ('solved', f'solved{LOOSE}')
  }
  assert counts == {'solved': [0, 1], f'solved{LOOSE}': [1, 1]}
  steps = [row.value for row in select(products, metric='step')]
  assert steps == [None, 2000.0]
  notes = json.loads(products[0].hparams)
  assert notes['loose'] == pytest.approx(100 * notes['threshold'], rel=1e-3)
  sums = select(scored(), split='add:1..2')
  assert {(row.value, row.n) for row in sums} == {(None, 0)}


def test_tables_show_both_conventions_and_what_cannot_be():
  results = scored() + scored(name='-2..-1')
  sums, products = overview_table(results).rows
  assert sums[:4] == ['nmu', 'add', 'cannot represent', '']
  assert products[2:5] == ['2 of 4', '0 of 2', '2,000']
  assert overview_table(represented(results)).rows == [products]
  assert products[5:] == ['4 of 4', '2 of 2', '2,000']
  lines = detail_table(results).rows
  assert [line[:3] for line in lines] == [
    ['nmu', 'add', 'any range'],
    ['nmu', 'mul', '1..2'],
    ['nmu', 'mul', '-2..-1'],
  ]
  assert lines[0][3] == 'cannot represent'
  assert lines[2][3:] == [
    *('1 of 2', '9.5..90.5', '2,000'),
    *('2 of 2', '34.2..100.0', '2,000', '20 of 25'),
  ]
  (line,) = detail_table(select(scored(steps=2000), split='mul:1..2')).rows
  assert line[-1] == ''
