"""The short form of the fault suite, each case with real processes."""

import pytest

from experiments.benchmarks import faults
from experiments.benchmarks.disturbed_runs import (
  Bench,
  Lost,
  check_same,
  undisturbed,
)


@pytest.fixture(scope='module')
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
  return undisturbed(tmp_path_factory.mktemp('faults'))


@pytest.mark.parametrize(
  'name',
  [
    'kill 2 in a save',
    # One process that is preempted is among the tests of resumption.
    pytest.param('processes: one preempted', marks=pytest.mark.slow),
    # The same without processes is among the tests of resumption.
    pytest.param('checkpoint flipped', marks=pytest.mark.slow),
    # One process that meets a full disk is among the tests of checkpoints.
    pytest.param('processes: disk full, 300k', marks=pytest.mark.slow),
    'processes: metrics damaged',
    'folder read-only',
    # Nor is who is refused: tests of run folders hold one in a process.
    pytest.param('folder in use', marks=pytest.mark.slow),
  ],
)
def test_survived(bench: Bench, name: str) -> None:
  case = faults.cases(faults.Config(kills=2))[name]
  try:
    assert case(bench)
  except faults.Impossible as reason:
    pytest.skip(str(reason))


def test_a_difference_is_seen(bench: Bench) -> None:
  """The comparison that all cases rest on."""
  folder = bench.root / 'undisturbed' / 'run'
  assert check_same(folder, bench) == 'bit-identical'
  other = [leaf + 1e-7 for leaf in bench.params]
  with pytest.raises(Lost, match='differ'):
    check_same(folder, Bench(bench.root, bench.losses, other, bench.seconds))
  fewer = dict(list(bench.losses.items())[:-1])
  with pytest.raises(Lost, match='records'):
    check_same(folder, Bench(bench.root, fewer, bench.params, bench.seconds))
