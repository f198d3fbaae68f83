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
are those that diverged, until their folder is deleted. One that another process
is at work on is left to it, and counts as preempted. A run that is preempted,
or killed, is run again, at most --retries times; one that fails does not stop
the others. The exit code is the worst one of all runs, as in `launch.local`.

--to=slurm makes an array job of what is left; it prints the script unless
--execute is there to submit it. --jobs=4 is how many runs there are at once.
--summary prints a table of the runs, and writes it to <root>/summary.csv; with
--root and without a command it is about all runs in that folder. The interval
is for the mean over seeds, which are what a claim rests on; where the seeds of
one setting are several runs, one more line has them together.

A run may itself be a job of several processes, whose --grace is the shorter:
-- python -m launch.local --processes=2 -- python -m experiments.addition
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from absl import flags

from extrap import cli
from extrap.config import option
from extrap.errors import Diverged, UsageError
from extrap.reporting.run_state import is_held
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

# By name: the exit code of a run that is not to be started, None of any other.
Settled: TypeAlias = Mapping[str, int | None]

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
    """The exit code of a run that is not to be started, else None.

    That of one which is at work is 75: it is not known yet how it ends.
    """
    found = summary.status(self.folder)
    state = found.get('state')
    if state == 'diverged':
      return Diverged.exit_code
    if state == 'running' and is_held(self.folder):
      return PREEMPTED
    is_done = state == 'done'
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
  given = {f'--{field}' for field, _ in _given(command)}
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
        if _is_cut_off(labels[label], code) and tries[label] < retries:
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
  # Asked once, for the answers change while runs are at work.
  settled = {run.name: run.settled for run in runs}
  if config.to == 'slurm':
    return _to_slurm(config, runs, settled)
  if config.dry_run:
    return _print_commands(runs, settled)
  return _to_local(config, runs, settled)


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


def _given(command: Sequence[str]) -> list[tuple[str, str]]:
  """The flags in a command: --a=1, --a 1, and the same with one dash."""
  found = []
  for arg, after in itertools.zip_longest(command, command[1:], fillvalue=''):
    field, equals, value = arg.lstrip('-').partition('=')
    if arg.startswith('-') and field:
      found.append((field, value if equals else after))
  return found


def _steps_asked(command: Sequence[str]) -> int:
  """The last --steps; 0 where the study chooses."""
  asked = [value for field, value in _given(command) if field == 'steps']
  steps = asked[-1] if asked else ''
  return int(steps) if steps.isdecimal() else 0


def _is_cut_off(run: Run, code: int) -> bool:
  """Whether a run may go on: it has saved, or was killed before it could."""
  state = summary.status(run.folder).get('state')
  return code == PREEMPTED or (code > 128 and state == 'interrupted')


def _found(config: Config) -> list[Run]:
  """The runs in the folder, whatever sweep they are of."""
  if not config.root:
    raise UsageError('--summary needs --root, or the command of the sweep')
  found = sorted(Path(config.root).glob('*/status.json'))
  if not found:
    raise UsageError(f'--root={config.root}: there are no runs')
  return [Run(path.parent.name, path.parent, ()) for path in found]


def _left(runs: Sequence[Run], settled: Settled) -> list[Run]:
  """The runs to start; says which of the others somebody is at work on."""
  for name, code in settled.items():
    if code == PREEMPTED:
      _say(f'{name} is left to the process that is at work on it')
  return [run for run in runs if settled[run.name] is None]


def _to_slurm(config: Config, runs: Sequence[Run], settled: Settled) -> int:
  left = _left(runs, settled)
  if not left:
    _say(f'nothing is left of {len(runs)} runs')
    return processes.worst(code or 0 for code in settled.values())
  text = slurm.array_script(
    config.slurm, [run.command for run in left], config.jobs
  )
  _say(f'{len(left)} of {len(runs)} runs are left')
  if config.execute and not config.dry_run:
    print(f'submitted job {slurm.submit(text)}')
  else:
    print(text, end='')
  return 0


def _print_commands(runs: Sequence[Run], settled: Settled) -> int:
  """Prints what a shell can run; runs that are settled are comments."""
  for run in runs:
    code = settled[run.name]
    mark = {None: '', PREEMPTED: '# at work: '}.get(code, '# settled: ')
    print(f'{mark}{command_line.shown(run.command)}')
  return 0


def _to_local(config: Config, runs: Sequence[Run], settled: Settled) -> int:
  left = _left(runs, settled)
  _say(f'{len(runs)} runs, {len(runs) - len(left)} of them settled')
  codes = {name: code or 0 for name, code in settled.items()}
  codes |= run_local(left, config.jobs or 1, config.retries, config.grace)
  _summarise(config, runs)
  for name, code in codes.items():
    if code and settled[name] != PREEMPTED:
      _say(f'{name} {processes.describe(code)}')
  return processes.worst(codes.values())


def _start(children: Children, label: str, labels: Mapping[str, Run]) -> None:
  run = labels[label]
  _say(f'[{label}] of {len(labels)}: {run.name}')
  children.start(label, processes.with_this_python(run.command), {})


def _summarise(config: Config, runs: Sequence[Run]) -> int:
  """Prints the table; the file is written where there is a folder for it."""
  rows = [summary.read_run(run.name, run.folder, config.metric) for run in runs]
  rows += summary.together(rows)
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
