"""Periodic signals of unknown period and phase, and two series that hold one.

A signal is seen at evenly spaced times in the middle of a range; what lies
between them, and outside, is asked for. Every form has the mean 0 and the mean
square of a sine, 0.5, so that errors of different forms compare.

Shape key: T times.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.randomness import named

Shape = Callable[[ModuleType, jax.Array, jax.Array], jax.Array]

# Moments of exp(sin): modified Bessel functions at 1 and 2.
_EXP_MEAN, _EXP_SQUARE = 1.2660658777520084, 2.2795853023360673


@dataclasses.dataclass(frozen=True)
class Form:
  """One kind of signal.

  Attributes:
    shape: called as shape(numpy or jax.numpy, angle, second angle).
    ratio: of the second frequency to the first; 0: there is none.
    noise: standard deviation of what is added to the noise at each time.
    memory: share of the noise that is left at the next time.
  """

  shape: Shape
  ratio: float = 0.0
  noise: float = 0.0
  memory: float = 0.0


def _sine(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  return xp.sin(a)


def _square(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  return math.sqrt(0.5) * xp.where(xp.mod(a, 2 * math.pi) < math.pi, 1.0, -1.0)


def _triangle(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  return math.sqrt(1.5) * 2 / math.pi * xp.arcsin(xp.sin(a))


def _sawtooth(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  return math.sqrt(1.5) * (xp.mod(a, 2 * math.pi) / math.pi - 1)


def _rectified(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  scale = math.sqrt(0.5 / (0.5 - 4 / math.pi**2))
  return scale * (xp.abs(xp.sin(a / 2)) - 2 / math.pi)


def _exp_sine(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  scale = math.sqrt(0.5 / (_EXP_SQUARE - _EXP_MEAN**2))
  return scale * (xp.exp(xp.sin(a)) - _EXP_MEAN)


def _harmonics(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  return math.sqrt(0.8) * (xp.sin(a) + 0.5 * xp.sin(2 * a + 1))


def _two_periods(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  return math.sqrt(0.5) * (xp.sin(a) + xp.cos(b))


def _modulated(xp: ModuleType, a: jax.Array, b: jax.Array) -> jax.Array:
  return (1 + 0.8 * xp.sin(b)) * xp.sin(a) / math.sqrt(1.32)


FORMS: Mapping[str, Form] = {
  'sine': Form(_sine),
  'square': Form(_square),
  'triangle': Form(_triangle),
  'sawtooth': Form(_sawtooth),
  'rectified': Form(_rectified),
  'exp_sine': Form(_exp_sine),
  'harmonics': Form(_harmonics),
  'two_periods': Form(_two_periods, ratio=(1 + math.sqrt(5)) / 2),
  'modulated': Form(_modulated, ratio=math.sqrt(2) - 1),
  # A year with its second harmonic under weather, and one under a walk.
  'temperature': Form(_harmonics, noise=0.1, memory=0.7),
  'walk': Form(_sine, noise=0.03, memory=1.0),
}


@dataclasses.dataclass(frozen=True)
class Signal:
  """What is drawn of one signal, enough to compute it.

  Attributes:
    frequency: radians over a unit of time.
    phases: of both angles at time 0, [2].
    noise_T: added to it, mean 0 over the range that is trained on.
  """

  frequency: jax.Array
  phases: jax.Array
  noise_T: jax.Array


jax.tree_util.register_dataclass(Signal)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeriodicSignals:
  """Signals at evenly spaced times, the trained range in their middle.

  Of the times inside every second one is trained on; those between them are
  held out for choices and for scores in turns. Outside all are scored.

  Frequencies, in radians over a unit of time, are drawn log-uniformly.
  """

  half_range: float = option(
    6 * math.pi, 'times of -half_range..half_range are inside', minimum=1e-3
  )
  points: int = option(256, 'times that are trained on', minimum=8)
  reach: int = option(3, 'the whole range over the trained one', minimum=2)
  slowest: float = option(2 / 3, 'least frequency', minimum=1e-3)
  fastest: float = option(3 / 2, 'greatest frequency', minimum=1e-3)

  @property
  def times_T(self) -> np.ndarray:
    """All of them, [T]."""
    count = 2 * self.points * self.reach
    return (np.arange(count) - (count - 1) / 2) * self.half_range / self.points

  @property
  def inside_T(self) -> np.ndarray:
    """Whether a time is within the trained range, bool [T]."""
    return np.abs(self.times_T) < self.half_range

  @property
  def nyquist(self) -> float:
    """The greatest frequency that the trained points resolve."""
    return math.pi * self.points / (2 * self.half_range)

  def split_T(self, name: str) -> np.ndarray:
    """Times 'train', 'validation', 'inside' (to score) or 'outside', bool."""
    if name == 'outside':
      return ~self.inside_T
    turn_T = np.cumsum(self.inside_T) % 4  # 1, 2, 3, 0, 1, ...
    turns = {'train': (1, 3), 'validation': (2,), 'inside': (0,)}[name]
    return self.inside_T & np.isin(turn_T, turns)

  def draw(self, key: jax.Array, form: Form) -> Signal:
    """A signal of unknown period and phase."""
    low, high = math.log(self.slowest), math.log(self.fastest)
    frequency = jax.random.uniform(
      named(key, 'frequency'), (), minval=low, maxval=high
    )
    phases = jax.random.uniform(named(key, 'phases'), (2,))
    steps_T = jax.random.normal(named(key, 'noise'), self.times_T.shape)

    def follow(state: jax.Array, step: jax.Array) -> tuple:
      state = form.memory * state + form.noise * step
      return state, state

    noise_T = jax.lax.scan(follow, jnp.zeros(()), steps_T)[1]
    noise_T = noise_T - jnp.mean(noise_T, where=jnp.asarray(self.inside_T))
    return Signal(jnp.exp(frequency), 2 * math.pi * phases, noise_T)

  def values_T(self, signal: Signal, form: Form) -> jax.Array:
    """The signal at all times, [T], in float32."""
    return self._values(jnp, signal, form, jnp.asarray(self.times_T, 'f4'))

  def sample(self, key: jax.Array, form: Form) -> jax.Array:
    """A signal at all times, [T]; within jit, `form` is static."""
    return self.values_T(self.draw(key, form), form)

  def oracle(self, signal: Signal, form: Form) -> np.ndarray:
    """The same on the host, [T], in float64."""
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, 'f8'), signal)
    return self._values(np, exact, form, self.times_T)

  def _values(
    self, xp: ModuleType, signal: Signal, form: Form, times_T: jax.Array
  ) -> jax.Array:
    first, second = signal.phases
    angle_T = signal.frequency * times_T + first
    slower_T = form.ratio * signal.frequency * times_T + second
    return form.shape(xp, angle_T, slower_T) + signal.noise_T


def line_frequencies(
  frequency: float, form: Form, harmonics: int = 16, order: int = 2
) -> np.ndarray:
  """Frequencies that a signal may consist of, if its periods are known.

  Args:
    frequency: of the signal.
    form: its form.
    harmonics: of a single period.
    order: with two periods, how often each may be added or taken away.
  """
  if not form.ratio:
    return frequency * np.arange(1, harmonics + 1)
  many = np.arange(-order, order + 1)
  sums = np.add.outer(many, form.ratio * many).ravel()
  return frequency * np.sort(sums[sums > 1e-6])
