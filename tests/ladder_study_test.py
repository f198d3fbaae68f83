"""The structure ladder, small, and what it refuses."""

import dataclasses
import json

import pytest

from experiments import ladder
from experiments.ladder import RUNGS, Config, check, make_problem
from extrap import cli, scoring
from extrap.arms import largest_id, largest_trained_id
from extrap.encoding_limits import in_table
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv
from extrap.scoring import lengths_up_to

SMALL = (
  '--rungs=coupling',
  '--shifts=2',
  '--steps=10',
  '--digits=2',
  '--batch_size=8',
  '--replicas=2',
  '--longest=2',
  '--model.depth=1',
  '--model.width=16',
  '--model.ffn_width=16',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(ladder.main, Config, argv=['ladder', *flags])
  return caught.value.code or 0


def test_rungs_are_tuned_trained_and_scored_alike(tmp_path, capfd, monkeypatch):
  monkeypatch.setattr(scoring, 'BUCKETS', (4,))  # Padding would take longest.
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  assert {row.arm: row.rung for row in results} == {
    'coupling': 'L4 coupling',
    'coupling, 2 shifts': 'L4 coupling, mean of 2 shifts',
  }
  assert {row.samples for row in results} == {80}
  for row in results:
    notes = json.loads(row.hparams)
    losses = notes['tuning_loss']
    assert losses[str(notes['learning_rate'])] == min(losses.values())
    assert notes['tuning_samples'] == 3 * 2 * 8
    tested = {'coupling': 'place 3', 'coupling, 2 shifts': 'place 11'}
    assert notes['tested_id'] == tested[row.arm]
    assert notes['trained_id'] == 'place 11'
  # Nothing is learned in ten steps: tests end after the first length beyond.
  assert {row.size for row in results} == {'1', '2', '3'}
  out = capfd.readouterr().out
  assert 'not learned' in out and 'L4 coupling' in out
  report = (path / 'report.md').read_text()
  assert 'ladder.png' in report
  assert (path / 'plots' / 'ladder.png').exists()


@pytest.mark.parametrize('digits', [10, 20])
def test_ids_follow_one_multiple_of_the_training_length(digits):
  config = dataclasses.replace(Config(), digits=digits)
  ids = {rung: largest_trained_id(make_problem(config, rung)) for rung in RUNGS}
  problem = make_problem(config, 'randomised_fire')
  last = problem.task.token_length(6 * digits) - 1
  assert ids == {
    'plain': 'none',
    'reversed': 'none',
    'randomised_fire': f'position {last}',
    'abacus': f'place {6 * digits - 1}',
    'coupling': f'place {6 * digits - 1}',
    'place_bias': 'none',
    'place_window': 'none',
  }
  for rung in ('abacus', 'coupling'):
    problem = make_problem(config, rung)
    position = problem.model.config.position
    assert in_table(position, problem.task, 6 * digits)
    assert largest_id(problem, 6 * digits) == f'place {6 * digits}'


def test_lengths_hold_the_training_length_and_its_multiples():
  assert lengths_up_to(10, 3) == [5, 10, 11, 12, 15, 20, 25, 30]
  assert lengths_up_to(20, 100)[-3:] == [400, 1000, 2000]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'rungs': ()}, 'at least one entry'),
    ({'rungs': ('fire',)}, '--rungs=fire: name each once, of'),
    ({'rungs': ('plain', 'plain')}, 'name each once'),
    ({'eval': 'none'}, 'always evaluates'),
    ({'init_from': 'runs/x'}, 'from scratch'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))
