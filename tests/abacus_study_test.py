"""The study of Abacus embeddings in both sizes, and what it refuses."""

import dataclasses
import json
from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import abacus
from experiments.abacus import (
  Config,
  check,
  make_problem,
  resolved,
  training_flops,
)
from experiments.abacus_arms import ArmName
from experiments.abacus_report import claims
from experiments.abacus_settings import MATRIX, SETTINGS
from extrap import arms, cli, scoring
from extrap.arms import Arm
from extrap.config_flags import from_arguments
from extrap.errors import UsageError
from extrap.evaluation.exact_match import exact_match, first_match
from extrap.evaluation.regions import region_of
from extrap.evaluation.results import read_csv, select
from extrap.models import TransformerConfig
from extrap.planning import measure
from extrap.planning.hlo_costs import Costs
from extrap.reporting.regions import region_table
from extrap.training.trainer import make_trainer
from tests import made_rows

DENSE = TransformerConfig(attention='dense')
TINY = (
  '--replicas=2',
  '--model.width=8',
  '--model.heads=2',
  '--model.ffn_width=8',
)
SMALL = (
  *TINY,
  '--arms=abacus_lt',
  '--steps=20',
  '--batch_size=4',
  '--grid=11',
  '--train.evaluate_every=10',
  '--rates=1e-3',
  '--shifts=2',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(abacus.main, Config, argv=['abacus', *flags])
  return caught.value.code or 0


def test_arms_are_trained_and_every_region_scored(tmp_path, capfd, monkeypatch):
  monkeypatch.setattr(scoring, 'BUCKETS', (11,))  # Padding would take longest.
  # Learning rates are chosen in the test of the ladder.
  monkeypatch.setattr(arms, 'tune', lambda *_: (1e-3, {}))
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  cells = {
    row.split: row.n for row in select(results, arm='abacus_lt', replica=1)
  }
  assert cells['region:in distribution'] == 20 * 100
  assert cells['region:out of distribution'] == 20 * (121 - 100)
  assert {row.samples for row in results} == {80}
  # A second reach, of predictions averaged over shifts.
  reach = {row.arm: json.loads(row.hparams) for row in results}
  assert list(reach) == ['abacus_lt', 'abacus_lt, 2 shifts']
  assert reach['abacus_lt, 2 shifts']['tested_id'] == 'place 60'
  assert reach['abacus_lt']['optimizer'] == 'muon'
  for row in results:
    share = json.loads(row.hparams)['budget_share']
    assert share == pytest.approx(row.flops / 2e13, rel=0.01)
    # A single rate is not tried out.
    assert json.loads(row.hparams)['learning_rate'] == 1e-3
  assert not (path / 'arms' / 'abacus_lt' / 'rates').exists()
  report = (path / 'report.md').read_text()
  assert '## Reach' in report and 'out of distribution' in report
  assert '(arms/abacus_lt/grid.png)' in report
  of_cells, _ = read_csv(path / 'arms' / 'abacus_lt' / 'cells_exact_match.csv')
  assert len(of_cells) == 2 * 121
  for seed in range(2):
    beyond = select(of_cells, replica=seed, split='out_of_distribution')
    (region,) = select(
      results, replica=seed, split='region:out of distribution'
    )
    assert sum(row.successes for row in beyond) == region.successes
  assert 'abacus_lt' in capfd.readouterr().out


def test_the_matrix_is_matched_in_forward_work_and_samples():
  config = check(Config())
  assert len(MATRIX) == 11
  problems = {name: make_problem(config, name) for name in MATRIX}
  applied = {
    name: (p.model.config.depth * p.model.config.recurrences)
    for name, p in problems.items()
  }
  assert set(applied.values()) == {4}
  assert {n for n, p in problems.items() if p.progressive == 1} == {
    name for name in MATRIX if name.endswith('_lt')
  }
  assert {n for n, p in problems.items() if p.model.config.inject_every} == {
    name for name in MATRIX if name.endswith(('_lt', '_ii'))
  }


def test_sorting_is_scored_by_its_least_number_too(tmp_path, monkeypatch):
  source = made_rows.source(
    'abacus', 'nope_st', 2, steps=(20, 10), samples=(80, 40), flops=(2e13, 1e13)
  )
  config = at_size('mini', '--task=sorting', '--grid=6', '--replicas=2')
  problem = make_problem(config, 'nope_st')
  arm = Arm('nope_st', problem, SimpleNamespace(params=None), source)

  def count_right(model, params, task, suite, *_):
    right = {exact_match: [1, 2], first_match: [3, 4]}[suite.match]
    return {cell: np.array(right) for cell in suite.cells}

  monkeypatch.setattr(abacus, 'train_tuned', lambda *_: arm)
  monkeypatch.setattr(abacus, 'count_right', count_right)
  run = SimpleNamespace(path=tmp_path)
  folder = tmp_path / 'arms' / 'nope_st'
  folder.mkdir(parents=True)
  kept = SimpleNamespace(check=None, run=run)
  results = abacus.study_of(config, kept, 'nope_st')
  shares = [json.loads(row.hparams)['budget_share'] for row in results[:2]]
  assert shares == [1.0, 0.5]
  inside = select(results, split='region:in distribution')
  assert [(row.metric, row.value) for row in inside] == [
    ('exact_match', 0.05),
    ('exact_match', 0.1),
    ('first_match', 0.15),
    ('first_match', 0.2),
  ]
  tables = [
    region_table(results, m).rows for m in ('exact_match', 'first_match')
  ]
  assert [rows[0][1] for rows in tables] == ['0 of 2', '0 of 2']
  assert [rows[0][2][0] for rows in tables] == ['5', '1']
  least, _ = read_csv(folder / 'cells_first_match.csv')
  assert {row.value for row in least} == {0.15, 0.2}


def at_size(size, *arguments):
  """The configuration that a command describes, with its steps."""
  return resolved(from_arguments(Config, f'--size={size}', *arguments))


@pytest.mark.parametrize(
  ('task', 'size'),
  [
    *((task, 'mini') for task in SETTINGS['mini']),
    ('sorting', 'paper'),
    # Tracing the widest models takes seconds each.
    *(
      pytest.param(task, 'paper', marks=pytest.mark.slow)
      for task in SETTINGS['mini']
      if task != 'sorting'
    ),
  ],
)
def test_default_steps_use_the_budget(size, task):
  config = at_size(size, f'--task={task}')
  # FIRE's network makes its arms the dearest.
  dearest = next(name for name in config.setting.arms if 'fire' in name)
  most = training_flops(config, make_problem(config, dearest))
  assert 0.9 * config.setting.budget < most <= config.setting.budget


def test_regions_are_the_published_ones_or_halved():
  for size, inside, outside in (('mini', 100, 2400), ('paper', 400, 9600)):
    setting = SETTINGS[size]['addition']
    side = range(1, setting.grid + 1)
    sizes = setting.trained, setting.grid
    found = [region_of((i, j), *sizes) for i in side for j in side]
    assert found.count('in distribution') == inside
    assert found.count('out of distribution') == outside
  lengths = [n for n in range(21, 161) if region_of((n, n), *sizes)[0] == 'e']
  assert lengths == list(range(101, 161))


@pytest.mark.parametrize(
  ('task', 'arm', 'millions', 'layers'),
  [
    ('addition', 'abacus_st', 118.1, (16, 1)),
    ('addition', 'abacus_ii', 118.1, (16, 1)),
    ('addition', 'abacus_lt', 7.9, (1, 16)),
    ('addition', 'abacus_lt2', 59.3, (8, 2)),
    ('multiplication', 'fire_lt4', 29.4, (4, 4)),
    ('sorting', 'abacus_st', 59.5, (8, 1)),
    ('bitwise_or', 'nope_st', 117.5, (16, 1)),
  ],
)
def test_the_paper_has_its_sizes(task, arm, millions, layers):
  config = at_size('paper', f'--task={task}')
  problem = make_problem(config, arm)
  params = jax.eval_shape(problem.init, jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count / 1e6 == pytest.approx(millions, abs=0.05)
  model = problem.model.config
  assert (model.depth, model.recurrences) == layers
  assert problem.progressive == (layers[1] > 1)


def test_the_paper_trains_by_its_recipe():
  config = at_size('paper')
  train = dataclasses.replace(config.train, steps=config.steps)
  assert (train.b1, train.b2, train.weight_decay) == (0.9, 0.98, 0.01)
  assert train.resolved_warmup_steps == config.steps // 10
  for task, arm, rate in (
    ('addition', 'fire_st', 1e-4),
    ('multiplication', 'abacus_lt4', 1e-4),
    ('multiplication', 'abacus_fire_lt4', 6e-5),
  ):
    assert SETTINGS['paper'][task].rates_of(arm) == (rate,)
  given = at_size('paper', '--rates=1e-3', '--task=multiplication')
  assert given.setting.rates_of('fire_lt4') == (1e-3,)
  assert at_size('paper', '--model.dtype=float32').model.dtype == 'float32'


def test_a_step_of_the_paper_can_be_traced_and_planned(monkeypatch):
  nothing = Costs(Counter(), 0.0, Counter(), Counter())

  def trace(trainer, simulated):
    assert simulated
    make_trainer(
      trainer.problem,
      trainer.config,
      replicas=trainer.replicas,
      mesh=trainer.mesh,
    ).check()
    return 0.0, nothing

  # Compiling it takes a minute; `python -m launch.plan` does.
  monkeypatch.setattr(measure, '_compile', trace)
  config = from_arguments(Config, '--size=paper', '--mesh.data=-1')
  step = measure.measure(abacus, config)
  assert (step.mesh['data'], step.replicas) == (8, 3)
  assert step.parameters == 117_536_768 and step.dtype == 'bfloat16'
  # Steps are small at first: what they cost is less than half.
  assert step.steps == pytest.approx(
    0.412 * SETTINGS['paper']['addition'].steps, rel=0.01
  )


def test_every_table_holds_every_test():
  config = at_size('paper', '--arms=learned_st,coupling_lt')
  assert check(config) == config
  problem = make_problem(config, 'learned_st')
  assert problem.model.config.position.max_size == 3 * 160 + 4


def test_arms_may_spread_positions_or_write_hints():
  """As far as places are shifted; as many hints as the longest test needs."""
  names = ('randomised_fire_lt', 'hints_nope_ii', 'hints_randomised_learned_st')
  config = check(dataclasses.replace(Config(), arms=names, grid=30))
  assert 3000 < config.steps < 4000  # Hints are tokens: as many as may be.
  fire, hints, both = (make_problem(config, name) for name in names)
  assert fire.model.config.position.stretch == 3 * 60 + 4
  assert (fire.task.hints, hints.task.hints, both.task.hints) == (0, 81, 81)
  assert both.model.config.position.max_size > 3 * 80
  assert [ArmName.of(name).rung for name in names] == [
    *('L2 FIRE, randomised', 'L1 none, index hints'),
    'L1 none, randomised, index hints',
  ]
  assert ArmName.of('place_window_st').rung == 'L6 hard window'
  assert arms.largest_trained_id(fire) == 'position 183'
  assert arms.largest_trained_id(hints) == 'hint 80'
  assert arms.largest_id(hints, 30) == 'hint 30'


@pytest.mark.parametrize(
  ('shift', 'largest'),
  [(None, 'place 60'), (110, 'place 120'), (0, 'place 10')],
)
def test_shift_is_that_of_training(shift, largest):
  config = dataclasses.replace(Config(), arms=('abacus_ii',), shift=shift)
  problem = make_problem(check(config), 'abacus_ii')
  assert arms.largest_trained_id(problem) == largest


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'task': 'division'}, '--task=division: one of'),
    ({'arms': ('abacus_xl',)}, 'end it with _st, _ii, _lt, _lt2'),
    ({'arms': ('abacos_st',)}, "no encoding 'abacos'"),
    ({'arms': ('nope_st', 'nope_st')}, 'name each once'),
    ({'grid': 10}, 'does not go beyond'),
    ({'steps': 100_000}, 'FLOPs a seed; at most --steps='),
    ({'eval': 'none'}, 'always evaluates'),
    ({'arms': ('abacus_st',), 'shift': 149}, '--shift=149: at most 148 fit'),
    ({'arms': ('fire_st',), 'shift': 50}, 'fire_st has no places to shift'),
    (
      {'arms': ('nope_st',), 'grid': 3000, 'model': DENSE},
      'GiB for a single row',
    ),
    ({'task': 'sorting', 'grid': 60}, '60 numbers need as many tags'),
    ({'task': 'sorting', 'arms': ('hints_nope_st',)}, 'sums alone have index'),
    ({'arms': ('randomised_nope_st',)}, 'has no positions to spread'),
    ({'arms': ('randomised_abacus_fire_lt',)}, 'has no positions to spread'),
    ({'arms': ('none_st',)}, "no encoding 'none'"),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))


def regions_of(arm, inside, outside):
  """Rows of an arm with given values in and out of distribution."""
  seeds = tuple(range(len(inside)))
  source = made_rows.source(
    'abacus', arm, len(seeds), steps=seeds, samples=seeds, flops=seeds
  )
  return [
    source.row(seed, f'region:{name}', '50', 'exact_match', value, 10, 0)
    for name, found in (
      ('in distribution', inside), ('out of distribution', outside)
    )
    for seed, value in enumerate(found)
  ]  # fmt: skip


def test_orderings_are_of_the_seeds_that_learned():
  assert not claims([]).rows
  results = regions_of('abacus_st', [1, 1, 0.99, 0.2], [0.5, 0.6, 0.4, 0.0])
  assert not claims(results).rows
  results += regions_of('abacus_lt', [1, 1, 1, 1], [0.9, 0.9, 0.9, 0.8])
  results += regions_of('nope_st', [0.1, 0.9, 0.1, 1], [0, 0, 0, 0])
  loops, nope = claims(results).rows
  assert loops[:3] == ['abacus_lt above abacus_st', '4 and 3', '+37.5']
  assert loops[4] == 'confirmed' and loops[5].startswith('+50.0 (')
  assert nope[1:5] == ['3 and 1', '', '', 'not learned']
  # Of all seeds there is a difference, and no verdict.
  assert nope[5].startswith('+37.5 (-') and nope[5].endswith(')')
  one_seed = regions_of('abacus_st', [1], [0.5])
  one_seed += regions_of('abacus_lt', [1], [0.9])
  (line,) = claims(one_seed).rows
  assert line[1:] == ['1 and 1', '', '', 'not learned', '']
  learned = {row[0]: row[1] for row in region_table(results).rows}
  assert learned['abacus_st'] == '3 of 4' and learned['nope_st'] == '1 of 4'
