"""Learning curves of many runs as arrays, and their division by task.

Shape key: N curves, T the most points that one has.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np

Split = Literal['validation', 'test']
SPLITS: tuple[Split, ...] = ('validation', 'test')
SHARE = 3  # One task in so many is for choices.


@dataclasses.dataclass(frozen=True, eq=False)
class CurveSet:
  """Curves one a row, each with its own steps; what is missing is left out.

  The points of a curve come first in its row; behind them mask is False and
  numbers are nan, so that one that is used by mistake shows.

  Attributes:
    value_NT: float64, finite where the mask is True.
    step_NT: float64, increasing; its unit is the source's.
    mask_NT: bool, True for the points of a curve, at least one.
    task_N: str, what the curve was trained on; splits never divide a task.
    name_N: str, the run, by its task and configuration.
    setting: by name, float64 [N]: what the runs were configured with.
    series: by name, float64 [N, T]: what goes along with the values.
  """

  value_NT: np.ndarray
  step_NT: np.ndarray
  mask_NT: np.ndarray
  task_N: np.ndarray
  name_N: np.ndarray
  setting: Mapping[str, np.ndarray]
  series: Mapping[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.task_N)

  def split(self, split: Split) -> Self:
    """The curves of the tasks for choices, or of those for the test."""
    chosen = validation_tasks(self.task_N.tolist())
    is_chosen_N = np.isin(self.task_N, sorted(chosen))
    return self.take(is_chosen_N if split == 'validation' else ~is_chosen_N)

  def take(self, rows: np.ndarray) -> Self:
    """Some of the curves, by number or by a mask [N]."""
    fields = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }
    return type(self)(
      **{
        name: {key: array[rows] for key, array in value.items()}
        if isinstance(value, Mapping)
        else value[rows]
        for name, value in fields.items()
      }
    )


@dataclasses.dataclass(frozen=True)
class Run:
  """One curve as a source has it; a value that is missing is nan.

  Attributes:
    task, name: as in `CurveSet`.
    step, value: one number a point.
    setting: by name, one number.
    series: by name, one number a point.
  """

  task: str
  name: str
  step: Sequence[float]
  value: Sequence[float]
  setting: Mapping[str, float] = dataclasses.field(default_factory=dict)
  series: Mapping[str, Sequence[float]] = dataclasses.field(
    default_factory=dict
  )


def pack(runs: Sequence[Run]) -> CurveSet:
  """Runs as arrays, less those that have no point at all.

  Raises:
    ValueError: no run has a point, or steps of one do not increase.
  """
  kept = [(run, np.isfinite(run.value)) for run in runs]
  kept = [(run, there_T) for run, there_T in kept if there_T.any()]
  if not kept:
    raise ValueError('no run has a point')
  length = max(int(there_T.sum()) for _, there_T in kept)
  step_NT = _packed([(run.step, there_T) for run, there_T in kept], length)
  if (np.diff(step_NT) <= 0).any():
    row = np.argmax((np.diff(step_NT) <= 0).any(axis=1))
    raise ValueError(f'steps of {kept[row][0].name} do not increase')
  first = kept[0][0]
  return CurveSet(
    value_NT=_packed([(run.value, there_T) for run, there_T in kept], length),
    step_NT=step_NT,
    mask_NT=np.isfinite(step_NT),
    task_N=np.array([run.task for run, _ in kept]),
    name_N=np.array([run.name for run, _ in kept]),
    setting={
      key: np.array([run.setting[key] for run, _ in kept], float)
      for key in first.setting
    },
    series={
      key: _packed(
        [(run.series[key], there_T) for run, there_T in kept], length
      )
      for key in first.series
    },
  )


def validation_tasks(tasks: Sequence[str]) -> set[str]:
  """The tasks on which choices are made: a third of them, at least one.

  They are the first by the SHA-256 of their names: nobody chose them, and the
  order of files does not matter. Without some of a source's tasks the third is
  another one.
  """
  ordered = sorted(
    set(tasks), key=lambda task: hashlib.sha256(task.encode()).hexdigest()
  )
  return set(ordered[: max(1, len(ordered) // SHARE)])


def _packed(
  rows: Sequence[tuple[Sequence[float], np.ndarray]], length: int
) -> np.ndarray:
  """Points that are there, first in their rows; nan behind them."""
  packed_NT = np.full((len(rows), length), np.nan)
  for packed_T, (numbers, there_T) in zip(packed_NT, rows, strict=True):
    found = np.asarray(numbers, float)[there_T]
    packed_T[: len(found)] = found
  return packed_NT
