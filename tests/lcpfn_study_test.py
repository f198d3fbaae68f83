"""Tests of the study that trains the networks of curves, at tiny sizes."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import lcpfn, lcpfn_computed
from experiments.lcpfn import Config, bins
from experiments.lcpfn_scores import held_out_curves
from experiments.lcpfn_tables import CUTOFFS, gap_table, paired
from extrap import cli
from extrap.curves import LCPFN, prior, scores
from extrap.curves.prior import PUBLISHED
from extrap.errors import Preempted
from extrap.evaluation.results import Result, read_csv, select, untrained
from extrap.randomness import named

TINY = (
  *('--steps=4', '--curves=12', '--batch_size=4', '--replicas=2'),
  *('--train.steps_per_dispatch=2', '--model.width=8', '--model.heads=1'),
  *('--model.layers=1', '--model.readout=8', '--model.components=2'),
  *('--published.width=8', '--published.layers=1', '--published.bins=20'),
)


def _run(*arguments: str) -> int:
  with pytest.raises(SystemExit) as ended:
    cli.run(lcpfn.main, Config, argv=['lcpfn', *TINY, *arguments])
  return ended.value.code


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
  path = tmp_path_factory.mktemp('runs') / 'lcpfn'
  assert _run(f'--workdir={path}', '--arms=causal,published') == 0
  return path


def test_every_arm_seed_and_cutoff_has_a_log_density(folder: Path):
  results, _ = read_csv(folder / 'results.csv')
  rows = select(results, metric='log_density')
  assert {(row.arm, row.seed, int(row.size)) for row in rows} == {
    (arm, seed, cutoff)
    for arm in ('causal', 'published')
    for seed in (0, 1)
    for cutoff in CUTOFFS
  }
  assert all(row.n == 12 and row.samples == 16 for row in rows)
  assert len({row.value for row in rows}) == len(rows)


def test_a_network_is_kept_that_scores_as_its_rows_say(folder: Path):
  results, _ = read_csv(folder / 'results.csv')
  model = LCPFN.load(folder / 'arms' / 'causal' / 'weights_1.npz')
  value_NT = held_out_curves(12)
  found = model.predict(value_NT[:, :20], 100, at=np.arange(21, 101))
  wanted = select(
    results, arm='causal', replica=1, size='20', metric='log_density'
  )[0].value
  log_density_NQ = found.log_density(value_NT[:, 20:])
  assert log_density_NQ.mean() == pytest.approx(wanted, abs=1e-3)
  inside = select(
    results, arm='causal', replica=1, size='20', metric='coverage_80'
  )[0].value
  low, high = (
    found._forward(np.clip(end, 0, 1)) for end in found.interval(0.8)
  )
  later = value_NT[:, 20:]
  # Where neither end is cut off at a bound both say the same.
  free = (np.asarray(low) > 0) & (np.asarray(high) < 1)
  share = ((later >= low) & (later <= high))[free].mean()
  assert share == pytest.approx(inside, abs=0.15)


def test_the_report_has_what_is_published_beside(folder: Path):
  report = (folder / 'report.md').read_text()
  assert '12 x 512, 10M curves' in report and '2.133' in report
  assert 'causal, seed 1' in report and 'Coverage' in report


def test_test_curves_are_not_those_of_training():
  value_NT = held_out_curves(30)
  assert value_NT.shape == (30, 100)
  np.testing.assert_array_equal(value_NT[:12], held_out_curves(12))
  for seed in range(2):
    key = named(jax.random.key(seed), 'sample', 0)
    trained = prior.sample(PUBLISHED, key, 30).noisy_NT
    assert not np.isin(value_NT[:, 0], np.asarray(trained)[:, 0]).any()


def test_a_share_of_points_falls_in_every_bin():
  bars = bins(20)
  counts, _ = np.histogram(held_out_curves(1000), bars.edge_K1)
  assert 0.03 < counts.min() / counts.sum() < counts.max() / counts.sum() < 0.07


def test_scores_of_a_cutoff_do_not_see_what_follows(folder: Path):
  model = LCPFN.load(folder / 'arms' / 'causal' / 'weights_0.npz')
  value_NT = held_out_curves(6)
  usual = scores.score_causal(model.model, model.params, value_NT, 40)
  assert usual.log_density_NQ.shape == usual.cdf_NQ.shape == (6, 60)
  spoilt = value_NT.copy()
  spoilt[:, 60:] += 0.2
  other = scores.score_causal(model.model, model.params, spoilt, 40)
  np.testing.assert_array_equal(
    usual.log_density_NQ[:, :20], other.log_density_NQ[:, :20]
  )
  assert (usual.log_density_NQ[:, 20:] != other.log_density_NQ[:, 20:]).all()


@pytest.mark.slow
def test_posteriors_are_scored_on_the_first_curves(folder: Path):
  arguments = '--posteriors=3', '--chains=2', '--bank=8000'
  arms = '--arms=causal,published,mcmc,posterior,shipped'
  assert _run(f'--workdir={folder}', arms, *arguments) == 0
  results, _ = read_csv(folder / 'results.csv')
  for arm, count in (('mcmc', 2), ('posterior', 3)):
    rows = select(results, arm=arm, metric='log_density')
    assert [row.n for row in rows] == [count] * len(CUTOFFS)
    # Networks that have learned next to nothing are far behind.
    fresh = select(results, arm='causal', metric='log_density')
    assert min(row.value for row in rows) > max(row.value for row in fresh)
  assert [row[0] for row in gap_table(paired(folder, results)).rows] == [
    *('causal, replica 0', 'causal, replica 1', 'mcmc, replica 0'),
    *('published, replica 0', 'published, replica 1', 'shipped, replica 0'),
  ]


def test_the_network_that_comes_along_is_scored(tmp_path: Path):
  assert _run(f'--workdir={tmp_path}', '--arms=shipped') == 0
  results, _ = read_csv(tmp_path / 'results.csv')
  rows = select(results, metric='log_density')
  value_NT, network = held_out_curves(12), LCPFN.load()
  for row, cutoff in zip(rows, CUTOFFS, strict=True):
    found = scores.score_causal(network.model, network.params, value_NT, cutoff)
    assert row.value == pytest.approx(found.log_density_NQ.mean(), abs=1e-5)
  assert '367,440' in (tmp_path / 'report.md').read_text()


def test_a_posterior_goes_on_behind_the_last_cutoff_kept(
  tmp_path: Path, monkeypatch
):
  found, cutoffs = scores.Scores(*np.full((2, 3, 5), 0.5)), []

  def score(prior, find, key, value_NT, cutoff, done):
    cutoffs.append(cutoff)
    if cutoffs == [10, 20]:
      raise Preempted('stopped')
    return found

  monkeypatch.setattr(lcpfn_computed, 'score_posterior', score)
  monkeypatch.setattr(lcpfn_computed, 'finder', lambda name, bank: None)
  arguments = f'--workdir={tmp_path}', '--arms=posterior', '--posteriors=3'
  assert _run(*arguments) != 0
  assert _run(*arguments) == 0
  assert cutoffs == [10, 20, 20, 40, 80]
  kept = np.load(tmp_path / 'arms' / 'posterior' / 'log_density_0.npz')
  assert set(kept) == set(map(str, CUTOFFS))


def _scored(folder: Path, arm: str, values: np.ndarray) -> list[Result]:
  """Log densities of an arm, by curve and in rows."""
  path = folder / 'arms' / arm
  path.mkdir(parents=True)
  np.savez(
    path / 'log_density_0.npz', **dict.fromkeys(map(str, CUTOFFS), values)
  )
  source = untrained('lcpfn', arm, 'exact prior', (0,))
  mean, count = float(values.mean()), len(values)
  return [
    source.row(0, 'prior', str(cutoff), 'log_density', mean, count)
    for cutoff in CUTOFFS
  ]


def test_a_gap_is_paired_by_curve(tmp_path: Path):
  values = np.array([1.0, 5.0, 9.0, 100.0])
  rows = _scored(tmp_path, 'causal', 0.2 + values)
  assert paired(tmp_path, rows) == gap_table([]).rows == []
  rows += _scored(tmp_path, 'posterior', 0.5 + values[:3])
  (row,) = gap_table(paired(tmp_path, rows)).rows
  assert row == ['causal, replica 0', *['0.300 ± 0.000'] * len(CUTOFFS)]


def test_what_is_not_of_the_rows_is_not_paired(tmp_path: Path):
  values = np.array([1.0, 5.0, 9.0])
  rows = _scored(tmp_path, 'posterior', values)
  other = _scored(tmp_path, 'causal', values)
  half = tmp_path / 'arms' / 'mcmc' / 'log_density_0.npz'
  rows += _scored(tmp_path, 'mcmc', values)
  np.savez(half, **{'10': values})
  changed = [dataclasses.replace(row, value=2.0) for row in other]
  assert paired(tmp_path, rows + changed)[0] == ['cutoff', 'curve', 'posterior']
  assert len(paired(tmp_path, rows + other)[0]) == 4


def test_walkers_go_as_far_as_in_the_row_that_they_are_called_after(
  monkeypatch,
):
  monkeypatch.setattr(
    lcpfn_computed.ensemble, 'posterior_ensemble', lambda *given: given[-1]
  )
  found = {
    name: lcpfn_computed.finder(name, 0)(None, None, None)
    for name in lcpfn_computed.CHAINS
  }
  steps = {name: (each.steps, each.burn) for name, each in found.items()}
  assert steps == {
    **{'mcmc': (2000, 500), 'mcmc_2': (4000, 100), 'mcmc_3': (4000, 500)},
    'mcmc_long': (20_000, 5000),
  }
  assert {each.walkers for each in found.values()} == {100}


def test_what_would_fail_later_is_refused(tmp_path, capsys):
  for flag, message in (
    ('--arms=other', f'name each once, of {", ".join(lcpfn.ARMS)}'),
    ('--bank=8001', 'a multiple of 8000'),
    ('--model.heads=3', 'does not divide'),
  ):
    assert _run(f'--workdir={tmp_path / "none"}', flag) == 2
    assert message in capsys.readouterr().err
  assert not (tmp_path / 'none').exists()
