"""What accelerators can do at most, by their makers' word.

Sources, per number:
- v4: peak and memory from cloud.google.com/tpu/docs/v4; links (6 of 50 GB/s)
  from Jouppi et al. 2023, arXiv 2304.01433, table 4.
- v5e, v5p, v6e: cloud.google.com/tpu/docs/v5e, /v5p and /v6e. Their interchip
  bandwidth counts both directions (400, 1200 and 800 GB/s): half is sent.
- TPUs multiply float32 exactly (XLA's HIGHEST precision, which the models here
  ask for) in six passes of bfloat16, hence a sixth of that peak.
- H100 SXM and H200 SXM: nvidia.com/en-us/data-center/h100 and /h200, the rates
  without sparsity (half of those printed), float32 outside the tensor cores;
  NVLink's 900 GB/s count both directions. Eight share a board; between boards
  one adapter of 400 Gbit/s for each, as in NVIDIA's DGX H100 and H200.
"""

import dataclasses

from extrap.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accelerator:
  """One chip; rates are peaks.

  Attributes:
    bfloat16: FLOP/s of matrix products.
    float32: likewise, exact.
    memory: bytes.
    bandwidth: bytes/s between chip and memory.
    links: bytes/s that a chip sends to its neighbours.
    neighbours: chips within reach of these links.
    network: bytes/s that a chip sends beyond.
    slices: how `launch.tpu` calls the slices; None where it is no TPU.
  """

  bfloat16: float
  float32: float
  memory: float
  bandwidth: float
  links: float
  neighbours: int
  network: float
  slices: str | None = None

  def rate(self, dtype: str) -> float:
    """FLOP/s of products of a type, as HLO calls it."""
    return self.bfloat16 if dtype in ('bf16', 'f16') else self.float32


def _tpu(
  name: str,
  bfloat16: float,
  memory: float,
  bandwidth: float,
  links: float,
  pod: int,
) -> Accelerator:
  return Accelerator(
    bfloat16=bfloat16,
    float32=bfloat16 / 6,
    memory=memory,
    bandwidth=bandwidth,
    links=links,
    neighbours=pod,
    # A plan ends at the size of a pod.
    network=links,
    slices=name,
  )


def _hopper(memory: float, bandwidth: float) -> Accelerator:
  return Accelerator(
    bfloat16=989e12,
    float32=67e12,
    memory=memory,
    bandwidth=bandwidth,
    links=450e9,
    neighbours=8,
    network=50e9,
  )


ACCELERATORS = {
  'v4': _tpu('v4', 275e12, 32 * 2**30, 1200e9, 300e9, 4096),
  'v5e': _tpu('v5litepod', 197e12, 16e9, 819e9, 200e9, 256),
  'v5p': _tpu('v5p', 459e12, 95e9, 2765e9, 600e9, 8960),
  'v6e': _tpu('v6e', 918e12, 32e9, 1640e9, 400e9, 256),
  'H100': _hopper(80e9, 3.35e12),
  'H200': _hopper(141e9, 4.8e12),
}


def find(name: str) -> str:
  """The accelerator's name as it is written here.

  Raises:
    UsageError: it is not here.
  """
  for known in ACCELERATORS:
    if known.lower() == name.lower():
      return known
  raise UsageError(
    f'--accelerator={name} is unknown; known: {", ".join(ACCELERATORS)}'
  )
