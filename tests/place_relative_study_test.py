"""The study of far places, small."""

import pytest

from experiments import place_relative
from experiments.place_relative import ARMS, Config, make_problem
from extrap import arms, cli, scoring
from extrap.evaluation.results import read_csv, select

SMALL = (
  '--steps=10',
  '--digits=2',
  '--batch_size=8',
  '--replicas=2',
  '--longest=20',
  '--model.width=16',
  '--model.heads=2',
  '--model.ffn_width=16',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  argv = ['place_relative', *flags]
  with pytest.raises(SystemExit) as caught:
    cli.run(place_relative.main, Config, argv=argv)
  return caught.value.code or 0


@pytest.mark.slow
def test_arms_are_scored_and_looked_into(tmp_path, capfd, monkeypatch):
  chosen = {name: ARMS[name] for name in ('no decay', 'frozen at 2')}
  monkeypatch.setattr(place_relative, 'ARMS', chosen)
  monkeypatch.setattr(scoring, 'BUCKETS', (4,))  # Padding would take longest.
  # Learning rates are chosen in the test of the ladder.
  monkeypatch.setattr(arms, 'tune', lambda *_: (1e-3, {}))
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  mass = {
    (row.arm, row.size, row.replica): row.value
    for row in select(results, metric='far_mass')
  }
  assert len(mass) == 2 * 2 * 2
  # Untrained, nearly all keys of a long sum are far and equally looked at.
  assert all(mass['no decay', '40', r] > 0.8 for r in (0, 1))
  assert all(mass['frozen at 2', '40', r] < 0.1 for r in (0, 1))
  out = capfd.readouterr().out
  assert 'far mass at 40 digits' in out and 'not learned' in out
  assert 'place_relative.png' in (path / 'report.md').read_text()


def test_arms_differ_in_what_they_are_named_for():
  models = {name: make_problem(Config(), name).model.config for name in ARMS}
  decays = {
    name: (model.position.decay, model.position.learn_decay, model.logit_scale)
    for name, model in models.items()
  }
  assert decays == {
    'no decay': (0.0, True, 'constant'),
    'scaled logits': (0.0, True, 'log_length'),
    'frozen at 1': (1.0, False, 'constant'),
    'frozen at 2': (2.0, False, 'constant'),
    'learned': (1.0, True, 'constant'),
  }
  assert len({model.depth for model in models.values()}) == 1


def test_evaluation_is_not_optional(tmp_path, capfd):
  assert run('--eval=none', f'--workdir={tmp_path / "run"}') == 2
  assert 'always evaluates' in capfd.readouterr().err
  assert not (tmp_path / 'run').exists()
