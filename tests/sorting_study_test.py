"""The study of sorting, and what it refuses."""

import dataclasses

import pytest

from experiments import sorting
from experiments.sorting import ARMS, Config, check, make_problem, part_of
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation import orders
from extrap.evaluation.orders import ORDERS
from extrap.evaluation.regions import square
from extrap.evaluation.results import read_csv, select

SMALL = (
  '--arms=ordered',
  '--steps=8',
  '--batch_size=2',
  '--replicas=2',
  '--size=2',
  '--grid=3',
  '--tags=3',
  '--model.width=8',
  '--model.heads=2',
  '--model.ffn_width=8',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(sorting.main, Config, argv=['sorting', *flags])
  return caught.value.code or 0


def test_arms_are_trained_and_every_region_and_suite_is_scored(
  tmp_path, capfd, monkeypatch
):
  kinds = {'shared prefix': ORDERS['shared prefix']}
  monkeypatch.setattr(orders, 'ORDERS', kinds)  # Each has to be compiled.
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  rows = select(results, arm='ordered', replica=1, metric='exact_match')
  cells = {row.split: row.n for row in rows if row.split[:6] == 'region'}
  assert cells == {
    'region:in distribution': 4 * 4,
    'region:out of distribution': 4 * 5,
    'region:more digits': 4 * 2,
    'region:more numbers': 4 * 2,
    'region:more of both': 4,
  }
  assert {row.samples for row in rows} == {8 * 2}
  suites = {(row.split, row.size) for row in rows if row.split[:5] == 'order'}
  assert suites == {('order:shared prefix', n) for n in '123'}
  least = select(results, metric='minimum')
  assert {row.split for row in least} == {
    'region:in distribution',
    'region:out of distribution',
  }
  report = (path / 'report.md').read_text()
  assert '## The least number alone' in report and 'shared prefix' in report
  assert 'more numbers' in capfd.readouterr().out


def test_parts_of_the_grid_are_those_beyond_training():
  found = [part_of(cell, 5) for cell in square(15)]
  assert found.count('in distribution') == 25
  assert found.count('more digits') == found.count('more numbers') == 50
  assert part_of((6, 5), 5) == 'more digits'
  assert part_of((5, 6), 5) == 'more numbers'


def test_only_the_trace_is_given_ids():
  problems = {name: make_problem(Config(), name) for name in ARMS}
  reads = {n: p.model.config.position.reads for n, p in problems.items()}
  assert reads.pop('trace') == ('see', 'role')
  assert set(reads.values()) == {('position',)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'arms': ('pointers',)}, '--arms=pointers: name each once, of fire'),
    ({'arms': ('fire', 'fire')}, 'name each once'),
    ({'arms': ()}, 'name at least one'),
    ({'grid': 5}, 'does not go beyond'),
    ({'grid': 20}, 'so many numbers need as many tags; --tags=17'),
    ({'arms': ('ordered',), 'grid': 90, 'tags': 99}, 'GiB for a single row'),
    ({'arms': ('trace',), 'grid': 90, 'tags': 99}, 'GiB for a single row'),
    ({'eval': 'none'}, 'always evaluates'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))


def test_defaults_pass():
  check(Config())
