"""The benchmark of arithmetic units, its PyTorch side replaced by numpy."""

import sys
import types

import numpy as np
import pytest

from experiments.benchmarks import units
from extrap import cli
from extrap.regression import HELD_OUT, SPLITS

SMALL = ('--seeds=1', '--steps=1000', '--iterations=2000', '--repeats=1')


class NumpyRun:
  """Two linear layers; it says how many iterations were asked of it."""

  wrong = 0.0
  steps = []  # noqa: RUF012

  def __init__(self, unit, operation, weights, task, ramp, seed=0):
    assert (unit, operation, ramp.factor > 0) in (
      ('nau', 'add', True),
      ('linear', 'add', False),
    )
    self.weights, self.task, self.offset = weights, task, task.offset(seed)

  def evaluate(self):
    errors = {}
    for split, seed in HELD_OUT.items():
      low, high = getattr(self.task, SPLITS[split])
      x_BI = np.random.RandomState(seed).uniform(low, high, (10_000, 100))
      y_BO = x_BI
      for of in self.weights.values():
        y_BO = y_BO @ np.float64(of['weight']) + of.get('bias', 0)
      parts = [x_BI[:, self.offset + s :][:, :25].sum(axis=1) for s in (0, 13)]
      errors[split] = np.mean((y_BO[:, 0] - sum(parts)) ** 2) + self.wrong
    return errors

  def train(self, steps, batch_size, every):
    assert (batch_size, every) == (128, 1000)
    self.steps.append(steps)
    sum(range(50_000))


@pytest.fixture
def peer(monkeypatch):
  """The numpy side, and two small layouts."""
  module = 'experiments.benchmarks.units_in_torch'
  monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(Run=NumpyRun))
  both = {'nau': ('add', 'sub'), 'linear': ('add',)}
  monkeypatch.setattr(units, 'LAYOUTS', {'both': both})
  monkeypatch.setattr(NumpyRun, 'steps', [])
  return NumpyRun


def run(*flags):
  """Runs the benchmark in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(units.main, units.Benchmark, argv=['units', *flags])
  return caught.value.code


def test_ratios_are_of_steps_of_runs_and_both_sides_must_agree(
  peer, monkeypatch, tmp_path
):
  path = tmp_path / 'units.csv'
  assert run(*SMALL, f'--csv={path}') == 0
  assert peer.steps == [200, 2000] * 2
  lines = path.read_text(encoding='utf-8').splitlines()
  comments = [line for line in lines if line.startswith('# ')]
  assert comments[0].startswith('# command: ')
  header, line = (line.split(',') for line in lines if line not in comments)
  row = dict(zip(header, line, strict=True))
  assert list(row.values())[:3] == ['both', '3', '1']
  ours, theirs = (
    float(row[name]) for name in ('run_steps_per_cpu_s', 'pytorch_per_cpu_s')
  )
  assert float(row['ratio']) == pytest.approx(ours / theirs, rel=0.01)
  assert row['same_errors'] == 'True'
  monkeypatch.setattr(peer, 'wrong', 1e6)
  monkeypatch.setattr(units, 'our_rate', lambda trainer, benchmark: 6e3)
  monkeypatch.setattr(units, 'median_seconds', lambda call, repeats: 2.0)
  assert run(*SMALL, f'--csv={path}') == 1
  line = path.read_text(encoding='utf-8').splitlines()[-1]
  assert line == 'both,3,1,6000,1000,6,False'


def test_all_run_steps_of_a_layout_count(monkeypatch):
  seconds = []

  def median_seconds(call, repeats):
    seconds.append(repeats)
    return 4.0

  monkeypatch.setattr(units, 'median_seconds', median_seconds)
  trainer = units.make({'linear': ('add', 'sub')}, seeds=3)
  monkeypatch.setattr(
    type(trainer),
    'dispatch',
    lambda self: lambda state, first, steps: (state, {}),
  )
  benchmark = units.Benchmark(steps=2000, repeats=5)
  assert units.our_rate(trainer, benchmark) == 3 * 2 * 2000 / 4
  assert seconds == [5]


def test_without_pytorch_one_line_says_so(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'torch', None)
  assert run(*SMALL) == 1
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert 'PyTorch is not installed' in line


def test_steps_without_their_share_of_evaluations_are_refused(capsys):
  assert run('--steps=1500') == 2
  assert '--steps=1500: a multiple of 1000' in capsys.readouterr().err


def test_layouts_are_those_that_are_claimed():
  runs = {
    name: sum(map(len, cells.values())) for name, cells in units.LAYOUTS.items()
  }
  for unit in ('nmu', 'nau', 'linear'):
    assert runs[f'{unit}, one run'] == 1
  assert runs['nmu, six operations'] == 6
  assert runs['the headline'] == 11
  assert max(runs.values()) == 18
