"""The scaling benchmark: data, splits, scores, and the study on few curves."""

import collections
import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest

from experiments import scaling_benchmark, scaling_scores
from experiments.scaling_scores import Score, best_held_out, combined, rmsle
from extrap import cli
from extrap.datasets.scaling_benchmark import DATA, load
from extrap.errors import ExtrapError


def test_curves_and_splits_are_the_published_ones():
  domains = collections.Counter(curve.domain for curve in load())
  counts = {'IC': 72, 'NMT': 5, 'LM': 5, 'BB': 10, 'Nano': 24, 'DD': 16}
  assert domains == counts | {'LLM': 192}
  splits = collections.defaultdict(list)
  for curve in load():
    fitted = int(curve.fit_T.sum())
    splits[curve.domain].append((fitted, len(curve.fit_T) - fitted))
  limits = {
    domain: tuple((min(side), max(side)) for side in zip(*pairs, strict=True))
    for domain, pairs in splits.items()
  }
  assert limits['IC'] == ((10, 71), (3, 710))
  assert limits['NMT'] == ((9, 10), (1, 1))
  assert limits['LM'] == ((11, 59), (5, 60))
  assert limits['BB'] == ((19, 19), (24, 24))
  assert limits['Nano'] == ((6, 6), (1, 1))
  assert all(abs(fit - test) <= 1 for fit, test in splits['DD'])
  assert all(fit - test in (0, 1) for fit, test in splits['LLM'])


def test_curves_can_be_fitted():
  for curve in load():
    assert np.isfinite(curve.x_T).all() and (curve.x_T > 0).all()
    assert np.isfinite(curve.y_T).all() and (curve.y_T > 0).all()
    assert (np.diff(curve.x_T) >= 0).all(), curve.name
    points = zip(curve.x_T, curve.y_T, strict=True)
    assert len(set(points)) == len(curve.x_T), curve.name
    # What is fitted comes first.
    assert (np.diff(curve.fit_T.astype(int)) <= 0).all(), curve.name
    if np.isfinite(curve.ceiling):
      assert curve.domain in ('IC', 'BB') and curve.y_T.max() <= curve.ceiling


def test_last_values_have_the_known_error():
  """As computed by others' code: .0880 on the 72 curves of images."""
  errors = [
    rmsle(curve.y_T[curve.fit_T][-1], curve.y_T[~curve.fit_T])
    for curve in load(('scaling',))
    if curve.domain == 'IC'
  ]
  assert np.mean(errors) == pytest.approx(0.0880, abs=5e-5)


def test_data_is_packaged_with_its_licence():
  project = tomllib.loads(
    (Path(__file__).parents[1] / 'pyproject.toml').read_text('utf-8')
  )
  patterns = project['tool']['setuptools']['package-data']['extrap.datasets']
  packaged = {path for p in patterns for path in DATA.parent.glob(p)}
  assert packaged >= set(DATA.iterdir())
  assert 'MIT License' in (DATA / 'README.md').read_text('utf-8')
  size = sum(path.stat().st_size for path in DATA.iterdir())
  assert 1e6 < size < 2e6


def test_damaged_data_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr('extrap.datasets.scaling_benchmark.DATA', tmp_path)
  with pytest.raises(ExtrapError, match='is damaged') as caught:
    load.__wrapped__(('nano',))
  assert '\n' not in str(caught.value)


def _score(
  held_out: float, error: float, density: float = 0.0, below: float = 0.5
) -> Score:
  two = np.ones(2)
  narrow, wide = (density * two, below * two), (2 * density * two, below * two)
  return Score(held_out, error * two, *narrow, *wide, 1.0, 2.0)


def test_choice_is_by_held_out_points_alone():
  good, bad, failed = (
    _score(held_out, error)
    for held_out, error in ((0.1, 0.9), (0.2, 0.1), (np.nan, 0.0))
  )
  (chosen,) = best_held_out([[bad], [good], [failed]])
  numbers = chosen.numbers()
  assert numbers['rmsle'] == pytest.approx(0.9)
  assert (numbers['fit_ms'], numbers['bootstrap_ms']) == (3.0, 6.0)


def test_forecasts_are_combined_by_their_held_out_errors():
  good, bad = _score(0.1, 0.3, 2.0, 0.9), _score(0.2, -0.2, 0.0, 0.4)
  failed, unsure = _score(0.1, np.nan), _score(0.1, 0.1, np.nan)
  (both,) = combined([[bad], [good], [failed], [unsure]])
  # Weights of four fifths and one fifth.
  np.testing.assert_allclose(both.error_Q, 0.8 * 0.3 - 0.2 * 0.2)
  for name, density in (('log_density_Q', 2.0), ('log_density_wide_Q', 4.0)):
    wanted = np.log(0.8 * np.exp(density) + 0.2)
    np.testing.assert_allclose(getattr(both, name), wanted)
  np.testing.assert_allclose(both.below_Q, 0.8 * 0.9 + 0.2 * 0.4)
  assert both.numbers()['fit_ms'] == 4.0 and np.isnan(both.held_out)


def test_a_method_without_a_held_out_error_has_little_weight():
  sure, lost = _score(0.1, 0.5), _score(np.nan, -0.5)
  (both,) = combined([[sure], [lost]])
  # As if it had been wrong by one in the logarithm.
  np.testing.assert_allclose(both.error_Q, 0.5 * (100 - 1) / 101)
  (only,) = combined([[_score(0.0, 0.5)], [lost]])
  np.testing.assert_allclose(only.error_Q, 0.5)


def test_calibration_error_is_zero_only_where_coverage_is_the_level():
  even_T = (np.arange(100_000) + 0.5) / 100_000
  assert scaling_scores.calibration_error(even_T) < 1e-8
  sure_T = np.full(10, 0.999999)
  wanted = np.mean(scaling_scores.LEVELS**2)
  assert scaling_scores.calibration_error(sure_T) == pytest.approx(wanted)


def run(*flags):
  with pytest.raises(SystemExit) as caught:
    cli.run(
      scaling_benchmark.main,
      scaling_benchmark.Config,
      argv=['scaling_benchmark', *flags],
    )
  return caught.value.code


def test_study_runs_on_a_few_curves(tmp_path, capsys):
  table, curves = tmp_path / 'table.csv', tmp_path / 'curves.csv'
  code = run(
    '--groups=nano',
    '--curves=2',
    '--families=m2,bnsl0',
    '--candidates=16',
    '--steps=5',
    '--draws=4',
    f'--csv={table}',
    f'--curves_csv={curves}',
  )
  assert code == 0
  lines = table.read_text().splitlines()
  assert lines[0].startswith('# command:')
  rows = list(csv.DictReader(line for line in lines if line[0] != '#'))
  methods = ['last_value', 'network', 'm2', 'bnsl0', 'bnsl', 'chosen']
  methods += ['chosen_with_network', 'combined']
  assert [row['method'] for row in rows] == 2 * methods
  assert {row['domain'] for row in rows} == {'Nano', 'language and nano'}
  by_method = {row['method']: row for row in rows}
  assert by_method['bnsl']['rmsle'] == by_method['bnsl0']['rmsle']
  naive, network = by_method['last_value'], by_method['network']
  assert 0 < float(network['rmsle']) < float(naive['rmsle']) < 0.2
  assert float(network['log_density']) > float(naive['log_density'])
  assert all(row['complete'] == 'True' for row in rows)
  assert 'last_value' in capsys.readouterr().out
  each = [line for line in curves.read_text().splitlines() if line[0] != '#']
  assert len(each) == 1 + 2 * len(methods)


def test_unknown_names_are_refused(capsys):
  assert run('--families=m5') == 2
  assert 'm5' in capsys.readouterr().err
  assert run('--groups=faces') == 2
