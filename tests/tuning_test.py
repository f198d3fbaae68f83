"""How a learning rate is chosen."""

import json

import pytest

from extrap import study_training
from extrap.study import StudyConfig
from extrap.study_training import tune
from extrap.training.config import TrainConfig


@pytest.fixture
def short_runs(monkeypatch):
  """Takes the place of training: two records a run, kept with its config."""
  seen = {}

  def train_arm(problem, config, run, label, stop, folder, hparams):
    seen.update(config=config, hparams=hparams)
    losses = [[9.0, 0.1, 9.0], [0.3, 0.2, float('nan')]]
    folder.mkdir(parents=True)
    with (folder / 'metrics.jsonl').open('w') as file:
      for step, loss in zip((50, 100), losses, strict=True):
        file.write(json.dumps({'step': step, 'train/loss': loss}) + '\n')

  monkeypatch.setattr(study_training, 'train_arm', train_arm)
  return seen


def choose(folder):
  config = StudyConfig(seed=3, train=TrainConfig(enough=0.999))
  rates = (1e-3, 1e-2, 1e-1)
  return tune(None, config, None, 'arm', None, folder / 'rates', rates, 100)


def test_the_lowest_loss_at_the_end_chooses(tmp_path, short_runs):
  rate, losses = choose(tmp_path)
  assert rate == 1e-2
  assert losses['0.001'] == 0.3 and losses['0.1'] > 1e9
  config = short_runs['config']
  assert (config.replicas, config.steps) == (3, 100)
  assert config.train.schedule_steps == 100
  assert config.seed >= 1_000_000  # Not one of the study's.


def test_a_rate_that_learns_at_once_is_not_stopped(tmp_path, short_runs):
  choose(tmp_path)
  assert short_runs['config'].train.enough == 0
