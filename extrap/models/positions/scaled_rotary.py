"""Rotary encodings whose pairs turn more slowly, for longer sequences.

A model that was trained with rotary positions reads sequences `scale` times as
long when its pairs turn as slowly as that; how much each should is the rule.
At a scale of 1 all of these are rotary positions themselves.

Shape key: B examples, T tokens, D head width, F = D / 2 pairs.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from extrap.config import option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS
from extrap.models.positions.rotary import Rotary
from extrap.tasks.task import Structure


def ntk_exponents(width: int) -> np.ndarray:
  """2j/(D-2) of each pair, [F]: from 0 to 1, which the last pair has."""
  return np.arange(0, width, 2) / max(width - 2, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scaled(Rotary):
  """Rotary positions for longer sequences."""

  scale: float = option(
    4.0, 'how much longer than in training sequences may be', minimum=1.0
  )


@POSITIONS.register('linear')
@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionInterpolation(_Scaled):
  """Position interpolation, PI (Chen et al. 2023, arXiv 2306.15595).

  All rates are divided by the scale.
  """

  paper: ClassVar[str] = '2306.15595'

  def rates(self, width: int) -> np.ndarray:
    return super().rates(width) / self.scale


@POSITIONS.register('ntk')
@dataclasses.dataclass(frozen=True, kw_only=True)
class NTKAware(_Scaled):
  """NTK-aware scaling: the base becomes base s^(D/(D-2)) at scale s.

  The first pair keeps its rate and the last one's is divided by s. By "bloc97"
  (2023), in arXiv 2309.00071, section 3.1.
  """

  paper: ClassVar[str] = 'bloc97 2023'

  def rates(self, width: int) -> np.ndarray:
    return super().rates(width) * self.scale ** -ntk_exponents(width)


@POSITIONS.register('dynamic_ntk')
@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicNTK(_Scaled):
  """NTK-aware scaling that grows with the sequence.

  The base becomes base a^(D/(D-2)) with a = s T / L - (s - 1), of T tokens read
  so far, at least L. By "emozilla" (2023), as in Hugging Face transformers
  (`modeling_rope_utils.py`): at s = 1 it scales too, by T / L.
  """

  scale: float = option(
    1.0, 'how fast it grows: 1 by as much as the sequence', minimum=1.0
  )
  trained: int = option(
    2048, 'length L of the training sequences', unit='tokens', minimum=1
  )

  reads: ClassVar[tuple[str, ...]] = ('position', 'length')
  paper: ClassVar[str] = 'emozilla 2023'
  late: ClassVar[bool] = True

  def angles(self, ids: Structure, width: int) -> jax.Array:
    beyond_B1 = jnp.maximum(ids.length[:, :1] / self.trained, 1.0) - 1
    grown_B11 = jnp.log1p(self.scale * beyond_B1)[..., None]
    exponent_F = jnp.asarray(ntk_exponents(width))
    return super().angles(ids, width) * jnp.exp(
      -exponent_F[None, None] * grown_B11
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ByParts(_Scaled):
  """Interpolates the pairs that turn seldom in training, and no fast ones.

  A pair that turns r times within the trained length has its rate multiplied
  by g + (1 - g) / s, with g = (r - slow) / (fast - slow) within 0 .. 1.
  """

  trained: int = option(
    4096, 'length of the training sequences', unit='tokens', minimum=1
  )
  slow: float = option(
    1.0,
    'pairs that turn this often in the trained length, or less, are '
    'interpolated in full',
    unit='turns',
    minimum=0.0,
  )
  fast: float = option(
    32.0, 'those that turn this often keep their rate', unit='turns'
  )

  def __post_init__(self) -> None:
    if self.fast <= self.slow:
      raise UsageError(
        f'--model.position.fast={self.fast:g} must be more than '
        f'--model.position.slow={self.slow:g}'
      )

  def rates(self, width: int) -> np.ndarray:
    rate_F = super().rates(width)
    turns_F = self.trained * rate_F / (2 * math.pi)
    kept_F = np.clip((turns_F - self.slow) / (self.fast - self.slow), 0, 1)
    return rate_F * (kept_F + (1 - kept_F) / self.scale)


@POSITIONS.register('yarn')
@dataclasses.dataclass(frozen=True, kw_only=True)
class YaRN(_ByParts):
  """YaRN: by parts, and sharper (Peng et al. 2023, arXiv 2309.00071).

  Logits are multiplied by (0.1 ln s + 1)^2. The ramp is linear in a pair's
  number of turns, as in the paper; its code, and Hugging Face transformers,
  have one that is linear in the pair's index between the rounded ends.
  """

  scale: float = option(
    16.0, 'how much longer than in training sequences may be', minimum=1.0
  )
  sharper: float = option(
    0.1,
    'queries and keys are multiplied by 1 + this times ln(scale) each',
    minimum=0.0,
  )

  paper: ClassVar[str] = '2309.00071'

  @property
  def magnitude(self) -> float:
    return 1 + self.sharper * math.log(self.scale)


@POSITIONS.register('llama3')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3(_ByParts):
  """Llama 3.1's scaling (arXiv 2407.21783; `llama-models`, models/llama3).

  With wavelength w and trained length L, rates of w > L / slow are divided by
  the scale, those of w < L / fast are kept, and between the two the blend is
  linear in L / w: YaRN's rule with other limits, and logits as they are.
  """

  scale: float = option(
    8.0, 'how much longer than in training sequences may be', minimum=1.0
  )
  trained: int = option(
    8192, 'length of the training sequences', unit='tokens', minimum=1
  )
  fast: float = option(
    4.0, 'those that turn this often keep their rate', unit='turns'
  )

  paper: ClassVar[str] = '2407.21783'


@POSITIONS.register('longrope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRoPE(_Scaled):
  """LongRoPE: a factor for each pair (Ding et al. 2024, arXiv 2402.13753).

  The rate of pair j is divided by factors[j], but not for the first `unscaled`
  tokens. The factors are searched for, which is not done here: where none are
  given they are those of NTK-aware scaling, s^(2j/(D-2)), from which the search
  may start. As in the code of the authors and in Hugging Face transformers,
  queries and keys are both multiplied by sqrt(1 + ln s / ln L), so that logits
  are by its square.
  """

  scale: float = option(
    8.0, 'how much longer than in training sequences may be', minimum=1.0
  )
  trained: int = option(
    4096, 'length L of the training sequences', unit='tokens', minimum=2
  )
  factors: tuple[float, ...] = option(
    (),
    'what the rate of each pair is divided by (none: NTK-aware)',
    minimum=1.0,
  )
  unscaled: int = option(
    0, 'first tokens whose pairs keep their rates', unit='tokens', minimum=0
  )

  paper: ClassVar[str] = '2402.13753'

  def check(self, heads: int, head_width: int) -> None:
    super().check(heads, head_width)
    if self.factors and len(self.factors) != head_width // 2:
      raise UsageError(
        f'--model.position.factors has {len(self.factors)} numbers, but a head '
        f'of width {head_width} has {head_width // 2} pairs'
      )

  @property
  def magnitude(self) -> float:
    return math.sqrt(1 + math.log(self.scale) / math.log(self.trained))

  def rates(self, width: int) -> np.ndarray:
    factor_F = np.array(self.factors or self.scale ** ntk_exponents(width))
    return super().rates(width) / factor_F

  def angles(self, ids: Structure, width: int) -> jax.Array:
    plain_BTF = Rotary(base=self.base).angles(ids, width)
    first_BT1 = ids.position[..., None] < self.unscaled
    return jnp.where(first_BT1, plain_BTF, super().angles(ids, width))
