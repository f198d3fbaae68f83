"""What a run will take on accelerators, before any is paid for.

  python -m launch.plan --accelerator=v5e --devices=256 -- \\
    python -m experiments.addition --mesh.data=-1 --model.depth=16

compiles one training step of the study's main arm for simulated devices, in a
process of its own, and allocates nothing. Printed are the bytes that a device
holds, the FLOPs of a step and what the devices send each other, read from the
compiled program, and by the roofline the least time on each accelerator: the
longest of computing, memory and network at their peak rates. --utilisation is
the share of the peak that products may reach; the expected hours follow.

Several --devices, as in --devices=1,8,64,256 with --mesh.data=-1, give a table.

What the numbers are. FLOPs: of matrix products, exact, recomputation included.
State: exact. Held-out evaluation is left out. Memory traffic: products read
their operands and write their results once, the update the state; all else is
taken to be fused with them. Compiled by the CPU's compiler, these are
estimates: activations (it holds bfloat16 in float32, and fuses less), and
collectives (where XLA's partitioner puts them, in the model's types; a sum of
which each device keeps a part counts as reduce-scatter, as on TPU and GPU).
Attention is then computed as --model.attention says for a CPU: an accelerator's
kernel computes and holds less.
Where libtpu is installed and --accelerator is a TPU, the TPU's compiler is used
instead: slower, and then nothing is an estimate but the time.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from extrap.config import option
from extrap.errors import Diverged, ExtrapError, Preempted, UsageError
from extrap.planning import accelerators
from extrap.planning.accelerators import ACCELERATORS
from extrap.planning.roofline import bound, fits
from extrap.planning.step import Step
from launch import command_line
from launch.accelerators import SLICES
from launch.plan_table import (
  aligned,
  bytes_text,
  csv_text,
  exchanges_text,
  hours_text,
  mesh_text,
  page_table,
  read_csv,
  rows_of,
  seconds_text,
  update_page,
)

LARGEST = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of `python -m launch.plan`."""

  devices: tuple[int, ...] = option(
    (1,),
    f'devices to plan for, at most {LARGEST}; several make a table',
    minimum=1,
    maximum=LARGEST,
  )
  accelerator: str | None = option(
    None, f'what to warn about: {", ".join(ACCELERATORS)} (default: all)'
  )
  utilisation: float = option(
    0.45,
    'share of the peak rate that matrix products are expected to reach',
    minimum=0.01,
    maximum=1.0,
  )
  compiler: Literal['auto', 'cpu', 'tpu'] = option(
    'auto',
    "whose compiler: the TPU's needs libtpu and --accelerator; auto takes it "
    "where they are there, else the CPU's",
  )
  csv: str | None = option(None, 'file for the numbers')
  page: str | None = option(
    None,
    'page whose table, between plan:begin and plan:end, is made from --csv',
  )


def main(config: Config, command: list[str]) -> None:
  """Plans, prints, and writes what is asked for."""
  if config.page and not command:
    write_page(config)
    return
  name = config.accelerator and accelerators.find(config.accelerator)
  study = study_of(command)
  if not config.devices:
    raise UsageError('--devices is empty; name at least one number')
  steps = [plan(config, name, command, study, n) for n in config.devices]
  print(command_line.shown(command))
  for step in steps:
    print(f'\n{report(step, config.utilisation)}')
  for line in warnings(steps, name):
    print(f'warning: {line}', file=sys.stderr)
  if config.csv:
    _write(config.csv, csv_of(config, command, steps))
  if config.page:
    write_page(config)


def study_of(command: Sequence[str]) -> list[str]:
  """Module and flags of `python -m module flags`.

  Raises:
    UsageError: the command is another one.
  """
  command_line.check_command(command, 'plan')
  if len(command) < 3 or command[1] != '-m':
    raise UsageError(
      f'{command_line.shown(command)} cannot be planned: write '
      'python -m experiments.addition [flags] after --'
    )
  return list(command[2:])


def plan(
  config: Config,
  name: str | None,
  command: Sequence[str],
  study: Sequence[str],
  devices: int,
) -> Step:
  """Measures a step, by the TPU's compiler if it is there and wanted."""
  topology = topology_of(config, name, devices)
  if topology is None:
    return measure(command[0], study, devices)
  try:
    return measure(command[0], study, devices, topology)
  except UsageError:
    raise
  except ExtrapError:
    if config.compiler == 'tpu':
      raise
  print("the TPU's compiler failed: the CPU's is used", file=sys.stderr)
  return measure(command[0], study, devices)


def topology_of(config: Config, name: str | None, devices: int) -> str | None:
  """The TPU slice to compile for, as in 'v5e:2x4'; None for the CPU.

  Raises:
    UsageError: --compiler=tpu, and something that it needs is missing.
  """
  if config.compiler == 'cpu':
    return None
  prefix = ACCELERATORS[name].slices if name else None
  shapes = [
    one.topology
    for one in SLICES.values()
    if one.generation.prefix == prefix and one.chips == devices
  ]
  installed = importlib.util.find_spec('libtpu') is not None
  if shapes and installed:
    return f'{name}:{shapes[0]}'
  if config.compiler == 'tpu':
    missing = 'libtpu' if shapes else f'TPU slice of {devices} chips'
    raise UsageError(
      f'--compiler=tpu, --accelerator={name}: there is no {missing}'
    )
  return None


def measure(
  python: str,
  study: Sequence[str],
  devices: int,
  topology: str | None = None,
) -> Step:
  """Measures a step in a process with simulated devices.

  Raises:
    ExtrapError: it failed, and has said why in its last line.
  """
  with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / 'step.json'
    words = measuring(python, study, out, topology)
    done = subprocess.run(
      words,
      env=environment(os.environ, devices),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
    )
    if done.returncode or not out.exists():
      raise _failure(done)
    return Step.from_json(json.loads(out.read_text(encoding='utf-8')))


def measuring(
  python: str, study: Sequence[str], out: Path, topology: str | None
) -> list[str]:
  """The command that measures; `python` by itself is this one."""
  if python in ('python', 'python3'):
    python = sys.executable
  own = [f'--out={out}', *([f'--topology={topology}'] if topology else [])]
  return [python, '-m', 'extrap.planning.measure', *own, '--', *study]


def environment(base: Mapping[str, str], devices: int) -> dict[str, str]:
  """The variables of a process that sees so many simulated devices."""
  simulated = '--xla_force_host_platform_device_count'
  kept = re.sub(rf'{simulated}=\d+', '', base.get('XLA_FLAGS', ''))
  added = {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': str(devices),
    'XLA_FLAGS': f'{kept} {simulated}={devices}'.strip(),
    # What is taken from a cache is not compiled, and leaves nothing to read.
    'JAX_ENABLE_COMPILATION_CACHE': 'false',
    # libtpu looks for a TPU on the network, and has much to say.
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_STDERR_LOG_LEVEL': '3',
    'TPU_MIN_LOG_LEVEL': '3',
  }
  return dict(base) | added


def _failure(done: subprocess.CompletedProcess[str]) -> ExtrapError:
  """The error of a child, which ends with one line, or with a traceback."""
  lines = done.stderr.strip().splitlines() or ['it said nothing']
  said = [line for line in lines if line.startswith('error: ')]
  kinds = (UsageError, Diverged, Preempted)
  kind = next((k for k in kinds if k.exit_code == done.returncode), ExtrapError)
  if said:
    return kind(said[-1].removeprefix('error: '))
  if done.returncode < 0:
    return ExtrapError(f'the compiler was killed by signal {-done.returncode}')
  return kind(f'the step cannot be compiled: {lines[-1]}')


def report(step: Step, utilisation: float) -> str:
  """All about one number of devices."""
  head = (
    f'devices: {step.devices} ({mesh_text(step.mesh)}), compiled for '
    f'{step.compiler} in {step.seconds:.0f} s and '
    f'{bytes_text(step.peak_bytes)}'
  )
  return '\n'.join(
    [
      head,
      *facts(step),
      '',
      aligned(
        [
          *('', 'computing', 'memory', 'network', 'binds', 'at the bound'),
          *(f'at {utilisation:.0%}', 'chip-hours', 'memory used'),
        ],
        [_times(step, name, utilisation) for name in ACCELERATORS],
      ),
    ]
  )


def facts(step: Step) -> list[str]:
  """What a step holds, computes and sends, and which of it is estimated."""
  lines = {
    'parameters': f'{step.parameters:,} a replica, replicas: {step.replicas}',
    'bytes a device': (
      f'parameters {bytes_text(step.parameter_bytes)}, optimizer '
      f'{bytes_text(step.optimizer_bytes)}, best and averaged '
      f'{bytes_text(step.other_bytes)}, activations '
      f'{bytes_text(step.activation_bytes)}'
    ),
    'FLOPs a step': (
      f'{step.total_flops:.4g} a device, '
      f'{step.total_flops * step.devices:.4g} in all'
    ),
    'collectives': exchanges_text(step.exchanges),
    'estimates': _estimates(step),
  }
  return [f'{name:16}{fact}' for name, fact in lines.items()]


def _estimates(step: Step) -> str:
  """Which numbers another compiler would change."""
  if step.compiler != 'cpu':
    return 'times'
  what = ['times', 'activations (fused less)', 'collectives']
  if step.dtype == 'bfloat16':
    what[1] = f'activations ({step.dtype} is held in float32)'
  if step.unknown_loops:
    what.append(f'{step.unknown_loops} loops of unknown length, counted once')
  return ', '.join(what)


def _times(step: Step, name: str, utilisation: float) -> list[str]:
  chip = ACCELERATORS[name]
  least = bound(step, chip)
  hours = least.expected(utilisation) * step.steps / 3600
  share = step.memory_bytes / chip.memory
  return [
    name,
    seconds_text(least.compute),
    seconds_text(least.memory),
    seconds_text(least.network),
    least.binds,
    hours_text(least.seconds * step.steps / 3600),
    hours_text(hours),
    f'{hours * step.devices:.3g}',
    f'{100 * share:.2g} %' + ('' if fits(step, chip) else ', exceeded'),
  ]


def warnings(steps: Sequence[Step], name: str | None) -> list[str]:
  """A line for each number of devices whose memory is exceeded."""
  names = [name] if name else list(ACCELERATORS)
  lines = []
  for step in steps:
    small = [one for one in names if not fits(step, ACCELERATORS[one])]
    if small:
      lines.append(
        f'--devices={step.devices}: {bytes_text(step.memory_bytes)} on each '
        f'exceed the memory of {", ".join(small)}; try --model.remat, '
        '--train.accumulate or more devices'
      )
  return lines


def csv_of(
  config: Config, command: Sequence[str], steps: Sequence[Step]
) -> str:
  """The CSV of all plans, with its command."""
  words = [
    *('python', '-m', 'launch.plan'),
    f'--devices={",".join(map(str, config.devices))}',
    f'--utilisation={config.utilisation:g}',
    *([f'--accelerator={config.accelerator}'] if config.accelerator else []),
    *('--compiler=' + config.compiler, f'--csv={config.csv}', '--', *command),
  ]
  most = bytes_text(max(step.peak_bytes for step in steps))
  chips = ', '.join(str(step.devices) for step in steps)
  seconds = ', '.join(f'{step.seconds:.0f}' for step in steps)
  comments = [
    f'command: {command_line.shown(words)}',
    f'Compiled for {chips} chips in {seconds} s, with at most {most} of '
    f'memory, on {os.cpu_count()} CPU cores.',
  ]
  rows = [row for step in steps for row in rows_of(step, config.utilisation)]
  return csv_text(rows, comments)


def write_page(config: Config) -> None:
  """Puts the table of --csv on --page.

  Raises:
    UsageError: there is no --csv; ExtrapError: a file cannot be used.
  """
  if not config.csv:
    raise UsageError('--page needs --csv, the numbers of its table')
  with _naming(config.csv):
    rows, comments = read_csv(Path(config.csv).read_text(encoding='utf-8'))
  with _naming(config.page):
    text = Path(config.page).read_text(encoding='utf-8')
  _write(config.page, update_page(text, page_table(rows, comments)))


def _write(path: str, text: str) -> None:
  with _naming(path):
    Path(path).write_text(text, encoding='utf-8')


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
  """One line where a file cannot be read or written."""
  try:
    yield
  except OSError as error:
    raise ExtrapError(f'{path}: {error.strerror}') from error


if __name__ == '__main__':
  command_line.run(main, Config, __doc__)
