"""A study, or a sweep of them, as a Slurm job.

  python -m launch.slurm --nodes=2 --gpus_per_node=8 --time=12:00:00 -- \\
    python -m experiments.addition --steps=600

prints the script of the job; --execute hands it to sbatch, on its standard
input, and prints the number of the job. Nothing is written either way. The
processes find each other: JAX asks Slurm, so the command has no --cluster
flags. The job runs in the folder where it is submitted, which all nodes must
see, with the environment of the shell that submits it.

--warning seconds before its time is up Slurm sends SIGTERM to every process of
the study, which saves and exits with 75; the script then puts the job back into
the queue, at most --restarts times, and it goes on from there. A job that Slurm
itself preempts takes the same way. One that is cancelled saves, too, and stays
cancelled.

A command may be run with other modules or another Python:
--setup='module load cuda; source .venv/bin/activate'.
"""

import dataclasses
import re
import shlex
import subprocess
from collections.abc import Sequence

from extrap.config import option
from extrap.errors import ExtrapError, UsageError
from launch import command_line

# Neither #SBATCH lines nor Slurm's file name patterns can quote.
_PLAIN = re.compile(r'[\w@%+=:,./~\[\]&|*-]+')
# As Slurm reads a time: [days-]hours[:minutes[:seconds]] with days, else
# minutes, minutes:seconds or hours:minutes:seconds.
_TIME = re.compile(r'(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?', re.ASCII)
_UNLIMITED = ('', '0', '-1', 'infinite', 'unlimited')
# Quoted where they are used, in case a job name is odd.
_JOB = '"$SLURM_JOB_ID"'
_TASK = '"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmConfig:
  """What a job asks for; what is left out is for the cluster to choose."""

  job_name: str = option('extrap', 'name of the job')
  partition: str = option('', 'partition')
  account: str = option('', 'account that pays')
  constraint: str = option('', 'required features of the nodes')
  nodes: int = option(1, 'nodes', minimum=1)
  gpus_per_node: int = option(0, 'GPUs of each node', minimum=0)
  tasks_per_node: int = option(
    0, 'processes of each node (0: one a GPU, or one)', minimum=0
  )
  cpus_per_task: int = option(0, 'CPU cores of each process', minimum=0)
  memory: str = option('', 'memory of each node, as in 64G')
  time: str = option(
    '24:00:00', 'longest duration, [days-]hours:minutes:seconds'
  )
  warning: int = option(
    120, 'SIGTERM comes so long before the end', unit='seconds', minimum=1
  )
  restarts: int = option(
    100, 'how often a preempted job is put back into the queue', minimum=0
  )
  output: str = option(
    '', "output file, Slurm's pattern (default: <name>-<job>.out)"
  )
  setup: str = option('', 'shell commands before the study')
  options: tuple[str, ...] = option(
    (), 'further options of sbatch, as in qos=high,exclusive'
  )

  @property
  def tasks(self) -> int:
    """Processes of each node."""
    return self.tasks_per_node or max(1, self.gpus_per_node)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SlurmConfig):
  """Flags of this launcher."""

  execute: bool = option(False, 'submit the job, do not only print it')


def launch(config: Config, command: Sequence[str]) -> None:
  """Prints the script of a job, or submits it and prints its number."""
  command_line.check_command(command, 'slurm')
  command_line.check_no_cluster_flags(command, 'slurm')
  text = script(config, command)
  if config.execute:
    print(f'submitted job {submit(text)}')
  else:
    print(text, end='')


def script(config: SlurmConfig, command: Sequence[str]) -> str:
  """The sbatch script of one job.

  Raises:
    UsageError: a setting does not fit in an #SBATCH line, or wastes GPUs.
  """
  lines = [
    *_directives(config, '%x-%j.out'),
    '',
    *_start(config),
    f'run {shlex.join(command)}',
    *_end(config, _JOB),
  ]
  return '\n'.join(lines) + '\n'


def array_script(
  config: SlurmConfig,
  commands: Sequence[Sequence[str]],
  at_once: int = 0,
) -> str:
  """The sbatch script of one job a command, as an array.

  Args:
    config: what each job asks for.
    commands: studies'.
    at_once: how many run at the same time; 0 leaves that to Slurm.

  Raises:
    UsageError: there is no command, or as for `script`.
  """
  if not commands:
    raise UsageError('an array job needs a command')
  limit = f'%{at_once}' if at_once else ''
  cases = [
    f'  {index}) run {shlex.join(command)} ;;'
    for index, command in enumerate(commands)
  ]
  lines = [
    *_directives(config, '%x-%A_%a.out'),
    f'#SBATCH --array=0-{len(commands) - 1}{limit}',
    '',
    *_start(config),
    'case "$SLURM_ARRAY_TASK_ID" in',
    *cases,
    'esac',
    *_end(config, _TASK),
  ]
  return '\n'.join(lines) + '\n'


def submit(text: str) -> int:
  """Hands a script to sbatch; returns the number of the job.

  Raises:
    ExtrapError: sbatch is missing, or refuses the script.
  """
  command_line.check_program('sbatch', 'submit where Slurm is installed')
  done = subprocess.run(['sbatch'], input=text, capture_output=True, text=True)
  if done.returncode:
    reason = done.stderr or done.stdout or f'exit code {done.returncode}'
    raise ExtrapError(f'sbatch refused the job: {reason}')
  number = re.search(r'Submitted batch job (\d+)', done.stdout)
  if number is None:
    raise ExtrapError(f'sbatch did not tell the job: {done.stdout!r}')
  return int(number.group(1))


def _directives(config: SlurmConfig, output: str) -> list[str]:
  """The #SBATCH lines, after the first line of the script."""
  _check(config)
  wanted = {
    'job-name': config.job_name,
    'partition': config.partition,
    'account': config.account,
    'constraint': config.constraint,
    'nodes': config.nodes,
    'ntasks-per-node': config.tasks,
    # For a node: JAX chooses the GPU of a process by its number on the node,
    # and must therefore see all of them.
    'gpus-per-node': config.gpus_per_node,
    'cpus-per-task': config.cpus_per_task,
    'mem': config.memory,
    'time': config.time,
    # Without B: it goes to the processes that srun started.
    'signal': f'TERM@{config.warning}',
    'output': config.output or output,
    'open-mode': 'append',
  }
  lines = [f'#SBATCH --{key}={value}' for key, value in wanted.items() if value]
  further = [f'#SBATCH --{text.lstrip("-")}' for text in config.options]
  return ['#!/bin/bash', *lines, '#SBATCH --requeue', *further]


def _check(config: SlurmConfig) -> None:
  settings = dataclasses.asdict(config)
  settings.pop('setup')
  options = settings.pop('options')
  texts = [(name, str(value)) for name, value in settings.items()]
  for name, text in [*texts, *(('options', text) for text in options)]:
    if text and not _PLAIN.fullmatch(text):
      raise UsageError(f'{name}={text!r} does not fit in an #SBATCH line')
  _check_time(config)
  if config.gpus_per_node and config.tasks != config.gpus_per_node:
    raise UsageError(
      f'--tasks_per_node={config.tasks} with '
      f'--gpus_per_node={config.gpus_per_node}: JAX gives each process of a '
      'Slurm job one GPU; leave --tasks_per_node out'
    )


def _check_time(config: SlurmConfig) -> None:
  """Refuses a job that would be told to stop as soon as it starts."""
  if config.time.lower() in _UNLIMITED:
    return
  found = _TIME.fullmatch(config.time)
  if found is None:
    raise UsageError(
      f'--time={config.time}: not like 12:00:00 or 1-12:00:00, '
      '[days-]hours:minutes:seconds'
    )
  seconds = _seconds(*found.groups())
  if config.warning >= seconds:
    raise UsageError(
      f'--warning={config.warning}: no time is left of --time={config.time}, '
      f'which is {seconds} seconds'
    )


def _seconds(days: str | None, *parts: str | None) -> int:
  """The duration that Slurm means: the units depend on how many there are."""
  given = [int(part) for part in parts if part is not None]
  if days is not None or len(given) == 3:
    hours, minutes, seconds = (*given, 0, 0)[:3]
  else:
    hours, minutes, seconds = (0, *given, 0)[:3]
  return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _start(config: SlurmConfig) -> list[str]:
  """Shell that defines `run`, which leaves the exit code in `code`."""
  flags = [
    # One that has saved before the others must not have them killed; the
    # others of one that failed notice it by themselves.
    '--kill-on-bad-exit=0',
    '--wait=0',
  ]
  if config.nodes * config.tasks > 1:
    flags.append('--label')
  if config.cpus_per_task:  # srun does not take it over from sbatch.
    flags.append(f'--cpus-per-task={config.cpus_per_task}')
  return [
    *(['set -e', config.setup, 'set +e'] if config.setup else []),
    '# Slurm may signal this shell, too; it has to see how the study ended.',
    "trap ':' TERM",
    'code=2',
    'run() {',
    f'  srun {" ".join(flags)} "$@"',
    '  code=$?',
    '}',
  ]


def _end(config: SlurmConfig, job: str) -> list[str]:
  """Shell that queues a preempted job again and passes the exit code on."""
  return [
    'if [ "$code" -eq 75 ]; then',
    '  # A job that is cancelled is ending already, and could be queued again.',
    f'  state="$(squeue --noheader --format=%T --jobs={job})"',
    '  if [ "$state" = COMPLETING ] || [ "$state" = CANCELLED ]; then',
    "    echo 'cancelled; submit the same command again to go on' >&2",
    f'  elif [ "${{SLURM_RESTART_COUNT:-0}}" -ge {config.restarts} ]; then',
    f"    echo 'preempted more than {config.restarts} times; not queued' >&2",
    f'  elif ! scontrol requeue {job}; then',
    "    echo 'preempted; submit the same command again to go on' >&2",
    '  fi',
    'fi',
    'exit "$code"',
  ]


if __name__ == '__main__':
  command_line.run(launch, Config, __doc__)
