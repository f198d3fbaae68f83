"""The study of parity, small, and what it refuses."""

import dataclasses

import pytest

from experiments import parity
from experiments.parity import ARMS, Config, check, lengths_of, make_problem
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv, select

SMALL = (
  '--arms=signs,standard',
  '--steps=200',
  '--bits=4',
  '--batch_size=32',
  '--replicas=2',
  '--lengths=4,70',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(parity.main, Config, argv=['parity', *flags])
  return caught.value.code or 0


def test_strings_are_scored_and_states_certified(
  tmp_path, quick_compile, capfd
):
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  scored = [r for r in select(results, arm='signs') if ':' not in r.split]
  right = {
    (r.size, r.replica): r.value for r in select(scored, metric='exact_match')
  }
  assert set(right) == {(size, r) for size in ('4', '70') for r in (0, 1)}
  certified = select(results, metric='certified')
  assert {row.arm for row in certified} == {'signs'}
  # A certificate and a wrong answer would contradict each other.
  assert any(row.value == 1 for row in certified)
  for row in certified:
    if row.value:
      assert right['4', row.replica] == right['70', row.replica] == 1
  patterns = select(results, arm='signs', split='pattern:largest')
  assert {row.size for row in patterns} == {'4', '70'}
  report = (path / 'report.md').read_text()
  assert 'Certificate: signs' in report and 'Certificate: st' not in report
  assert 'L6 hard window, doubling; log2 i loops of signs' in report
  out = capfd.readouterr().out
  assert 'Trained to 4 bits' in out and 'signs, seed 1: ' in out


def test_arms_differ_in_what_they_are_named_for():
  models = {name: make_problem(Config(), name).model.config for name in ARMS}
  loops = {name: model.loops for name, model in models.items()}
  assert loops == {
    'standard': 'fixed',
    'looped': 'length',
    'local': 'length',
    'doubling': 'doubling',
    'signs': 'doubling',
    'trace': 'fixed',
  }
  assert models['signs'].carry == 'sign'
  assert len({model.width for model in models.values()}) == 1
  traced = [n for n in ARMS if make_problem(Config(), n).task.trace]
  assert traced == ['trace']


def test_costly_arms_are_tested_less_far():
  assert max(lengths_of(Config(), 'looped')) == 100
  assert max(lengths_of(Config(), 'local')) == 500
  assert max(lengths_of(Config(), 'signs')) == 10_000
  assert 40 in lengths_of(Config(), 'looped')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'arms': ()}, 'at least one entry'),
    ({'arms': ('signs', 'signs')}, 'name each once'),
    ({'arms': ('rnn',)}, '--arms=rnn: name each once, of standard'),
    ({'lengths': (80,)}, 'longest training string, 40, is not tested'),
    ({'eval': 'none'}, 'always evaluates'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))
