"""What every benchmark prints and writes."""

from collections.abc import Sequence

from extrap.kept import write_table
from extrap.reporting.tables import text


def publish(
  headers: Sequence[str],
  rows: Sequence[Sequence[str]],
  path: str | None,
) -> int:
  """Prints a table, and writes it as CSV with its command and hardware.

  The last column says whether a row holds: its method agrees with the others,
  or its aim is met.

  Returns:
    The exit code: 1 if one does not.
  """
  print(text(headers, rows))
  code = 0 if all(row[-1] == 'True' for row in rows) else 1
  if path is not None:
    write_table(path, headers, rows)
  return code
