"""Writes the page that lists every position encoding.

Command: python -m experiments.encodings    after a change of any of them
"""

import functools
import inspect
import re
from pathlib import Path

from extrap.models.positions import POSITIONS, Position
from extrap.reporting.tables import markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / 'extrap' / 'models' / 'positions' / 'README.md'
HEADERS = ('value', 'what it is', 'source', 'cost', 'reads', 'test')
TEXT = """\
# Position encodings

Each is a value of `--model.position`; `python -m experiments.encodings` writes
this page. How to write one of your own is in the [README](../../../README.md).

Costs:

- A: a map of queries and keys, as fast as none
- B: a bias of keys, whatever the query
- C: a rule for each pair of tokens, in blocks with memory linear in length
- D: all pairs at once, with memory quadratic in length
- E: added to the embeddings
- F: a mask, a pattern of layers or a schedule, around another encoding

What an encoding reads are fields of `Structure`: most read the `position` in
the sequence alone; `place`, `role` and `run` are what a task tells of digits;
`length` is the number of tokens read so far.

One that is around another takes it as its base, as in `--model.position=pose
--model.position.base=rotary --model.position.base.base=50`. A study whose
configuration is an `EvaluatedModel` evaluates with other settings than it
trained by flags like `--eval.position.base.base=200`.

"""


def page() -> str:
  """The page, as Markdown."""
  rows = [row(name, POSITIONS.get(name)()) for name in POSITIONS.names()]
  return f'{TEXT}{markdown(HEADERS, rows, "llllll")}\n'


def row(name: str, position: Position) -> list[str]:
  """One encoding, with its defaults."""
  summary = inspect.getdoc(type(position)).partition('\n\n')[0]
  test = test_of(name, type(position))
  return [
    f'`{name}`',
    ' '.join(summary.split()).rstrip('.'),
    source(position.paper),
    position.cost,
    ', '.join(position.reads) or 'nothing',
    f'[{test}](../../../tests/{test})' if test else 'none',
  ]


def source(paper: str) -> str:
  """A link to a paper with an arXiv number, or a name as it is."""
  is_number = re.fullmatch(r'\d{4}\.\d{4,5}', paper)
  return f'[{paper}](https://arxiv.org/abs/{paper})' if is_number else paper


def test_of(name: str, kind: type[Position]) -> str | None:
  """The test module that an encoding, or its class, is named in, if any.

  First its own module's, as encodings_rotary_test.py is rotary.py's; then those
  that are of no family; then that which names it most often.
  """
  either = re.compile(rf"\b{kind.__name__}\b|'{name}'")
  counts = {path: len(either.findall(text)) for path, text in _tests().items()}
  own = f'encodings_{kind.__module__.rpartition(".")[2]}_test.py'
  for path in (own, 'encodings_test.py', 'positions_test.py'):
    if counts.get(path):
      return path
  most = max(counts, key=counts.get)
  return most if counts[most] else None


@functools.cache
def _tests() -> dict[str, str]:
  """The test modules of encodings, by name."""
  paths = [
    *sorted(ROOT.glob('tests/encodings*_test.py')),
    ROOT / 'tests' / 'positions_test.py',
  ]
  return {path.name: path.read_text(encoding='utf-8') for path in paths}


def main() -> None:
  """Writes the page."""
  PAGE.write_text(page(), encoding='utf-8')


if __name__ == '__main__':
  main()
