"""Arithmetic on the sums of two overlapping subsets of many inputs.

Which inputs are summed has to be found, and so has what is done with the sums
(Madsen and Johansen 2019, arXiv 1910.01888; AndreasMadsen/stable-nalu). With
two inputs of which each is a subset it is the single-module task (Mistry,
Farrahi and Hare 2022, arXiv 2101.09530).

Shape key: B examples, I inputs, K = 2 subsets.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.randomness import counted_uniform

# Low and high of one interval, or of two of equal width: a fair coin decides
# for each input.
Range = tuple[float, ...]
Operation = Callable[[jax.Array, jax.Array], jax.Array]

# Of the sums of the two subsets; the last two read the first alone.
OPERATIONS: Mapping[str, Operation] = {
  'add': lambda a, b: a + b,
  'sub': lambda a, b: a - b,
  'mul': lambda a, b: a * b,
  'div': lambda a, b: a / b,
  'root': lambda a, b: a**0.5,
  'squared': lambda a, b: a * a,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arithmetic:
  """The task; see the module's docstring."""

  inputs: int = option(100, 'inputs of an example', minimum=1)
  subset: float = option(
    0.25, 'size of each subset, a share of the inputs', minimum=0.0, maximum=1.0
  )
  overlap: float = option(
    0.5, 'share of a subset that is in the other, too', minimum=0.0, maximum=1.0
  )
  trained: Range = option((1.0, 2.0), 'range of inputs in training')
  tested: Range = option((2.0, 6.0), 'range of inputs in the test')

  def __post_init__(self) -> None:
    for name in ('trained', 'tested'):
      check_range(name, getattr(self, name))
    if self.size < 1 or self.span > self.inputs:
      raise UsageError(
        f'subsets of {self.size}, which span {self.span} inputs, do not fit '
        f'into {self.inputs}: another --task.subset or --task.overlap'
      )

  @property
  def size(self) -> int:
    """Inputs of a subset."""
    return int(self.subset * self.inputs)

  @property
  def second(self) -> int:
    """Where the second subset begins, counted from the first."""
    return self.size - int(self.overlap * self.size)

  @property
  def span(self) -> int:
    """Inputs from the first of a subset to the last of the other."""
    return self.second + self.size

  def offset(self, seed: int) -> int:
    """Where the first subset of a seed begins, on the host."""
    rng = np.random.RandomState(seed)
    return int(rng.randint(0, self.inputs - self.span + 1))

  def subsets(self, offset: jax.Array) -> jax.Array:
    """1 where an input is in a subset, else 0; [I, K]."""
    place_I1 = jnp.arange(self.inputs)[:, None] - offset
    start_1K = jnp.array([[0, self.second]])
    inside_IK = (place_I1 >= start_1K) & (place_I1 < start_1K + self.size)
    return inside_IK.astype(jnp.float32)

  def sample(
    self,
    key: jax.Array,
    rows: int,
    interval: Range | tuple[jax.Array, ...] | None = None,
  ) -> jax.Array:
    """Inputs, [B, I], from an interval; by default, that of training."""
    share_BI = counted_uniform(key, (rows, self.inputs))
    return scaled(share_BI, interval or self.trained)


def scaled(
  share_BI: jax.Array, interval: Range | tuple[jax.Array, ...]
) -> jax.Array:
  """Uniform numbers of [0, 1), of jax or numpy, over an interval or two."""
  low, high = interval[:2]
  if len(interval) == 2:
    return low + (high - low) * share_BI
  second_BI = share_BI >= 0.5  # Halves of [0, 1) are the coin.
  share_BI = 2 * share_BI - second_BI
  return low + (high - low) * share_BI + (interval[2] - low) * second_BI


def halves(interval: Range) -> Range:
  """The same range as two intervals of equal width, if it is one."""
  if len(interval) == 4:
    return interval
  low, high = interval
  middle = (low + high) / 2
  return low, middle, middle, high


def check_range(name: str, interval: Range) -> None:
  """Refuses what is no interval, nor two of equal width.

  Raises:
    UsageError: it is not.
  """
  lows, highs = interval[::2], interval[1::2]
  widths = [high - low for low, high in zip(lows, highs, strict=False)]
  right = len(interval) in (2, 4) and min(widths, default=0) > 0
  if not right or not np.allclose(widths, widths[0]):
    given = ','.join(f'{limit:g}' for limit in interval)
    raise UsageError(
      f'--task.{name}={given}: low,high or two such intervals of equal width'
    )
