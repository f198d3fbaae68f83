"""The arms of the study of periodic signals: models, and closed forms.

Shape key: T times, S series.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from flax import linen as nn

from extrap.factors import Fading
from extrap.models.periodic import (
  Activation,
  LineSpectrum,
  ReLU,
  Sin,
  Siren,
  Snake,
  Tanh,
  XPlusSin,
  fan_network,
  fourier_network,
  least_squares,
  matching_pursuit,
  mlp,
)
from extrap.tasks.periodic_signals import (
  FORMS,
  PeriodicSignals,
  line_frequencies,
)

# The factor of the group lasso, and when it has fallen, of all steps.
FIRST, LAST, SHARE = 0.3, 0.003, 0.8
LINES = 16  # Of the pursuit.
GRID = 1024  # Its frequencies to begin with.


@dataclasses.dataclass(frozen=True)
class Learned:
  """A model and how it may be trained.

  Attributes:
    given: what it assumes of a signal, in words.
    model: made for a width.
    scales: what times may be multiplied by: 'range' makes the trained one
      -1..1, 'raw' leaves them.
    penalised: whether its penalty counts.
  """

  given: str
  model: Callable[[int], nn.Module]
  scales: tuple[str, ...] = ('range', 'raw')
  penalised: bool = False

  def factor(self, steps: int) -> Fading:
    """Of the penalty, in a training of so many steps."""
    if not self.penalised:
      return Fading()
    return Fading(FIRST, LAST, max(round(SHARE * steps), 1))


@dataclasses.dataclass(frozen=True)
class Computed:
  """An answer without training: of (task, form, frequency, seen_T) all times.

  Attributes:
    given: what it is told of a signal, in words.
    answer: the frequency is for those that are told it.
  """

  given: str
  answer: Callable[[PeriodicSignals, str, float, np.ndarray], np.ndarray]


def _zero(
  task: PeriodicSignals, form: str, frequency: float, seen_T: np.ndarray
) -> np.ndarray:
  return np.zeros_like(task.times_T)


def _mean(
  task: PeriodicSignals, form: str, frequency: float, seen_T: np.ndarray
) -> np.ndarray:
  return np.full_like(task.times_T, seen_T.mean())


def _told(
  task: PeriodicSignals, form: str, frequency: float, seen_T: np.ndarray
) -> np.ndarray:
  times_T = task.times_T[task.split_T('train')]
  lines = line_frequencies(frequency, FORMS[form])
  resolved = lines[lines < task.nyquist]
  return least_squares(times_T, seen_T, resolved, task.times_T)


def _pursued(
  task: PeriodicSignals, form: str, frequency: float, seen_T: np.ndarray
) -> np.ndarray:
  times_T = task.times_T[task.split_T('train')]
  grid = np.linspace(0, task.nyquist, GRID, endpoint=False)[1:]
  found = matching_pursuit(times_T, seen_T, grid, LINES)
  return least_squares(times_T, seen_T, found, task.times_T)


def _mlp(given: str, activation: Activation) -> Learned:
  return Learned(given, lambda width: mlp(activation, width))


def _lines(given: str, penalised: bool = True, learned: bool = True) -> Learned:
  return Learned(
    given,
    lambda width: LineSpectrum(width // 2, learned=learned),
    scales=('range',),
    penalised=penalised,
  )


UNITS = 'periodic units'
ARMS: Mapping[str, Learned | Computed] = {
  'zero': Computed('nothing', _zero),
  'mean': Computed('nothing', _mean),
  'relu': _mlp('nothing', ReLU()),
  'tanh': _mlp('nothing', Tanh()),
  'sin': _mlp(UNITS, Sin()),
  'x_plus_sin': _mlp(UNITS, XPlusSin()),
  'snake': _mlp(UNITS, Snake(a=5.0)),
  'snake_learned': _mlp(UNITS, Snake(a=5.0, learned='shared')),
  'snake_channel': _mlp(UNITS, Snake(a=5.0, learned='channel')),
  'siren': _mlp(UNITS, Siren()),
  'fan': Learned(UNITS, fan_network),
  'fourier': Learned(UNITS, fourier_network),
  'lines_fixed': _lines('sparse sines of a grid', learned=False),
  'lines_dense': _lines('sines', penalised=False),
  'lines': _lines('few sines'),
  'pursuit': Computed('few sines', _pursued),
  'told': Computed('the exact periods', _told),
}
