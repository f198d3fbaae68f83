"""The study of certified operations, small, and what it refuses."""

import dataclasses
import json

import pytest

from experiments import certified
from experiments.certified import (
  Config,
  check,
  make_problem,
  suites,
)
from experiments.certified_cases import CASES
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv, select
from extrap.models import TransformerConfig
from extrap.models.positions import PlaceBias, PlaceWindow
from extrap.tasks.summation import Summation

SMALL = (
  '--tasks=parity',
  '--steps=100',
  '--replicas=2',
  '--model.width=32',
  '--model.ffn_width=32',
  '--lengths=5,40',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(certified.main, Config, argv=['certified', *flags])
  return caught.value.code or 0


def test_parity_is_trained_scored_and_certified(tmp_path, capfd, monkeypatch):
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  assert json.loads((path / 'status.json').read_text())['state'] == 'done'
  results, comments = read_csv(path / 'results.csv')
  assert any('commit' in comment for comment in comments)
  scored = select(results, metric='exact_match')
  stress = [row for row in scored if ':' in row.split]
  scored = [row for row in scored if ':' not in row.split]
  assert {row.size for row in scored} == {'5', '40'}
  assert {row.size for row in stress} == {'1', '2', '3', '5', '10', '20'}
  assert all(row.value == 1 for row in stress)
  found = select(results, metric='certified')
  assert [(row.arm, row.n) for row in found] == [('parity', 14)] * 2
  # 100 steps are enough for 14 contexts, or nothing here is learned.
  assert [row.value for row in found] == [1.0, 1.0]
  assert [row.value for row in scored] == [1.0] * 4
  report = (path / 'report.md').read_text()
  assert 'passed (measured)' in report
  assert 'period 3' in report
  # Of a run that has made one of its tasks, that one is shown.
  config = Config(tasks=('copying', 'parity'), lengths=(5, 40))
  certified.write_report_of(config, tmp_path, results)
  assert 'copying' not in (tmp_path / 'report.md').read_text()
  said = capfd.readouterr()
  assert 'parity, seed 1: passed' in said.out
  assert 'certify parity  part 1/1' in said.err
  # Again: nothing is trained or scored anew.
  assert run(*SMALL, f'--workdir={path}') == 0
  assert read_csv(path / 'results.csv')[0] == results
  assert 'train parity' not in capfd.readouterr().err
  # More rows are asked for: those kept are not enough.
  asked = []
  monkeypatch.setattr(
    certified, 'study_of', lambda config, *_: asked.append(config) or results
  )
  assert run(*SMALL, f'--workdir={path}', '--eval=full') == 0
  assert [config.eval for config in asked] == ['full']


def test_every_task_has_contexts():
  check(Config(tasks=tuple(CASES)))
  check(Config(tasks=('addition', 'sum_3', 'running_sums'), base=(3, 16)))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'tasks': ()}, 'need an entry each'),
    ({'base': ()}, 'need an entry each'),
    ({'tasks': ('sum_4',), 'base': (10, 3)}, 'at most 3 numbers'),
    (
      {'model': TransformerConfig(position=PlaceWindow(behind=1))},
      '1,000,000 can be enumerated',
    ),
    (
      {'tasks': ('sorting',)},
      '--tasks=sorting: name each once, of',
    ),
    ({'tasks': ('parity', 'parity')}, 'name each once'),
    (
      {'tasks': ('product_trace',), 'lengths': (200, 500)},
      'product_trace is tested on at most 100 digits',
    ),
    ({'eval': 'none'}, 'always evaluates'),
    (
      {'model': TransformerConfig(position=PlaceBias())},
      'no hard window of places',
    ),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))


def test_a_base_is_given_to_all_but_parity():
  config = Config(tasks=('parity', 'subtraction'), base=(10, 2, 16))
  assert config.arms == (
    *('parity', 'subtraction', 'subtraction@2', 'subtraction@16'),
  )
  assert [config.task(arm).base for arm in config.arms] == [2, 10, 2, 16]


def test_sums_are_tested_on_uniform_numbers():
  for arm in CASES:
    task = Config().tested(arm)
    if isinstance(task, Summation):
      assert task == Summation(
        fewest=task.fewest, operands=task.operands, trace=task.trace
      )


def test_sums_train_longer_and_traces_see_their_step():
  config = Config()
  longer = config.longer('sum_3')
  assert longer.steps == 2 * config.steps
  assert longer.train.resolved_schedule_steps == 2 * 1000
  assert make_problem(config, 'sum_3').model.config.ffn_width == 512
  assert make_problem(config, 'product').model.config.ffn_width == 256
  assert make_problem(config, 'running_sums').model.config.position.own_step
  assert not make_problem(config, 'sum_3@5').model.config.position.own_step


def test_long_traces_are_tested_on_fewer_digits():
  config = Config(tasks=('product_trace', 'parity'), lengths=(200, 10, 50))
  assert 'product_trace' not in Config().tasks
  equal, *stress = suites(config, 'product_trace')
  assert equal.cells == ((5, 5), (10, 10), (50, 50))
  assert {suite.cells[-1] for suite in stress} == {(50, 50)}
  assert suites(config, 'parity')[0].cells == ((10,), (50,), (200,))
  problem = make_problem(config, 'product_trace')
  assert problem.max_size == 5 and make_problem(config, 'parity').max_size == 10
  position = problem.model.config.position
  assert position.place_window == (-1, 2) and position.own_step
