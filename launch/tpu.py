"""Runs a study on Cloud TPU slices, and on new ones after a preemption.

  python -m launch.tpu --name=addition --accelerator=v5litepod-16 \\
    --zone=us-central1-a --spot -- \\
    python -m experiments.addition --workdir=/mnt/runs/addition

prints the commands, in order, as a script; with --execute they are run. The
slice is asked for as a queued resource, gets the tracked files of this folder
and their requirements on all workers, runs the command on all of them, and is
deleted in the end. If it is preempted, or the study ends with 75, it is deleted
and asked for again: the same command on the same run folder resumes. Ctrl-C, a
terminal that goes away and SIGTERM make the study save, and delete the slice.

The exit code is the study's (0 done, 1 failed, 2 usage, 3 diverged).
"""

import dataclasses
import re
import shlex
from collections.abc import Sequence

from extrap.config import option
from extrap.errors import UsageError
from launch import (
  accelerators,
  command_line,
  commit,
  queued_resource,
  shared_folder,
)
from launch.processes import PREEMPTED
from launch.queued_resource import Commands, Limits

_REQUIRED = dataclasses.MISSING

# As requirements.txt says. The images have Python 3.10, which is too old; uv
# brings its own.
JAX = 'jax[tpu]>=0.10,<0.13'
PYTHON = '3.12'

# Ends what a lost connection left running, so that it saves. A number
# alone would do for any process; this one is in our folder.
_STOP = (
  'stop() { pid=$(cat run.pid 2>/dev/null); for n in $(seq 600); do '
  '[ "$(readlink "/proc/$pid/cwd")" = "$(pwd -P)" ] || return 0; '
  '[ "$n" -gt 1 ] || kill -TERM "$pid"; sleep 0.2; '
  'done; kill -KILL "$pid"; }; stop'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of `python -m launch.tpu`."""

  name: str = option(
    _REQUIRED, 'name of the queued resource; one that is there already is used'
  )
  accelerator: str = option(
    _REQUIRED, 'type of slice: v4-8, v5litepod-16, v5p-128, v6e-256, ...'
  )
  zone: str = option(_REQUIRED, 'zone, as in us-central1-a')
  project: str | None = option(None, "project (default: gcloud's own)")
  slices: int = option(1, 'slices that train together', minimum=1)
  spot: bool = option(False, 'cheaper, and may be taken away at any moment')
  runtime_version: str | None = option(
    None, 'software of the VMs (default: the usual one of the generation)'
  )
  valid_until_duration: str | None = option(
    None, 'how long the request stays in the queue, as in 6h'
  )
  create_flags: tuple[str, ...] = option(
    (),
    'further flags of gcloud ... queued-resources create, as in '
    '--network=mine,--internal-ips',
  )
  setup: str | None = option(
    None,
    'shell command on every worker before the installation, such as '
    'one that mounts the run folder',
  )
  tries: int = option(
    20, 'how often the slice is asked for or the study started', minimum=1
  )
  wait_hours: float = option(
    72.0, 'longest wait for a slice', unit='hours', minimum=0
  )
  poll_seconds: float = option(
    30.0, 'time between looks at the slice', unit='seconds', minimum=0
  )
  keep: bool = option(False, 'leave the slice when the study has ended')
  execute: bool = option(False, 'run the commands instead of printing them')


def launch(config: Config, command: list[str]) -> int:
  """Prints what would be done, or does it; returns the study's exit code.

  Raises:
    UsageError: the flags cannot be used; nothing has been created.
    ExtrapError: gcloud is missing or refuses, or the tries are used up.
  """
  check(config, command)
  steps = commands(config, command, commit.here())
  if not config.execute:
    print(script(config, steps), end='')
    return 0
  command_line.check_program(
    'gcloud', 'install the Google Cloud CLI: cloud.google.com/sdk'
  )
  limits = Limits(config.tries, config.wait_hours * 3600, config.poll_seconds)
  return queued_resource.supervise(config.name, steps, limits, keep=config.keep)


def check(config: Config, command: Sequence[str]) -> None:
  """Refuses what could not run, or would lose its results."""
  command_line.check_command(command, 'tpu')
  command_line.check_no_cluster_flags(command, 'tpu')
  slice_ = accelerators.find(config.accelerator)
  if not re.fullmatch(r'[a-z]([-a-z0-9]{0,48}[a-z0-9])?', config.name):
    raise UsageError(
      f'--name={config.name}: use up to 50 of a-z, 0-9 and -, a letter first'
    )
  how = (
    'mount a bucket (gcsfuse) or NFS there with --setup, and give a path in '
    'it: --workdir=/mnt/runs/...'
  )
  if slice_.hosts * config.slices > 1:
    shared_folder.check(command, where='each worker', how=how)
  elif config.spot or not config.keep:
    shared_folder.check(command, where='the VM, which is deleted', how=how)


# Commands: config in, words out.


def commands(
  config: Config, command: Sequence[str], version: str | None = None
) -> Commands:
  """What is run, each as a list of words.

  Args:
    config: flags of the launcher.
    command: the study.
    version: commit of the code, which arrives without its history.
  """
  prepare = [_copy(config)]
  if config.setup:
    prepare.append(_on_all(config, config.setup))
  prepare.append(_on_all(config, install_shell(config.name)))
  return Commands(
    pack=pack(config),
    create=create(config),
    describe=_resource(config, 'describe', '--format=' + queued_resource.ASKED),
    prepare=tuple(map(tuple, prepare)),
    run=_on_all(config, run_shell(config.name, command, version)),
    stop=_on_all(config, f'cd ~/{config.name} && {_STOP}'),
    delete=_resource(config, 'delete', '--force', '--quiet'),
    # Slices that gcloud cannot prepare for ssh are left out, even all of them.
    may_reach_none=config.slices > 1,
  )


def create(config: Config) -> tuple[str, ...]:
  """Asks for the slices.

  Source: gcloud compute tpus queued-resources create --help.
  """
  slice_ = accelerators.find(config.accelerator)
  nodes = [f'--node-id={config.name}']
  if config.slices > 1:
    nodes = [f'--node-count={config.slices}', f'--node-prefix={config.name}']
  until = config.valid_until_duration
  return _resource(
    config,
    'create',
    *nodes,
    f'--accelerator-type={config.accelerator}',
    f'--runtime-version={config.runtime_version or slice_.generation.runtime}',
    *(['--spot'] if config.spot else []),
    *([f'--valid-until-duration={until}'] if until else []),
    *config.create_flags,
  )


def pack(config: Config) -> tuple[str, ...]:
  """Packs the tracked files as they are now, changes included."""
  archive = shlex.quote(_archive(config))
  return (
    *('bash', '-c'),
    'set -o pipefail; git rev-parse && mkdir -p .cache && '
    f'git ls-files -z | tar -czf {archive} --null -T -',
  )


def install_shell(name: str) -> str:
  """Shell code that unpacks the code and installs what it needs.

  What an earlier launcher left running saves first, while its code is there.
  """
  return (
    f'mkdir -p ~/{name} && cd ~/{name} || exit 1; {_STOP}; rm -f run.pid; '
    f'set -e; tar -xzf ~/{name}.tar.gz; python3 -m pip install -q --user uv; '
    f'python3 -m uv venv -q --clear --python {PYTHON} .venv; '
    'python3 -m uv pip install -q --python .venv/bin/python '
    f'-r requirements.txt {shlex.quote(JAX)}'
  )


def run_shell(
  name: str, command: Sequence[str], version: str | None = None
) -> str:
  """Shell code that runs the study; its exit code is the study's.

  gcloud runs it again, on one worker, where a connection was lost. Alone that
  worker would wait for the others in vain: it ends them, for a common start.
  """
  told = f'{commit.COMMIT_VARIABLE}={shlex.quote(version)} ' if version else ''
  return (
    f'cd ~/{name} || exit 1; '
    f'if [ -e run.pid ]; then {_STOP}; exit {PREEMPTED}; fi; '
    f'echo $$ > run.pid; export {told}PATH="$PWD/.venv/bin:$PATH"; '
    f'exec {shlex.join(command)}'
  )


def _archive(config: Config) -> str:
  return f'.cache/{config.name}.tar.gz'


def _resource(config: Config, verb: str, *flags: str) -> tuple[str, ...]:
  words = ('gcloud', 'compute', 'tpus', 'queued-resources', verb, config.name)
  return (*words, *_place(config), *flags)


def _copy(config: Config) -> tuple[str, ...]:
  what = (_archive(config), f'{config.name}:')
  return (*_workers(config, 'scp'), *what, *_all(config))


def _on_all(config: Config, shell: str) -> tuple[str, ...]:
  """Runs shell code on all workers of all slices at the same time."""
  # A worker that has gone is noticed after two minutes, not never.
  alive = (
    '-oConnectTimeout=60',
    *('-oServerAliveInterval=30', '-oServerAliveCountMax=4'),
  )
  return (
    *(*_workers(config, 'ssh'), config.name, *_all(config)),
    *(f'--ssh-flag={flag}' for flag in alive),
    f'--command={shell}',
  )


def _workers(config: Config, verb: str) -> tuple[str, ...]:
  kind = 'queued-resources' if config.slices > 1 else 'tpu-vm'
  return ('gcloud', 'compute', 'tpus', kind, verb)


def _all(config: Config) -> tuple[str, ...]:
  # In batches, the first processes would wait for the last ones for ever.
  nodes = ('--node=all', '--batch-size=all') if config.slices > 1 else ()
  return (
    *('--worker=all', *nodes, *_place(config)),
    # A new slice may have the address of an old one.
    *('--strict-host-key-checking=no', '--quiet'),
  )


def _place(config: Config) -> tuple[str, ...]:
  project = (f'--project={config.project}',) if config.project else ()
  return (f'--zone={config.zone}', *project)


# The dry run.

_SCRIPT = """\
#!/usr/bin/env bash
# {about}
# This is one attempt. --execute makes up to {tries}: what is taken away is
# deleted and asked for again, and the study resumes.
set -euo pipefail

# The tracked files of this folder.
{pack}

{create}
{trap}
while :; do
  state=$({describe})
  case $state in
    ACTIVE*) break ;;
    FAILED* | SUSPEND*) echo "$state" >&2; exit 1 ;;
  esac
  sleep {seconds:g}
done

# The code and what it needs, on all workers.
{prepare}

# The study, on all workers.
{run}
"""


def script(config: Config, steps: Commands) -> str:
  """The commands in order, as a script for bash."""
  slice_ = accelerators.find(config.accelerator)
  chips, hosts = (config.slices * n for n in (slice_.chips, slice_.hosts))
  shown = command_line.shown
  trap = f'trap {shlex.quote(shown(steps.delete))} EXIT\n'
  return _SCRIPT.format(
    about=f'{config.slices} x {config.accelerator}: {chips} chips, '
    f'{hosts} workers, {"spot" if config.spot else "on demand"}.',
    tries=config.tries,
    pack=shown(steps.pack),
    create=shown(steps.create),
    trap='' if config.keep else trap,
    describe=shown(steps.describe),
    seconds=config.poll_seconds,
    prepare='\n'.join(map(shown, steps.prepare)),
    run=shown(steps.run),
  )


if __name__ == '__main__':
  command_line.run(launch, Config, __doc__)
