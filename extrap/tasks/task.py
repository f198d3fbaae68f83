"""What a task is: a sampler for problems of a given size, and its oracle.

Shape key: B examples, T tokens, Q answer queries, S size axes, N places.
"""

import dataclasses
from typing import Protocol, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

Instance = TypeVar('Instance')
EVERY = -1  # `Structure.read`: every step reads a token


@struct.dataclass
class Batch:
  """Sequences with the tokens that are asked for.

  Attributes:
    tokens: int32 [B, T], prompt and answer, padded on the right.
    queries: int32 [B, Q], indices of the tokens whose successor is asked for.
    targets: int32 [B, Q], the successors.
    mask: bool [B, Q], true where a query counts in loss and exact match.
  """

  tokens: jax.Array
  queries: jax.Array
  targets: jax.Array
  mask: jax.Array


@struct.dataclass
class Structure:
  """What an encoding may know of each token, from that token and its past.

  Every field is int32 [B, T] in a forward pass; inside an elementwise rule the
  same object carries arrays that broadcast over (query, key) pairs.

  Attributes:
    index: place in the sequence; orders cause and effect, never replaced.
    position: what position encodings read; an encoding may shift or stretch it,
      even to fractions.
      An encoding may leave [1, T] where all rows count their tokens alike.
    place: rank of a digit in its run, counted from 0; delimiters take the
      place just before their run's first digit.
    role: what a token is for: which number its digit is of, or which kind of
      delimiter it is. Numbers may share a role.
    run: which run of digits a token is of, counted from 0; `runs` if of none.
    anchor: 1 for delimiters that a windowed encoding always sees.
    operand: which number a token is of or leads to, for encodings that fill it
      in while they prepare.
    length: tokens read so far in the whole sequence, the same at each of them,
      for encodings that list it among what they read.
    level: how many parts of a text, such as functions, have begun up to a
      token, for hierarchical encodings; None where a task has no such parts.
    stride: tokens from one to the next that a window holds; None stands for 1.
    see: one array a slot, the token that each is told to read (T: none), by
      tasks with the trace of an algorithm; itself first, none of them twice.
    runs: most digit runs; roles: number of roles; anchors: most anchors.
    asks: which step of a trace a token asks in; None without a trace.
    read: which step of it reads a token, or EVERY, likewise.
    most_read: most digits of one place, and most anchors, that one step reads,
      or that every step does.
    counted: whether positions are known to go up by one from token to token,
      alike in all rows, so that distances are known by the first of each.
      `replace` and `take` know of it; what changes positions or picks tokens
      in another way sets it to False.
  """

  index: jax.Array
  position: jax.Array
  place: jax.Array
  role: jax.Array
  run: jax.Array
  anchor: jax.Array
  operand: jax.Array | None = None
  length: jax.Array | None = None
  level: jax.Array | None = None
  stride: jax.Array | None = None
  see: tuple[jax.Array, ...] = ()
  runs: int = struct.field(pytree_node=False, default=1)
  roles: int = struct.field(pytree_node=False, default=1)
  anchors: int = struct.field(pytree_node=False, default=0)
  asks: jax.Array | None = None
  read: jax.Array | None = None
  most_read: int = struct.field(pytree_node=False, default=0)
  counted: bool = struct.field(pytree_node=False, default=False)

  def take(self, index_BX: jax.Array) -> 'Structure':
    """The structure of the tokens at index_BX; [B, X] or [B, X, W]."""
    flat = index_BX.reshape(index_BX.shape[0], -1)

    def pick(field_BT: jax.Array) -> jax.Array:
      picked = jnp.take_along_axis(field_BT, flat, axis=1, mode='clip')
      return picked.reshape(index_BX.shape)

    return jax.tree.map(pick, self).replace(counted=False)

  @property
  def digit(self) -> jax.Array:
    """Which tokens are digits."""
    return self.run < self.runs

  def expand(self, *axes: int) -> 'Structure':
    """Inserts axes of size 1, so that fields broadcast over pairs."""
    return jax.tree.map(lambda field: jnp.expand_dims(field, axes), self)


def _replace(structure: Structure, **changes: object) -> Structure:
  """With other fields; other positions are not known to be counted."""
  known = {} if 'position' not in changes else {'counted': False}
  return dataclasses.replace(structure, **known | changes)


# Flax would put its own in place of one that the class defines.
Structure.replace = _replace


class Task(Protocol[Instance]):
  """A family of problems with a size, sampled inside jit.

  `sample(key, size_BS, max_size=n)` draws one example a row; `size_BS` is
  traced and `max_size`, plain Python, bounds it and fixes the shapes.
  """

  @property
  def axes(self) -> tuple[str, ...]:
    """Names of the columns of size_BS."""

  @property
  def vocab_size(self) -> int:
    """Number of token values."""

  def token_length(self, max_size: int) -> int:
    """T of a batch whose sizes are at most max_size."""

  def largest_ids(self, max_size: int) -> dict[str, int]:
    """Largest value of each structure field at max_size."""

  def sample(
    self, key: jax.Array, size_BS: jax.Array, *, max_size: int
  ) -> Batch:
    """Draws one example for each row of sizes."""

  def structure(self, tokens_BT: jax.Array) -> Structure:
    """Structure of a batch; ids at t depend on tokens up to t alone."""

  def read(self, tokens_T: jax.Array) -> tuple[Instance, int | None]:
    """The problem and the answer that a row of tokens spells, on the host."""

  def oracle(self, instance: Instance) -> int:
    """The exact answer, in Python integers, on the host."""


def uniform_sizes(
  key: jax.Array, batch: int, axes: int, low: int, high: int
) -> jax.Array:
  """Sizes int32 [B, S], every ordered tuple in low..high equally likely."""
  return jax.random.randint(key, (batch, axes), low, high + 1)


def log_uniform_sizes(
  key: jax.Array, batch: int, axes: int, low: int, high: int
) -> jax.Array:
  """Sizes int32 [B, S] in low..high, n with weight log((n + 1) / n).

  Short problems are many: what is learned on them carries over to longer ones.
  """
  limits = dict(minval=jnp.log(low), maxval=jnp.log(high + 1.0))
  size_BS = jnp.exp(jax.random.uniform(key, (batch, axes), **limits))
  return jnp.clip(size_BS.astype(jnp.int32), low, high)
