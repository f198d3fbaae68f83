"""The study of Abacus embeddings, small, and what it refuses."""

import dataclasses

import pytest

from experiments import abacus
from experiments.abacus import (
  MATRIX,
  SETTINGS,
  Config,
  check,
  claims,
  make_problem,
)
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.regions import region_of, square
from extrap.evaluation.results import read_csv, select

SMALL = (
  '--arms=abacus_lt',
  '--steps=20',
  '--batch_size=4',
  '--replicas=2',
  '--grid=11',
  '--model.width=8',
  '--model.heads=2',
  '--model.ffn_width=8',
  '--train.evaluate_every=10',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(abacus.main, Config, argv=['abacus', *flags])
  return caught.value.code or 0


def test_arms_are_trained_and_every_region_scored(
  tmp_path, quick_compile, capfd
):
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  cells = {
    row.split: row.n for row in select(results, arm='abacus_lt', replica=1)
  }
  assert cells['region:in distribution'] == 20 * 100
  assert cells['region:out of distribution'] == 20 * (121 - 100)
  assert {row.samples for row in results} == {80}
  report = (path / 'report.md').read_text()
  assert '## Reach' in report and 'out of distribution' in report
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


@pytest.mark.parametrize('task', SETTINGS)
def test_default_steps_use_the_budget(task):
  config = check(Config(task=task))
  most = max(
    abacus.step_flops(make_problem(config, name)) * config.steps
    for name in config.setting.arms
  )
  assert 0.9 * abacus.BUDGET < most <= abacus.BUDGET


def test_regions_are_the_published_ones_halved():
  setting = SETTINGS['addition']
  sizes = (setting.trained, setting.grid)
  found = [region_of(cell, *sizes) for cell in square(setting.grid)]
  assert found.count('in distribution') == 100
  assert found.count('out of distribution') == 2400
  assert region_of((51, 51), *sizes) == 'extreme'


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'task': 'division'}, '--task=division: one of'),
    ({'arms': ('abacus_xl',)}, 'end it with _st, _ii, _lt'),
    ({'arms': ('abacos_st',)}, "no encoding 'abacos'"),
    ({'arms': ('nope_st', 'nope_st')}, 'name each once'),
    ({'grid': 10}, 'does not go beyond'),
    ({'steps': 100_000}, 'are allowed'),
    ({'eval': 'none'}, 'always evaluates'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))


def test_orderings_need_two_arms():
  assert not claims([]).rows
