"""What every benchmark prints and writes."""

import csv
import io
from collections.abc import Sequence

from extrap.evaluation.results import write_text
from extrap.reporting.tables import text
from extrap.study import provenance


def publish(
  headers: Sequence[str],
  rows: Sequence[Sequence[str]],
  path: str | None,
) -> None:
  """Prints a table, and writes it as CSV with its command and hardware."""
  print(text(headers, rows))
  if path is None:
    return
  out = io.StringIO()
  out.writelines(f'# {line}\n' for line in provenance())
  csv.writer(out, lineterminator='\n').writerows([headers, *rows])
  write_text(path, out.getvalue())
