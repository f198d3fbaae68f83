"""The same seed learns the same on any mesh and any number of processes.

Run as a program, this file is one process of a job: it trains and, in the
first process, prints its losses.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.models.config import TransformerConfig
from extrap.models.positions import PlaceBias
from extrap.models.transformer import Transformer
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.training import MeshConfig, TrainConfig, fit, make_mesh
from extrap.training.distributed import (
  ClusterConfig,
  initialize,
  is_first,
  to_host,
)

STEPS = 20
ROOT = Path(__file__).parents[1]


def losses(
  mesh: MeshConfig, evaluate_every: int = 0, **settings: object
) -> list[list[float]]:
  """Loss of each step and replica."""
  task = Addition(base=2)
  model = TransformerConfig(
    position=PlaceBias(), depth=2, width=16, heads=2, ffn_width=16
  )
  problem = SequenceProblem(
    task=task,
    model=Transformer(model, task.vocab_size),
    max_size=3,
    batch_size=16,
    validation_examples=8,
  )
  config = TrainConfig(
    steps=STEPS,
    steps_per_dispatch=1,
    warmup_steps=2,
    evaluate_every=evaluate_every,
    **settings,
  )
  trained = fit(problem, config, replicas=2, mesh=make_mesh(mesh))
  assert to_host(trained.params)['embedding'].shape[0] == 2
  kernel = trained.params['layers']['ffn']['in']['kernel']
  sizes = (mesh.replica, mesh.data, mesh.model)
  part = kernel.addressable_shards[0].data.shape
  assert part == (2 // sizes[0], 2, 16 // sizes[1], 16 // sizes[2])
  return [record['train/loss'].tolist() for record in trained.history]


@pytest.fixture(scope='module')
def alone() -> np.ndarray:
  """Losses on a single device."""
  found = np.asarray(losses(MeshConfig()))
  assert found.shape == (STEPS, 2)
  assert found[-1].max() < found[0].min()
  return found


@pytest.mark.parametrize(
  'sizes',
  [
    (2, 2, 2),
    # Their axes are split alike by the one above, and by parts of a batch.
    pytest.param((1, 8, 1), marks=pytest.mark.slow),
    pytest.param((1, 4, 2), marks=pytest.mark.slow),
  ],
)
def test_simulated_devices(
  alone: np.ndarray, sizes: tuple[int, int, int]
) -> None:
  replica, data, model = sizes
  mesh = MeshConfig(replica=replica, data=data, model=model)
  # Held-out evaluation is compiled where all axes are split.
  found = losses(mesh, evaluate_every=10 if min(sizes) > 1 else 0)
  np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)


def test_two_processes_of_two_devices(alone: np.ndarray) -> None:
  launcher = ['-m', 'launch.local', '--processes=2', '--devices=2', '--']
  job = subprocess.run(
    [sys.executable, *launcher, 'python', '-m', 'tests.any_mesh_test'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert job.returncode == 0, job.stderr[-2000:]
  said = [line for line in job.stdout.splitlines() if line.startswith('[0] [[')]
  found = json.loads(said[0].removeprefix('[0] '))
  np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize('sizes', [(1, 1), (2, 2)])
def test_parts_of_a_batch_add_up(
  alone: np.ndarray, sizes: tuple[int, int]
) -> None:
  mesh = MeshConfig(data=sizes[0], model=sizes[1])
  found = losses(mesh, accumulate=4)
  np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)


def test_parts_are_really_made() -> None:
  with pytest.raises(UsageError, match='accumulate=3 does not divide'):
    losses(MeshConfig(), accumulate=3)


def _process(arguments: list[str]) -> None:
  given = dict(a.removeprefix('--cluster.').split('=') for a in arguments)
  initialize(
    ClusterConfig(
      coordinator=given['coordinator'],
      processes=int(given['processes']),
      rank=int(given['rank']),
    )
  )
  found = losses(MeshConfig(data=2, model=2), evaluate_every=10)
  if is_first():
    print(json.dumps(found))


if __name__ == '__main__':
  _process(sys.argv[1:])
