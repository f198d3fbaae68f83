"""Whether an encoding can read what a task gives: its fields, and their ids."""

from collections.abc import Mapping, Sequence

from extrap.errors import UsageError
from extrap.models.positions.position import Limit, Position
from extrap.tasks.task import Task


def check_reads(position: Position, known: Sequence[str], where: str) -> None:
  """Refuses an encoding of fields that are not known.

  Args:
    position: the encoding.
    known: fields of `Structure` that it can read.
    where: 'of text', say.

  Raises:
    UsageError: naming the fields.
  """
  lacking = [field for field in position.reads if field not in known]
  if lacking:
    raise UsageError(
      f'{type(position).__name__} reads {", ".join(lacking)}: {where} it can '
      f'know {", ".join(known)}'
    )


def check_table(
  position: Position, task: Task, max_size: int, train: bool = False
) -> None:
  """Refuses sizes that an encoding's table cannot index.

  Args:
    position: the encoding.
    task: gives the ids.
    max_size: largest size.
    train: whether random shifts are added to the ids.

  Raises:
    UsageError: naming the size and the flag.
  """
  check_ids(position, task.largest_ids(max_size), f'size {max_size}', train)


def check_ids(
  position: Position, largest: Mapping[str, int], what: str, train: bool
) -> None:
  """Refuses ids that an encoding's table cannot index.

  Args:
    position: the encoding.
    largest: the largest id, by field of `Structure`.
    what: what has such ids, 'size 5', say.
    train: whether random shifts are added to the ids.

  Raises:
    UsageError: naming the ids and the flag.
  """
  for limit in position.limits:
    needed = largest[limit.field]
    if not _within(limit, needed, train):
      shift = (
        f' and shifts up to {limit.shift}' if train and limit.shift else ''
      )
      raise UsageError(
        f'{what} needs {limit.field} ids up to {needed}{shift}, but '
        f'the table of {type(position).__name__} ends at {limit.largest}: '
        f'raise its {limit.option} (--model.position.{limit.option} for the '
        'main arm) or make that smaller'
      )


def in_table(
  position: Position, task: Task, max_size: int, train: bool = False
) -> bool:
  """Whether an encoding's tables can index everything at max_size."""
  largest = task.largest_ids(max_size)
  return all(
    _within(limit, largest[limit.field], train) for limit in position.limits
  )


def _within(limit: Limit, needed: int, train: bool) -> bool:
  return needed + train * limit.shift <= limit.largest
