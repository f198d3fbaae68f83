"""Layers of two kinds by turns: most see what is near, few see everything.

The layers of a model repeat such a period, hence its depth is a multiple of
it. The recency that the near layers learn does not dilute with length, and the
others, often without any encoding, have none to extrapolate.
"""

import dataclasses
from typing import ClassVar

from extrap.config import choice, option
from extrap.errors import UsageError
from extrap.models.positions.position import POSITIONS, Limit, Position
from extrap.models.positions.rotary import Rotary
from extrap.models.positions.temperature import Logarithmic, Stepwise
from extrap.models.positions.windows import Chunked, Window


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alternating(Position):
  """A few layers with a window, then one that sees everything."""

  windowed: int = option(
    3, 'layers with a window to one that sees everything', minimum=1
  )
  window: int = option(
    512, 'tokens that layers with a window see', unit='tokens', minimum=1
  )
  wavelength: float = option(
    10_000.0,
    'longest wavelength over 2 pi of layers with a window',
    unit='tokens',
    minimum=1.0,
  )
  base: Position = choice(
    POSITIONS, 'none', 'encoding of the layers that see everything'
  )

  cost: ClassVar[str] = 'F'

  def __post_init__(self) -> None:
    if self.base.acts('embed') or len(self.base.layers) > 1:
      raise UsageError(
        f'--model.position.base={self.base.name} cannot be the encoding of '
        'some layers alone'
      )

  @property
  def reads(self) -> tuple[str, ...]:
    fields = (name for layer in self.layers for name in layer.reads)
    return tuple(dict.fromkeys(fields))

  @property
  def limits(self) -> tuple[Limit, ...]:
    return tuple(limit.of_base() for limit in self.base.limits)

  @property
  def near(self) -> Position:
    """The encoding of layers with a window."""
    rotary = Rotary(base=self.wavelength)
    return Window(window=self.window, base=rotary)

  @property
  def far(self) -> Position:
    """The encoding of layers that see everything."""
    return self.base

  @property
  def layers(self) -> tuple[Position, ...]:
    return (*(self.near,) * self.windowed, self.far)


@POSITIONS.register('swan')
@dataclasses.dataclass(frozen=True, kw_only=True)
class SWAN(Alternating):
  """One layer without encoding, then three with rotary windows of 512 tokens.

  SWAN-GPT (Puvvada et al. 2025, arXiv 2504.08719). At test it scales the logits
  of the layers without a window by log(a + n), with a fitted to perplexity on
  long text. Here they are divided by the same at the trained length, so that
  nothing changes up to there.
  """

  trained: int | None = option(
    None,
    'tokens from which on logits of layers without a window grow (none: they '
    'never do)',
    unit='tokens',
    minimum=2,
  )
  offset: float = option(
    0.0, 'a: with a larger one they grow less', unit='tokens', minimum=0.0
  )

  paper: ClassVar[str] = '2504.08719'

  @property
  def far(self) -> Position:
    if self.trained is None:
      return self.base
    return Logarithmic(base=self.base, offset=self.offset, trained=self.trained)

  @property
  def layers(self) -> tuple[Position, ...]:
    return (self.far, *(self.near,) * self.windowed)


@POSITIONS.register('rnope_swa')
@dataclasses.dataclass(frozen=True, kw_only=True)
class RNoPESWA(Alternating):
  """Three layers with rotary windows of 4096 tokens, one without encoding.

  RNoPE-SWA (Yang et al. 2025, arXiv 2501.18795).
  """

  window: int = option(
    4096, 'tokens that layers with a window see', unit='tokens', minimum=1
  )

  paper: ClassVar[str] = '2501.18795'


@POSITIONS.register('irope')
@dataclasses.dataclass(frozen=True, kw_only=True)
class IRoPE(Alternating):
  """Three layers with rotary chunks of 8192 tokens, one without encoding.

  Llama 4, as in its code. Logits of the latter are multiplied by
  1 + `growth` log(floor(n / `floor`) + 1) at the n-th token. Llama 4 also
  normalises queries and keys of the former alone; --model.qk_norm is for all
  layers.
  """

  window: int = option(8192, 'length of a chunk', unit='tokens', minimum=1)
  wavelength: float = option(
    500_000.0,
    'longest wavelength over 2 pi of layers with chunks',
    unit='tokens',
    minimum=1.0,
  )
  growth: float = option(
    0.1, 'growth of the logits of layers without chunks', minimum=0.0
  )
  floor: int = option(
    8192, 'tokens from one such step to the next', unit='tokens', minimum=1
  )

  paper: ClassVar[str] = 'Llama 4'

  @property
  def near(self) -> Position:
    rotary = Rotary(base=self.wavelength)
    return Chunked(chunk=self.window, base=rotary)

  @property
  def far(self) -> Position:
    return Stepwise(base=self.base, growth=self.growth, floor=self.floor)


@POSITIONS.register('gemma')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma(Alternating):
  """Five layers with rotary windows of 1024 tokens, one rotary of base 1e6.

  Gemma 3 (2025, arXiv 2503.19786). Its long stage scales the rotation of the
  latter by 8, and Gemma 4 rotates a quarter of their pairs: another base here.
  """

  windowed: int = option(
    5, 'layers with a window to one that sees everything', minimum=1
  )
  window: int = option(
    1024, 'tokens that layers with a window see', unit='tokens', minimum=1
  )
  base: Position = choice(
    POSITIONS,
    'rotary',
    'encoding of the layers that see everything',
    base=1_000_000.0,
  )

  paper: ClassVar[str] = '2503.19786'
