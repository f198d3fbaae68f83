"""Runs of a tiny study that something breaks, and what must come of them."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments import addition
from extrap import study, study_training
from extrap.reporting.writers import read_jsonl

STEPS = 120
TINY = (
  f'--steps={STEPS}',
  '--replicas=2',
  '--batch_size=8',
  '--digits=3',
  '--model.width=16',
  '--model.heads=2',
  '--model.ffn_width=16',
  '--train.steps_per_dispatch=2',
  '--train.evaluate_every=0',
  '--train.save_every=6',
  '--eval=none',
)


class Lost(Exception):
  """A case that was not survived; the message says how."""


@dataclasses.dataclass(frozen=True)
class Bench:
  """A folder for the runs, and the undisturbed one.

  Attributes:
    root: where the runs are.
    losses: of the undisturbed run, by step.
    params: its last parameters.
    seconds: how long it took from its first status on.
  """

  root: Path
  losses: dict[int, list[float]]
  params: list[np.ndarray]
  seconds: float

  def folder(self, name: str) -> Path:
    """A new folder for a run."""
    return Path(tempfile.mkdtemp(prefix=f'{name}-', dir=self.root)) / 'run'


def command(folder: Path, *more: str) -> list[str]:
  """The training that every case disturbs."""
  study_command = [sys.executable, '-m', 'experiments.addition', *TINY]
  return [*study_command, f'--workdir={folder}', *more]


def job(folder: Path, *launcher: str) -> list[str]:
  """The same on two processes of two devices each."""
  start = [sys.executable, '-m', 'launch.local', '--processes=2']
  trained = command(folder, '--mesh.data=4')
  return [*start, '--devices=2', *launcher, '--', *trained]


@contextlib.contextmanager
def started(argv: Sequence[str], log: Path) -> Iterator[subprocess.Popen]:
  """A process whose words go to a file; killed when the block is left."""
  log.parent.mkdir(parents=True, exist_ok=True)
  with log.open('w') as out:
    process = subprocess.Popen(
      argv, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
    )
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(folder: Path, argv: Sequence[str], expect: int = 0) -> str:
  """Runs to the end; returns what was said."""
  log = folder.parent / 'log.txt'
  with started(argv, log) as process:
    try:
      code = process.wait(timeout=300)
    except subprocess.TimeoutExpired as error:
      raise Lost('it hangs') from error
  said = log.read_text()
  if code != expect:
    last = said.strip().splitlines()[-1:] or ['nothing']
    raise Lost(f'exit code {code}, not {expect}: {last[0][:200]}')
  return said


def refused(folder: Path, argv: Sequence[str], code: int, word: str) -> str:
  """Runs what must be refused in one line that has this word in it."""
  return one_line(run(folder, argv, code), word)


def one_line(said: str, word: str) -> str:
  """The only error in what was said; it has this word in it."""
  errors = [line for line in said.splitlines() if 'error:' in line]
  if len(errors) != 1 or word not in errors[0] or 'Traceback' in said:
    raise Lost(f'refused with {errors or said[-200:]!r}')
  return errors[0][:120]


def resumed(said: str, steps: Sequence[int]) -> str:
  """Refuses a run that did not go on from the newest of these checkpoints."""
  found = re.findall(r'resumed at step (\d+)', said)
  expected = [str(step) for step in steps[-1:]]
  if found != expected:
    raise Lost(f'resumed at {found or 0}, not at {expected or 0}')
  return f'resumed at {found[0]}' if found else 'no checkpoint yet: begun anew'


def wait_until(
  condition: Callable[[], object], process: subprocess.Popen
) -> None:
  """Waits for a moment in the life of a process."""
  while not condition():
    if process.poll() is not None:
      raise Lost(f'it ended by itself with {process.returncode}')
    time.sleep(0.001)


def status(folder: Path) -> dict:
  """What status.json says; {} before it is there."""
  with contextlib.suppress(FileNotFoundError):
    return json.loads((folder / 'status.json').read_text())
  return {}


def checkpoints(folder: Path) -> list[int]:
  """Steps of the checkpoints that are there."""
  names = (path.name for path in (folder / 'checkpoints').glob('*'))
  return sorted(int(name) for name in names if name.isdigit())


def is_saving(folder: Path) -> bool:
  """Whether a checkpoint is being written."""
  return any('tmp' in p.name for p in (folder / 'checkpoints').glob('*'))


def losses(folder: Path) -> dict[int, list[float]]:
  """Logged losses by step; no step may be there twice."""
  records = read_jsonl(folder / 'metrics.jsonl')
  steps = [record['step'] for record in records]
  if len(steps) != len(set(steps)):
    raise Lost('metrics.jsonl has a step twice')
  return {record['step']: record['train/loss'] for record in records}


def params(folder: Path) -> list[np.ndarray]:
  """The last parameters of a run."""
  config = study.read_config(folder, addition.STUDY, addition.Config)
  config = dataclasses.replace(config, mesh=addition.Config().mesh)
  problem = addition.make_problem(config, config.model.position)
  trained = study_training.restore_arm(problem, config, folder / 'checkpoints')
  return [np.asarray(leaf) for leaf in jax.tree.leaves(trained.params)]


def check_same(folder: Path, bench: Bench, tolerance: float = 0.0) -> str:
  """Refuses a run that is done otherwise than the undisturbed one."""
  there = status(folder)
  if (there.get('state'), there.get('step')) != ('done', STEPS):
    raise Lost(f'status.json says {there}')
  found = losses(folder)
  if sorted(found) != sorted(bench.losses):
    raise Lost(f'{len(found)} records, not {len(bench.losses)}')
  pairs = [(found[step], bench.losses[step]) for step in found]
  pairs += zip(params(folder), bench.params, strict=True)
  worst = max(float(np.max(np.abs(np.subtract(a, b)))) for a, b in pairs)
  if not worst <= tolerance:
    raise Lost(f'losses or parameters differ by {worst:.2g}')
  return 'bit-identical' if tolerance == 0 else f'equal to {worst:.1g}'


def undisturbed(root: Path) -> Bench:
  """The run that the others must equal."""
  folder = root / 'undisturbed' / 'run'
  run(folder, command(folder))  # Compiles, so that the next one's time counts.
  shutil.rmtree(folder)
  with started(command(folder), folder.parent / 'log.txt') as process:
    wait_until(lambda: status(folder), process)
    began = time.monotonic()
    if process.wait(600):
      raise Lost(f'the undisturbed run ended with {process.returncode}')
  seconds = time.monotonic() - began
  return Bench(root, losses(folder), params(folder), seconds)
