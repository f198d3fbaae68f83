"""The part of images in the study of status registers, on images of its own."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from mock_digits import SIDE, mock_images

from experiments import status_registers as study
from experiments import status_registers_images as images
from experiments.status_registers_population import Population
from experiments.status_registers_settings import Config, ImageConfig, check
from experiments.status_registers_tables import tables
from extrap import cli
from extrap.datasets import mnist
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv, select, values
from extrap.image_comparison import Scores
from extrap.planning.measure import measure
from extrap.training.sharding import MeshConfig
from tests import made_rows

METRICS = ('accuracy', 'error', 'read')
EPOCH = ImageConfig(epochs=1)


def config_with(*parts, **changes):
  return dataclasses.replace(Config(), parts=parts or ('images',), **changes)


@pytest.fixture
def small(monkeypatch):
  """Small images of four digits, a small network and few pairs."""
  data = {'train': mock_images(40, 0), 'test': mock_images(40, 1)}
  monkeypatch.setattr(mnist, 'prepare', lambda folder: None)
  monkeypatch.setattr(mnist, 'read', lambda folder, split: data[split])
  monkeypatch.setattr(images, 'BATCH', {'gt': 10})
  monkeypatch.setattr(images, 'TRAINED', 40)
  monkeypatch.setattr(images, 'SIDE', SIDE)
  monkeypatch.setattr(images, 'CHANNELS', (4, 8))
  monkeypatch.setattr(images, 'HIDDEN', 32)


def test_digits_are_compared_after_training_by_labels_alone(
  small, tmp_path, capsys
):
  flags = ('--parts=images', '--heads=nsr', '--replicas=2')
  flags += ('--images.epochs=15', '--steps=7', f'--workdir={tmp_path}')
  with pytest.raises(SystemExit) as caught:
    cli.run(study.main, Config, argv=['status_registers', *flags])
  assert caught.value.code == 0
  results, _ = read_csv(tmp_path / 'results.csv')
  assert {(r.arm, r.rung, r.split, r.size) for r in results} == {
    ('nsr, gt of images', 'images', 'gt', '9')
  }
  accuracy = select(results, metric='accuracy')
  assert {(row.steps, row.samples, row.n) for row in accuracy} == {
    (60, 600, 4 * 45)
  }
  assert [row.seed for row in accuracy] == [0, 1]
  assert min(row.value for row in accuracy) > 0.9
  assert all(row.flops > 0 for row in results)
  assert {row.metric for row in results} == {'accuracy', 'error', 'read'}
  notes = json.loads(accuracy[0].hparams)
  assert (notes['scale'], notes['epochs']) == (10.0, 15)
  assert 'nsr, gt of images' in (tmp_path / 'report.md').read_text()


def test_each_comparison_has_a_batch_and_as_many_steps_as_epochs_take():
  config = config_with()
  jobs = study.jobs(config)
  heads = [head for head in config.heads if head != 'nsr_sharpened']
  assert [job.name for job in jobs] == [
    f'{head}, {comparison} of images'
    for comparison in ('gt', 'eq')
    for head in heads
  ]
  for job in jobs:
    batch, steps = (50, 15_600) if ', gt' in job.name else (100, 7_800)
    assert job.problem.task.images == batch
    train = job.config.train
    assert job.config.steps == train.steps == train.schedule_steps == steps
    assert (train.optimizer, train.learning_rate) == ('adadelta', 1.0)
    assert (job.problem.scale, job.config.replicas) == (10.0, 10)
    # The regulariser sets in for the last fifth.
    assert job.problem.ramp.start == 0.8 * steps
  softer = dataclasses.replace(config.images, scale=1.0, learning_rate=0.5)
  job = study.jobs(dataclasses.replace(config, images=softer))[0]
  assert job.problem.scale == 1.0 and job.config.train.learning_rate == 0.5


def test_the_network_is_the_published_one():
  problem = study.problem(config_with())
  params = jax.eval_shape(problem.init, jax.random.key(0))['reader']
  shapes = {name: leaf.shape for name, leaf in params.items()}
  assert shapes['first'] == (9, 32) and shapes['second'] == (9 * 32, 64)
  assert shapes['hidden'] == (9216, 128) and shapes['digits'] == (128, 10)
  assert problem.reader.dropped == (0.25, 0.5)


def test_a_step_can_be_planned_without_images(small):
  config = study.resolved(config_with(images=EPOCH))
  assert (config.steps, config.replicas) == (4, 10)
  stored = study.stored(config_with())
  assert stored['image'].shape == (40, SIDE, SIDE)
  assert study.stored(config_with('lists')) is None
  devices = len(jax.devices())
  mesh = MeshConfig(replica=devices)
  found = measure(study, config_with(replicas=devices, mesh=mesh))
  assert sum(found.flops.values()) > 0 and found.steps == 13 * 4


def test_a_run_that_failed_is_wrong_about_every_pair(small, monkeypatch):
  scores = Scores(*[np.array([0.9, 0.9])] * 3, 180, 40)
  monkeypatch.setattr(images, 'held_out_scores', lambda *_: scores)
  fit = SimpleNamespace(params=None, finite=np.array([False, True]))
  made = Population(fit, 0, np.array([3, 60]), 1.0, 1.0)
  monkeypatch.setattr(images, 'train', lambda *_, **__: made)
  config = config_with(replicas=2)
  (case, *_) = images.CASES['images'](config)
  rows = images.study_of(case, config, None)
  found = {name: values(select(rows, metric=name)) for name in METRICS}
  assert found == {
    'accuracy': [0.0, 0.9],
    'error': [1.0, 0.9],
    'read': [0.0, 0.9],
  }


def test_accuracies_have_a_t_interval_over_seeds():
  source = made_rows.source(
    'status_registers', 'nsr, gt of images', 3, rung='images'
  )
  rows = [
    source.row(replica, 'gt', '9', metric, value, 10)
    for metric, of_seeds in (
      ('accuracy', (0.9, 0.95, 1.0)),
      ('error', (0.1, 0.2, 0.3)),
      ('read', (0.0, 0.0, 0.3)),
    )
    for replica, value in enumerate(of_seeds)
  ]
  (line,) = tables(rows)['Images'].rows
  assert line == [
    *('nsr, gt of images', '95.00 %', '82.58..107.42', '90.00 95.00 100.00'),
    *('0.2', '10.00 %'),
  ]


def test_images_that_are_not_to_be_had_end_a_run_before_it_begins(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(mnist, 'URL', (tmp_path / 'none').as_uri())
  folder = tmp_path / 'run'
  flags = ('--parts=comparisons,images', f'--images.folder={tmp_path}/data')
  with pytest.raises(SystemExit) as caught:
    cli.run(study.main, Config, argv=['s', *flags, f'--workdir={folder}'])
  assert caught.value.code == 1
  assert f'{tmp_path}/data has no MNIST' in capsys.readouterr().err
  assert not folder.exists()


def test_bad_input_is_refused_before_training(small):
  train = dataclasses.replace(Config().train, accumulate=2)
  with pytest.raises(UsageError, match='accumulate=2: --parts=images'):
    study.refuse(config_with(train=train))
  study.refuse(config_with('comparisons', train=train))
  for part in ('lists', 'paths', 'images'):
    with pytest.raises(UsageError, match=f'sharpened: --parts={part} compares'):
      check(config_with(part, heads=('nsr_sharpened',)))
  check(config_with('pieces', heads=('nsr_sharpened',)))
