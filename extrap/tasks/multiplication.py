"""Multiplication of two numbers, digit by digit, in any base.

A row reads `a x b = p <end>`; the product has no leading zeros (McLeish et al.
2024, arXiv 2405.17399), or as many digits as both factors together. With
`second_digits` the second factor has that many digits and no size of its own:
an N x 1 or N x 2 product, in which windowed encodings always see that factor.
With `short_first` it is written first, so that the long factor's digits follow
what they are multiplied by.

Shape key: B examples, T tokens, N places (least significant first, whatever
the order of the tokens), M places of the product, S size axes.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from extrap.config import option
from extrap.errors import UsageError
from extrap.tasks.layout import Part
from extrap.tasks.operation import A, B, Operation, add, digits_of
from extrap.tasks.task import Batch, Structure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiplication(Operation):
  """The task of multiplying; see the module's docstring."""

  answer: Literal['trimmed', 'padded'] = option(
    'trimmed', "the product: without leading zeros, or to the factors' digits"
  )
  second_digits: int = option(
    0, 'digits of the second factor (0: it has a size of its own)', minimum=0
  )
  short_first: bool = option(
    False, 'write the factor of --task.second_digits first'
  )

  separators: ClassVar[tuple[str, ...]] = ('x', '=')
  seen: ClassVar[tuple[str, ...]] = ('x', '=')

  def __post_init__(self) -> None:
    if self.short_first and not self.second_digits:
      raise UsageError('--task.short_first needs --task.second_digits')

  @property
  def axes(self) -> tuple[str, ...]:
    return ('digits_a',) if self.second_digits else ('digits_a', 'digits_b')

  @property
  def times(self) -> int:
    return self.token('x')

  def longest(self, max_size: int) -> int:
    return max_size + (self.second_digits or max_size)

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Uniform factors of exactly the given lengths; see `Task.sample`."""
    if not self.second_digits:
      return super().sample(key, size_BS, max_size=max_size)
    places = max(max_size, self.second_digits)
    batch = super().sample(key, self.lengths(size_BS), max_size=places)
    return self._cut(batch, max_size)

  def lengths(self, size_BS: jax.Array) -> jax.Array:
    if not self.second_digits:
      return size_BS
    second_B1 = jnp.full_like(size_BS[:, :1], self.second_digits)
    return jnp.concatenate([size_BS, second_B1], axis=1)

  def encode(
    self, a_BN: jax.Array, b_BN: jax.Array, size_BS: jax.Array
  ) -> Batch:
    """See `Operation.encode`.

    Raises:
      UsageError: fewer places than the second factor's digits.
    """
    places = a_BN.shape[1]
    if places < self.second_digits:
      raise UsageError(
        f'a second factor of {self.second_digits} digits where {places} fit'
      )
    return super().encode(a_BN, b_BN, size_BS)

  def row(self, numbers: Sequence[Part], max_size: int) -> Batch:
    a, b, product = numbers
    order = (b, a, product) if self.short_first else numbers
    return super().row(order, max_size)

  def read(
    self, tokens_T: Sequence[int] | jax.Array
  ) -> tuple[tuple[int, int], int | None]:
    (first, second), product = super().read(tokens_T)
    factors = (second, first) if self.short_first else (first, second)
    return factors, product

  def token_length(self, max_size: int) -> int:
    """Two factors, two delimiters, the product, the end."""
    second = self.second_digits or max_size
    return max_size + second + self.longest(max_size) + 3

  def _cut(self, batch: Batch, max_size: int) -> Batch:
    """The batch without the padding that a wider second factor asked for."""
    most = self.longest(max_size) + 1
    return Batch(
      batch.tokens[:, : self.token_length(max_size)],
      batch.queries[:, :most],
      batch.targets[:, :most],
      batch.mask[:, :most],
    )

  def result(self, a_BN: jax.Array, b_BN: jax.Array) -> jax.Array:
    """Digits [B, M] of the product.

    Raises:
      UsageError: a column of digit products may not fit 32 bits.
    """
    places = a_BN.shape[1]
    largest = places * (self.base - 1) ** 2
    if largest >= 2**31:
      raise UsageError(
        f'products of {places} digits in base {self.base} overflow 32 bits'
      )
    width = self.longest(places)
    column_BM = _convolve(a_BN, b_BN, width)
    # A column's own digits belong to the places from its own up.
    product_BM = jnp.zeros_like(column_BM)
    while largest:
      product_BM = add(product_BM, column_BM % self.base, self.base)
      column_BM = jnp.pad(column_BM // self.base, ((0, 0), (1, 0)))[:, :width]
      largest //= self.base
    return product_BM

  def width(self, size_BS: jax.Array, result_BM: jax.Array) -> jax.Array:
    if self.answer == 'padded':
      return size_BS.sum(axis=1)
    return digits_of(result_BM)

  def oracle(self, instance: tuple[int, int]) -> int:
    a, b = instance
    return a * b

  def check_pair(self, a: int, b: int) -> None:
    digits = len(self.digits(b))
    if self.second_digits and digits != self.second_digits:
      raise UsageError(
        f'the second factor {b} has {digits} digits, not '
        f'--task.second_digits={self.second_digits}'
      )

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Digits of a second factor of fixed length are anchors.

    Each factor has its role in either order.
    """
    structure = super().structure(tokens_BT)
    if not self.second_digits:
      return structure
    role_BT = structure.role
    if self.short_first:
      role_BT = jnp.where(role_BT <= B, A + B - role_BT, role_BT)
    return structure.replace(
      role=role_BT,
      anchor=structure.anchor | (role_BT == B),
      anchors=structure.anchors + self.second_digits,
    )


def _convolve(a_BN: jax.Array, b_BN: jax.Array, width: int) -> jax.Array:
  """Sums of the digit products of each weight, [B, width]."""
  a_BM = jnp.pad(a_BN, ((0, 0), (0, width - a_BN.shape[1])))

  def step(
    carried: tuple[jax.Array, jax.Array], b_B: jax.Array
  ) -> tuple[tuple[jax.Array, jax.Array], None]:
    column_BM, a_BM = carried
    column_BM += a_BM * b_B[:, None]
    return (column_BM, jnp.pad(a_BM, ((0, 0), (1, 0)))[:, :-1]), None

  start = (jnp.zeros_like(a_BM), a_BM)
  (column_BM, _), _ = jax.lax.scan(step, start, b_BN.T)
  return column_BM
