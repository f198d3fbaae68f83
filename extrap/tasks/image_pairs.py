"""Pairs of images in a batch, and what a comparison says of their digits.

The digit comparison of Faber and Wattenhofer (2020, arXiv 2004.07085): all
pairs of a batch, labelled by the comparison alone.

Shape key: B images, P their pairs, N stored images, '2' the first and the
second of a pair.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from extrap.randomness import named
from extrap.tasks.comparisons import BALANCED, COMPARISONS

DIGITS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePairs:
  """The task; see the module's docstring.

  Attributes:
    comparison: of `COMPARISONS`.
    images: B.
  """

  comparison: str
  images: int

  @property
  def pair_P2(self) -> np.ndarray:
    """Places in a batch, of each pair in one order."""
    return np.stack(np.triu_indices(self.images, 1), axis=1)

  def batches(self, stored: int) -> int:
    """Whole batches of so many images."""
    return stored // self.images

  def places(self, key: jax.Array, step: jax.Array, stored: int) -> jax.Array:
    """Which images a step reads, [B]: each once in an epoch, in a new order.

    Args:
      key: of the run.
      step: steps done before.
      stored: N.
    """
    epoch, batch = jnp.divmod(step, self.batches(stored))
    order_N = jax.random.permutation(named(key, 'epoch', epoch), stored)
    return jax.lax.dynamic_slice(
      order_N, (batch * self.images,), (self.images,)
    )

  def holds(self, label_B: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Whether the comparison holds of each pair, [P]."""
    first_P, second_P = label_B[self.pair_P2].T
    return COMPARISONS[self.comparison](first_P, second_P)

  def weights(self, holds_P: jax.Array | np.ndarray) -> jax.Array:
    """What each pair counts in a mean, [P].

    The same; of = and != equal and unequal pairs count as much together. If
    there are none of one kind, the others still count half.
    """
    if self.comparison not in BALANCED:
      return jnp.full(holds_P.shape, 1 / len(holds_P))
    counts = [jnp.maximum(jnp.sum(kind), 1) for kind in (holds_P, ~holds_P)]
    return jnp.where(holds_P, 0.5 / counts[0], 0.5 / counts[1])
