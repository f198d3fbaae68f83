"""What a run survives: killed, preempted, damaged, out of disk, started twice.

Real processes train a tiny model; each case breaks something, starts the same
command again, and compares the final parameters and every logged loss with
those of a run that nobody disturbed: bit for bit on the same devices, to 1e-4
where the devices are others. A run that begins anew ends in the same bits, so
each must also say that it resumed, at the newest sound checkpoint. `survived`
in the last column is False where anything differs, or where a refusal is not
one line with the right exit code.
Cases that need a small file system make one in a namespace of their own
(Linux); where that is not allowed they are left out, and said to be.

  python -m experiments.benchmarks.faults                    all, 10 minutes
  python -m experiments.benchmarks.faults --kills=2 --only=kill,sigterm
"""

import contextlib
import dataclasses
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.benchmarks.disturbed_runs import (
  STEPS,
  Bench,
  Lost,
  check_same,
  checkpoints,
  command,
  is_saving,
  job,
  one_line,
  refused,
  resumed,
  run,
  started,
  status,
  undisturbed,
  wait_until,
)
from experiments.benchmarks.table import publish
from extrap import cli
from extrap.config import option
from extrap.errors import UsageError

CLAIM = 'a run that is killed, preempted or damaged loses nothing'
TIME = '10 minutes on two CPU cores'

# Full, then with room again; the run is kept when the file system goes.
SMALL_DISK = """
  mount -t tmpfs -o size={size} tmpfs "$0" || exit
  "$@"
  echo "first exit code: $?"
  mount -o remount,size=64m "$0" && "$@" && cp -r "$0/run" "$0.kept"
"""
READ_ONLY = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"'


class Impossible(Exception):
  """A case that this machine does not allow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this benchmark."""

  kills: int = option(20, 'runs killed at random moments', minimum=1)
  seed: int = option(0, 'of the random moments', minimum=0)
  only: tuple[str, ...] = option(
    (), 'cases whose names begin with one of these (default: all)'
  )
  csv: str | None = option(None, 'file to write the table to')


def kill(bench: Bench, rng: random.Random, in_save: bool) -> str:
  """SIGKILL at a random time, or while a random checkpoint is written."""
  while True:
    folder = bench.folder('kill')
    after = rng.randrange(STEPS - 12) if in_save else rng.random()
    code = _kill(bench, folder, after, in_save)
    at_work = code == -signal.SIGKILL and status(folder)['state'] == 'running'
    # Too late, or between two files of a save: another moment.
    if at_work and (is_saving(folder) or not in_save):
      break
  step, there = status(folder)['step'], checkpoints(folder)
  where = f'in a save after step {step}' if in_save else f'after step {step}'
  said = run(folder, command(folder))
  return f'{where}; {resumed(said, there)}; {check_same(folder, bench)}'


def _kill(bench: Bench, folder: Path, after: float, in_save: bool) -> int:
  """Starts a run and kills it; returns how it ended."""
  with started(command(folder), folder.parent / 'log.txt') as process:
    wait_until(lambda: status(folder).get('step', -1) >= 0, process)
    if in_save:
      with contextlib.suppress(Lost):
        wait_until(lambda: status(folder)['step'] >= after, process)
        wait_until(lambda: is_saving(folder), process)
    else:
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after * bench.seconds)
  return process.returncode


def sigterm(bench: Bench, rng: random.Random) -> str:
  """SIGTERM saves and exits with 75; the same command goes on."""
  folder, step = bench.folder('sigterm'), rng.randrange(STEPS // 2)
  with started(command(folder), folder.parent / 'log.txt') as process:
    wait_until(lambda: status(folder).get('step', -1) >= step, process)
    process.terminate()
    code = process.wait(60)
  there = status(folder)
  if code != 75 or there['state'] != 'preempted':
    raise Lost(f'exit code {code}, status {there}')
  if checkpoints(folder)[-1] != there['step']:
    raise Lost(f'step {there["step"]} is not saved')
  said = run(folder, command(folder))
  return f'{resumed(said, [there["step"]])}; {check_same(folder, bench)}'


def sigterm_of_one(bench: Bench, rng: random.Random) -> str:
  """SIGTERM to one of two processes; goes on as one process of one device."""
  folder, step = bench.folder('sigterm-of-one'), rng.randrange(STEPS // 2)
  log = folder.parent / 'log.txt'
  with started(job(folder), log) as process:
    wait_until(lambda: status(folder).get('step', -1) >= step, process)
    os.kill(pid_of(folder, rank=1), signal.SIGTERM)
    code = process.wait(120)
  there = status(folder)
  if code != 75 or there['state'] != 'preempted':
    raise Lost(f'exit code {code}, status {there}')
  if checkpoints(folder)[-1] != there['step'] or 'SIGKILL' in log.read_text():
    raise Lost(f'not both saved step {there["step"]}')
  said = run(folder, command(folder))
  same = check_same(folder, bench, 1e-4)
  return f'{resumed(said, [there["step"]])}; {same}'


def kill_of_one(bench: Bench, rng: random.Random) -> str:
  """SIGKILL to one of two processes; the launcher starts both again."""
  folder, step = bench.folder('kill-of-one'), rng.randrange(12, STEPS // 2)
  log = folder.parent / 'log.txt'
  with started(job(folder, '--restarts=1', '--grace=5'), log) as process:
    wait_until(lambda: status(folder).get('step', -1) >= step, process)
    os.kill(pid_of(folder, rank=1), signal.SIGKILL)
    code = process.wait(300)
  found = re.findall(r'resumed at step (\d+)', log.read_text())
  if code or 'restart 1 of 1' not in log.read_text() or not found:
    raise Lost(f'exit code {code}, resumed at {found}')
  return f'resumed at {found[0]}; {check_same(folder, bench, 1e-4)}'


def two_processes(bench: Bench, rng: random.Random) -> str:
  """An undisturbed run on two processes learns the same."""
  folder = bench.folder('two-processes')
  run(folder, job(folder))
  return check_same(folder, bench, 1e-4)


def pid_of(folder: Path, rank: int) -> int:
  """The process of a job."""
  listed = subprocess.run(
    ['ps', '-axww', '-o', 'pid=,args='],
    capture_output=True,
    text=True,
    check=True,
  )
  marks = (f'--workdir={folder}', f'--cluster.rank={rank}')
  for line in listed.stdout.splitlines():
    if all(mark in line for mark in marks):
      return int(line.split()[0])
  raise Lost(f'there is no process of rank {rank}')


def interrupted(bench: Bench, name: str) -> Path:
  """A run that was killed after some checkpoints."""
  folder = bench.folder(name)
  with started(command(folder), folder.parent / 'log.txt') as process:
    wait_until(lambda: len(checkpoints(folder)) == 2, process)
  return folder


def damaged(bench: Bench, how: str) -> str:
  """The newest checkpoint is not what was written; the one before serves."""
  folder = interrupted(bench, how)
  run(folder, command(folder, f'--steps={STEPS // 2}', SCHEDULE))
  *before, newest = checkpoints(folder)
  damage(folder / 'checkpoints' / str(newest), how)
  said = run(folder, command(folder, SCHEDULE))
  if how != 'deleted' and 'unreadable' not in said:
    raise Lost('the damage is not told')
  same = check_same(folder, bench)
  return f'checkpoint {newest} {how}; {resumed(said, before)}; {same}'


SCHEDULE = f'--train.schedule_steps={STEPS}'


def damage(checkpoint: Path, how: str) -> None:
  """Damages the largest file of a checkpoint, or deletes the checkpoint."""
  if how == 'deleted':
    shutil.rmtree(checkpoint)
    return
  files = [path for path in checkpoint.rglob('*') if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  if how == 'truncated':
    content = content[: len(content) // 2]
  else:
    content[len(content) // 2] ^= 1
  largest.write_bytes(content)


def all_damaged(bench: Bench) -> str:
  """With no readable checkpoint a run is refused, not begun again."""
  folder = interrupted(bench, 'all-damaged')
  for step in checkpoints(folder):
    damage(folder / 'checkpoints' / str(step), 'truncated')
  return refused(folder, command(folder), 1, 'no checkpoint is readable')


def metrics_damaged(bench: Bench) -> str:
  """What the first process alone cannot read ends both, in one line."""
  folder = interrupted(bench, 'metrics')
  metrics = folder / 'metrics.jsonl'
  metrics.write_text('{\n' + metrics.read_text())
  return refused(folder, job(folder), 1, 'metrics.jsonl')


def in_namespace(mount: str, folder: Path, argv: Sequence[str]) -> list[str]:
  """The command, in a file system of its own at the run's parent."""
  alone = ['unshare', '--user', '--map-root-user', '--mount']
  try:
    subprocess.run([*alone, 'true'], check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError) as error:
    raise Impossible('no file system can be made here') from error
  folder.parent.mkdir(parents=True, exist_ok=True)
  return [*alone, 'sh', '-c', mount, str(folder.parent), *argv]


def disk_full(
  bench: Bench,
  size: str,
  start: Callable[[Path], list[str]] = command,
  tolerance: float = 0.0,
) -> str:
  """A full disk is one line and exit code 1; with room the run goes on."""
  folder = bench.folder(f'disk-{size}') / 'run'
  folder.parent.mkdir(parents=True)
  argv = in_namespace(SMALL_DISK.format(size=size), folder, start(folder))
  said = run(folder.parent.parent / 'run', argv)
  line = one_line(said, 'No space left')
  if 'first exit code: 1' not in said:
    raise Lost('the full disk did not end it with 1')
  kept = folder.parent.with_suffix('.kept')
  return f'{line}; then {check_same(kept, bench, tolerance)}'


def read_only(bench: Bench) -> str:
  """A read-only folder is one line and exit code 1, before any training."""
  folder = bench.folder('read-only') / 'run'
  argv = in_namespace(READ_ONLY, folder, command(folder))
  return refused(folder.parent.parent / 'run', argv, 1, 'Read-only')


def second_process(bench: Bench) -> str:
  """A second process on a folder in use is refused; the first goes on."""
  folder = bench.folder('second')
  with started(command(folder), folder.parent / 'first.txt') as process:
    wait_until(lambda: status(folder).get('step', -1) >= 0, process)
    line = refused(folder, command(folder), 1, 'in use')
    if process.wait(120):
      raise Lost(f'the first ended with {process.returncode}')
  return f'{line}; the first {check_same(folder, bench)}'


def stale_lock(bench: Bench) -> str:
  """The lock of a process that is no more keeps nobody out."""
  folder = interrupted(bench, 'stale')
  if not (folder / 'lock').read_text():
    raise Lost('there is no lock')
  there = checkpoints(folder)
  said = run(folder, command(folder))
  return f'{resumed(said, there)}; {check_same(folder, bench)}'


def done_already(bench: Bench) -> str:
  """The command of a finished run changes nothing."""
  folder = bench.root / 'undisturbed' / 'run'
  before = (folder / 'metrics.jsonl').read_bytes()
  if 'done already' not in run(folder, command(folder)):
    raise Lost('it does not say that it is done')
  if (folder / 'metrics.jsonl').read_bytes() != before:
    raise Lost('metrics.jsonl has changed')
  return check_same(folder, bench)


def cases(config: Config) -> dict[str, Callable[[Bench], str]]:
  """Every case by name."""
  rng = random.Random(config.seed)
  found: dict[str, Callable[[Bench], str]] = {}
  for number in range(config.kills):
    in_save = number % 2 == 1
    name = f'kill {number + 1}{" in a save" if in_save else ""}'
    found[name] = lambda bench, s=in_save: kill(bench, rng, s)
  found['sigterm'] = lambda bench: sigterm(bench, rng)
  found['processes: two'] = lambda bench: two_processes(bench, rng)
  found['processes: one preempted'] = lambda bench: sigterm_of_one(bench, rng)
  found['processes: one killed'] = lambda bench: kill_of_one(bench, rng)
  for how in ('truncated', 'deleted', 'flipped'):
    found[f'checkpoint {how}'] = lambda bench, how=how: damaged(bench, how)
  found['checkpoints all damaged'] = all_damaged
  found['processes: metrics damaged'] = metrics_damaged
  # The first has no room for a checkpoint, the second none for the next one.
  for size in ('40k', '300k'):
    found[f'disk full, {size}'] = lambda bench, s=size: disk_full(bench, s)
    found[f'processes: disk full, {size}'] = lambda bench, s=size: disk_full(
      bench, s, job, 1e-4
    )
  found['folder read-only'] = read_only
  found['folder in use'] = second_process
  found['folder with a stale lock'] = stale_lock
  found['folder of a finished run'] = done_already
  if not config.only:
    return found
  chosen = {n: c for n, c in found.items() if n.startswith(config.only)}
  if not chosen:
    raise UsageError(f'--only={",".join(config.only)}: cases are {list(found)}')
  return chosen


def measure(config: Config) -> list[list[str]]:
  """Runs the cases; one line each while they go."""
  rows = []
  with tempfile.TemporaryDirectory() as root:
    chosen = cases(config)
    bench = undisturbed(Path(root))
    for name, case in chosen.items():
      try:
        survived, what = 'True', case(bench)
      except Lost as error:
        survived, what = 'False', str(error)
      except Impossible as error:
        print(f'left out    {name}: {error}', flush=True)
        continue
      what = what.replace(root, '.')
      word = 'survived' if survived == 'True' else 'LOST'
      print(f'{word:10}  {name}: {what}', flush=True)
      rows.append([name, what, survived])
  return rows


def main(config: Config, flag_values: object) -> int:
  """Prints the table; 1 if anything was lost."""
  del flag_values
  rows = measure(config)
  survived = sum(row[-1] == 'True' for row in rows)
  print(f'\n{survived} of {len(rows)} survived\n')
  return publish(['case', 'what happened', 'survived'], rows, config.csv)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
