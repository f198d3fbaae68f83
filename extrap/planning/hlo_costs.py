"""What a program does on each device, read from its text in XLA's HLO.

The text is that of one device: shapes are those of its parts. Loop bodies
count as often as they run, which XLA writes down ("known_trip_count") or the
loop's condition tells; fusions and calls are followed; of a condition the
branch with the most FLOPs counts.
"""

import collections
import dataclasses
import math
import re

import numpy as np

from extrap.planning.hlo import (
  ENTRY,
  LAYOUT,
  Computation,
  Instruction,
  Shape,
  constant_of,
  element_of,
  parse,
  root_of,
)

KINDS = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
)


@dataclasses.dataclass(frozen=True)
class Collective:
  """One kind of exchange between devices.

  Attributes:
    kind: one of KINDS.
    size: devices that take part in one exchange.
    span: how far apart their numbers lie, both ends included.
  """

  kind: str
  size: int
  span: int


@dataclasses.dataclass(frozen=True)
class Costs:
  """What one call does on one device.

  Attributes:
    flops: 2 m k n of each product of matrices, by the operands' type.
    product_bytes: those products' operands and results, each counted once.
    counts: how often each collective runs.
    sent: bytes that the device sends, by the best algorithm on a ring.
    unknown_loops: loops whose number of rounds nothing tells; counted once.
  """

  flops: collections.Counter[str]
  product_bytes: float
  counts: collections.Counter[Collective]
  sent: collections.Counter[Collective]
  unknown_loops: int = 0

  def plus(self, other: 'Costs', times: int = 1) -> 'Costs':
    """The sum, the other one counted several times."""

    def add(one: collections.Counter, two: collections.Counter) -> object:
      scaled = {key: value * times for key, value in two.items()}
      return collections.Counter(one) + collections.Counter(scaled)

    return Costs(
      flops=add(self.flops, other.flops),
      product_bytes=self.product_bytes + times * other.product_bytes,
      counts=add(self.counts, other.counts),
      sent=add(self.sent, other.sent),
      unknown_loops=self.unknown_loops + other.unknown_loops,
    )

  @property
  def total_flops(self) -> float:
    return float(sum(self.flops.values()))

  @property
  def total_sent(self) -> float:
    return float(sum(self.sent.values()))


def _nothing() -> Costs:
  counter = collections.Counter
  return Costs(counter(), 0.0, counter(), counter())


def read_costs(text: str) -> Costs:
  """The costs of one call of a program.

  Args:
    text: as of `compiled.as_text()`, or of XLA after any of its passes.

  Raises:
    ValueError: it is not the text of a program.
  """
  return _Program(text).costs(ENTRY)


class _Program:
  """A parsed program."""

  def __init__(self, text: str) -> None:
    self._computations = parse(text)
    header = text.partition('\n')[0]
    counts = re.findall(r'(?:num_partitions|replica_count)=(\d+)', header)
    self._devices = math.prod(map(int, counts))
    self._known: dict[str, Costs] = {}

  def costs(self, name: str) -> Costs:
    """What one call of a computation costs."""
    if name not in self._known:
      total, computation = _nothing(), self._computations.get(name, {})
      for instruction in computation.values():
        total = self._add(total, instruction, computation)
      self._known[name] = total
    return self._known[name]

  def _add(
    self, total: Costs, instruction: Instruction, computation: Computation
  ) -> Costs:
    opcode = instruction.opcode
    if opcode == 'while':
      trips = self._trips(instruction, computation)
      for name in instruction.names('body', 'condition'):
        total = total.plus(self.costs(name), 1 if trips is None else trips)
      unknown = total.unknown_loops + (trips is None)
      return dataclasses.replace(total, unknown_loops=unknown)
    if opcode == 'conditional':
      branches = map(self.costs, self._branches(instruction))
      dearest = max(branches, key=lambda one: (one.total_flops, one.total_sent))
      return total.plus(dearest)
    if opcode in ('dot', 'convolution'):
      return total.plus(_product(instruction, computation))
    if opcode.removesuffix('-start') in KINDS:
      return total.plus(self._collective(instruction, computation))
    if not opcode.endswith(('-done', '-update')):
      for name in self._called(instruction):
        total = total.plus(self.costs(name))
    return total

  def _called(self, instruction: Instruction) -> list[str]:
    """Computations that run once; a reduction's is a mere scalar sum."""
    names = ['calls', 'called_computations']
    if instruction.opcode == 'call':
      names.append('to_apply')
    return instruction.names(*names)

  def _branches(self, instruction: Instruction) -> list[str]:
    return instruction.names(
      'branch_computations', 'true_computation', 'false_computation'
    )

  def _trips(self, loop: Instruction, computation: Computation) -> int | None:
    """Rounds of a loop; None where nothing tells."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest)
    if known:
      return int(known[1])
    bound = self._bound(*loop.names('condition'))
    if bound is None:
      return None
    limit, index = bound
    start = self._start(loop, index, computation)
    if start is None:
      return None
    step = self._step(self._computations[loop.names('body')[0]], index)
    return max(0, -(-(limit - start) // step))

  def _start(
    self, loop: Instruction, index: int, computation: Computation
  ) -> int | None:
    """Where a counter starts; None where it is computed."""
    state = computation.get(loop.operands[0])
    if state is None or state.opcode != 'tuple':
      return None
    line = computation.get(name := state.operands[index])
    while line is not None and line.opcode in LAYOUT:
      line = computation.get(name := line.operands[0])
    return constant_of(name, computation)

  def _bound(self, name: str) -> tuple[int, int] | None:
    """Where a counter ends, and which element of the loop's state it is."""
    lines = self._computations.get(name, {})
    test = root_of(lines)
    if test and self._called(test):  # The comparison is in a fusion or a call.
      inner = root_of(self._computations.get(self._called(test)[0], {}))
      test = inner and dataclasses.replace(inner, operands=test.operands)
    if not test or test.attribute('direction') != 'LT':
      return None
    limits = [constant_of(name, lines) for name in test.operands]
    indices = [element_of(name, lines) for name in test.operands]
    limit = next((n for n in limits if n is not None), None)
    index = next((n for n in indices if n is not None), None)
    return None if limit is None or index is None else (limit, index)

  def _step(self, body: Computation, index: int) -> int:
    """What a round adds to a counter: 1, or more in an unrolled loop."""
    root = root_of(body)
    name = root.operands[index] if root and root.opcode == 'tuple' else ''
    step = 0
    while (line := body.get(name)) and line.opcode in ('add', 'copy'):
      amounts = [constant_of(operand, body) for operand in line.operands]
      if amounts.count(None) != 1:
        break
      step += sum(amount or 0 for amount in amounts)
      name = line.operands[amounts.index(None)]
    # A fused counter goes up by one, as JAX makes it.
    return step or 1

  def _collective(
    self, instruction: Instruction, computation: Computation
  ) -> Costs:
    kind = instruction.opcode.removesuffix('-start')
    if kind == 'all-reduce' and _is_scattered(instruction, computation):
      kind = 'reduce-scatter'
    devices = self._group(instruction)
    size = len(devices)
    if size < 2:
      return _nothing()
    span = int(max(devices) - min(devices)) + 1
    given = sum(_bytes(name, computation) for name in instruction.operands)
    key = Collective(kind, size, span)
    return dataclasses.replace(
      _nothing(),
      counts=collections.Counter({key: 1}),
      sent=collections.Counter({key: given * _share_sent(kind, size)}),
    )

  def _group(self, instruction: Instruction) -> list[int]:
    """The devices of the first group."""
    pairs = re.search(r'source_target_pairs=\{\{(\d+),(\d+)', instruction.rest)
    if pairs:
      return [int(pairs[1]), int(pairs[2])]
    found = re.search(r'replica_groups=(.*)', instruction.rest)
    return _first_group(found[1] if found else '{}', self._devices)


def _bytes(name: str, computation: Computation) -> float:
  found = computation.get(name)
  return sum(shape.bytes for shape in found.shapes) if found else 0.0


def _product(instruction: Instruction, computation: Computation) -> Costs:
  """A product of matrices; TPUs write it as a convolution."""
  left, right = (computation[name].shapes[0] for name in instruction.operands)
  result = instruction.shapes[0]
  if instruction.opcode == 'dot':
    depth = math.prod(
      left.sizes[axis] for axis in instruction.integers('lhs_contracting_dims')
    )
    flops = 2.0 * depth * math.prod(result.sizes)
  else:
    flops = _convolution_flops(instruction, left, right, result)
  return dataclasses.replace(
    _nothing(),
    # TPUs multiply truth values by numbers.
    flops=collections.Counter({max(left, right, key=_width).dtype: flops}),
    product_bytes=left.bytes + right.bytes + result.bytes,
  )


def _width(shape: Shape) -> float:
  return Shape(shape.dtype, ()).bytes


def _convolution_flops(
  instruction: Instruction, left: Shape, right: Shape, result: Shape
) -> float:
  """Multiplications by what is not padding, and as many additions."""
  labels = re.split(r'_|->', instruction.attribute('dim_labels') or '')
  given, kernel, made = (
    dict(zip(label, shape.sizes, strict=True))
    for label, shape in zip(labels, (left, right, result), strict=True)
  )
  flops = 2.0 * made['b'] * made['f'] * kernel['i']
  window = dict(re.findall(r'(\w+)=(\S+)', _window(instruction)))
  for axis, label in enumerate(sorted(set(made) - {'b', 'f'})):
    at = {name: value.split('x')[axis] for name, value in window.items()}
    flops *= _pairs(given[label], kernel[label], made[label], at)
  return flops


def _window(instruction: Instruction) -> str:
  return (instruction.attribute('window') or '').strip('{}')


def _pairs(given: int, kernel: int, made: int, at: dict[str, str]) -> int:
  """Pairs of a result's and a kernel's place that meet an input's place."""
  number = {name: int(value) for name, value in at.items() if value.isdigit()}
  low = int(at.get('pad', '0_0').split('_')[0])
  start = np.arange(made)[:, None] * number.get('stride', 1) - low
  place = start + np.arange(kernel)[None] * number.get('rhs_dilate', 1)
  spread = number.get('lhs_dilate', 1)
  inside = (place >= 0) & (place < (given - 1) * spread + 1)
  return int(np.count_nonzero(inside & (place % spread == 0)))


def _is_scattered(instruction: Instruction, computation: Computation) -> bool:
  """Whether of a sum each device keeps a part: a reduce-scatter in the making.

  Compilers for TPU and GPU make one of such a pair; that for CPU does not.
  """
  name = next(k for k, one in computation.items() if one is instruction)
  users = [
    (used, one) for used, one in computation.items() if name in one.operands
  ]
  while len(users) == 1 and users[0][1].opcode in LAYOUT:
    name = users[0][0]
    users = [
      (used, one) for used, one in computation.items() if name in one.operands
    ]
  return bool(users) and all(one.opcode == 'dynamic-slice' for _, one in users)


def _share_sent(kind: str, size: int) -> float:
  """Bytes sent by a device, for each byte that it gives."""
  if kind == 'all-gather':
    return size - 1.0
  if kind == 'collective-permute':
    return 1.0
  return (2 if kind == 'all-reduce' else 1) * (size - 1) / size


def _first_group(text: str, devices: int) -> list[int]:
  """Devices of the first group; there are four ways to write it."""
  listed = re.match(r'\{\{([\d,]+)\}', text)
  if listed:
    return [int(n) for n in listed[1].split(',')]
  counted = re.match(r'\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
  if counted:
    shape, sizes, order = (
      [int(n) for n in part.split(',')] if part else None
      for part in counted.groups()
    )
    ids = np.arange(math.prod(sizes)).reshape(sizes).transpose(order)
    return ids.reshape(shape)[0].tolist()
  named = re.match(r'mesh\[([^\]]*)\][^{]*\{([^}]*)\}', text)
  if named:
    return _mesh_group(named[1], named[2])
  return list(range(devices))


def _mesh_group(mesh: str, along: str) -> list[int]:
  """Devices along some axes, or parts of axes, of a mesh."""
  sizes = {n: int(s) for n, s in re.findall(r"'(\w+)'=(\d+)", mesh)}
  steps, step = {}, 1
  for name in reversed(sizes):
    steps[name], step = step, step * sizes[name]
  ids = np.zeros(1, int)
  for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", along):
    size = int(size or sizes[name])
    inner = sizes[name] // (int(before or 1) * size)
    part = np.arange(size) * inner * steps[name]
    ids = (ids[:, None] + part[None]).reshape(-1)
  return ids.tolist()
