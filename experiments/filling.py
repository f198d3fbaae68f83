"""How generated tables get into README.md and the pages of experiments/pages.

A page has the lines `<!-- table: NAME -->` and `<!-- end: NAME -->` where it
wants a table; several pages may want the same one.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from extrap.errors import UsageError
from extrap.evaluation.results import write_bytes
from extrap.reporting.tables import update_block

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
MARKER = re.compile(r'<!-- (?:table|end): (\S+) -->')
LIKE_MARKER = re.compile(r'<!--\s*(?:table|end)\b[^>]*>')


def pages() -> list[Path]:
  """README.md, and one page a topic."""
  return [README, *sorted((ROOT / 'experiments' / 'pages').glob('*.md'))]


def filled(
  texts: Mapping[Path, str], tables: Mapping[str, str]
) -> dict[Path, str]:
  """Puts every table where pages want it.

  Args:
    texts: all pages.
    tables: all tables, by name.

  Returns:
    The new texts; the same tables once more change nothing.

  Raises:
    UsageError: a page wants a table that there is not, no page wants one that
      there is, or a line is nearly one of these.
    ExtrapError: a page does not have both lines of a table, in order and once.
  """
  wanted = {
    path: list(dict.fromkeys(MARKER.findall(text)))
    for path, text in texts.items()
  }
  for path, names in wanted.items():
    for line in LIKE_MARKER.findall(texts[path]):
      if not MARKER.fullmatch(line):
        raise UsageError(f'{path.name}: {line} is not <!-- table: NAME -->')
    if unknown := [name for name in names if name not in tables]:
      raise UsageError(f'{path.name}: there is no table {", ".join(unknown)}')
  if left := set(tables).difference(*wanted.values()):
    raise UsageError(f'no page has the table {", ".join(sorted(left))}')
  new = dict(texts)
  for path, names in wanted.items():
    for name in names:
      new[path] = update_block(new[path], name, tables[name])
  return new


def fill(tables: Mapping[str, str]) -> None:
  """Writes the pages with these tables; none of them if one is refused."""
  texts = {path: path.read_text(encoding='utf-8') for path in pages()}
  for path, text in filled(texts, tables).items():
    write_bytes(path, text.encode('utf-8'))
