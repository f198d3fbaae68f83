"""Tests of the study that stops runs by forecasts."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import early_stopping
from experiments.early_stopping import Config, rows_of
from extrap import cli
from extrap.curves import weights
from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.curves.lcpfn import LCPFN
from extrap.curves.normalise import loss_from
from extrap.curves.replay import RULES
from extrap.datasets.taskset import SOURCE

SIZES = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)


@pytest.fixture(scope='module')
def model() -> LCPFN:
  made = fresh(SIZES, jax.random.key(0))
  return LCPFN(SIZES, jax.tree.map(lambda leaf: leaf + 0.02, made))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
  """Two tasks of twelve runs of ten epochs, in the source's own form."""
  draw = np.random.default_rng(0)
  (tmp_path / 'taskset').mkdir()
  for task in ('one', 'two'):
    runs = []
    for _ in range(20):
      loss = 2 - draw.uniform(0, 1.5) * (1 - np.exp(-np.arange(11) / 4))
      losses = {part: {'loss': loss.tolist()} for part in ('train', 'valid')}
      runs.append(
        losses
        | {'test': losses['valid'], 'hp': dict.fromkeys(SOURCE.setting, 1)}
      )
    (tmp_path / 'taskset' / f'{task}.json').write_text(json.dumps(runs))
  return tmp_path


def test_every_pool_and_rule_has_a_row(model, folder, tmp_path):
  path = weights.save(tmp_path / 'net.npz', SIZES, model.params)
  config = Config(data=str(folder), weights=str(path), orders=3, budget=2)
  rows = rows_of(config)
  assert [row[:3] for row in rows] == [
    [pool, rule, '2'] for pool in early_stopping.POOLS for rule in RULES
  ]
  pools = early_stopping.pools_of(config)
  assert len(pools['best tenth']['one'].value_NT) == 2
  whole, best = (
    pools[name]['one'].value_NT[:, -1] for name in ('all', 'best tenth')
  )
  assert sorted(best) == sorted(whole)[-2:]


def test_losses_are_normalised_by_the_one_before_training(folder):
  curves = early_stopping.load('taskset', folder)
  found = early_stopping.normalised(curves)
  assert found.shape == (40, 10)
  wanted = loss_from(2.0).forward(curves.value_NT[:, 1:])
  np.testing.assert_allclose(found, wanted)


def test_a_folder_must_be_named(capsys):
  with pytest.raises(SystemExit) as ended:
    cli.run(early_stopping.main, Config, argv=['early_stopping'])
  assert ended.value.code == 2
  assert '--data=FOLDER' in capsys.readouterr().err
