"""The report of a run: one Markdown file beside its plots."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from extrap.evaluation.results import write_text
from extrap.reporting.tables import Table

Section = tuple[str, str]


def write_report(
  path: str | os.PathLike[str], title: str, sections: Sequence[Section]
) -> Path:
  """Writes a report in one move.

  Args:
    path: the Markdown file.
    title: its first heading.
    sections: pairs of heading and Markdown body; pictures are named relative
      to the report, see `picture`.

  Returns:
    The path.
  """
  parts = [f'# {title}']
  parts += [f'## {heading}\n\n{body.strip()}' for heading, body in sections]
  return write_text(path, '\n\n'.join(parts) + '\n')


def write_tables(
  path: str | os.PathLike[str],
  title: str,
  tables: Mapping[str, Table],
  sections: Sequence[Section],
) -> str:
  """Writes a report of tables, by their headings, and then of other sections.

  Returns:
    The tables as text, for a terminal.
  """
  shown = [(name, table.markdown()) for name, table in tables.items()]
  write_report(path, title, [*shown, *sections])
  return '\n\n'.join(table.text() for table in tables.values())


def add_note(path: str | os.PathLike[str], note: str) -> None:
  """Puts a paragraph below the title of a report, in one move."""
  title, rest = Path(path).read_text(encoding='utf-8').split('\n\n', 1)
  write_text(path, f'{title}\n\n{note}\n\n{rest}')


def bullets(items: Iterable[str]) -> str:
  """Makes a Markdown list; further lines of an item are indented."""
  return '\n'.join('- ' + item.replace('\n', '\n  ') for item in items)


def picture(
  caption: str,
  path: str | os.PathLike[str],
  report: str | os.PathLike[str],
) -> str:
  """Makes a Markdown picture whose address is relative to the report.

  Args:
    caption: the text shown in place of the picture.
    path: the picture.
    report: the Markdown file that shows it.

  Returns:
    For example '![exact match](plots/accuracy.png)'.
  """
  relative = os.path.relpath(path, Path(report).parent)
  return f'![{caption}]({Path(relative).as_posix()})'
