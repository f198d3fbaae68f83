"""Results: the CSV file, selection and grouping."""

import dataclasses
import math
import os
import re

import pytest

from extrap.errors import ExtrapError
from extrap.evaluation import results

ROW = results.Result(
  study='addition',
  arm='hard, window',
  rung='place',
  replica=2,
  seed=7,
  hparams='{"learning_rate": 0.1, "name": "a,b"}',
  checkpoint='last',
  split='out_of_distribution',
  size='20x35',
  metric='exact_match',
  value=0.1 + 0.2,
  n=1000,
  successes=300,
  steps=400,
  samples=51200,
  flops=1.5e18,
  seconds=12.25,
)


def variant(**changes: object) -> results.Result:
  return dataclasses.replace(ROW, **changes)


def test_csv_round_trip_is_exact(tmp_path):
  rows = [
    ROW,
    variant(value=None, successes=None, flops=None),
    variant(value=0.0, successes=0),
    variant(value=math.inf),
  ]
  path = tmp_path / 'deep' / 'results.csv'
  comments = ['command: python -m a\n  --steps=4', 'hardware: 2 cores']
  results.write_csv(path, rows, comments)
  read, notes = results.read_csv(path)
  assert read == rows
  assert notes == ['command: python -m a', '--steps=4', 'hardware: 2 cores']


def test_csv_has_the_contract_columns_and_blanks(tmp_path):
  path = results.write_csv(
    tmp_path / 'r.csv', [variant(value=None, successes=None)], ['commit abc']
  )
  lines = path.read_text().splitlines()
  assert lines[0] == '# commit abc'
  assert lines[1] == (
    'study,arm,rung,replica,seed,hparams,checkpoint,split,size,metric,value,'
    'n,successes,steps,samples,flops,seconds'
  )
  assert lines[2].endswith(',exact_match,,1000,,400,51200,1.5e+18,12.25')


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = results.write_csv(tmp_path / 'r.csv', [ROW])
  before = path.read_bytes()

  def full_disk(source, target):
    raise OSError('no space')

  monkeypatch.setattr(os, 'replace', full_disk)
  with pytest.raises(ExtrapError, match='no space'):
    results.write_csv(path, [ROW, ROW])
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['r.csv']


def cut_in_number(text):
  return text[:-3]


def cut_in_row(text):
  return text[: text.index(',51200')] + '\n'


def cut_in_quotes(text):
  return text[: text.index('a,b')] + '\n'


def bad_number(text):
  return text.replace(',1000,', ',many,')


def bad_hparams(text):
  return text.replace('{""', '""').replace('}', '')


def other_header(text):
  return text.replace('arm,rung', 'rung,arm')


@pytest.mark.parametrize(
  ('damage', 'line', 'reason'),
  [
    (cut_in_number, 3, 'cut off'),
    (cut_in_row, 3, '14 columns instead of 17'),
    (cut_in_quotes, 3, 'unexpected end'),
    (bad_number, 3, "n: .*'many'"),
    (bad_hparams, 3, 'Extra data|hparams'),
    (other_header, 2, 'header'),
    (lambda text: '', 1, 'header'),
  ],
)
def test_damaged_csv_is_one_clear_line(tmp_path, damage, line, reason):
  path = results.write_csv(tmp_path / 'r.csv', [ROW], ['commit abc'])
  path.write_text(damage(path.read_text()))
  with pytest.raises(ExtrapError) as caught:
    results.read_csv(path)
  message = str(caught.value)
  assert message.startswith(f'{path}, line {line}: ')
  assert re.search(reason, message)
  assert '\n' not in message


def test_missing_csv_is_an_extrap_error(tmp_path):
  with pytest.raises(ExtrapError, match=r'none\.csv'):
    results.read_csv(tmp_path / 'none.csv')


def test_parse_size():
  assert results.parse_size('100') == (100,)
  assert results.parse_size('20x35') == (20, 35)


def test_select_takes_one_value_or_several():
  rows = [variant(replica=replica) for replica in range(4)]
  rows.append(variant(replica=1, metric='loss'))
  assert results.select(rows, replica=1, metric='loss') == rows[-1:]
  assert results.select(rows, replica=(0, 3)) == [rows[0], rows[3]]


def test_by_cell_keeps_order():
  first, second = variant(size='5', replica=1), variant(size='5', replica=0)
  cells = results.by_cell([first, variant(size='3'), second])
  assert list(cells) == [
    (ROW.arm, ROW.split, '5'),
    (ROW.arm, ROW.split, '3'),
  ]
  assert cells[ROW.arm, ROW.split, '5'] == [first, second]


def test_exact_match_cells_leave_out_other_rows():
  rows = [
    ROW,
    variant(checkpoint='best'),
    variant(metric='digit_accuracy'),
    variant(split='carry:chain', value=0.5),
  ]
  assert results.exact_match_cells(rows) == {(ROW.arm, '20x35'): [ROW]}
  chains = results.exact_match_cells(rows, split='carry:chain')
  assert results.values(chains[ROW.arm, '20x35']) == [0.5]


def test_exact_match_cells_refuse_a_replica_counted_twice():
  assert len(results.exact_match_cells([ROW, variant(seed=8)])) == 1
  with pytest.raises(ExtrapError, match='two values'):
    results.exact_match_cells([ROW, variant(split='beyond')])


def test_exact_match_cells_refuse_an_empty_selection():
  with pytest.raises(ExtrapError, match='no result'):
    results.exact_match_cells([ROW], checkpoint='best')


def test_values_skip_out_of_table_rows_only():
  rows = [variant(value=0.0), variant(value=None), variant(value=1.0)]
  assert results.values(rows) == [0.0, 1.0]
