"""Tests of the command that forecasts curves of files."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import forecast
from extrap import cli
from extrap.curves import scaling_pfn, weights
from extrap.curves.causal_pfn import CausalPFNConfig, fresh

SIZES = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)
PNG = b'\x89PNG'


@pytest.fixture(scope='module')
def network(tmp_path_factory) -> Path:
  path = tmp_path_factory.mktemp('network') / 'net.npz'
  return weights.save(path, SIZES, fresh(SIZES, jax.random.key(0)))


@pytest.fixture
def run(network, tmp_path: Path, capsys):
  """Runs the command on text; returns the exit code, stdout and stderr."""

  def call(text: str, *arguments: str) -> tuple[int, str, str]:
    file = tmp_path / 'curves.csv'
    file.write_text(text)
    argv = ['forecast', f'--csv={file}', f'--weights={network}']
    argv.append(f'--plot={tmp_path / "plot.png"}')
    with pytest.raises(SystemExit) as ended:
      cli.run(
        forecast.main,
        forecast.Config,
        argv=[*argv, *arguments],
        doc=forecast.__doc__,
      )
    return ended.value.code, *capsys.readouterr()

  return call


def _columns(**curves: list[float]) -> str:
  length = max(map(len, curves.values()))
  lines = [','.join(['step', *curves])]
  for at in range(length):
    cells = [f'{c[at]}' if at < len(c) else '' for c in curves.values()]
    lines.append(','.join([str(at + 1), *cells]))
  return '\n'.join(lines) + '\n'


LONG = np.linspace(0.2, 0.8, 20).tolist()
SHORT = np.linspace(0.3, 0.6, 8).tolist()


def test_a_short_curve_is_forecast_to_the_end_of_the_longest(run, tmp_path):
  code, out, _ = run(_columns(long=LONG, short=SHORT))
  assert code == 0
  row = next(line for line in out.splitlines() if line.startswith('short'))
  assert row.split()[1:3] == ['8', '0.6'] and '(0.8)' in row
  assert 'at step 20' in out
  assert 'not forecast: long has come to step 20 already' in out
  assert (tmp_path / 'plot.png').read_bytes().startswith(PNG)


def test_further_than_all(run):
  code, out, _ = run(_columns(long=LONG, short=SHORT), '--horizon=40')
  assert code == 0 and 'at step 40' in out and 'not forecast' not in out


def test_hidden_points_stand_beside_the_forecast(run):
  code, out, _ = run(_columns(long=LONG), '--seen=0.5')
  row = next(line for line in out.splitlines() if line.startswith('long'))
  assert code == 0 and row.split()[1] == '10' and row.split()[-1] == '0.8'


def test_a_loss_is_better_below(run):
  falling = (2 - 0.05 * np.arange(20)).tolist()
  code, out, _ = run(_columns(a=falling[:10], b=falling))
  row = next(line for line in out.splitlines() if line.startswith('a'))
  assert code == 0 and '(1.05)' in row


def test_a_value_to_beat(run):
  code, out, _ = run(_columns(a=SHORT), '--horizon=30', '--beat=0.55')
  assert code == 0 and '(0.55)' in out


def test_a_constant_curve_is_told_and_the_others_are_forecast(run):
  text = _columns(flat=[0.5] * 8, short=SHORT)
  code, out, _ = run(text, '--horizon=30')
  assert code == 0 and 'not forecast: flat is constant, 0.5' in out
  assert any(line.startswith('short') for line in out.splitlines())


def test_what_cannot_be_forecast_does_not_keep_the_others_from_it(run):
  text = _columns(good=SHORT, high=[0.5, 1.5, 0.6], two=[0.1, 0.2])
  code, out, _ = run(text, '--horizon=30', '--kind=accuracy')
  assert code == 0 and any(row.startswith('good') for row in out.splitlines())
  assert 'not forecast: high cannot be normalised: high, point 2: 1.5' in out
  assert 'not forecast: two shows 2 points; 3 are needed' in out


def test_a_loss_that_rises_among_losses_is_one(run):
  falling = [2.3, 1.9, 1.5, 1.2, 1.0]
  text = _columns(a=falling, b=falling, c=[2.3, 2.5, 2.9, 3.1, 3.3])
  code, out, _ = run(text, '--horizon=30')
  row = next(row for row in out.splitlines() if row.startswith('c '))
  # What it has to beat is the least of the others.
  assert code == 0 and '(1)' in row


def test_bounds_that_are_known_are_used(run):
  text = _columns(a=[120.0, 150.0, 160.0, 165.0])
  code, out, _ = run(text, '--horizon=30', '--low=0', '--up=200')
  assert code == 0
  high = next(row for row in out.splitlines() if row.startswith('a ')).split()
  assert max(float(cell) for cell in high[3:] if cell[0].isdigit()) <= 200


def test_a_family_forecasts_in_place_of_the_network(run, tmp_path):
  steps = np.arange(1.0, 41)
  falls, rises = 0.2 + 0.6 / steps, 0.8 - 0.6 / steps
  text = _columns(a=falls.tolist(), b=rises.tolist())
  flags = ('--forecaster=pow3', '--weights=none', '--kind=error', '--beat=0.5')
  code, out, _ = run(text, '--seen=0.4', *flags)
  assert code == 0 and (tmp_path / 'plot.png').exists()
  for name, came, chance in (('a', falls[-1], 100), ('b', rises[-1], 0)):
    line = next(row for row in out.splitlines() if row.startswith(f'{name} '))
    median, *ends = (float(c) for c in line.split()[3:13] if c[0].isdigit())
    assert median == pytest.approx(came, abs=0.01)
    low_50, high_50, low_80, high_80 = ends[:4]
    assert low_80 < low_50 < median < high_50 < high_80 < low_80 + 0.05
    (found,) = re.findall(r'(\S+) % \(0.5\)', line)
    assert float(found) == pytest.approx(chance, abs=0.01)


def test_a_scaling_law_goes_on_for_ten_times_as_long(run, tmp_path):
  steps = np.arange(1.0, 41)
  rises, done = 1 - 0.8 * steps**-0.4, np.minimum(steps / 20, 1.0)
  text = _columns(a=rises.tolist(), b=done.tolist())
  flags = ['--forecaster=scaling', '--kind=accuracy', '--horizon=400']
  code, _, err = run(text, *flags)
  assert code == 1 and 'a network of learning curves, not of scaling' in err
  code, out, _ = run(text, *flags, f'--weights={scaling_pfn.SHIPPED}')
  assert code == 0 and (tmp_path / 'plot.png').exists()
  line = next(row for row in out.splitlines() if row.startswith('a '))
  assert float(line.split()[3]) == pytest.approx(1 - 0.8 * 400**-0.4, abs=0.02)
  assert 'not forecast: b follows no scaling law: it is at or beyond 1' in out
  late = _columns(a=[9.0, *rises.tolist()]).splitlines()
  from_zero = '\n'.join(
    [late[0].replace('step', 'tokens')]
    + [f'{at},{line.partition(",")[2]}' for at, line in enumerate(late[1:])]
  )
  late_flags = flags[0], '--kind=cost', f'--weights={scaling_pfn.SHIPPED}'
  code, out, err = run(from_zero, *late_flags, '--horizon=400')
  assert code != 0 and 'falls without a lower bound' in err
  code, out, err = run(from_zero, *late_flags, '--horizon=400', '--low=0')
  assert code == 0 and out.startswith('curve')
  code, _, err = run(from_zero, *late_flags, '--horizon=9999', '--low=0')
  assert code != 0 and 'more than 49 times as far' in err


@pytest.mark.parametrize(
  ('text', 'arguments', 'message'),
  [
    ('', (), 'is empty'),
    ('step,a\n1,x\n', (), "row 2, column 'a': 'x' is no number"),
    (_columns(a=[0.1, 0.2, 0.3]), (), 'no curve can be forecast'),
    (_columns(a=[0.4] * 5), ('--horizon=9',), 'is constant'),
    (_columns(a=[0.1, 0.2, 1.3]), ('--horizon=9', '--up=1'), 'outside'),
    (_columns(a=SHORT), ('--horizon=30', '--weights=none'), 'no network'),
    (_columns(a=SHORT), ('--forecaster=pow5',), '--forecaster=pow5'),
  ],
)
def test_bad_input_is_one_line(run, tmp_path, text, arguments, message):
  code, _, err = run(text, *arguments)
  assert code != 0 and message in err
  assert err.startswith('error: ') and err.count('\n') == 1
  assert not (tmp_path / 'plot.png').exists()


def test_a_file_must_be_named(capsys):
  with pytest.raises(SystemExit):
    cli.run(forecast.main, forecast.Config, argv=['forecast'])
  assert '--csv=FILE' in capsys.readouterr().err
