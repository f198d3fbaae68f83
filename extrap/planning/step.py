"""One step of training, as far as an accelerator cares."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Exchange:
  """All collectives of one kind among as many devices.

  Attributes:
    kind: as in 'all-gather'.
    size: devices that take part in one.
    span: how far apart their numbers lie, both ends included.
    count: how many a step.
    sent: bytes that a device sends a step.
  """

  kind: str
  size: int
  span: int
  count: float
  sent: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """What a step of training takes; bytes and FLOPs are those of one device.

  Attributes:
    mesh: devices along each axis.
    steps: length of the run, in steps of a whole batch.
    replicas: trained side by side.
    dtype: of the model's activations, where it says so.
    parameters: of one replica.
    parameter_bytes: of all replicas, as are the following.
    optimizer_bytes: what the optimizer keeps.
    other_bytes: best and averaged parameters, counters.
    activation_bytes: everything temporary, at its peak.
    flops: of matrix products, by the type of their operands.
    product_bytes: operands and results of those, each read or written once.
    exchanges: what the devices send each other.
    unknown_loops: loops that count once since nothing tells their rounds.
    compiler: whose numbers these are: 'cpu', or a topology as in 'v5e:2x2'.
    seconds: time that tracing and compiling took.
    peak_bytes: memory that they took.
  """

  mesh: dict[str, int]
  steps: int
  replicas: int
  dtype: str
  parameters: int
  parameter_bytes: float
  optimizer_bytes: float
  other_bytes: float
  activation_bytes: float
  flops: dict[str, float]
  product_bytes: float
  exchanges: list[Exchange]
  unknown_loops: int
  compiler: str
  seconds: float
  peak_bytes: int

  @classmethod
  def from_json(cls, data: dict) -> 'Step':
    """Inverse of `dataclasses.asdict`."""
    exchanges = [Exchange(**one) for one in data['exchanges']]
    return cls(**data | {'exchanges': exchanges})

  @property
  def devices(self) -> int:
    devices = 1
    for size in self.mesh.values():
      devices *= size
    return devices

  @property
  def state_bytes(self) -> float:
    """What stays from step to step."""
    return self.parameter_bytes + self.optimizer_bytes + self.other_bytes

  @property
  def memory_bytes(self) -> float:
    return self.state_bytes + self.activation_bytes

  @property
  def total_flops(self) -> float:
    return sum(self.flops.values())

  @property
  def traffic_bytes(self) -> float:
    """The least that passes between a chip and its memory.

    Products read and write their operands and results once, everything else
    is fused into them, and the state is read and written once.
    """
    return self.product_bytes + 2 * self.state_bytes

  @property
  def sent_bytes(self) -> float:
    return sum(exchange.sent for exchange in self.exchanges)
