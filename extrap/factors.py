"""Factors that change with the step: of regularisers, rates and logits."""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Ramp:
  """The factor of a regulariser, which grows from 0 between two steps."""

  factor: float = 0.0
  start: int = 0
  end: int = 1

  def at(self, step: jax.Array) -> jax.Array:
    """The factor at a step."""
    grown = (step - self.start) / (self.end - self.start)
    return self.factor * jnp.clip(grown, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Growth:
  """The factor of a regulariser, which grows tenfold every so many steps."""

  factor: float
  largest: float
  every: int = 10_000

  def at(self, step: jax.Array) -> jax.Array:
    """The factor at a step."""
    grown = self.factor * 10.0 ** (step // self.every)
    return jnp.minimum(grown, self.largest)


@dataclasses.dataclass(frozen=True)
class Fading:
  """A factor that falls as a cosine, from the first step to a later one.

  Attributes:
    first: at step 0.
    last: from step `steps` on.
    steps: between them.
  """

  first: float = 0.0
  last: float = 0.0
  steps: int = 1

  def at(self, step: jax.Array) -> jax.Array:
    """The factor at a step."""
    passed = jnp.clip(step / self.steps, 0.0, 1.0)
    share = (1 + jnp.cos(math.pi * passed)) / 2
    return self.last + (self.first - self.last) * share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sharpening:
  """How the factor of operands' logits grows, geometrically, from 1.

  Attributes:
    final: at the end; 1 leaves operands as in the paper.
    steps: when it is reached.
  """

  final: float = 1.0
  steps: int = 1

  def at(self, step: jax.Array) -> jax.Array:
    """The factor at a step."""
    return self.final ** jnp.clip(step / self.steps, 0.0, 1.0)


# What adds nothing, and what changes nothing.
UNREGULARISED, UNPENALISED, AS_PUBLISHED = Ramp(), Fading(), Sharpening()
