"""Compiles one training step of a study for devices that are not there.

  python -m extrap.planning.measure --out=step.json -- experiments.addition \\
    --mesh.data=8

writes a `Step`. Nothing is allocated: the state is abstract. What is compiled
is a step of the study's main arm without held-out evaluation. The number of
simulated devices is that of the environment (`launch.plan` sets it).

A module can be planned if it has `Config`, a `StudyConfig`, and
`problem(config)`, the `Problem` of its main arm; `resolved(config)`, where it
has that, fills in what flags leave open, such as the steps; `stored(config)`,
likewise, gives the shapes of stored arrays that the problem reads.
"""

import dataclasses
import importlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from extrap import cli
from extrap.config import option
from extrap.errors import ExtrapError, UsageError
from extrap.planning.hlo_costs import Costs, read_costs
from extrap.planning.step import Exchange, Step
from extrap.reporting.environment import peak_memory_bytes
from extrap.study import StudyConfig
from extrap.training.ramp import whole_batches
from extrap.training.sharding import AXES, make_mesh
from extrap.training.trainer import Trainer, make_trainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this program."""

  out: str = option(dataclasses.MISSING, 'file that the numbers go to')
  topology: str | None = option(
    None, "compile with libtpu for chips as in v5e:2x4 (default: the CPU's)"
  )


class OneStep(Trainer):
  """A trainer whose program is a single step without evaluation."""

  def lower(self) -> jax.stages.Lowered:
    """The program for an abstract state, which is donated."""
    program = jax.jit(
      self.single,
      donate_argnums=0,
      out_shardings=(self.shardings, NamedSharding(self.mesh, P())),
    )
    step = jax.ShapeDtypeStruct((), jnp.int32)
    with self.rules.on(self.mesh):
      return program.lower(self.abstract, step, self.data)


def measure(
  study: ModuleType, config: StudyConfig, topology: str | None = None
) -> Step:
  """The numbers of one training step.

  Args:
    study: has `problem(config)`; see the module's docstring.
    config: an instance of its `Config`.
    topology: TPU chips to compile for; None for simulated devices.

  Raises:
    UsageError: the mesh does not fit the devices, or the study the mesh.
    ExtrapError: there is no compiler for the topology.
  """
  began = time.perf_counter()
  mesh = _mesh(config, topology)
  if hasattr(study, 'resolved'):
    config = study.resolved(config)
  train = dataclasses.replace(config.train, steps=config.steps)
  trainer = make_trainer(
    study.problem(config),
    train,
    replicas=config.replicas,
    seed=config.seed,
    data=study.stored(config) if hasattr(study, 'stored') else None,
    mesh=mesh,
  )
  activation_bytes, costs = _compile(trainer, simulated=topology is None)
  state = trainer.abstract
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  parameter_bytes = _bytes(state.params)
  optimizer_bytes = _bytes(state.opt_state)
  return Step(
    mesh=dict(mesh.shape),
    # Of batches that grow a whole one is compiled.
    steps=round(whole_batches(train)),
    replicas=config.replicas,
    dtype=getattr(getattr(config, 'model', None), 'dtype', 'float32'),
    parameters=parameters // config.replicas,
    parameter_bytes=parameter_bytes,
    optimizer_bytes=optimizer_bytes,
    other_bytes=_bytes(state) - parameter_bytes - optimizer_bytes,
    activation_bytes=activation_bytes,
    flops=dict(costs.flops),
    product_bytes=costs.product_bytes,
    exchanges=_exchanges(costs),
    unknown_loops=costs.unknown_loops,
    compiler=topology or 'cpu',
    seconds=time.perf_counter() - began,
    peak_bytes=peak_memory_bytes(),
  )


def _mesh(config: StudyConfig, topology: str | None) -> Mesh:
  """The study's mesh, over all devices."""
  mesh, devices = make_mesh(config.mesh), len(jax.devices())
  if mesh.size != devices:
    sizes = ' '.join(f'--mesh.{k}={v}' for k, v in mesh.shape.items())
    raise UsageError(
      f'{sizes} is a mesh of {mesh.size}, --devices={devices}: write '
      '--mesh.data=-1 for all of them'
    )
  if topology is None:
    return mesh
  chips = np.array(_chips(topology)).reshape(mesh.devices.shape)
  return Mesh(chips, AXES, axis_types=mesh.axis_types)


def _chips(topology: str) -> list[jax.Device]:
  """Devices that libtpu knows without having them."""
  from jax.experimental import topologies

  try:
    return topologies.get_topology_desc(
      platform='tpu', topology_name=topology
    ).devices
  except Exception as error:  # libtpu has no type of its own for this.
    reason = str(error).splitlines()[0]
    raise ExtrapError(f'libtpu cannot compile for {topology}: {reason}') from (
      error
    )


def _compile(trainer: Trainer, simulated: bool) -> tuple[float, Costs]:
  """Bytes of temporaries, and what the program does."""
  fields = {
    f.name: getattr(trainer, f.name) for f in dataclasses.fields(trainer)
  }
  train = dataclasses.replace(trainer.config, evaluate_every=0)
  lowered = OneStep(**fields | {'config': train}).lower()
  with tempfile.TemporaryDirectory() as folder:
    compiled = lowered.compile(_fast(folder) if simulated else None)
    portable = _portable(Path(folder))
  costs = read_costs(compiled.as_text())
  if portable is not None:
    costs = _in_own_types(costs, read_costs(portable))
  return compiled.memory_analysis().temp_size_in_bytes, costs


def _fast(folder: str) -> dict[str, str | int]:
  """Machine code is not needed; the program in the model's own types is."""
  return {
    'xla_backend_optimization_level': 0,
    'xla_dump_to': folder,
    'xla_dump_hlo_pass_re': 'spmd-partitioning',
  }


def _portable(folder: Path) -> str | None:
  """The program after XLA has partitioned it, before it is made for CPUs.

  CPUs compute bfloat16 in float32, send it as such, and never scatter a sum.
  """
  for pattern in (
    '*.after_spmd-partitioning*.txt',
    '*before_optimizations.txt',
  ):
    for path in sorted(folder.glob(pattern)):
      return path.read_text(encoding='utf-8')
  return None


def _in_own_types(compiled: Costs, portable: Costs) -> Costs:
  """The compiled program's FLOPs, by the types that they have elsewhere."""
  scale = compiled.total_flops / (portable.total_flops or 1.0)
  flops = {dtype: n * scale for dtype, n in portable.flops.items()}
  return dataclasses.replace(portable, flops=flops)


def _exchanges(costs: Costs) -> list[Exchange]:
  return [
    Exchange(key.kind, key.size, key.span, count, costs.sent[key])
    for key, count in sorted(
      costs.counts.items(), key=lambda item: -costs.sent[item[0]]
    )
  ]


def _bytes(tree: object) -> float:
  """What one device holds of abstract arrays."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def find_study(name: str) -> ModuleType:
  """A module that can be planned.

  Raises:
    UsageError: there is none of that name, or it is not a study.
  """
  try:
    module = importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
      raise
    raise UsageError(f'there is no module {name}') from error
  config = getattr(module, 'Config', None)
  is_study = isinstance(config, type) and issubclass(config, StudyConfig)
  if not (is_study and callable(getattr(module, 'problem', None))):
    raise UsageError(
      f'{name} is not a study: it needs Config, a StudyConfig, and '
      'problem(config)'
    )
  return module


def main(argv: list[str]) -> NoReturn:
  """Measures the study named after `--` and writes the result."""
  at = argv.index('--')
  own, (name, *flags_given) = argv[:at], argv[at + 1 :]

  def run(options: Config, _: flags.FlagValues) -> None:
    study = find_study(name)

    def write(config: StudyConfig, _: flags.FlagValues) -> None:
      step = measure(study, config, options.topology)
      Path(options.out).write_text(json.dumps(dataclasses.asdict(step)))

    cli.run(write, study.Config, argv=[name, *flags_given])

  cli.run(run, Config, argv=own, doc=__doc__)


if __name__ == '__main__':
  main(sys.argv)
