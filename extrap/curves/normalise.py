"""Any metric as a number in 0..1 that rises, and back.

A forecaster whose curves rise from 0 to 1 is used on a loss, a percentage or a
reward through five numbers: whether less is better, hard bounds that no value
can pass, and soft bounds between which values are expected. The soft range goes
linearly to -1..1 and through a logistic function, which is nearly straight
there and bends only outside; that is then scaled so that the hard bounds are
reached at 0 and 1 (Adriaensen et al. 2023, arXiv 2310.20447, appendix A;
`pfn_normalize` in automl/lcpfn).

One difference: where hard and soft bounds are the same there is no outside, and
the map is a straight line here. The published code bends there too: of 0..1 it
makes 0.235 of 0.25.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Literal

import jax
import numpy as np

from extrap.errors import UsageError

Array = np.ndarray | jax.Array
Kind = Literal[
  'auto',
  'accuracy',
  'error',
  'percent',
  'percent_error',
  'loss',
  'score',
  'cost',
]

LOW_ERROR = 0.1  # Below this, 1 - y has no room to show progress.


@dataclasses.dataclass(frozen=True)
class Normalisation:
  """A map from a metric to 0..1, strictly monotone and better upwards.

  All methods work elementwise: NumPy arrays are taken and given in float64, JAX
  arrays as they are, inside jit too.

  Attributes:
    minimise: whether smaller is better.
    hard_low, hard_up: bounds that no value can pass; may be infinite.
    soft_low, soft_up: bounds between which values are expected; finite.

  Raises:
    UsageError: the bounds are not in order.
  """

  minimise: bool = False
  hard_low: float = 0.0
  soft_low: float = 0.0
  soft_up: float = 1.0
  hard_up: float = 1.0

  def __post_init__(self):
    finite = math.isfinite(self.soft_low) and math.isfinite(self.soft_up)
    if not finite or not (
      self.hard_low <= self.soft_low < self.soft_up <= self.hard_up
    ):
      raise UsageError(
        'a normalisation has hard low <= soft low < soft up <= hard up, the '
        f'soft ones finite, not {self.hard_low:g}, {self.soft_low:g}, '
        f'{self.soft_up:g}, {self.hard_up:g}'
      )

  @property
  def linear(self) -> bool:
    """Whether the hard bounds are the soft ones."""
    return (self.hard_low, self.hard_up) == (self.soft_low, self.soft_up)

  def forward(self, y: Array | float) -> Array:
    """Values in 0..1 of the metric; 1 is best.

    In floating point a value far beyond its soft bound gives 0 or 1 itself.
    """
    xp, y = _arrays(y)
    if self.linear:
      gained = self.hard_up - y if self.minimise else y - self.hard_low
      return gained / (self.hard_up - self.hard_low)
    # Rises with what is better, so that small results keep their precision.
    risen = xp.exp(-xp.logaddexp(0.0, -self._sign * self._straight(y)))
    return (risen - self._ends()[0]) / self._span()

  def inverse(self, u: Array | float) -> Array:
    """The metric of values in 0..1; what is outside counts as 0 or 1."""
    xp, u = _arrays(u)
    u = xp.clip(u, 0.0, 1.0)
    if self.linear:
      worst = self.hard_up if self.minimise else self.hard_low
      return worst + self._sign * u * (self.hard_up - self.hard_low)
    risen = xp.clip(self._ends()[0] + u * self._span(), 0.0, 1.0)
    with np.errstate(divide='ignore'):  # 0 and 1 may be at infinity.
      straight = self._sign * (xp.log(risen) - xp.log1p(-risen))
    return self.soft_low + (1 + straight) * (self.soft_up - self.soft_low) / 2

  def log_jacobian(self, y: Array | float) -> Array:
    """log |du/dy|, in nats: add it to a log density of u to have that of y."""
    xp, y = _arrays(y)
    if self.linear:
      return xp.zeros_like(y) - math.log(self.hard_up - self.hard_low)
    straight = self._straight(y)
    flatness = xp.logaddexp(0.0, straight) + xp.logaddexp(0.0, -straight)
    steepness = 2 / (self.soft_up - self.soft_low) / self._span()
    return math.log(steepness) - flatness

  def check(self, values: Sequence[float] | np.ndarray, name: str = '') -> None:
    """Refuses values outside the hard bounds.

    Args:
      values: of the metric.
      name: of the curve, for the message.

    Raises:
      UsageError: one is outside; the message says which.
    """
    sample = np.asarray(values, float)
    outside = ~((sample >= self.hard_low) & (sample <= self.hard_up))
    if outside.any():
      number = int(np.argmax(outside))
      raise UsageError(
        f'{name or "a curve"}, point {number + 1}: {sample[number]:g} is '
        f'outside {self.hard_low:g}..{self.hard_up:g}, the bounds of its metric'
      )

  @property
  def _sign(self) -> float:
    return -1.0 if self.minimise else 1.0

  def _straight(self, y: Array) -> Array:
    """The soft range as -1..1."""
    width = self.soft_up - self.soft_low
    return 2 * (y - self.soft_low) / width - 1

  def _ends(self) -> tuple[float, float]:
    """What the logistic function makes of the worse and the better bound."""
    bounds = self._straight(self.hard_low), self._straight(self.hard_up)
    worse, better = sorted(_logistic(self._sign * bound) for bound in bounds)
    return worse, better

  def _span(self) -> float:
    worse, better = self._ends()
    return better - worse


def unit() -> Normalisation:
  """An accuracy in 0..1, as it is."""
  return Normalisation()


def error() -> Normalisation:
  """An error rate in 0..1, as 1 - y."""
  return Normalisation(minimise=True)


def percent() -> Normalisation:
  """An accuracy in 0..100."""
  return Normalisation(soft_up=100.0, hard_up=100.0)


def percent_error() -> Normalisation:
  """An error rate in 0..100."""
  return Normalisation(minimise=True, soft_up=100.0, hard_up=100.0)


def loss_from(first_value: float, best: float = 0.0) -> Normalisation:
  """A loss that is 0 at best and has no upper bound.

  Args:
    first_value: of the untrained model.
    best: the least that is expected, in the loss's unit.

  Raises:
    UsageError: the first value is not above the best, or that is negative.
  """
  return Normalisation(True, 0.0, best, first_value, math.inf)


def score_in(low: float, up: float, minimise: bool = False) -> Normalisation:
  """A metric without bounds, expected between the two values."""
  return Normalisation(minimise, -math.inf, low, up, math.inf)


def guess(
  values: Sequence[float] | np.ndarray, kind: Kind = 'auto'
) -> Normalisation:
  """The normalisation that suits what is seen of a curve.

  Args:
    values: what is seen, at least one; never what is to be forecast.
    kind: 'accuracy' or 'error', in 0..1; 'percent' or 'percent_error', the same
      in 0..100; 'loss', at least 0 and smaller is better; 'score' and 'cost',
      without bounds, larger or smaller is better; 'auto' goes by the values,
      see `kind_of_all`.

  Raises:
    UsageError: no value, an unknown kind, or values that are outside its
      bounds.
  """
  found = suited(values, kind)
  found.check(values)
  return found


def suited(
  values: Sequence[float] | np.ndarray, kind: Kind = 'auto'
) -> Normalisation:
  """As `guess`, though the values may be outside the bounds of the kind."""
  sample = np.asarray(values, float)
  if not len(sample) or not np.isfinite(sample).all():
    raise UsageError('a normalisation is chosen by at least one finite value')
  if kind == 'auto':
    kind = kind_of_all([sample])
  if kind not in _KINDS:
    kinds = ', '.join(('auto', *_KINDS))
    raise UsageError(f'{kind!r} is no kind of metric: {kinds}')
  return _KINDS[kind](sample)


def kind_of_all(curves: Sequence[np.ndarray]) -> Kind:
  """What the metric of some curves is, by all of their values.

  Where most of the curves fall: in 0..1, some value 0.1 or more, an error; not
  negative, a loss; else a cost. Where they do not: in 0..1 an accuracy, in
  0..100 a percentage, else a score.

  Args:
    curves: what is seen of each, at least one value.
  """
  low, up = min(map(np.min, curves)), max(map(np.max, curves))
  if 2 * sum(map(_falls, curves)) > len(curves):
    if low < 0:
      return 'cost'
    return 'error' if LOW_ERROR <= up <= 1 else 'loss'
  if low < 0 or up > 100:
    return 'score'
  return 'accuracy' if up <= 1 else 'percent'


def _falls(sample: np.ndarray) -> bool:
  """Whether the last third is below the first, on average."""
  third = math.ceil(len(sample) / 3)
  return bool(sample[-third:].mean() < sample[:third].mean())


def _loss(sample: np.ndarray) -> Normalisation:
  """From the first value that is not 0."""
  positive = sample[sample > 0]
  return loss_from(float(positive[0]) if len(positive) else 1.0)


def _score(sample: np.ndarray, minimise: bool) -> Normalisation:
  low, up = float(sample.min()), float(sample.max())
  return score_in(low, up if up > low else low + 1.0, minimise)


_KINDS: dict[str, Callable[[np.ndarray], Normalisation]] = {
  'accuracy': lambda sample: unit(),
  'error': lambda sample: error(),
  'percent': lambda sample: percent(),
  'percent_error': lambda sample: percent_error(),
  'loss': _loss,
  'score': lambda sample: _score(sample, minimise=False),
  'cost': lambda sample: _score(sample, minimise=True),
}


def _arrays(values: Array | float) -> tuple[ModuleType, Array]:
  """The values as an array, and the NumPy or JAX that it belongs to."""
  if not isinstance(values, jax.Array):
    values = np.asarray(values, float)
  return values.__array_namespace__(), values


def _logistic(x: float) -> float:
  return math.exp(-np.logaddexp(0.0, -x))
