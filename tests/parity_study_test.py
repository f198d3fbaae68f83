"""The study of parity, small, and what it refuses."""

import dataclasses
import types

import pytest

from experiments import parity
from experiments.parity import ARMS, Config, check, lengths_of, make_problem
from extrap import cli, scoring
from extrap.arms import Arm
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv, select

SMALL = (
  '--arms=signs',
  '--steps=20',
  '--bits=3',
  '--batch_size=8',
  '--replicas=2',
  '--lengths=3,9',
  '--model.width=8',
  '--model.ffn_width=8',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(parity.main, Config, argv=['parity', *flags])
  return caught.value.code or 0


def test_strings_are_scored_and_states_looked_into(
  tmp_path, capfd, monkeypatch
):
  monkeypatch.setattr(
    parity, 'PATTERNS', {'largest': parity.PATTERNS['largest']}
  )
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  scored = {(r.size, r.replica) for r in parity.by_length(results)}
  assert scored == {(size, r) for size in ('3', '9') for r in (0, 1)}
  patterns = select(results, split='pattern:largest')
  assert {row.size for row in patterns} == {'3', '9'}
  certified = select(results, metric='certified')
  assert len(certified) == 2 and all(row.n > 4 for row in certified)
  # Twenty steps are no training.
  assert [row.value for row in certified] == [0, 0]
  report = (path / 'report.md').read_text()
  assert 'Certificate: signs' in report and 'FAILED' in report
  assert 'L6 hard window, doubling; log2 i loops of signs' in report
  # Of a run that has made one of its arms, that one is shown.
  parity.write_report_of(Config(bits=3), tmp_path, results)
  assert 'Patterns: trace' not in (tmp_path / 'report.md').read_text()
  out = capfd.readouterr().out
  assert 'Trained to 3 bits' in out and 'signs, seed 1: FAILED' in out


def test_each_kind_of_certificate_is_that_of_its_arm(monkeypatch):
  asked = []
  monkeypatch.setattr(scoring.distributed, 'to_host', lambda params: params)
  monkeypatch.setattr(
    parity.closure, 'certify_parity', lambda *_: asked.append('states') or []
  )
  monkeypatch.setattr(
    scoring.certificate,
    'certify',
    lambda *_, **__: asked.append('contexts') or [],
  )
  for name in ARMS:
    source = types.SimpleNamespace(seeds=())
    fit = types.SimpleNamespace(params=None)
    arm = Arm(name, make_problem(Config(), name), fit, source)
    assert parity.certify(arm, lambda: None) == []
  assert asked == ['states', 'contexts']


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
