"""The machine that a program is compiled for."""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Hardware:
  """What a program is compiled for.

  Attributes:
    platform: 'cpu', 'gpu' or 'tpu'.
    capability: of an NVIDIA GPU, such as '9.0'; else empty.
  """

  platform: str
  capability: str = ''


def hardware() -> Hardware:
  """That of the mesh in use, which may be elsewhere, or of this process."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  platform = device.platform if device else jax.default_backend()
  if platform != 'gpu' or jax.default_backend() != 'gpu':
    return Hardware(platform)
  capability = getattr(jax.local_devices()[0], 'compute_capability', '')
  return Hardware(platform, str(capability))
