"""XLA's HLO: a program's text as instructions, by computation."""

import dataclasses
import math
import re
from collections.abc import Iterator

ENTRY = 'ENTRY'  # Names the computation that a program begins with.
# The values of an array stay what they are.
LAYOUT = ('bitcast', 'convert', 'copy', 'reshape', 'transpose')
_BITS = {'pred': 8, 's4': 4, 'u4': 4, 'token': 0, 'opaque': 0}


@dataclasses.dataclass(frozen=True)
class Shape:
  """An array's element type, as HLO writes it, and its sizes."""

  dtype: str
  sizes: tuple[int, ...]

  @property
  def bytes(self) -> float:
    digits = re.search(r'\d+', self.dtype)
    bits = _BITS.get(self.dtype) or int(digits[0] if digits else 0)
    # A complex number's name counts both of its parts.
    return math.prod(self.sizes) * bits / 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a program.

  Attributes:
    opcode: as in 'dot'.
    shapes: of the result; several if it is a tuple.
    operands: names of other instructions, or a constant's value.
    rest: the line after the operands: attributes and metadata.
    root: whether it is what its computation returns.
  """

  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  rest: str
  root: bool

  def attribute(self, name: str) -> str | None:
    """The value of `name=`, up to the next comma; braces are kept whole."""
    found = re.search(rf'\b{name}=(\{{[^{{}}]*\}}|[^,\s]+)', self.rest)
    return found[1] if found else None

  def names(self, *attributes: str) -> list[str]:
    """The computations that these attributes name."""
    values = [self.attribute(name) or '' for name in attributes]
    return [name for value in values for name in re.findall(r'[\w.\-]+', value)]

  def integers(self, name: str) -> list[int]:
    """The value of an attribute that is a list of integers."""
    return [int(n) for n in re.findall(r'\d+', self.attribute(name) or '')]


Computation = dict[str, Instruction]


def parse(text: str) -> dict[str, Computation]:
  """The computations of a program, by name; the first one is ENTRY.

  Raises:
    ValueError: it is not the text of a program.
  """
  computations: dict[str, Computation] = {}
  for computation, line in _lines(text):
    name, instruction = _instruction(line)
    computations.setdefault(computation, {})[name] = instruction
  if ENTRY not in computations:
    raise ValueError('the text is not that of an HLO program')
  return computations


def _lines(text: str) -> Iterator[tuple[str, str]]:
  """(computation, line) of all instructions."""
  name = None
  for line in text.splitlines():
    if line.endswith('{') and not line.startswith((' ', 'HloModule')):
      entry, _, first = line.partition('ENTRY ')
      name = ENTRY if first else entry.split()[0].lstrip('%')
    elif line.startswith('}'):
      name = None
    elif name and ' = ' in line:
      yield name, line


def _instruction(line: str) -> tuple[str, Instruction]:
  """Name and content of a line."""
  line = line.strip()
  name, _, right = line.removeprefix('ROOT ').partition(' = ')
  kind, right = _split_type(right)
  opcode, _, right = right.partition('(')
  end = _closing(right)
  shapes = tuple(
    Shape(dtype, tuple(int(n) for n in re.findall(r'\d+', sizes)))
    for dtype, sizes in re.findall(r'(\w+)\[([^\]]*)\]', kind)
  )
  operands = tuple(
    operand.split()[-1].lstrip('%')
    for operand in re.sub(
      r'\{[^}]*\}|/\*.*?\*/|\[[^\]]*\]', '', right[:end]
    ).split(',')
    if operand.strip()
  )
  rest = right[end + 1 :]
  root = line.startswith('ROOT ')
  return name.lstrip('%'), Instruction(opcode, shapes, operands, rest, root)


def _split_type(right: str) -> tuple[str, str]:
  """A result's type, and what follows it."""
  if right.startswith('('):
    end = _closing(right[1:]) + 2
    return right[:end], right[end:].lstrip()
  kind, _, right = right.partition(' ')
  return kind, right


def _closing(text: str) -> int:
  """Index of the parenthesis that closes one opened before the text."""
  depth = 1
  for found in re.finditer(r'[()]', text):
    depth += 1 if found[0] == '(' else -1
    if not depth:
      return found.start()
  return len(text)


def root_of(computation: Computation) -> Instruction | None:
  """What a computation returns."""
  return next((one for one in computation.values() if one.root), None)


def constant_of(name: str, computation: Computation) -> int | None:
  """The value of an integer scalar, if it is a constant."""
  line = computation.get(name)
  if line is None or line.opcode != 'constant' or line.shapes[0].sizes:
    return None
  return int(line.operands[0]) if line.shapes[0].dtype[0] in 'su' else None


def element_of(name: str, computation: Computation) -> int | None:
  """The index of what is taken from a tuple."""
  line = computation.get(name)
  while line is not None and line.opcode in LAYOUT:
    line = computation.get(line.operands[0])
  if line is None or line.opcode != 'get-tuple-element':
    return None
  return line.integers('index')[0]
