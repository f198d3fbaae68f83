"""The least time that a step can take (Williams et al. 2009, Roofline).

Each resource by itself would need some time; the step needs the longest of
them if they overlap perfectly, and more if they do not.
"""

import dataclasses

from extrap.planning.accelerators import Accelerator
from extrap.planning.step import Exchange, Step


@dataclasses.dataclass(frozen=True)
class Bound:
  """Seconds a step that each resource needs at its peak rate."""

  compute: float
  memory: float
  network: float

  @property
  def seconds(self) -> float:
    """The least time of a step."""
    return max(dataclasses.astuple(self))

  @property
  def binds(self) -> str:
    """The resource that needs the longest."""
    times = dataclasses.asdict(self)
    return max(times, key=times.__getitem__)

  def expected(self, utilisation: float) -> float:
    """Seconds a step where products reach this share of their peak rate.

    Never less than the bound.
    """
    return max(self.seconds, self.compute / utilisation)


def bound(step: Step, chip: Accelerator) -> Bound:
  """The times of a step on one kind of chip."""
  return Bound(
    compute=sum(n / chip.rate(dtype) for dtype, n in step.flops.items()),
    memory=step.traffic_bytes / chip.bandwidth,
    network=sum(_exchange(one, chip) for one in step.exchanges),
  )


def _exchange(exchange: Exchange, chip: Accelerator) -> float:
  """Seconds of an exchange, on links only or through the slowest part."""
  within = exchange.sent / chip.links
  if exchange.span <= chip.neighbours:
    return within
  # Of `together` chips with fast links between them each carries its share of
  # what leaves for the others.
  together = max(1, exchange.size * chip.neighbours // exchange.span)
  return max(within, exchange.sent / (chip.network * together))


def fits(step: Step, chip: Accelerator) -> bool:
  """Whether a device's memory holds the state and the temporaries."""
  return step.memory_bytes <= chip.memory
