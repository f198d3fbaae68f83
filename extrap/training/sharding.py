"""The mesh, and which axis of which array lies along it.

The mesh always has the axes replica, data and model, any of size 1. Models
name logical axes; `ShardingRules` says where each goes.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from optax import MaskedNode

from extrap.config import option
from extrap.errors import UsageError

AXES = ('replica', 'data', 'model')


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """How many devices lie along each axis; -1 takes the rest, once."""

  replica: int = option(
    1, 'devices along replicas (-1: the rest)', minimum=-1, identity=False
  )
  data: int = option(
    1, 'devices along the batch (-1: the rest)', minimum=-1, identity=False
  )
  model: int = option(
    1, 'devices along the model (-1: the rest)', minimum=-1, identity=False
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardingRules:
  """Mesh axis of each logical axis; None keeps it whole.

  `embed` over data shards parameters and optimizer state fully (FSDP); those
  over model are tensor parallelism. `batch` is the activations' first axis:
  without it the compiler would move activations instead of parameters.
  """

  batch: str | None = 'data'
  embed: str | None = 'data'
  heads: str | None = 'model'
  ffn: str | None = 'model'
  vocab: str | None = None
  head: str | None = None
  layers: str | None = None

  @contextlib.contextmanager
  def on(self, mesh: Mesh) -> Iterator[None]:
    """What is traced inside lies on the mesh by these rules."""
    pairs = [(f.name, getattr(self, f.name)) for f in dataclasses.fields(self)]
    with jax.set_mesh(mesh), nn.logical_axis_rules(pairs):
      yield


def make_mesh(config: MeshConfig | None = None) -> Mesh:
  """A mesh over the first devices that the config asks for.

  Raises:
    UsageError: there are too few devices, or they do not divide.
  """
  config = config or MeshConfig()
  sizes = {axis: getattr(config, axis) for axis in AXES}
  devices = jax.devices()
  free = [axis for axis, size in sizes.items() if size == -1]
  fixed = int(np.prod([size for size in sizes.values() if size != -1]))
  flags = ' '.join(f'--mesh.{axis}={size}' for axis, size in sizes.items())
  if len(free) > 1 or 0 in sizes.values():
    raise UsageError(f'{flags}: sizes are positive, and -1 at most once')
  if free:
    if len(devices) % fixed:
      raise UsageError(
        f'{flags}: {fixed} does not divide {len(devices)} devices'
      )
    sizes[free[0]] = len(devices) // fixed
  count = int(np.prod(list(sizes.values())))
  if count > len(devices):
    raise UsageError(f'{flags} needs {count} devices, {len(devices)} are here')
  if count < len(devices) and jax.process_count() > 1:
    raise UsageError(
      f'{flags} leaves out some of the {len(devices)} devices of '
      f'{jax.process_count()} processes; give the rest to an axis, as in '
      '--mesh.data=-1'
    )
  grid = np.array(devices[:count]).reshape(tuple(sizes.values()))
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def check_divides(mesh: Mesh, axis: str, size: int, what: str) -> None:
  """One clear line where a mesh axis does not divide what lies along it."""
  if size % mesh.shape[axis]:
    raise UsageError(
      f'--mesh.{axis}={mesh.shape[axis]} does not divide {what}={size}'
    )


def state_shardings(
  abstract_boxed: object, mesh: Mesh, rules: ShardingRules
) -> object:
  """Shardings of a population's state, from one replica's boxed state.

  A dimension that its mesh axis does not divide stays whole: position tables
  and vocabularies have odd sizes.
  """
  specs = nn.get_partition_spec(abstract_boxed)
  with nn.logical_axis_rules([]):  # Else flax would constrain mere shapes.
    abstract = nn.unbox(abstract_boxed)

  def place(spec: P, leaf: jax.ShapeDtypeStruct | MaskedNode) -> object:
    if isinstance(leaf, MaskedNode):  # What another optimizer has charge of.
      return leaf
    axes = [getattr(rules, name) if name else None for name in spec]
    axes = [
      axis if axis and size % mesh.shape[axis] == 0 else None
      for axis, size in zip(axes, leaf.shape, strict=False)
    ]
    return NamedSharding(mesh, P('replica', *axes))

  return jax.tree.map(
    place, specs, abstract, is_leaf=lambda x: isinstance(x, P)
  )
