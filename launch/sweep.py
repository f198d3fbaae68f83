"""Many runs of one study: every combination of some flags, and seeds.

  python -m launch.sweep --product='model.position=none,rotary' \\
    --product='train.learning_rate=1e-3,3e-3' --seeds=8 -- \\
    python -m experiments.addition --steps=600

are four runs, each with the eight seeds as replicas of one program. --replicas
limits how many seeds one program has, for a device that does not hold them all;
further ones become further runs.

  --product=FIELD=A,B   repeatable; each value of each with each of the others
  --zip=FIELD=A,B       repeatable; all of them change together
  --file=sweep.json     a list of objects, {"model.depth": 2}, one a run, as
                        `launch.overrides` makes them in Python

A value with a comma has double quotes: --product='lengths="10,20",50'. The runs
of the file, the product, the zip and the seeds are combined, each with each.

Each run has the folder <root>/<name>, named after its settings, so that the
same command goes on with what is left: runs that are done are skipped, and so
are those that diverged, until their folder is deleted. A run that is preempted
is run again, at most --retries times; one that fails does not stop the others.
The exit code is the worst one of all runs, as in `launch.local`.

--to=slurm makes an array job of what is left; it prints the script unless
--execute is there to submit it. --jobs=4 is how many runs there are at once.
--summary prints a table of the runs, and writes it to <root>/summary.csv; with
--root and without a command it is about all runs in that folder.

A run may itself be a job of several processes:
-- python -m launch.local --processes=2 -- python -m experiments.addition
"""

import collections
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from absl import flags

from extrap import cli
from extrap.config import option
from extrap.errors import Diverged, UsageError
from launch import command_line, overrides, processes, slurm, summary
from launch.overrides import (
  Override,
  Sweep,
  as_replicas,
  axis,
  chain,
  named,
  product,
  seeds,
  zip_,
)
from launch.processes import PREEMPTED, Children
from launch.slurm import SlurmConfig
from launch.summary import Metric

__all__ = [
  'Override',
  'Run',
  'Sweep',
  'as_replicas',
  'axis',
  'chain',
  'launch',
  'named',
  'plan',
  'product',
  'run_local',
  'seeds',
  'zip_',
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this launcher, beside --product and --zip."""

  file: str = option('', 'JSON list of objects from flags to values')
  seeds: int = option(
    0, 'seeds of each run (0: what the command says)', minimum=0
  )
  first_seed: int = option(0, 'the first of them', minimum=0)
  replicas: str = option(
    'auto', 'most seeds that one program trains; auto is all of them'
  )
  root: str = option(
    '', 'folder of all runs (default: runs/sweep-<hash of the command>)'
  )
  to: Literal['local', 'slurm'] = option('local', 'where to run')
  jobs: int = option(
    0, 'runs at once (0: one here, no limit of ours on Slurm)', minimum=0
  )
  retries: int = option(
    3, 'how often a run is taken up again that was preempted', minimum=0
  )
  grace: float = option(
    60.0, 'time from a signal to SIGKILL', unit='seconds', minimum=0
  )
  dry_run: bool = option(False, 'print what would be run')
  execute: bool = option(False, 'with --to=slurm: submit the job')
  summary: bool = option(False, 'print the table of runs, and run nothing')
  metric: Metric = option(Metric(), 'the number in the table')
  slurm: SlurmConfig = option(SlurmConfig(), 'the job, with --to=slurm')


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a sweep.

  Attributes:
    name: of its settings, and of its folder.
    folder: where it is.
    command: what makes it, or goes on with it.
  """

  name: str
  folder: Path
  command: tuple[str, ...]

  @property
  def settled(self) -> int | None:
    """The exit code of a run that needs no more work, else None."""
    found = summary.status(self.folder)
    if found.get('state') == 'diverged':
      return Diverged.exit_code
    is_done = found.get('state') == 'done'
    # Done, but perhaps when fewer steps were asked for.
    is_long = _steps_asked(self.command) <= (found.get('steps') or 0)
    return 0 if is_done and is_long else None


def plan(runs: Sweep, command: Sequence[str], root: Path) -> list[Run]:
  """The runs of a sweep, equal ones once.

  Args:
    runs: overrides.
    command: a study's.
    root: folder of all runs.

  Raises:
    UsageError: a flag is in the command and in the sweep.
  """
  given = {arg.partition('=')[0] for arg in command if arg.startswith('--')}
  swept = set().union(*runs)
  if 'workdir' in swept or '--workdir' in given:
    raise UsageError('--workdir: each run gets its own; use --root')
  for field in sorted(swept):
    if given & {f'--{field}', f'--no{field}'}:
      raise UsageError(f'--{field} is in the command and in the sweep')
  return [
    Run(
      name,
      root / name,
      (*command, *overrides.flags(run), f'--workdir={root / name}'),
    )
    for name, run in named(runs).items()
  ]


def run_local(
  runs: Sequence[Run], jobs: int = 1, retries: int = 3, grace: float = 30.0
) -> dict[str, int]:
  """Runs studies on this machine, and waits for them.

  Args:
    runs: what to run, in this order; lines of output begin with its number.
    jobs: how many at once.
    retries: of a run that was preempted.
    grace: time between SIGTERM and SIGKILL, in seconds.

  Returns:
    Exit codes by name; 75 for those that were not begun because this process
    was told to stop.
  """
  labels = {str(number): run for number, run in enumerate(runs, 1)}
  codes = dict.fromkeys((run.name for run in runs), PREEMPTED)
  queue, tries = collections.deque(labels), collections.Counter[str]()
  with Children(grace) as children:
    while True:
      while queue and len(children.running) < jobs and not children.told:
        _start(children, queue.popleft(), labels)
      if not children.running:
        return codes
      for label, code in children.wait().items():
        codes[labels[label].name] = code
        _say(f'[{label}] {processes.describe(code)}')
        if code == PREEMPTED and tries[label] < retries:
          tries[label] += 1
          queue.append(label)


def launch(
  config: Config,
  product_texts: Sequence[str],
  zip_texts: Sequence[str],
  command: Sequence[str],
) -> int:
  """Does what the flags say; returns the exit code."""
  if config.summary and not command:
    return _summarise(config, _found(config))
  command_line.check_command(command, 'sweep')
  runs = plan(
    _sweep(config, product_texts, zip_texts), command, _root(config, command)
  )
  if config.summary:
    return _summarise(config, runs)
  left = [run for run in runs if run.settled is None]
  if config.to == 'slurm':
    return _to_slurm(config, runs, left)
  if config.dry_run:
    return _print_commands(runs)
  return _to_local(config, runs, left)


def _sweep(
  config: Config, product_texts: Sequence[str], zip_texts: Sequence[str]
) -> Sweep:
  """The runs that the flags describe."""
  parts = [overrides.read_file(config.file)] if config.file else []
  parts += map(overrides.parse_axis, product_texts)
  if zip_texts:
    parts.append(zip_(*map(overrides.parse_axis, zip_texts)))
  if config.seeds:
    parts.append(seeds(config.seeds, config.first_seed))
  return as_replicas(product(*parts), _most(config.replicas))


def _most(replicas: str) -> int | None:
  if replicas == 'auto':
    return None
  if not replicas.isdecimal() or not int(replicas):
    raise UsageError(f'--replicas={replicas}: neither auto nor a number from 1')
  return int(replicas)


def _root(config: Config, command: Sequence[str]) -> Path:
  if config.root:
    return Path(config.root)
  digest = hashlib.sha256(json.dumps(list(command)).encode()).hexdigest()[:8]
  return Path('runs') / f'sweep-{digest}'


def _steps_asked(command: Sequence[str]) -> int:
  """The last --steps; 0 where the study chooses."""
  asked = [arg for arg in command if arg.startswith('--steps=')]
  steps = asked[-1].removeprefix('--steps=') if asked else ''
  return int(steps) if steps.isdecimal() else 0


def _found(config: Config) -> list[Run]:
  """The runs in the folder, whatever sweep they are of."""
  if not config.root:
    raise UsageError('--summary needs --root, or the command of the sweep')
  found = sorted(Path(config.root).glob('*/status.json'))
  if not found:
    raise UsageError(f'--root={config.root}: there are no runs')
  return [Run(path.parent.name, path.parent, ()) for path in found]


def _to_slurm(config: Config, runs: Sequence[Run], left: Sequence[Run]) -> int:
  if not left:
    _say(f'nothing is left of {len(runs)} runs')
    return processes.worst(run.settled or 0 for run in runs)
  text = slurm.array_script(
    config.slurm, [run.command for run in left], config.jobs
  )
  _say(f'{len(left)} of {len(runs)} runs are left')
  if config.execute and not config.dry_run:
    print(f'submitted job {slurm.submit(text)}')
  else:
    print(text, end='')
  return 0


def _print_commands(runs: Sequence[Run]) -> int:
  """Prints what a shell can run; runs that are settled are comments."""
  for run in runs:
    mark = '' if run.settled is None else '# settled: '
    print(f'{mark}{command_line.shown(run.command)}')
  return 0


def _to_local(config: Config, runs: Sequence[Run], left: Sequence[Run]) -> int:
  _say(f'{len(runs)} runs, {len(runs) - len(left)} of them settled')
  codes = {run.name: run.settled or 0 for run in runs}
  codes |= run_local(left, config.jobs or 1, config.retries, config.grace)
  _summarise(config, runs)
  for name, code in codes.items():
    if code:
      _say(f'{name} {processes.describe(code)}')
  return processes.worst(codes.values())


def _start(children: Children, label: str, labels: Mapping[str, Run]) -> None:
  run = labels[label]
  _say(f'[{label}] of {len(labels)}: {run.name}')
  children.start(label, processes.with_this_python(run.command), {})


def _summarise(config: Config, runs: Sequence[Run]) -> int:
  """Prints the table; the file is written where there is a folder for it."""
  rows = [summary.read_run(run.name, run.folder, config.metric) for run in runs]
  print(summary.table(rows, config.metric))
  root = runs[0].folder.parent
  if root.is_dir():
    summary.write_csv(root / 'summary.csv', rows, config.metric)
  return 0


def _say(text: str) -> None:
  print(f'launch.sweep: {text}', file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> None:
  """Parses the command line and runs the sweep; exits with its code."""
  own, command = command_line.split(argv)
  values = flags.FlagValues()
  for name, how in (('product', 'each with each'), ('zip', 'together')):
    flags.DEFINE_multi_string(
      name, [], f'FIELD=A,B: values of a flag, {how}', flag_values=values
    )
  cli.run(
    lambda config, given: launch(config, given.product, given.zip, command),
    Config,
    argv=own,
    doc=__doc__,
    flag_values=values,
  )


if __name__ == '__main__':
  main(sys.argv)
