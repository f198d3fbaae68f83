"""Tests of the study of real learning curves."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import real_curves
from experiments.real_curves import (
  CUTOFFS,
  Config,
  drawn,
  ranked,
  ranks,
  rows_of,
)
from extrap import cli
from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.curves.cuts import Item
from extrap.curves.lcpfn import LCPFN
from extrap.curves.normalise import unit
from extrap.datasets.curve_set import validation_tasks
from extrap.datasets.taskset import SOURCE

SIZES = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)


@pytest.fixture(scope='module')
def model() -> LCPFN:
  return LCPFN(SIZES, fresh(SIZES, jax.random.key(0)))


def _item(count: int, task: str) -> Item:
  step_T = np.arange(1.0, count + 1)
  return Item(task, step_T, 1 - 0.5 / step_T, step_T, unit())


def test_curves_are_drawn_evenly_over_tasks():
  items = [_item(9, task) for task in 'aaaaaaaabbc']
  tasks = [item.task for item in drawn(items, 6, 0)]
  assert sorted(tasks) == ['a', 'a', 'a', 'b', 'b', 'c']
  assert len(drawn(items, 100, 0)) == 11


def test_ranks_share_ties_and_put_failures_last():
  score_MN = np.array([[1.0, 5.0], [2.0, np.nan], [1.0, 6.0]])
  assert ranked(score_MN, True).T.tolist() == [[2.5, 1, 2.5], [2, 3, 1]]
  assert ranked(score_MN, False).T.tolist() == [[1.5, 3, 1.5], [1, 3, 2]]


def test_the_network_counts_once_in_ranks():
  score_MN = np.array([[5.0], [4.0], [4.5], [1.0]])
  assert ranks(score_MN, True).ravel().tolist() == [1, 2, 2, 3]


def test_every_cutoff_and_method_has_a_row(model):
  config = Config(curves=3, families=('last_value',))
  rows = rows_of(config, model, 'llm')
  shares = [*map(str, CUTOFFS), 'all']
  assert [row[1:3] for row in rows] == [
    [share, method]
    for share in shares
    for method in ('lcpfn', 'lcpfn_guarded', 'last_value')
  ]
  assert all(len(row) == len(real_curves.HEADERS) for row in rows)
  lead = real_curves.HEADERS.index('lead')
  assert {row[lead] for row in rows if row[2] == 'lcpfn'} == {'0'}
  mase = real_curves.HEADERS.index('mase')
  of_last = [float(row[mase]) for row in rows if row[2] == 'last_value']
  np.testing.assert_allclose(of_last, 1, atol=1e-3)


def test_test_tasks_alone_are_scored(tmp_path: Path):
  (tmp_path / 'taskset').mkdir()
  tasks = [f'task_{number}' for number in range(6)]
  loss = (2 - np.arange(51) / 50).tolist()
  setting = dict.fromkeys(SOURCE.setting, 1)
  losses = {part: {'loss': loss} for part in ('train', 'valid', 'test')}
  for task in tasks:
    runs = [{**losses, 'hp': setting}] * 10
    (tmp_path / 'taskset' / f'{task}.json').write_text(json.dumps(runs))
  items = real_curves.taskset(str(tmp_path), 0.1)
  assert {item.task for item in items} == set(tasks) - validation_tasks(tasks)
  assert len(items) == 4 and items[0].value_T[0] == pytest.approx(1.98)


def test_a_folder_must_be_named(capsys):
  with pytest.raises(SystemExit) as ended:
    cli.run(real_curves.main, Config, argv=['real_curves', '--sets=lcdb'])
  assert ended.value.code == 2
  assert '--data=FOLDER' in capsys.readouterr().err
