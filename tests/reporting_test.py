"""Writers, progress, tables, plots, report and environment."""

import builtins
import io
import json
import math
import os
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from extrap.errors import ExtrapError
from extrap.evaluation.results import Result
from extrap.reporting import (
  environment,
  heatmaps,
  plots,
  progress,
  report,
  tables,
  writers,
)
from extrap.reporting.training_curves import training_curves, training_figure


def row(arm='rope', size='10', replica=0, value=1.0, n=1000, **changes):
  """A result of exact match."""
  columns = {
    'study': 'addition',
    'rung': 'place',
    'seed': 0,
    'hparams': '{}',
    'checkpoint': 'last',
    'split': 'in_distribution',
    'metric': 'exact_match',
    'successes': None if value is None else round(value * n),
    'steps': 400,
    'samples': 51200,
    'flops': 1e12,
    'seconds': 3.0,
  }
  columns |= changes
  return Result(
    arm=arm, size=size, replica=replica, value=value, n=n, **columns
  )


def test_modules_import_nothing_heavy():
  code = (
    'import sys, extrap, extrap.evaluation, extrap.reporting\n'
    'before = set(sys.modules)\n'
    'from extrap.evaluation import results, statistics\n'
    'from extrap.reporting import environment, heatmaps, plots, progress\n'
    'from extrap.reporting import report, shares, tables, writers\n'
    'from extrap.reporting import training_curves\n'
    "heavy = {'jax', 'matplotlib', 'tensorboardX', 'scipy', 'tqdm'}\n"
    'print(sorted(heavy & (set(sys.modules) - before)))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'


# Writers.


def test_json_lines_are_flushed_and_read_back(tmp_path):
  path = tmp_path / 'run' / 'metrics.jsonl'
  writer = writers.JsonLinesWriter(path)
  writer.write(10, {'train/loss': np.float32([0.5, 0.25]), 'train/rate': 3})
  writer.write(20, {'train/loss': [0.125, math.nan], 'eval/loss': math.inf})
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines == [
    {'step': 10, 'train/loss': [0.5, 0.25], 'train/rate': 3},
    {'step': 20, 'train/loss': [0.125, None], 'eval/loss': None},
  ]
  record = writers.read_jsonl(path)[1]
  assert record['train/loss'][0] == 0.125
  assert math.isnan(record['train/loss'][1])
  assert math.isnan(record['eval/loss'])
  writer.close()


def test_resume_drops_later_steps_and_a_half_written_line(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with writers.JsonLinesWriter(path) as writer:
    for step in (10, 20, 30):
      writer.write(step, {'loss': 1.0 / step if step < 30 else math.nan})
  with path.open('a') as file:
    file.write('{"step": 15, "lo')
  with writers.JsonLinesWriter(path, resume_step=20) as writer:
    writer.write(30, {'loss': 0.5})
  assert path.read_text().splitlines() == [
    '{"step": 10, "loss": 0.1}',
    '{"step": 20, "loss": 0.05}',
    '{"step": 30, "loss": 0.5}',
  ]


def test_resume_without_a_file_and_a_new_start_with_one(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  for resume_step in (5, None):
    with writers.JsonLinesWriter(path, resume_step) as writer:
      writer.write(1, {'loss': 2.0})
    assert len(writers.read_jsonl(path)) == 1


def test_reading_a_live_file_skips_only_the_unfinished_line(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss": null}\n{"step": 2, "loss"')
  (record,) = writers.read_jsonl(path)
  assert record['step'] == 1


@pytest.mark.parametrize('line', ['{"step": 2, "los', '{"loss": 1}', '[1]'])
def test_a_damaged_line_is_named(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
  with pytest.raises(ExtrapError, match=r'metrics\.jsonl, line 2: '):
    writers.read_jsonl(path)


def events(folder):
  """The events of all files: TFRecords are length, sum, bytes, sum."""
  event_pb2 = pytest.importorskip('tensorboardX.proto.event_pb2')
  for path in folder.glob('events.out.tfevents.*'):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack('<Q', data[:8])
      yield event_pb2.Event.FromString(data[12 : 12 + length])
      data = data[12 + length + 4 :]


def test_tensorboard_has_one_tag_a_replica(tmp_path):
  writer = writers.TensorBoardWriter(tmp_path / 'new')
  writer.write(3, {'train/loss': [0.5, 0.25], 'train/speed': 8.0})
  points = [
    (value.tag, value.simple_value, event.step)
    for event in events(tmp_path / 'new')
    for value in event.summary.value
  ]
  writer.close()
  assert points == [
    ('train/loss/replica_0', 0.5, 3),
    ('train/loss/replica_1', 0.25, 3),
    ('train/speed', 8.0, 3),
  ]


def test_arms_that_fail_and_their_names_go_without_a_word(tmp_path, caplog):
  caplog.set_level('INFO')
  writer = writers.TensorBoardWriter(tmp_path)
  writer.write(3, {'test/linear, cosine/sub': [math.nan]})  # A run that failed.
  writer.close()
  (value,) = (v for event in events(tmp_path) for v in event.summary.value)
  assert value.tag == 'test/linear__cosine/sub/replica_0'
  assert not caplog.records


def test_tensorboard_hides_what_a_resumed_run_writes_again(tmp_path):
  writers.TensorBoardWriter(tmp_path / 'a', resume_step=20).close()
  writers.TensorBoardWriter(tmp_path / 'b').close()
  for folder, first in (('a', 21), ('b', 0)):
    starts = [e for e in events(tmp_path / folder) if e.session_log.status]
    assert [e.step for e in starts] == [first]


def test_a_full_disk_is_one_line(tmp_path):
  if not os.path.exists('/dev/full'):
    pytest.skip('needs /dev/full')
  writer = writers.JsonLinesWriter(tmp_path / 'metrics.jsonl')
  writer._file = open('/dev/full', 'w')
  with pytest.raises(ExtrapError, match='No space left'):
    writer.write(1, {'loss': 2.0})


def test_tensorboard_absent_is_one_clear_line(tmp_path, monkeypatch):
  real = builtins.__import__

  def refuse(name, *args, **kwargs):
    if name.startswith('tensorboardX'):
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, '__import__', refuse)
  with pytest.raises(ExtrapError, match='pip install tensorboardX'):
    writers.TensorBoardWriter(tmp_path)


def test_multi_writer_passes_everything_on():
  seen = []
  children = [
    SimpleNamespace(
      write=lambda step, scalars, name=name: seen.append((name, step, scalars)),
      close=lambda name=name: seen.append((name, 'closed')),
    )
    for name in 'ab'
  ]
  writer = writers.MultiWriter(*children)
  writer.write(1, {'loss': 2.0})
  writer.close()
  assert seen == [
    ('a', 1, {'loss': 2.0}),
    ('b', 1, {'loss': 2.0}),
    ('a', 'closed'),
    ('b', 'closed'),
  ]


# Progress.


class Clock:
  """Seconds that pass when told to."""

  now = 100.0

  def __call__(self) -> float:
    return self.now


def test_progress_prints_the_line_of_the_contract():
  clock, stream = Clock(), io.StringIO()
  with progress.Progress(
    1000, 'train hard-window', stream, start=319, clock=clock
  ) as bar:
    clock.now += 10
    bar.update(400, loss=0.0123)
  assert stream.getvalue() == (
    'train hard-window  step 400/1000  loss 0.0123  8.1 steps/s  1m 14s left\n'
  )


def test_progress_is_quiet_between_lines_but_prints_the_last():
  clock, stream = Clock(), io.StringIO()
  with progress.Progress(100, 'eval', stream, clock=clock) as bar:
    for step in range(1, 101):
      clock.now += 0.125
      bar.update(step, loss=step)
  steps = [line.split('  ')[1] for line in stream.getvalue().splitlines()]
  assert steps == ['step 1/100', 'step 41/100', 'step 81/100', 'step 100/100']


def test_progress_prints_where_a_failure_stopped_it():
  clock, stream = Clock(), io.StringIO()
  with pytest.raises(RuntimeError):
    with progress.Progress(9, 'train', stream, clock=clock) as bar:
      bar.update(1)
      bar.update(2)
      raise RuntimeError
  assert 'step 2/9' in stream.getvalue()


def test_progress_in_a_terminal_is_a_bar():
  class Terminal(io.StringIO):
    def isatty(self) -> bool:
      return True

  stream = Terminal()
  with progress.Progress(10, 'train rope', stream, start=4) as bar:
    bar.update(10, loss=0.25)
  shown = stream.getvalue()
  assert '\r' in shown and 'train rope: 100%' in shown
  assert ' 4/10 ' in shown and '10/10' in shown and 'loss=0.25' in shown


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [(0.2, '0s'), (59.6, '1m 00s'), (74, '1m 14s'), (7500, '2h 05m')],
)
def test_durations(seconds, text):
  assert progress.format_duration(seconds) == text


def test_long_durations_are_in_days():
  assert progress.format_duration(3 * 86400 + 4 * 3600) == '3d 04h'


# Tables.


def test_markdown_table():
  assert tables.markdown(['arm', 'n'], [['a|b', '10'], ['c', '5']]) == (
    '| arm  |   n |\n| ---- | --: |\n| a\\|b |  10 |\n| c    |   5 |'
  )


def test_text_table_follows_align():
  shown = tables.text(['arm', 'note'], [['a', 'yes'], ['long', 'b']], 'rl')
  assert shown == ' arm  note\n----  ----\n   a  yes\nlong  b'


@pytest.mark.parametrize(
  ('fraction', 'text'),
  [
    (1.0, '100 %'),
    (0.9996, '>99.9 %'),
    (0.99949, '99.9 %'),
    (0.5, '50.0 %'),
    (0.0002, '<0.1 %'),
    (0.0, '0 %'),
    (-0.0002, '<0 %'),
    (1.0004, '>100 %'),
    (1.05, '105.0 %'),
    (math.nan, 'nan'),
  ],
)
def test_percent_never_overstates(fraction, text):
  assert tables.format_percent(fraction) == text


def test_percent_decimals():
  assert tables.format_percent(0.99996, decimals=2) == '>99.99 %'
  assert tables.format_percent(0.875, decimals=0) == '88 %'
  assert tables.format_limits(0.123, 1.0) == '12.3..100.0'
  assert tables.format_limits(0.123, 1.0, decimals=0) == '12..100'


def replicas(values, **changes):
  return [
    row(replica=replica, value=value, **changes)
    for replica, value in enumerate(values)
  ]


def test_exact_match_table_over_replicas():
  results = [
    *replicas([1.0, 1.0, 1.0, 1.0], size='20'),
    *replicas([0.9, 0.95, 1.0, 0.95], size='50', split='beyond'),
    *replicas([None] * 4, size='200', split='beyond'),
    *replicas([0.1] * 4, size='50', split='carry:chain'),
  ]
  table = tables.exact_match_table(
    results, ['rope', 'nope'], [20, 50, 200], train_size=20
  )
  assert table.headers == [
    'digits',
    'rope',
    '95 % interval',
    'nope',
    '95 % interval',
  ]
  # 0.95 +- 3.182446 * 0.0408248 / 2.
  assert table.rows == [
    ['20 *', '100 %', '-', 'not run', '-'],
    ['50', '95.0 % (90.0 %..100 %)', '88.5 %..101.5 %', 'not run', '-'],
    ['200', 'out of table', '-', 'not run', '-'],
  ]
  assert 'Replicas a cell: 4; sums a replica: 1000; ' in table.caption
  assert 'sums a cell, all replicas: 4000.' in table.caption
  assert 'up to 20 digits' in table.caption
  assert 'Interval: t over replicas' in table.caption
  assert table.markdown().startswith('| digits |')
  assert table.text().endswith(table.caption)


def test_exact_match_table_of_one_replica_has_its_wilson_interval():
  table = tables.exact_match_table([row(value=1.0)], ['rope'], ['10'], 5)
  assert table.rows == [['10', '100 %', '99.6 %..100 %']]
  assert 'Wilson' in table.caption


def test_exact_match_table_counts_replicas_without_a_value():
  table = tables.exact_match_table(
    replicas([1.0, None, 0.5]), ['rope'], [10], 20, intervals=False
  )
  assert table.rows == [['10 *', '75.0 % (50.0 %..100 %, 2/3 replicas)']]
  assert table.headers == ['digits', 'rope']


def test_exact_match_table_marks_only_pairs_inside_the_training_square():
  results = [row(size='20x20'), row(size='20x35')]
  table = tables.exact_match_table(results, ['rope'], ['20x20', '20x35'], 20)
  assert [line[0] for line in table.rows] == ['20x20 *', '20x35']


README = 'a\n<!-- table: one -->\nold\n<!-- end: one -->\nb\n'


def test_update_block_replaces_once_and_for_all():
  new = tables.update_block(README, 'one', '| t |')
  assert new == ('a\n<!-- table: one -->\n\n| t |\n\n<!-- end: one -->\nb\n')
  assert tables.update_block(new, 'one', '| t |') == new


@pytest.mark.parametrize(
  'text',
  [
    'a\n',
    README.replace('end: one', 'end: two'),
    README * 2,
    '<!-- end: one -->\n<!-- table: one -->\n',
  ],
)
def test_update_block_needs_its_markers(text):
  with pytest.raises(ExtrapError, match='<!-- table: one -->'):
    tables.update_block(text, 'one', '| t |')


# Plots.


def legend(figure) -> list[str]:
  (box,) = figure.legends
  return [text.get_text() for text in box.get_texts()]


def lengths_results():
  results = []
  for size in (5, 20, 50, 100):
    reached = None if size == 100 else 1 - size / 100
    results += replicas([1.0, 0.9, 0.5], arm='window', size=str(size))
    results += replicas([reached] * 3, arm='rope', size=str(size))
  return results


def test_accuracy_shows_training_band_median_and_gap():
  figure = plots.accuracy_figure(lengths_results(), 20, 'Addition')
  (axes,) = figure.axes
  (band,) = axes.patches
  corners = band.get_window_extent().transformed(axes.transData.inverted())
  assert corners.x1 == pytest.approx(20)
  window, rope = axes.lines
  np.testing.assert_allclose(window.get_ydata(), [90.0] * 4)
  np.testing.assert_allclose(rope.get_ydata(), [95, 80, 50, np.nan])
  spread = axes.collections[0].get_datalim(axes.transData)
  assert (spread.y0, spread.y1) == pytest.approx((50, 100))
  assert legend(figure) == [
    'trained, up to 20 digits',
    'window',
    'rope (out of table: 100)',
  ]
  assert figure.legends[0].get_title().get_text() == (
    'line: median of 3 replicas; band: least to greatest'
  )


def test_accuracy_lines_differ_in_grey_print():
  figure = plots.accuracy_figure(lengths_results(), 20, 'Addition')
  first, second = figure.axes[0].lines
  assert first.get_linestyle() != second.get_linestyle()
  assert first.get_marker() != second.get_marker()


@pytest.mark.parametrize(('longest', 'scale'), [(500, 'linear'), (501, 'log')])
def test_accuracy_axis_is_logarithmic_beyond_a_factor_of_100(longest, scale):
  results = [row(size='5'), row(size=str(longest))]
  figure = plots.accuracy_figure(results, 20, 'Addition')
  assert figure.axes[0].get_xscale() == scale
  assert figure.axes[0].get_ylim() == (-3, 103)


@pytest.mark.parametrize(
  ('lengths', 'scale'),
  [((50, 100, 200, 400), 'log'), ((50, 100, 200, 399), 'linear')],
)
def test_accuracy_axis_is_logarithmic_where_lengths_double(lengths, scale):
  results = [row(size=str(length)) for length in lengths]
  (axes,) = plots.accuracy_figure(results, 50, 'Copying').axes
  assert axes.get_xscale() == scale
  assert (axes.get_xticks().tolist() == list(lengths)) == (scale == 'log')


def grid_results(value=None):
  return [
    row(size=f'{x}x{y}', replica=replica, n=100, value=1.0 if value else v)
    for x in (1, 10, 20, 30)
    for y in (1, 10, 20)
    for replica in range(2)
    for v in [None if x == 30 else x / 100 + y / 1000]
  ]


def test_errors_are_drawn_on_logarithmic_axes_down_to_a_floor():
  results = replicas([0.5, 0.01, 0.0], arm='nsr', size='10')
  results += replicas([0.5, 0.5, 0.25], arm='nsr', size=str(10**18))
  figure = plots.error_figure(results, 'Comparisons', 'magnitude')
  (axes,) = figure.axes
  (line,) = axes.lines
  assert (axes.get_xscale(), axes.get_yscale()) == ('log', 'log')
  np.testing.assert_allclose(line.get_xdata(), [10, 1e18])
  np.testing.assert_allclose(line.get_ydata(), [0.01, 0.5])
  spread = axes.collections[0].get_datalim(axes.transData)
  assert (spread.y0, spread.y1) == pytest.approx((plots.FLOOR, 0.5))
  with pytest.raises(ExtrapError, match='no results to draw'):
    plots.error_figure([], 'Comparisons', 'magnitude')


def test_grid_puts_the_first_operand_on_x():
  figure = heatmaps.grid_figure(grid_results(), 10, 'Grid')
  (image,) = figure.axes[0].images
  percent = image.get_array()
  assert percent.shape == (3, 4)
  assert percent[1, 2] == pytest.approx(21.0)  # 20x10
  assert np.ma.getmaskarray(percent)[:, 3].all()
  assert '3 cells' in figure.get_supxlabel()


def test_grid_outlines_and_labels_the_training_square():
  from matplotlib.patches import Rectangle

  axes = heatmaps.grid_figure(grid_results(), 10, 'Grid').axes[0]
  (square,) = (p for p in axes.patches if isinstance(p, Rectangle))
  assert square.get_bbox().bounds == (-0.5, -0.5, 2, 2)
  assert [text.get_text() for text in axes.texts] == [
    'trained, up to 10 digits'
  ]


def test_perfect_grid_keeps_the_whole_scale_and_counts_its_sums():
  figure = heatmaps.grid_figure(grid_results(value=1.0), 10, 'Grid')
  (image,) = figure.axes[0].images
  assert image.get_clim() == (0, 100)
  assert (image.get_array() == 100).all()
  note = figure.get_supxlabel()
  assert 'median of 2 replicas; 100 sums a cell and replica' in note
  assert '2,400 in all' in note and 'least replica and cell: 100 %' in note
  assert 'out of table' not in note


def test_grid_refuses_two_arms():
  results = [row(size='1x1'), row(arm='window', size='1x1')]
  with pytest.raises(ExtrapError, match='one arm'):
    heatmaps.grid_figure(results, 10, 'Grid')


def test_shares_have_named_rows_and_columns():
  share_YX = np.array([[1.0, 0.5, np.nan]])
  names = ['nmu mul'], ['1..2', '-2..2', '0..1']
  figure = heatmaps.share_figure(share_YX, names, 'Solved', 'of 25 seeds')
  axes = figure.axes[0]
  (image,) = axes.images
  assert image.get_clim() == (0, 100)
  assert figure.get_supxlabel() == 'of 25 seeds'
  np.testing.assert_array_equal(image.get_array()[0, :2], [100, 50])
  assert [t.get_text() for t in axes.get_xticklabels()] == names[1]
  assert [t.get_text() for t in axes.get_yticklabels()] == names[0]
  with pytest.raises(ExtrapError, match='no shares'):
    heatmaps.share_figure(share_YX[:0], names, 'Solved', 'seeds')


def test_training_curves_show_replicas_as_a_band():
  records = [
    {'step': step, 'train/loss': [4.0 / step, 2.0 / step, math.nan]}
    for step in (1, 2, 4)
  ]
  records.append({'step': 4, 'eval/loss': 0.5, 'eval/exact_match': 1.0})
  figure = training_figure(records, 'Loss')
  (axes,) = figure.axes
  assert axes.get_yscale() == 'log'
  assert legend(figure) == ['train/loss', 'eval/loss']
  np.testing.assert_allclose(axes.lines[0].get_ydata(), [3, 1.5, 0.75])
  spread = axes.collections[0].get_datalim(axes.transData)
  assert (spread.y0, spread.y1) == pytest.approx((0.5, 4.0))


def test_nothing_to_draw_is_an_error():
  with pytest.raises(ExtrapError, match='no loss'):
    training_figure([{'step': 1, 'speed': 2.0}], 'Loss')
  with pytest.raises(ExtrapError, match='equal length'):
    plots.accuracy_figure([row(size='1x2')], 20, 'Addition')
  with pytest.raises(ExtrapError, match='20x35'):
    heatmaps.grid_figure([row()], 20, 'Grid')


def test_plots_are_written_without_pyplot(tmp_path):
  from matplotlib.image import imread

  records = [{'step': step, 'loss': [1 / step, 2 / step]} for step in (1, 2)]
  paths = [
    plots.accuracy_vs_length(
      lengths_results(), 20, tmp_path / 'plots' / 'a.png', 'Addition'
    ),
    heatmaps.grid_heatmap(grid_results(), 10, tmp_path / 'g.png', 'Grid'),
    training_curves(records, tmp_path / 't.png', 'Loss'),
  ]
  for path, inches in zip(paths, (7.2, 6.4, 7.2), strict=True):
    pixels = imread(path)
    assert pixels.shape[1] == int(inches * 144)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20


def test_a_picture_is_replaced_in_one_move(tmp_path, monkeypatch):
  path = tmp_path / 'a.png'
  plots.accuracy_vs_length(lengths_results(), 20, path, 'Addition')
  before = path.read_bytes()
  monkeypatch.setattr(os, 'replace', lambda *_: None)
  plots.accuracy_vs_length(lengths_results(), 50, path, 'Another')
  assert path.read_bytes() == before
  assert [file.name for file in tmp_path.iterdir()] == ['a.png']


# Report.


def test_report_names_pictures_relative_to_itself(tmp_path):
  path = tmp_path / 'run' / 'report.md'
  picture = report.picture('match', tmp_path / 'run/plots/a.png', path)
  sections = [
    ('Result', picture),
    ('Setting', report.bullets(['seed 0', 'two\nlines'])),
  ]
  assert report.write_report(path, 'Addition', sections) == path
  assert path.read_text() == (
    '# Addition\n\n## Result\n\n![match](plots/a.png)\n\n'
    '## Setting\n\n- seed 0\n- two\n  lines\n'
  )
  assert [file.name for file in path.parent.iterdir()] == ['report.md']


# Environment.


def test_environment_describes_this_machine():
  devices = [SimpleNamespace(platform='gpu', device_kind='NVIDIA H100')] * 4
  found = environment.environment(devices)
  assert json.loads(json.dumps(found)) == found
  assert found['python'] == '.'.join(map(str, sys.version_info[:3]))
  assert found['versions']['numpy'] == np.__version__
  assert set(found['versions']) == set(environment.PACKAGES)
  assert found['cores'] >= 1 and found['cpu']
  assert found['devices'] == {
    'platform': 'gpu',
    'kind': 'NVIDIA H100',
    'count': 4,
  }
  assert environment.environment()['devices'] is None


def test_version_differences():
  old = {'python': '3.11.1', 'versions': {'jax': '0.10.2', 'optax': '0.2.8'}}
  new = {'python': '3.11.1', 'versions': {'jax': '0.11.0', 'optax': None}}
  assert environment.version_differences(old, new) == [
    'jax 0.10.2 -> 0.11.0',
    'optax 0.2.8 -> absent',
  ]
  assert environment.version_differences(old, old) == []


@pytest.mark.parametrize(
  ('devices', 'line'),
  [
    (None, '2 cores AMD EPYC'),
    (('cpu', 'cpu', 1), '2 cores AMD EPYC, CPU'),
    (('cpu', 'cpu', 8), '2 cores AMD EPYC, CPU as 8 devices'),
    (('tpu', 'TPU v4', 16), '2 cores AMD EPYC, 16 x TPU v4'),
  ],
)
def test_hardware_line(devices, line):
  if devices:
    devices = dict(zip(('platform', 'kind', 'count'), devices, strict=True))
  env = {'cores': 2, 'cpu': 'AMD EPYC', 'devices': devices}
  assert environment.hardware(env) == line


def test_git_state_follows_the_checkout(tmp_path, monkeypatch):
  monkeypatch.delenv(environment.COMMIT_VARIABLE, raising=False)

  def git(*command):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@b.c']
    done = subprocess.run(
      ['git', '-C', tmp_path, *identity, *command],
      capture_output=True,
      text=True,
      check=True,
    )
    return done.stdout.strip()

  file = tmp_path / 'a.py'
  file.write_text('1\n')
  git('init')
  assert environment.git_state(file) is None
  git('add', 'a.py')
  git('commit', '-m', 'first')
  commit = git('rev-parse', 'HEAD')
  assert environment.git_state(file) == {'commit': commit, 'dirty': False}
  file.write_text('2\n')
  assert environment.git_state(file) == {'commit': commit, 'dirty': True}
  other = tmp_path / 'untracked.py'
  other.write_text('3\n')
  assert environment.git_state(other) is None
  # A launcher's word counts where there is no checkout, and only there.
  monkeypatch.setenv(environment.COMMIT_VARIABLE, 'b' * 40)
  assert environment.git_state(file) == {'commit': commit, 'dirty': True}
  assert environment.git_state(other) == {'commit': 'b' * 40, 'dirty': False}


@pytest.mark.parametrize('dirty', [False, True])
def test_commit_comes_from_the_launcher_without_a_checkout(
  tmp_path, monkeypatch, dirty
):
  state = {'commit': 'a1' * 20, 'dirty': dirty}
  text = environment.commit_text(state)
  monkeypatch.setenv(environment.COMMIT_VARIABLE, text)
  assert environment.git_state(tmp_path / 'a.py') == state
  monkeypatch.setenv(environment.COMMIT_VARIABLE, 'HEAD; true')
  assert environment.git_state(tmp_path / 'a.py') is None


@pytest.mark.parametrize(('system', 'unit'), [('linux', 1024), ('darwin', 1)])
def test_peak_memory_knows_the_unit_of_each_system(monkeypatch, system, unit):
  usage = SimpleNamespace(ru_maxrss=5_000)
  monkeypatch.setattr(environment.sys, 'platform', system)
  monkeypatch.setattr(environment.resource, 'getrusage', lambda who: usage)
  assert environment.peak_memory_bytes() == 5_000 * unit


def test_peak_memory_sees_an_allocation():
  held = np.ones(25_000_000)
  assert environment.peak_memory_bytes() > held.nbytes
