"""Files that hold what a builder gave when somebody last looked at it."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / 'goldens'


def check(name: str, text: str) -> None:
  """Compares with a file; UPDATE_GOLDENS=1 writes it, for `git diff`."""
  path = FOLDER / name
  if os.environ.get('UPDATE_GOLDENS'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
  expected = path.read_text(encoding='utf-8')
  assert text == expected, f'{path}: UPDATE_GOLDENS=1 accepts the new text'
