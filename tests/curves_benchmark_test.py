"""Tests of the benchmark of curves: its table, and that all of it runs."""

import pytest

from experiments.benchmarks import curves
from experiments.benchmarks.curves import AIMS, Benchmark, main, measure
from extrap.curves.causal_pfn import CausalPFNConfig
from extrap.curves.ensemble import Settings
from extrap.curves.pfn import PFNConfig

SIZES = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)


@pytest.mark.slow
def test_everything_is_timed(monkeypatch):
  walk = curves.ensemble.posterior_ensemble
  few = Settings(steps=4, walkers=26, burn=1)
  monkeypatch.setattr(
    curves.ensemble, 'posterior_ensemble', lambda *given: walk(*given, few)
  )
  monkeypatch.setattr(curves, 'STEPS', 2)
  benchmark = Benchmark(
    model=SIZES, published=PFNConfig(width=8, layers=1, bins=10), repeats=1
  )
  found = measure(benchmark)
  assert len(found) == len(AIMS) and all(value > 0 for value in found)


@pytest.mark.parametrize(('slow', 'code'), [(1.0, 0), (100.0, 1)])
def test_an_aim_that_is_missed_is_told(
  monkeypatch, tmp_path, capsys, slow, code
):
  found = [2e5, 200.0, 300.0, 1.0 * slow, 0.1, 0.2, 0.3]
  monkeypatch.setattr(curves, 'measure', lambda benchmark: found)
  path = tmp_path / 'curves.csv'
  assert main(Benchmark(csv=str(path)), None) == code
  out = capsys.readouterr().out
  assert ('False' in out) == bool(code) and '<= 5' in out
  rows = [row for row in path.read_text().splitlines() if row[0] != '#']
  assert rows[0] == 'what,found,aim,met' and len(rows) == 1 + len(AIMS)
