"""The study of products with a two-digit factor, small."""

import dataclasses
import types

import pytest

from experiments import multiplication
from experiments.multiplication import (
  ARMS,
  Config,
  check,
  forms,
  make_problem,
)
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.every_context import contexts_for
from extrap.evaluation.results import read_csv, select

SMALL = (
  *('--steps=10', '--replicas=2', '--digits=3', '--longest=2'),
  *('--batch_size=4', '--model.width=16', '--model.ffn_width=16'),
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(multiplication.main, Config, argv=['multiplication', *flags])
  return caught.value.code or 0


@pytest.mark.slow
def test_products_are_scored_by_length_and_nines_apart(tmp_path, capfd):
  path = tmp_path / 'run'
  assert run('--arms=abacus_looped', *SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  rows = select(results, metric='exact_match')
  lengths = {row.size for row in rows if ':' not in row.split}
  assert {'2', '3'} <= lengths
  assert {row.split for row in rows if row.split.startswith('product:')}
  assert {row.replica for row in rows} == {0, 1}
  assert 'Trained to 3 digits' in capfd.readouterr().out
  report = (path / 'report.md').read_text()
  assert 'Certificate' not in report.split('What')[0]
  # Of a run that has made one of its arms, that one is shown.
  multiplication.write_report_of(Config(digits=3), tmp_path, results)
  partial = (tmp_path / 'report.md').read_text()
  assert 'suite: abacus_looped' in partial and 'suite: window' not in partial


def test_window_alone_is_certified(monkeypatch):
  asked, scored = [], []
  kept = types.SimpleNamespace(check=lambda: None)
  for name, made in (
    ('train_tuned', lambda study, name, *_: name),
    ('score_lengths', lambda arm, *_: scored.append(arm) or []),
    ('stress_rows', lambda *_: []),
    ('certified_rows', lambda arm, check: asked.append(arm) or []),
  ):
    monkeypatch.setattr(multiplication, name, made)
  for name in ARMS:
    assert multiplication.study_of(Config(), kept, name) == []
  assert scored == list(ARMS) and asked == ['window']


def test_contexts_of_the_window_are_few_enough():
  problem = make_problem(Config(), 'window')
  assert 1e6 < contexts_for(problem.model, problem.task).upper <= 1e8


def test_arms_with_tables_have_four_layers_and_the_others_one_or_two():
  made = {name: make_problem(Config(), name) for name in ARMS}
  models = {name: problem.model.config for name, problem in made.items()}
  assert [name for name in ARMS if made[name].progressive] == ['abacus_looped']
  assert models['abacus_looped'].inject_every == 1
  layers = {name: m.depth * m.recurrences for name, m in models.items()}
  depths = [4, 4, 4, 1, 1, 2, 2]
  assert layers == dict(zip(ARMS, depths, strict=True))
  tasks = {name: problem.task for name, problem in made.items()}
  assert [name for name in ARMS if tasks[name].short_first] == ['short_first']
  for task in tasks.values():
    assert dataclasses.replace(task, short_first=False) == tasks['window']
  assert models['two_layers'] == models['short_first']


@pytest.mark.parametrize('digits', [2, 10, 20])
def test_ids_are_trained_to_one_multiple_of_the_length(digits):
  for name in ('abacus', 'abacus_looped', 'coupling'):
    position = forms(digits)[name].position
    # The longest product has two digits more than its factor.
    assert position.shift + digits + 2 == 6 * digits - 1
    assert position.max_id >= 6 * digits - 1


def test_unknown_arm_is_refused():
  with pytest.raises(UsageError, match='rotary'):
    check(Config(arms=('rotary',)))
