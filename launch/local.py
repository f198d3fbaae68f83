"""Several processes of one study on this machine.

  python -m launch.local --processes=2 -- python -m experiments.addition

Each process gets a rank, and the address where the first one listens. A line
of output begins with the rank of its process, standard output and standard
error apart. SIGTERM and SIGINT go to all processes, and SIGHUP and SIGQUIT do
as SIGTERM. When one fails the others are stopped; when one has saved and exited
with 75 the others have --grace seconds to do the same. --restarts starts a job
again that failed, was killed or was preempted, on the same run folder, where it
goes on; it does not repeat a usage error (2) or a divergence (3), nor a job
that was told to stop through the launcher.

The exit code is the worst: 0, then 75, then any failure (128 + n for a death by
signal n), then 3, then 2. A process that the launcher itself has ended, because
another one did, does not count; one that SIGTERM to the launcher has ended, too
early to save, counts as 75.

No process stays behind, with one exception: SIGKILL of the launcher gives it no
chance to end the others.

--devices=4 lets each process see 4 simulated CPU devices. One process uses all
accelerators of a machine, so several are for CPUs, and to rehearse a cluster.
"""

import dataclasses
import signal
import socket
import sys
from collections.abc import Sequence

from extrap.config import option
from launch import command_line, processes
from launch.processes import PREEMPTED, Children

_KILLED_HERE = (128 + signal.SIGTERM, 128 + signal.SIGKILL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this launcher."""

  processes: int = option(2, 'processes of the job', minimum=1)
  restarts: int = option(
    0,
    'how often a job that failed or was preempted is started again',
    minimum=0,
  )
  grace: float = option(
    30.0,
    'time from a signal, or from the first exit with 75, to SIGKILL',
    unit='seconds',
    minimum=0,
  )
  devices: int = option(
    0, 'simulated CPU devices of each process (0: the real ones)', minimum=0
  )


def launch(config: Config, command: Sequence[str]) -> int:
  """Runs the job, again where that is asked for; returns its exit code.

  Raises:
    UsageError: there is no command, or it names a cluster itself.
    ExtrapError: the program cannot be run.
  """
  command_line.check_command(command, 'local')
  command_line.check_no_cluster_flags(command, 'local')
  restart = 0
  with Children(config.grace) as children:
    while True:
      code = _run(children, config, command)
      is_final = code in processes.FINAL or children.told
      if is_final or restart == config.restarts:
        return code
      restart += 1
      attempt = f'restart {restart} of {config.restarts}'
      _say(f'the job {processes.describe(code)}; {attempt}')


def rank_command(
  command: Sequence[str], port: int, count: int, rank: int
) -> list[str]:
  """The command of one process.

  Args:
    command: a study's.
    port: where rank 0 listens.
    count: number of processes.
    rank: of this one.
  """
  return [
    *processes.with_this_python(command),
    f'--cluster.coordinator=127.0.0.1:{port}',
    f'--cluster.processes={count}',
    f'--cluster.rank={rank}',
  ]


def free_port() -> int:
  """A port of this machine where nobody listens at the moment."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
  """What makes JAX simulate devices; nothing for 0."""
  if not devices:
    return {}
  return {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}


def _run(children: Children, config: Config, command: Sequence[str]) -> int:
  """One attempt."""
  port = free_port()
  for rank in range(config.processes):
    own = rank_command(command, port, config.processes, rank)
    children.start(str(rank), own, environment(config.devices))
  codes, is_ending = [], False
  while children.running:
    for rank, code in children.wait().items():
      is_ours = rank in children.signalled and code in _KILLED_HERE
      if not (is_ending and is_ours):
        codes.append(code)
      if code:
        _end_others(children, rank, code, is_ending)
        is_ending = True
  return processes.worst(codes)


def _end_others(
  children: Children, rank: str, code: int, is_ending: bool
) -> None:
  """Waits for a preempted job to save; stops any other at once."""
  if children.running and not is_ending:
    others = 'waiting for' if code == PREEMPTED else 'stopping'
    _say(f'rank {rank} {processes.describe(code)}; {others} the others')
  children.stop(None if code == PREEMPTED else signal.SIGTERM)


def _say(text: str) -> None:
  print(f'launch.local: {text}', file=sys.stderr, flush=True)


if __name__ == '__main__':
  command_line.run(launch, Config, __doc__)
