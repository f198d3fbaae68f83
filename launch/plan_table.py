"""What plans are shown as: text, CSV, and the table of launch/README.md."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence

from extrap.errors import ExtrapError
from extrap.planning.accelerators import ACCELERATORS
from extrap.planning.roofline import bound, fits
from extrap.planning.step import Exchange, Step

Row = dict[str, str]

BEGIN, END = '<!-- plan:begin -->', '<!-- plan:end -->'
_UNITS = ('bytes', 'KiB', 'MiB', 'GiB', 'TiB')


def rows_of(step: Step, utilisation: float) -> list[Row]:
  """One row an accelerator, as CSV has it."""
  return [_row(step, name, utilisation) for name in ACCELERATORS]


def _row(step: Step, name: str, utilisation: float) -> Row:
  chip = ACCELERATORS[name]
  least = bound(step, chip)
  hours = least.expected(utilisation) * step.steps / 3600
  row = {
    'chips': step.devices,
    'mesh': mesh_text(step.mesh),
    'accelerator': name,
    'compiler': step.compiler,
    'parameters': step.parameters,
    'parameter_bytes': step.parameter_bytes,
    'optimizer_bytes': step.optimizer_bytes,
    'other_bytes': step.other_bytes,
    'activation_bytes': step.activation_bytes,
    'fits': 'yes' if fits(step, chip) else 'no',
    'flops': step.total_flops,
    'sent_bytes': step.sent_bytes,
    'collectives': exchanges_text(step.exchanges),
    'compute_s': least.compute,
    'memory_s': least.memory,
    'network_s': least.network,
    'binds': least.binds,
    'steps': step.steps,
    'hours_at_bound': least.seconds * step.steps / 3600,
    'utilisation': utilisation,
    'hours': hours,
    'chip_hours': hours * step.devices,
  }
  return {name: _plain(value) for name, value in row.items()}


def _plain(value: object) -> str:
  """Whole numbers whole, others with five digits."""
  if isinstance(value, float) and not value.is_integer():
    return f'{value:.5g}'
  return f'{value:.0f}' if isinstance(value, float) else str(value)


def mesh_text(mesh: Mapping[str, int]) -> str:
  """As in 'data=8 model=4'; axes of size 1 go without saying."""
  sizes = [f'{axis}={size}' for axis, size in mesh.items() if size > 1]
  return ' '.join(sizes) or 'one device'


def exchanges_text(exchanges: Sequence[Exchange]) -> str:
  """What is sent a step, the most first."""
  parts = [
    f'{one.count:,.0f} {one.kind} among {one.size}: {bytes_text(one.sent)}'
    for one in exchanges
  ]
  return '; '.join(parts) or 'none'


def bytes_text(number: float) -> str:
  """Bytes in a unit that leaves at most four digits before the point."""
  unit = 0
  while number >= 1024 and unit < len(_UNITS) - 1:
    number, unit = number / 1024, unit + 1
  return f'{number:.3g} {_UNITS[unit]}' if unit else f'{number:.0f} bytes'


def hours_text(hours: float) -> str:
  """As in '3.2 h', or '14 min' below one hour."""
  return f'{hours:.3g} h' if hours >= 1 else f'{hours * 60:.2g} min'


def seconds_text(seconds: float) -> str:
  """As in '1.2 s', or '340 ms' below one second."""
  return f'{seconds:.3g} s' if seconds >= 1 else f'{seconds * 1000:.3g} ms'


def csv_text(rows: Sequence[Row], comments: Sequence[str]) -> str:
  """Comments, header and rows."""
  out = io.StringIO()
  out.writelines(f'# {comment}\n' for comment in comments)
  writer = csv.DictWriter(out, list(rows[0]), lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue()


def read_csv(text: str) -> tuple[list[Row], list[str]]:
  """Inverse of `csv_text`."""
  lines = text.splitlines()
  comments = [line[2:] for line in lines if line.startswith('# ')]
  plain = [line for line in lines if not line.startswith('#')]
  return list(csv.DictReader(plain)), comments


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table for the terminal, its first column on the left."""
  widths = [
    max(map(len, column)) for column in zip(headers, *rows, strict=True)
  ]
  lines = []
  for line in (headers, *rows):
    cells = [
      cell.rjust(width) if at else cell.ljust(width)
      for at, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines)


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table, its first column on the left."""
  rule = ['---'] + ['---:'] * (len(headers) - 1)
  return '\n'.join(f'| {" | ".join(line)} |' for line in (headers, rule, *rows))


def page_table(rows: Sequence[Row], comments: Sequence[str]) -> str:
  """The table of a page: a line a number of chips, a column an accelerator."""
  headers = ['chips', 'state', 'activations', 'FLOPs', 'sent', *ACCELERATORS]
  chips = dict.fromkeys(row['chips'] for row in rows)
  lines = [_line([r for r in rows if r['chips'] == one]) for one in chips]
  steps, share = int(rows[0]['steps']), float(rows[0]['utilisation'])
  command, *others = comments
  shown = wrapped(command.removeprefix('command: '))
  return (
    f'```sh\n{shown}\n```\n\n{markdown(headers, lines)}\n\n'
    'State (parameters, optimizer, best parameters), activations, FLOPs and '
    'sent bytes are those of one chip and step. On the right, the time of '
    f'{steps:,} steps of {int(rows[0]["parameters"]):,} parameters where '
    f'products reach {share:.0%} of the peak, and what binds at the peak; in '
    'brackets where the memory is exceeded. `python -m launch.plan --help` '
    f'says which numbers are estimates. {" ".join(others)}'
  )


def wrapped(command: str) -> str:
  """A command on several lines, as a shell reads it."""
  lines = textwrap.wrap(
    command, 76, break_long_words=False, break_on_hyphens=False
  )
  return ' \\\n  '.join(lines)


def _line(rows: Sequence[Row]) -> list[str]:
  """All accelerators at one number of chips."""
  one = rows[0]
  kept = ('parameter_bytes', 'optimizer_bytes', 'other_bytes')
  by_name = {row['accelerator']: row for row in rows}
  return [
    one['chips'],
    bytes_text(sum(float(one[name]) for name in kept)),
    bytes_text(float(one['activation_bytes'])),
    f'{float(one["flops"]):.3g}',
    bytes_text(float(one['sent_bytes'])),
    *(_cell(by_name[name]) for name in ACCELERATORS),
  ]


def _cell(row: Row) -> str:
  shown = f'{hours_text(float(row["hours"]))}, {row["binds"]}'
  return shown if row['fits'] == 'yes' else f'({shown})'


def update_page(text: str, table: str) -> str:
  """The page with another table between its marks.

  Raises:
    ExtrapError: the page has not both marks, in order and once.
  """
  before, _, rest = text.partition(BEGIN)
  _, _, after = rest.partition(END)
  once = text.count(BEGIN) == text.count(END) == 1
  if not (once and END in rest):
    raise ExtrapError(f'the page needs {BEGIN} and, below it, {END}, once each')
  return f'{before}{BEGIN}\n\n{table.strip()}\n\n{END}{after}'
