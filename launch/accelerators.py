"""TPU slices by the names that Cloud TPU gives them.

Names count differently: v4-16 and v5p-16 have 16 TensorCores, which are 8
chips, whereas v5litepod-16 and v6e-16 have 16 chips.

Sources: cloud.google.com/tpu/docs (the pages of each generation; `runtimes` for
the software versions) and cloud.google.com/kubernetes-engine/docs
(`concepts/plan-tpus` for the labels of nodes). Of v4 and v5p, which come in any
multiple of 4x4x4, the usual shapes are here.
"""

import dataclasses
import difflib
import math

from extrap.errors import UsageError

_SQUARES = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8')
_V4 = (*_CUBES, '8x8x8', '8x8x12', '8x8x16', '8x16x16')
_V5P = (
  *_CUBES,
  *('4x4x12', '4x4x20', '4x8x12', '8x8x8', '8x8x12', '8x8x16', '8x12x16'),
  *('8x16x16', '16x16x16', '16x16x24'),
)
# What people type.
_ALIASES = {'v5e': 'v5litepod', 'v5lite': 'v5litepod', 'trillium': 'v6e'}


@dataclasses.dataclass(frozen=True)
class Generation:
  """What the slices of one generation have in common.

  Attributes:
    prefix: how their names begin.
    counted: what their names count, in units a chip.
    runtime: software version of a TPU VM.
    gke_label: value of the node label cloud.google.com/gke-tpu-accelerator.
    topologies: shapes, in chips.
  """

  prefix: str
  counted: int
  runtime: str
  gke_label: str
  topologies: tuple[str, ...]

  def slices(self) -> list['Slice']:
    """All slices, the smallest first."""
    slices = [Slice(self, topology) for topology in self.topologies]
    return sorted(slices, key=lambda one: one.chips)


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips with fast connections, and the hosts that hold them."""

  generation: Generation
  topology: str

  @property
  def name(self) -> str:
    return f'{self.generation.prefix}-{self.chips * self.generation.counted}'

  @property
  def chips(self) -> int:
    return math.prod(int(side) for side in self.topology.split('x'))

  @property
  def chips_per_host(self) -> int:
    """Up to 8 flat ones share a host; all others come in fours."""
    is_flat = self.topology.count('x') == 1
    return self.chips if is_flat and self.chips <= 8 else 4

  @property
  def hosts(self) -> int:
    return self.chips // self.chips_per_host


_GENERATIONS = (
  Generation('v4', 2, 'tpu-ubuntu2204-base', 'tpu-v4-podslice', _V4),
  Generation(
    'v5litepod', 1, 'v2-alpha-tpuv5-lite', 'tpu-v5-lite-podslice', _SQUARES
  ),
  Generation('v5p', 2, 'v2-alpha-tpuv5', 'tpu-v5p-slice', _V5P),
  Generation('v6e', 1, 'v2-alpha-tpuv6e', 'tpu-v6e-slice', _SQUARES),
)
SLICES = {
  one.name: one for generation in _GENERATIONS for one in generation.slices()
}


def find(name: str) -> Slice:
  """Returns the slice called `name`; UsageError with close names if none is."""
  if name in SLICES:
    return SLICES[name]
  ranges = ', '.join(_range(generation) for generation in _GENERATIONS)
  close = ', '.join(_close(name))
  hint = f'did you mean {close}? ' if close else ''
  raise UsageError(f'--accelerator={name} is unknown; {hint}known: {ranges}')


def _range(generation: Generation) -> str:
  slices = generation.slices()
  return f'{slices[0].name} to {slices[-1].name}'


def _close(name: str) -> list[str]:
  """Names of the same generation and about the same size, or alike."""
  prefix, _, size = name.lower().rpartition('-')
  prefix = _ALIASES.get(prefix, prefix)
  if f'{prefix}-{size}' in SLICES:
    return [f'{prefix}-{size}']
  kin = [known for known in SLICES if known.startswith(f'{prefix}-')]
  if kin and size.isdigit():
    kin.sort(key=lambda known: abs(int(known.rpartition('-')[2]) - int(size)))
    return kin[:3]
  return difflib.get_close_matches(name, SLICES, n=3)
