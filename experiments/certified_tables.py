"""Tables of `experiments.certified`."""

from collections.abc import Sequence

from extrap.evaluation.results import Result, arms_of, select
from extrap.reporting.tables import markdown


def operations_table(results: Sequence[Result]) -> str:
  """One row a task: every replica's margin, exact match at the longest."""
  rows = []
  for task in arms_of(results):
    chosen = select(results, arm=task)
    found = select(chosen, metric='certified')
    scored = select(chosen, metric='exact_match')
    stress = [r for r in scored if ':' in r.split]
    equal = [r for r in scored if ':' not in r.split]
    longest = max((r.size for r in equal), key=int)
    at_longest = [r for r in equal if r.size == longest]
    margins = [r.value for r in select(chosen, metric='margin')]
    rows.append(
      [
        task,
        f'{found[0].n:,}',
        _passed(found),
        ', '.join(f'{margin:.2g}' for margin in margins),
        longest,
        _right(at_longest),
        _right(stress),
        f'{found[0].samples:,}',
        f'{found[0].flops:.1e}',
        f'{found[0].seconds:.0f}',
      ]
    )
  headers = [
    *('task', 'contexts', 'replicas certified', 'margins'),
    *('longest test', 'right there', 'right in the stress suite'),
    *('samples', 'FLOPs', 'seconds a replica'),
  ]
  return markdown(headers, rows)


def bases_table(results: Sequence[Result]) -> str:
  """One row a base: contexts, certified replicas and margins of each task."""
  tasks = sorted({row.arm.partition('@')[0] for row in results})
  bases = sorted({int(row.arm.partition('@')[2]) for row in results})
  rows = []
  for base in bases:
    line = [str(base)]
    for task in tasks:
      chosen = select(results, arm=f'{task}@{base}')
      found = select(chosen, metric='certified')
      least = min(r.value for r in select(chosen, metric='margin'))
      line += [f'{found[0].n:,}', _passed(found), f'{least:.2g}']
    rows.append(line)
  of_task = ('contexts', 'certified', 'least margin')
  headers = ['base', *(f'{task}: {text}' for task in tasks for text in of_task)]
  return markdown(headers, rows)


def _passed(certified: Sequence[Result]) -> str:
  """How many replicas are certified."""
  return f'{sum(r.value == 1 for r in certified)} of {len(certified)}'


def _right(results: Sequence[Result]) -> str:
  """How many answers are right, all replicas together."""
  return f'{sum(r.successes for r in results)}/{sum(r.n for r in results)}'
