"""Tests of training/distributed.py, with real processes where it takes them.

Run as a program, this file is one process of a job.
"""

import dataclasses
import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap import cli
from extrap.config import option
from extrap.errors import Diverged, ExtrapError, UsageError
from extrap.training import distributed
from extrap.training.distributed import ClusterConfig
from extrap.training.sharding import MeshConfig, make_mesh

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    ({'rank': 1}, ['--cluster.rank without --cluster.coordinator']),
    ({'coordinator': 'a:1', 'rank': 0}, ['without --cluster.processes']),
    ({'processes': 2}, ['without --cluster.coordinator']),
    (
      {'coordinator': 'a:1', 'processes': 2, 'rank': 2},
      ['--cluster.rank=2', 'end at 1'],
    ),
    (
      {'coordinator': 'host', 'processes': 2, 'rank': 0},
      ['--cluster.coordinator=host is not host:port'],
    ),
  ],
)
def test_half_a_cluster_is_refused(given: dict, words: list[str]) -> None:
  with pytest.raises(UsageError) as caught:
    distributed.initialize(ClusterConfig(**given))
  assert all(word in str(caught.value) for word in words)
  assert '\n' not in str(caught.value)


def test_one_process_is_alone() -> None:
  distributed.initialize(ClusterConfig())
  distributed.initialize(
    ClusterConfig(coordinator='host:1', processes=1, rank=0)
  )
  assert distributed.is_alone() and distributed.is_first()
  assert distributed.from_first(True) and not distributed.on_all(False)
  with pytest.raises(Diverged), distributed.shared_fate():
    raise Diverged('here')
  found = distributed.to_host({'x': jnp.arange(3)})
  assert isinstance(found['x'], np.ndarray)


def _job(
  act: str,
  *,
  environments: tuple[dict, dict] = ({}, {}),
  folders: tuple[Path, Path] = (ROOT, ROOT),
  cluster: bool = True,
  gloo: bool = False,
) -> list[tuple[int, str]]:
  """Exit code and output of two processes that act alike."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = probe.getsockname()[1]
  processes = []
  for rank in range(2):
    flags = [f'--act={act}']
    if cluster:
      flags += [
        f'--cluster.coordinator=127.0.0.1:{port}',
        '--cluster.processes=2',
        f'--cluster.rank={rank}',
      ]
    own = {
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': '1',
      'PYTHONPATH': str(ROOT),
    }
    processes.append(
      subprocess.Popen(
        [sys.executable, '-m', 'tests.distributed_test', *flags],
        cwd=folders[rank],
        env=os.environ | own | environments[rank],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  try:
    said = [process.communicate(timeout=120)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  return [
    (process.returncode, text if gloo else '\n'.join(_own_lines(text)))
    for process, text in zip(processes, said, strict=True)
  ]


def _own_lines(text: str) -> list[str]:
  return [line for line in text.splitlines() if '[Gloo]' not in line]


def test_processes_agree() -> None:
  expected = 'first False all True False host [0 1] same stopped 3'
  assert _job('agree') == [(0, expected), (0, expected)]


def test_the_error_of_one_ends_both_and_is_told_once() -> None:
  (code0, said0), (code1, said1) = _job('fail')
  assert (code0, code1) == (2, 2)
  assert said0 == ''
  assert said1 == 'error: only here'


@pytest.mark.parametrize('rank', [0, 1])
def test_one_that_fails_alone_ends_the_others(rank: int) -> None:
  """They wait for it in a collective, which nothing else would end."""
  found = _job(f'alone{rank}')
  assert [code for code, _ in found] == [1, 1]
  assert found[rank][1] == 'error: mine alone'
  assert found[1 - rank][1] == 'told its end'


def test_a_bug_in_one_ends_the_others() -> None:
  (code0, said0), (code1, said1) = _job('bug')
  assert (code0, code1) == (1, 1)
  assert said0 == 'told its end'
  assert said1.startswith('Traceback') and 'ZeroDivisionError' in said1


def test_a_folder_that_one_does_not_see(tmp_path: Path) -> None:
  folders = (tmp_path / 'a', tmp_path / 'b')
  for folder in folders:
    folder.mkdir()
  (code0, said0), (code1, said1) = _job('share', folders=folders)
  assert (code0, code1) == (2, 2)
  assert said0 == ''
  assert 'error: --workdir=runs/x: process 1' in said1
  assert 'does not see' in said1
  assert not list(tmp_path.rglob('*/*')), 'something was left behind'


def test_a_folder_that_one_cannot_write(tmp_path: Path) -> None:
  folders = (tmp_path, tmp_path)
  (code0, said0), (code1, said1) = _job('readonly', folders=folders)
  assert (code0, code1) == (1, 1)
  assert said0 == ''
  assert 'error: --workdir=runs/x: process 1' in said1
  assert 'cannot write there' in said1
  assert not list(tmp_path.iterdir()), 'something was left behind'


def test_groups_of_devices_meet_before_they_compile() -> None:
  """Each group of a 2x2 mesh, so that none is new to the first step."""
  two = {'JAX_NUM_CPU_DEVICES': '2'}
  for code, said in _job('acquaint', environments=(two, two), gloo=True):
    before, after = said.split('acquainted')
    assert code == 0
    # Gloo tells of every group that it makes.
    assert '[Gloo]' in before and '[Gloo]' not in after


def test_slurm_is_detected() -> None:
  slurm = {
    'SLURM_JOB_ID': str(os.getpid()),
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': '2',
  }
  ranks = tuple(
    slurm | {'SLURM_PROCID': str(rank), 'SLURM_LOCALID': str(rank)}
    for rank in range(2)
  )
  expected = 'first False all True False host [0 1] same stopped 3'
  found = _job('agree', environments=ranks, cluster=False)
  assert found == [(0, expected), (0, expected)]


def test_nobody_comes() -> None:
  """The wait is bounded, and its end is one line."""
  flags = [
    '--cluster.coordinator=127.0.0.1:9',
    '--cluster.processes=2',
    '--cluster.rank=1',
    '--cluster.timeout=1',
  ]
  done = subprocess.run(
    [sys.executable, '-m', 'tests.distributed_test', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.returncode == 1
  errors = [line for line in done.stderr.splitlines() if 'error:' in line]
  assert errors == [
    'error: not all processes came to 127.0.0.1:9 within --cluster.timeout=1 '
    'seconds'
  ]
  assert 'Traceback' not in done.stderr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of one process."""

  act: str = option('agree', 'what to do')
  cluster: ClusterConfig = option(ClusterConfig(), 'the other processes')


def _act(config: Config, flag_values: object) -> None:
  """What one process of a job does."""
  del flag_values
  distributed.initialize(config.cluster)
  rank = jax.process_index()
  if config.act == 'fail':
    with distributed.shared_fate():
      if rank == 1:
        raise UsageError('only here')
  if config.act == f'alone{rank}':
    raise ExtrapError('mine alone')
  if config.act == 'bug' and rank == 1:
    print(1 // 0)
  if config.act.startswith(('alone', 'bug')):
    distributed.at_end(lambda: print('told its end', flush=True))
    distributed.to_host(_spread(rank))
  if config.act == 'acquaint':
    _use_all_groups(make_mesh(MeshConfig(replica=2, data=2)))
    return
  if config.act == 'readonly' and rank == 1:
    os.access = lambda path, mode: False
  if config.act in ('share', 'readonly'):
    distributed.check_shared(Path('runs/x'), seconds=0.3)
  distributed.check_same('the same', 'flags')
  try:
    distributed.check_same(str(rank), 'flags')
  except ExtrapError as error:
    same = 'same' if isinstance(error, UsageError) else 'other'
  asked = itertools.count()
  agreed = distributed.Agreed(lambda: rank == 1 and next(asked) == 2)
  stopped = [agreed() for _ in range(5)].index(True)
  gathered = distributed.to_host(_spread(rank))
  print(
    f'first {distributed.from_first(rank == 1)} '
    f'all {distributed.on_all(rank < 2)} {distributed.on_all(rank == 0)} '
    f'host {gathered} {same} stopped {stopped}'
  )


def _use_all_groups(mesh: jax.sharding.Mesh) -> None:
  """Sums over each axis and over both, as a training step would."""
  distributed.acquaint(mesh)
  print('acquainted', flush=True)
  whole = jax.NamedSharding(mesh, jax.P('replica', 'data'))
  x = jax.make_array_from_callback((2, 2), whole, lambda i: np.ones((1, 1)))
  for axes, left in ((0, ('data',)), (1, ('replica',)), ((0, 1), ())):
    sharding = jax.NamedSharding(mesh, jax.P(*left))
    total = jax.jit(jnp.sum, static_argnums=1, out_shardings=sharding)(x, axes)
    total.block_until_ready()


def _spread(rank: int) -> jax.Array:
  """[0, 1], one element on each process."""
  mesh = jax.make_mesh((2,), ('x',), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = jax.NamedSharding(mesh, jax.P('x'))
  return jax.make_array_from_process_local_data(
    sharding, np.array([rank]), (2,)
  )


if __name__ == '__main__':
  cli.run(_act, Config)
