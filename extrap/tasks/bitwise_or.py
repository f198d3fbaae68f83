"""Bitwise OR of two strings of bits: aligning places, and nothing else.

A row reads `a | b = c <end>`, strings of exactly the lengths asked for, the
answer of the longer one's. One string is all zeros and the other has a single
one ("positional arithmetic", McLeish et al. 2024, arXiv 2405.17399); which of
them, and where, is uniform. Or all bits are uniform.

Shape key: B examples, N places (least significant first), S = 2 size axes.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.randomness import named
from extrap.tasks.operation import Operation
from extrap.tasks.task import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class BitwiseOr(Operation):
  """The task of taking a bitwise OR; see the module's docstring."""

  base: int = option(2, 'base of the digits', minimum=2, maximum=2)
  inputs: Literal['one_hot', 'uniform'] = option(
    'one_hot', 'a single one in both strings, or uniform bits'
  )

  separators: ClassVar[tuple[str, ...]] = ('|', '=')
  seen: ClassVar[tuple[str, ...]] = ('|', '=')

  def longest(self, max_size: int) -> int:
    return max_size

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Strings of exactly the given lengths; see `Task.sample`."""
    draw = self._one_hot if self.inputs == 'one_hot' else self._uniform
    return self.encode(*draw(key, size_BS, max_size), size_BS)

  def _one_hot(
    self, key: jax.Array, size_BS: jax.Array, places: int
  ) -> tuple[jax.Array, jax.Array]:
    """Bits [B, N] of two strings of which one has a one."""
    rows = size_BS.shape[0]
    which_B1 = jax.random.randint(named(key, 'which'), (rows, 1), 0, 2)
    size_B1 = jnp.take_along_axis(size_BS, which_B1, axis=1)
    hot_B1 = jax.random.randint(named(key, 'hot'), (rows, 1), 0, size_B1)
    hot_BN = jnp.arange(places)[None] == hot_B1
    bits_BN = hot_BN.astype(jnp.int32)
    return bits_BN * (1 - which_B1), bits_BN * which_B1

  def _uniform(
    self, key: jax.Array, size_BS: jax.Array, places: int
  ) -> tuple[jax.Array, jax.Array]:
    """Bits [B, N] of two strings, 0 beyond their lengths."""
    place_N = jnp.arange(places)[None]

    def bits(name: str, size_B: jax.Array) -> jax.Array:
      shape = (size_B.shape[0], places)
      bit_BN = jax.random.randint(named(key, name), shape, 0, 2)
      return jnp.where(place_N < size_B[:, None], bit_BN, 0)

    return bits('a', size_BS[:, 0]), bits('b', size_BS[:, 1])

  def result(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    return a_BN | b_BN

  def width(self, size_BS: jax.Array, result_BM: jax.Array) -> jax.Array:
    return size_BS.max(axis=1)

  def oracle(self, instance: tuple[int, int]) -> int:
    a, b = instance
    return a | b
