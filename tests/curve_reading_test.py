"""Learning curves out of files, and what is said of files that are wrong."""

import json

import numpy as np
import pytest

from extrap.curves.reading import read_curves
from extrap.errors import UsageError
from extrap.reporting.writers import JsonLinesWriter, TensorBoardWriter


def check(curve, name, step, value):
  assert curve.name == name
  assert curve.step_T.dtype == curve.value_T.dtype == np.float64
  np.testing.assert_allclose(curve.step_T, step)
  np.testing.assert_allclose(curve.value_T, value, rtol=1e-6)


def csv(tmp_path, text):
  path = tmp_path / 'curves.csv'
  path.write_text(text)
  return path


@pytest.mark.parametrize('name', ['step', 'Epoch', 'iteration', 'STEPS'])
def test_one_curve_a_column(tmp_path, name):
  text = f'{name},a,b\n10,.5,3\n20,.6,2\n30,.7,1\n40,.8,\n\n50,.9,\n'
  first, second = read_curves(csv(tmp_path, text))
  check(first, 'a', [10, 20, 30, 40, 50], [0.5, 0.6, 0.7, 0.8, 0.9])
  check(second, 'b', [10, 20, 30], [3, 2, 1])


def test_without_steps_they_are_counted(tmp_path):
  first, second = read_curves(csv(tmp_path, 'a,b\n5,1\n4,1\n3,1\n2\n'))
  check(first, 'a', [1, 2, 3, 4], [5, 4, 3, 2])
  check(second, 'b', [1, 2, 3], [1, 1, 1])  # Constant, and still a curve.


def test_one_point_a_row(tmp_path):
  text = 'Value,ID,Step\n3,x,1\n9,"y, too",1\n2,x,2\n8,"y, too",5\n1,x,4\n'
  first, second = read_curves(csv(tmp_path, text), minimum=2)
  check(first, 'x', [1, 2, 4], [3, 2, 1])
  check(second, 'y, too', [1, 5], [9, 8])


def test_a_table_may_hold_several_metrics(tmp_path):
  text = 'id,step,loss,accuracy\nx,1,3,.1\nx,2,2,.2\nx,3,1,.3\n'
  (curve,) = read_curves(csv(tmp_path, text), 'accuracy')
  check(curve, 'x', [1, 2, 3], [0.1, 0.2, 0.3])
  text = 'step,loss,accuracy\n1,3,.1\n2,2,.2\n3,1,.3\n'
  (curve,) = read_curves(csv(tmp_path, text), 'accuracy')
  check(curve, 'accuracy', [1, 2, 3], [0.1, 0.2, 0.3])


def test_a_mark_at_the_start_of_the_file_is_no_part_of_a_name(tmp_path):
  path = tmp_path / 'curves.csv'
  path.write_text('step,a\n2,1\n4,2\n6,3\n', encoding='utf-8-sig')
  check(read_curves(path)[0], 'a', [2, 4, 6], [1, 2, 3])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'csv: is empty'),
    ('step,a\n', 'csv: is empty, there is no row'),
    (
      'step,a\n1,2\n2,1\n',
      "curve 'a': has 2 points, the last in row 3; at le",
    ),
    ('a,b\n1,\n2,\n3,\n', "curve 'b': has 0 points; at least 3"),
    ('a,b\n1,2\nnan,2\n', "row 3, column 'a': nan is not finite"),
    ('a,b\n1,2\n2,-inf\n', "row 3, column 'b': -inf is not finite"),
    ('a,b\n1,2\n2,good\n', "row 3, column 'b': 'good' is no number"),
    ('a;b\n1;2\n2;3\n', "row 2, column 'a;b': '1;2' is no number"),
    ('step,a\n1,2\none,2\n', "row 3, step of 'a': 'one' is no number"),
    ('step,a\n1,2\n,2\n', "row 3, step of 'a': is empty"),
    ('step,a\n1,2\n1,2\n', "row 3, step of 'a': 1 is repeated"),
    ('step,a\n9,2\n\n7,2\n', "row 4, step of 'a': 7 comes after 9"),
    ('a,b\n1,2\n,3\n4,5\n', "row 3, column 'a': is empty, but .* to row 4"),
    ('a,b\n1,2,3\n', 'row 2: has 3 cells under 2 columns'),
    ('1,2\n3,4\n', 'row 1: has only numbers'),
    (',a\n0,1\n1,2\n', 'row 1: column 1 has no name'),
    ('a,a\n0,1\n1,2\n', "row 1: 2 columns are called 'a'"),
    ('step\n0\n1\n', 'no column of values'),
    ('a,b\n"1,2\n', 'cannot be read as CSV'),
    ('id,step,value\nx,1,2\n,2,3\n', "row 3, column 'id': is empty"),
    ('id,step,value\nx,1,2\nx,2,\n', "row 3, column 'value': is empty"),
    ('Id,Step,Value\nx,1,2\nx,2,no\n', "row 3, column 'Value': 'no' is no"),
    ('id,step,value\nx,1,2\nx,1,3\n', "row 3, step of 'x': 1 is repeated"),
  ],
)
def test_a_bad_table_is_one_line_with_its_place(tmp_path, text, message):
  path = csv(tmp_path, text)
  with pytest.raises(UsageError, match=message) as caught:
    read_curves(path)
  assert '\n' not in str(caught.value) and str(path) in str(caught.value)


def test_text_that_is_no_text(tmp_path):
  path = tmp_path / 'curves.csv'
  path.write_bytes(b'a,b\n\xff\xfe,1\n')
  with pytest.raises(UsageError, match='cannot be read as CSV'):
    read_curves(path)


def test_a_column_that_is_not_there(tmp_path):
  path = csv(tmp_path, 'step,a,b\n1,2,3\n')
  with pytest.raises(UsageError, match="no column 'c'; there are: a, b"):
    read_curves(path, 'c')


def test_no_file(tmp_path):
  with pytest.raises(UsageError, match='no such file or folder'):
    read_curves(tmp_path / 'none.csv')


def write(writer, last=4):
  """Two metrics of two replicas, and one that is there now and then."""
  for step in range(1, last + 1):
    scalars = {
      'train/loss': [1 / step, 2 / step],
      'train/exact_match': [0.25, 0.5],
      'held_out/loss': 3.0,
    }
    if step % 2 == 0:
      scalars |= {'eval/accuracy': step / 8}
    writer.write(100 * step, scalars)
  writer.close()


@pytest.fixture(params=['run', 'metrics', 'tensorboard', 'events'])
def written(request, tmp_path):
  """The same metrics in each form that a run writes."""
  if request.param in ('run', 'metrics'):
    write(JsonLinesWriter(tmp_path / 'metrics.jsonl'))
    return tmp_path / ('metrics.jsonl' if request.param == 'metrics' else '')
  write(TensorBoardWriter(tmp_path))
  (file,) = tmp_path.glob('*tfevents*')
  return file if request.param == 'events' else tmp_path


def test_a_run_is_read_one_curve_a_replica(written):
  steps = [100, 200, 300, 400]
  first, second = read_curves(written)
  check(first, 'train/loss/replica_0', steps, 1 / np.arange(1, 5))
  check(second, 'train/loss/replica_1', steps, 2 / np.arange(1, 5))
  full, _ = read_curves(written, 'train/exact_match')
  check(full, 'train/exact_match/replica_0', steps, [0.25] * 4)
  (sparse,) = read_curves(written, 'accuracy', minimum=2)
  check(sparse, 'eval/accuracy', [200, 400], [0.25, 0.5])


def test_a_metric_that_is_not_there_or_there_twice(written):
  with pytest.raises(UsageError, match="no metric 'f1'; there are: train/l"):
    read_curves(written, 'f1')
  with pytest.raises(UsageError, match='train/loss, held_out/loss; give one'):
    read_curves(written, 'loss')
  with pytest.raises(UsageError, match=r'has 2 points, the last in (line|ev)'):
    read_curves(written, 'accuracy')


@pytest.mark.parametrize(
  ('records', 'message'),
  [
    ([], 'jsonl: is empty'),
    ([{'step': 1, 'loss': 1}, {'step': 2, 'loss': None}], 'line 2, column'),
    ([{'step': 1, 'loss': 'low'}], "line 1, column 'loss': 'low' is no"),
    ([{'step': 1, 'loss': [[1]]}], "line 1, column 'loss': '.1.' is no number"),
    ([{'step': 3, 'loss': 1}, {'step': 2, 'loss': 1}], '2 comes after 3'),
    ([{'loss': 1}], 'line 1: not a metrics record'),
    ([{'step': 1, 'a/loss': 1, 'b/loss': 2}], 'a/loss, b/loss; give one'),
  ],
)
def test_bad_records(tmp_path, records, message):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  with pytest.raises(UsageError, match=message) as caught:
    read_curves(path)
  assert '\n' not in str(caught.value)


def test_a_resumed_run_is_one_curve(tmp_path, monkeypatch):
  times = iter(range(1700000000, 1700000100))
  monkeypatch.setattr('time.time', lambda: float(next(times)))
  writer = TensorBoardWriter(tmp_path)
  for step in (1, 2, 3, 4):
    writer.write(step, {'loss': 10 * step})
  writer.close()
  writer = TensorBoardWriter(tmp_path, resume_step=2)
  for step in (3, 4, 5):
    writer.write(step, {'loss': step})
  writer.close()
  assert len(list(tmp_path.glob('*tfevents*'))) == 2
  (curve,) = read_curves(tmp_path)
  check(curve, 'loss', [1, 2, 3, 4, 5], [10, 20, 3, 4, 5])


def test_folders_below_are_runs_of_their_own(tmp_path):
  for name in ('train', 'test'):
    write(TensorBoardWriter(tmp_path / name), last=3)
  first, _ = read_curves(tmp_path, 'test/train/loss')
  check(first, 'test/train/loss/replica_0', [100, 200, 300], [1, 1 / 2, 1 / 3])


def event_file(path, events):
  """A file of these events, as other programs write them."""
  from tensorboardX.event_file_writer import EventsWriter

  writer = EventsWriter(str(path / 'events'))
  for event in events:
    writer.write_event(event)
  writer.close()
  (file,) = path.glob('*tfevents*')
  return file


def test_numbers_in_tensors_are_read_and_other_things_are_not(tmp_path):
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.proto.summary_pb2 import Summary
  from tensorboardX.proto.tensor_pb2 import TensorProto

  def event(step):
    content = np.float32(step / 4).tobytes()
    tensor = TensorProto(dtype=1, tensor_content=content)
    listed = TensorProto(dtype=2, double_val=[step / 8])
    text = TensorProto(dtype=7, string_val=[b'hello'])
    values = [
      Summary.Value(tag='loss', tensor=tensor),
      Summary.Value(tag='listed', tensor=listed),
      Summary.Value(tag='note', tensor=text),
    ]
    return Event(step=step, summary=Summary(value=values))

  file = event_file(tmp_path, map(event, (1, 2, 3)))
  check(read_curves(file)[0], 'loss', [1, 2, 3], [0.25, 0.5, 0.75])
  check(
    read_curves(file, 'listed')[0], 'listed', [1, 2, 3], [1 / 8, 1 / 4, 3 / 8]
  )
  with pytest.raises(UsageError, match=r'there are: loss, listed$'):
    read_curves(file, 'note')


def test_a_half_written_record_is_left_out(tmp_path):
  write(TensorBoardWriter(tmp_path))
  (file,) = tmp_path.glob('*tfevents*')
  file.write_bytes(file.read_bytes()[:-3])
  check(
    read_curves(file, 'train/loss')[0],
    'train/loss/replica_0',
    [100, 200, 300, 400],
    1 / np.arange(1, 5),
  )
  with pytest.raises(UsageError, match='has 1 point,'):
    read_curves(file, 'accuracy')


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'is empty'),
    (b'step,loss\n1,2\n2,3\n', 'byte 0: is no TensorBoard event file'),
  ],
)
def test_a_file_that_is_no_event_file(tmp_path, content, message):
  path = tmp_path / 'events.out.tfevents.1'
  path.write_bytes(content)
  with pytest.raises(UsageError, match=message):
    read_curves(path)


def test_a_folder_without_curves(tmp_path):
  with pytest.raises(UsageError, match='nor a TensorBoard file'):
    read_curves(tmp_path)


def test_a_damaged_event(tmp_path):
  write(TensorBoardWriter(tmp_path))
  (file,) = tmp_path.glob('*tfevents*')
  content = bytearray(file.read_bytes())
  content[12:20] = b'\xff' * 8
  file.write_bytes(content)
  with pytest.raises(UsageError, match='record 1: is damaged'):
    read_curves(file)
