"""How the numbers of runs get into experiments/results."""

import csv
import functools
import io
from pathlib import Path

from experiments.addition_report import on_grid
from extrap.errors import UsageError
from extrap.evaluation.results import (
  SO_FAR,
  Result,
  read_csv,
  write_bytes,
  write_csv,
  write_text,
)

RESULTS = Path(__file__).parent / 'results'
# Studies whose tables tell replicas by their seeds.
BY_SEED = ('nalu', 'nalu_single', 'nalu_sweeps')


@functools.cache
def published(name: str) -> tuple[list[Result], list[str]]:
  """A results file and its comments, for figures and tables alike."""
  return read_csv(RESULTS / f'{name}.csv')


def publish(run: Path, name: str = '', add: bool = False) -> None:
  """Takes a run's numbers into experiments/results.

  Raises:
    UsageError: it is not done, or its study cannot be added to.
  """
  results, comments = read_csv(run / 'results.csv')
  study = results[0].study
  if any(comment.startswith(SO_FAR) for comment in comments):
    raise UsageError(f'--run={run}: not all of it is done yet')
  if add and study not in BY_SEED:
    raise UsageError(
      f'--add: tables of {study} tell replicas by their number in the run; '
      f'seeds can be added to {", ".join(BY_SEED)}'
    )
  if study == 'addition':
    publish_addition(run, results, comments)
  else:
    merge(RESULTS / f'{name or study}.csv', results, comments, add)
  if study == 'own_curves' and (runs := run / 'runs.csv').exists():
    # What everything but the runs is made from.
    write_bytes(RESULTS / f'{name or study}_runs.csv', runs.read_bytes())
  if study == 'lcpfn' and (curves := run / 'by_curve.csv').exists():
    merge_by_curve(RESULTS / f'{name or study}_by_curve.csv', curves)


def merge(
  path: Path, results: list[Result], comments: list[str], add: bool = False
) -> None:
  """Puts arms into a results file, by rung; its other arms stay as they are.

  Arms of one name at other rungs, such as the parts of a study, are others.

  Args:
    path: the file.
    results: rows of whole arms, or, to be added, of some seeds.
    comments: where they come from.
    add: whether the other seeds of their arms stay, too.
  """

  notes, of_run = [], '; '.join(comments)  # What belongs together stays so.
  if path.exists():
    there, notes = read_csv(path)
    arms = {(row.arm, row.rung) for row in there + results}

    def replaced_by(row: Result) -> tuple[object, ...]:
      arm = trained_arm(row, arms)
      return (*arm, row.split, row.seed) if add else arm

    new = set(map(replaced_by, results))
    results = [row for row in there if replaced_by(row) not in new] + results
  comments = with_run(notes, of_run)
  write_csv(path, sorted(results, key=lambda row: row.rung), comments)


def with_run(notes: list[str], of_run: str) -> list[str]:
  """Adds where a run is from, in place of where its beginning was.

  A run that is gone on with says first what it said before.
  """
  others = [note for note in notes if not f'{of_run}; '.startswith(f'{note}; ')]
  return [*others, of_run]


def merge_by_curve(path: Path, new: Path) -> None:
  """Puts columns into a table by cutoff and curve; others stay as they are."""
  notes, columns = [], {}
  for each in (path, new):
    if not each.exists():
      continue
    lines = each.read_text(encoding='utf-8').splitlines()
    comments = [line for line in lines if line.startswith('# ')]
    of_run = '# ' + '; '.join(line[2:] for line in comments)
    notes = comments if each == path else with_run(notes, of_run)
    header, *rows = csv.reader(lines[len(comments) :])
    for at, name in enumerate(header[2:], start=2):
      columns[name] = {tuple(row[:2]): row[at] for row in rows}
  keys = dict.fromkeys(key for column in columns.values() for key in column)
  in_order = sorted(keys, key=lambda key: (int(key[0]), int(key[1])))
  cells = [
    [*key, *(column.get(key, '') for column in columns.values())]
    for key in in_order
  ]
  out = io.StringIO()
  out.writelines(f'{note}\n' for note in notes)
  table = [['cutoff', 'curve', *columns], *cells]
  csv.writer(out, lineterminator='\n').writerows(table)
  write_text(path, out.getvalue())


def trained_arm(row: Result, arms: set[tuple[str, str]]) -> tuple[str, str]:
  """Arm and rung that were trained, of 'abacus_st, 16 shifts' 'abacus_st'.

  Args:
    row: of the arm.
    arms: all arms with their rungs; 'nsr, count' is trained if 'nsr' is none.
  """
  base = row.arm.partition(', ')[0], row.rung.partition(', ')[0]
  return base if base in arms else (row.arm, row.rung)


def publish_addition(
  run: Path, results: list[Result], comments: list[str]
) -> None:
  """The addition study has files of their own for grid and certificate."""
  in_grid = [on_grid(row) for row in results]
  grid = [r for r, there in zip(results, in_grid, strict=True) if there]
  rest = [r for r, there in zip(results, in_grid, strict=True) if not there]
  write_csv(RESULTS / 'addition.csv', rest, comments)
  write_csv(RESULTS / 'addition_grid.csv', grid, comments)
  certified, comments = read_csv(run / 'certificate.csv')
  write_csv(RESULTS / 'addition_certificate.csv', certified, comments)
