"""Lists every study: claim, command, time. Command: python -m experiments"""

import ast
from collections.abc import Iterator
from pathlib import Path

from extrap.reporting.tables import text

HERE = Path(__file__).parent


def studies() -> Iterator[tuple[str, dict[str, str]]]:
  """Modules that state a CLAIM, with their constants; nothing is imported."""
  for path in sorted(HERE.rglob('*.py')):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    constants = {
      target.id: node.value.value
      for node in tree.body
      if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
      for target in node.targets
      if isinstance(target, ast.Name)
    }
    if 'CLAIM' in constants:
      module = path.relative_to(HERE.parent).with_suffix('')
      yield '.'.join(module.parts), constants


def main() -> None:
  rows = [
    [f'python -m {module}', constants['TIME'], constants['CLAIM']]
    for module, constants in studies()
  ]
  print(text(['command', 'time', 'claim'], rows, 'lll'))
  print('\nEach takes --help. A run folder resumes with the same command.')


if __name__ == '__main__':
  main()
