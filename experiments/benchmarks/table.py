"""What every benchmark prints and writes."""

import csv
import io
from collections.abc import Sequence

from extrap.evaluation.results import write_text
from extrap.kept import provenance
from extrap.reporting.tables import text


def publish(
  headers: Sequence[str],
  rows: Sequence[Sequence[str]],
  path: str | None,
) -> int:
  """Prints a table, and writes it as CSV with its command and hardware.

  The last column says whether a row's method agrees with the others.

  Returns:
    The exit code: 1 if one disagrees.
  """
  print(text(headers, rows))
  code = 0 if all(row[-1] == 'True' for row in rows) else 1
  if path is None:
    return code
  out = io.StringIO()
  out.writelines(f'# {line}\n' for line in provenance())
  csv.writer(out, lineterminator='\n').writerows([headers, *rows])
  write_text(path, out.getvalue())
  return code
