"""Real learning curves: their raw forms as arrays and as TFDS datasets."""

import csv
import gzip
import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from extrap.datasets import curve_files, real_curves
from extrap.datasets.curve_set import Run, pack, validation_tasks
from extrap.errors import ExtrapError, UsageError

NAN = math.nan


def mock_taskset(folder):
  """Three tasks of two runs; one diverges."""
  from extrap.datasets.taskset import SOURCE

  for task in range(3):
    runs = []
    for number in range(2):
      loss = [3.0 + task, 2.0, 1.0 + number]
      runs.append(
        {
          'hp': {key: 0.1 * (number + 1) for key in SOURCE.setting},
          'train': {'loss': [10 * value for value in loss]},
          'valid': {'loss': [*loss[:2], NAN] if number else loss},
          'test': {'loss': loss},
        }
      )
    (folder / f'net_{task}.json').write_text(json.dumps(runs))
  return [
    (f'net_{task}', f'net_{task}/{number}', [0, 1, 2][: 3 - number], loss)
    for task in range(3)
    for number, loss in enumerate([[3 + task, 2, 1], [3 + task, 2]])
  ]


def mock_lcdb(folder):
  """Three tables; one learner fails at the second size, one at all."""
  meta = {
    'learners': ['Tree', 'Net', 'Late'],
    'dataset_ids': [7, 3, 11],
    'anchors': [16, 18, 20],
    'stat_labels': ['mean', 'stderr'],
    'tvt_labels': ['train', 'val', 'test'],
  }
  (folder / 'meta.json').write_text(json.dumps(meta))
  (folder / 'er').mkdir()
  expected = []
  for table in meta['dataset_ids']:
    tree = [[[0.1, 0.3, 0.25], [0.1, 0.2, table / 100], [0, 0.1, 0.125]]]
    tree += [[[0, 0, 0.01], [0, 0, 0.02], [0, 0, 0.03]]]
    net = [[[0, 0, 0.5], [None] * 3, [0, 0, 0.25]]]
    net += [[[0, 0, 0.04], [None] * 3, [0, 0, 0.05]]]
    late = [[[None] * 3] * 3] * 2
    path = folder / 'er' / f'{table}.json'
    path.write_text(json.dumps([tree, net, late]))
    task = f'openml_{table}'
    tested = [0.25, table / 100, 0.125]
    expected.append((task, f'{task}/Tree', [16, 18, 20], tested))
    expected.append((task, f'{task}/Net', [16, 20], [0.5, 0.25]))
  return expected


def mock_routing(folder):
  """A run of each of three sizes; one lacks a loss in between."""
  from extrap.datasets.routing import SOURCE

  losses = [f'loss_{metric}' for metric in SOURCE.metrics]
  names = ['hyper_id', 'step', *losses, *SOURCE.setting]
  rows, expected = [], []
  for number, size in enumerate(('15M', '25M', '1.3B')):
    numbers = [9, '' if number == 1 else 3, 2 + number]
    for step, loss in zip((0, 10000, 20000), numbers, strict=True):
      row = dict.fromkeys(names, 4) | {'hyper_id': number, 'step': step}
      row |= {'loss_validation': loss, 'router_type': 'Hash'}
      rows.append(row | {'model_size_label': size})
    pairs = zip((0, 10000, 20000), numbers, strict=True)
    step, value = zip(*[pair for pair in pairs if pair[1]], strict=True)
    expected.append((size, f'{size}/Hash-4/{number}', step, value))
  with gzip.open(folder / 'curves.csv.gz', 'wt', newline='') as file:
    table = csv.DictWriter(file, [*names, 'router_type', 'model_size_label'])
    table.writeheader()
    table.writerows(rows)
  return expected


def mock_lr_schedules(folder):
  """Two runs of 25M, one of 100M."""
  expected = []
  for name in ('csv_100/wsd', 'csv_25/constant', 'csv_25/cosine'):
    path = folder / f'{name}.csv'
    path.parent.mkdir(exist_ok=True)
    last = len(name)
    text = f'step,lr,loss\n128,0.5,4\n256,0.25,3.5\n384,0.125,{last}\n'
    path.write_text(text)
    size, run = name.removeprefix('csv_').split('/')
    curve = [128, 256, 384], [4, 3.5, last]
    expected.append((f'{size}M', f'{size}M/{run}', *curve))
  return expected


MOCKS = {
  'taskset': mock_taskset,
  'lcdb': mock_lcdb,
  'routing': mock_routing,
  'lr_schedules': mock_lr_schedules,
}
each = pytest.mark.parametrize('name', MOCKS)


def note_checksums(folder, monkeypatch):
  """Takes the files that are there for those of the commit."""
  found = {
    path.relative_to(folder).as_posix(): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }
  monkeypatch.setattr(curve_files, 'checksums', lambda: found)


@pytest.fixture
def mock(name, tmp_path, monkeypatch):
  """A folder with a tiny source, and the curves that it holds."""
  folder = tmp_path / 'curves'
  (folder / name).mkdir(parents=True)
  expected = MOCKS[name](folder / name)
  note_checksums(folder, monkeypatch)
  return folder, expected


def same(found, expected):
  """Whether curves are task, name, step and value in this order."""
  task, name, step, value = found
  assert (task, name) == expected[:2]
  np.testing.assert_allclose(step, expected[2])
  np.testing.assert_allclose(value, expected[3])


@each
def test_raw_files_become_arrays(name, mock):
  folder, expected = mock
  curves = real_curves.load(name, folder)
  assert len(curves) == len(expected)
  assert curves.value_NT.shape == curves.step_NT.shape == (len(expected), 3)
  for row, mask_T in enumerate(curves.mask_NT):
    assert mask_T.tolist() == sorted(mask_T.tolist(), reverse=True)
    assert np.isnan(curves.value_NT[row][~mask_T]).all()
    same(
      (
        curves.task_N[row],
        curves.name_N[row],
        curves.step_NT[row][mask_T],
        curves.value_NT[row][mask_T],
      ),
      expected[row],
    )


@each
def test_splits_divide_tasks(name, mock):
  curves = real_curves.load(name, mock[0])
  parts = {split: curves.split(split) for split in ('validation', 'test')}
  tasks = {split: set(part.task_N) for split, part in parts.items()}
  assert tasks['validation'] and tasks['test']
  assert not tasks['validation'] & tasks['test']
  assert sum(map(len, parts.values())) == len(curves)
  for array in (
    *parts['test'].setting.values(),
    *parts['test'].series.values(),
  ):
    assert len(array) == len(parts['test'])


@each
def test_the_dataset_holds_the_same(name, mock, tmp_path):
  folder, _ = mock
  builder = real_curves.prepare(name, tmp_path / 'data', manual_dir=folder)
  assert list((tmp_path / 'data').rglob('*.array_record*'))
  curves = real_curves.load(name, folder)
  for split in ('validation', 'test'):
    part, source = curves.split(split), builder.as_data_source(split)
    assert len(source) == len(part)
    for row in range(len(source)):
      example, mask_T = source[row], part.mask_NT[row]
      found = (
        example['task'].decode(),
        example['name'].decode(),
        example['step'],
        example['value'],
      )
      whole = (part.step_NT[row][mask_T], part.value_NT[row][mask_T])
      same(found, (part.task_N[row], part.name_N[row], *whole))
      np.testing.assert_array_equal(example['value'], whole[1])
      for key, array in part.setting.items():
        assert example[key] == array[row]
      for key, array_NT in part.series.items():
        np.testing.assert_array_equal(example[key], array_NT[row][mask_T])


@pytest.mark.parametrize('name', ['taskset'])
def test_another_metric_is_another_configuration(name, mock, tmp_path):
  folder, _ = mock
  curves = real_curves.load(name, folder, 'train').split('test')
  assert curves.value_NT[0].tolist()[1:] == [20.0, 10.0]
  builder = real_curves.prepare(name, tmp_path / 'data', 'train', folder)
  example = builder.as_data_source('test')[0]
  np.testing.assert_array_equal(example['value'], curves.value_NT[0])


@pytest.mark.parametrize('name', ['lcdb'])
def test_standard_errors_go_with_their_values(name, mock):
  curves = real_curves.load(name, mock[0])
  errors = curves.series['standard_error']
  np.testing.assert_array_equal(errors[0], [0.01, 0.02, 0.03])
  np.testing.assert_array_equal(errors[1], [0.04, 0.05, NAN])


@pytest.mark.parametrize('name', ['routing', 'lr_schedules', 'taskset'])
def test_configurations_are_kept(name, mock):
  curves = real_curves.load(name, mock[0])
  if name == 'routing':
    assert curves.setting['num_experts'].tolist() == [4, 4, 4]
  elif name == 'taskset':
    assert curves.setting['beta2'][:2].tolist() == [0.1, 0.2]
  else:
    assert curves.setting['parameters'].tolist() == [1e8, 25e6, 25e6]
    assert curves.series['learning_rate'][0].tolist() == [0.5, 0.25, 0.125]


def raw(name, folder, monkeypatch):
  """Puts a mock folder in place of the raw files of a public repository."""
  source = real_curves._module(name).SOURCE
  place = folder.parent / 'raw' / source.repository / source.commit
  (place / source.below).parent.mkdir(parents=True)
  (folder / name).rename(place / source.below)
  monkeypatch.setattr(curve_files, 'RAW', (folder.parent / 'raw').as_uri())
  return place / source.below


@pytest.mark.parametrize('name', ['lcdb'])
def test_files_that_lack_are_downloaded(name, mock, tmp_path, monkeypatch):
  folder, expected = mock
  raw(name, folder, monkeypatch)
  real_curves.download(name, folder)
  assert len(real_curves.load(name, folder)) == len(expected)
  # What is there is not asked for again.
  monkeypatch.setattr(curve_files, 'RAW', (tmp_path / 'none').as_uri())
  real_curves.download(name, folder)
  (folder / name / 'er' / '3.json').unlink()
  with pytest.raises(ExtrapError, match=r'3\.json: cannot be downloaded') as no:
    real_curves.download(name, folder)
  assert '\n' not in str(no.value)


@pytest.mark.parametrize('name', ['lr_schedules'])
def test_without_a_manual_folder_it_is_downloaded(
  name, mock, tmp_path, monkeypatch
):
  folder, expected = mock
  raw(name, folder, monkeypatch)
  builder = real_curves.prepare(name, tmp_path / 'data')
  counts = {
    key: split.num_examples for key, split in builder.info.splits.items()
  }
  assert sum(counts.values()) == len(expected) and len(counts) == 2


@pytest.mark.parametrize('name', ['lr_schedules'])
def test_what_is_downloaded_in_part_is_refused(name, mock, monkeypatch):
  folder, _ = mock
  place = raw(name, folder, monkeypatch)
  path = place / 'csv_25' / 'cosine.csv'
  path.write_bytes(path.read_bytes()[:-2])
  with pytest.raises(ExtrapError, match=r'cosine\.csv: is not whole'):
    real_curves.download(name, folder)
  assert not (folder / name / 'csv_25' / 'cosine.csv').exists()


@each
def test_a_damaged_file_is_named(name, mock, tmp_path):
  folder, _ = mock
  *_, path = sorted(p for p in (folder / name).rglob('*') if p.is_file())
  path.write_bytes(path.read_bytes()[:20])
  for attempt in (
    lambda: real_curves.load(name, folder),
    lambda: real_curves.verify(name, folder),
    lambda: real_curves.prepare(name, tmp_path / 'data', manual_dir=folder),
  ):
    with pytest.raises(ExtrapError, match=f'{path.name} is damaged') as caught:
      attempt()
    assert '\n' not in str(caught.value)
  path.unlink()
  with pytest.raises(ExtrapError, match=f'{path.name} is missing; it is https'):
    real_curves.verify(name, folder)


@pytest.mark.parametrize('name', ['lr_schedules'])
def test_a_dataset_is_made_of_the_very_files_alone(name, mock, tmp_path):
  folder, _ = mock
  path = folder / name / 'csv_25' / 'cosine.csv'
  path.write_text(path.read_text().replace('3.5', '3.6'))
  assert 3.6 in real_curves.load(name, folder).value_NT
  with pytest.raises(ExtrapError, match=r'cosine\.csv is damaged or another'):
    real_curves.prepare(name, tmp_path / 'data', manual_dir=folder)
  with pytest.raises(ExtrapError, match='has no folder lr_schedules'):
    real_curves.prepare(name, tmp_path / 'data', manual_dir=tmp_path / 'none')


@each
def test_a_form_that_is_not_the_source_s_is_refused(name, mock, monkeypatch):
  folder, _ = mock
  for path in (folder / name).rglob('*'):
    if path.is_file():
      text = b'[1, "two"]'
      path.write_bytes(gzip.compress(text) if path.suffix == '.gz' else text)
  note_checksums(folder, monkeypatch)  # So they are what they are to be.
  with pytest.raises(ExtrapError, match=f'cannot be read as {name}') as caught:
    real_curves.load(name, folder)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (lambda: real_curves.load('mnist', '.'), "'mnist' is no source of curves"),
    (lambda: real_curves.load('lcdb', '.', 'f1'), "'f1': test, val, train"),
    (lambda: real_curves.prepare('lcdb', '.', 'f1'), "no metric 'f1'"),
  ],
)
def test_a_wrong_name_is_a_usage_error(wrong, message):
  with pytest.raises(UsageError, match=message):
    wrong()


def test_no_folder(tmp_path):
  with pytest.raises(ExtrapError, match=r"lcdb: download\('lcdb'") as caught:
    real_curves.load('lcdb', tmp_path)
  assert '/LCDB-1.1/37c3d9a381' in str(caught.value)


def test_packing_leaves_out_what_is_missing():
  runs = [
    Run('a', 'a/0', [1, 2, 5, 9], [4.0, NAN, math.inf, 1.0]),
    Run('a', 'a/1', [1, 2], [NAN, NAN]),
    Run('b', 'b/0', [3], [7.0]),
  ]
  curves = pack(runs)
  assert curves.name_N.tolist() == ['a/0', 'b/0']
  np.testing.assert_array_equal(curves.step_NT, [[1, 9], [3, NAN]])
  np.testing.assert_array_equal(curves.value_NT, [[4, 1], [7, NAN]])
  np.testing.assert_array_equal(curves.mask_NT, [[1, 1], [1, 0]])
  with pytest.raises(ValueError, match='steps of x do not increase'):
    pack([Run('a', 'x', [2, 1], [4.0, 3.0])])
  with pytest.raises(ValueError, match='no run has a point'):
    pack(runs[1:2])


def test_the_division_is_by_name_alone():
  tasks = [f'task {number}' for number in range(30)]
  chosen = validation_tasks(tasks)
  assert len(chosen) == 10
  assert chosen == validation_tasks(tasks[::-1] + tasks[:5])
  # Hashes, not the order of the alphabet.
  assert chosen != set(sorted(tasks)[:10])
  assert len(validation_tasks(['one', 'two'])) == 1


def test_every_file_of_every_source_has_a_checksum():
  counts = {
    name: len(real_curves._module(name).SOURCE.checksums)
    for name in real_curves.SOURCES
  }
  assert counts == {
    'taskset': 12,
    'lcdb': 266,
    'routing': 1,
    'lr_schedules': 27,
  }
  assert {len(checksum) for checksum in curve_files.checksums().values()} == {
    64
  }


@pytest.mark.skipif(
  'EXTRAP_CURVES' not in os.environ,
  reason='EXTRAP_CURVES names no folder with the real curves',
)
@pytest.mark.parametrize(
  ('name', 'shape', 'tasks', 'for_choices', 'with_twenty'),
  [
    ('taskset', (12_000, 51), 12, 4000, 11_121),
    ('lcdb', (7204, 133), 265, 2387, 7103),
    ('routing', (223, 26), 6, 57, 223),
    ('lr_schedules', (27, 546), 3, 9, 27),
  ],
)
def test_the_real_files(name, shape, tasks, for_choices, with_twenty):
  folder = Path(os.environ['EXTRAP_CURVES'])
  real_curves.verify(name, folder)
  curves = real_curves.load(name, folder)
  assert curves.value_NT.shape == shape
  assert len(set(curves.task_N)) == tasks
  assert len(curves.split('validation')) == for_choices
  assert (curves.mask_NT.sum(axis=1) >= 20).sum() == with_twenty
  assert len(set(curves.name_N)) == len(curves)
