"""Comparisons of the digits of images as a problem, learned end to end.

A network gives each image a number, a head says of two numbers whether the
comparison holds, and that alone is known of the images (Faber and Wattenhofer
2020, arXiv 2004.07085).

Shape key: B images, H rows, W columns, P pairs of a batch, X tested pairs, R
replicas, '2' the first and the second of a pair.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.comparison import FAILED
from extrap.factors import UNREGULARISED, Ramp
from extrap.models.comparators import Comparator, Params
from extrap.models.digits import DigitReader
from extrap.randomness import named
from extrap.tasks.image_pairs import ImagePairs
from extrap.training.problem import Context, Metrics

Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageProblem:
  """One comparison of digits, learned by its mean absolute error.

  `data['image']` are images, uint8 [N, H, W], and `data['label']` the digits
  that they show, int32 [N].

  Attributes:
    task: what is learned.
    reader: gives each image a number.
    head: compares two numbers.
    scale: of a register.
    side: H and W.
    dtype: type of numbers.
    ramp: the factor of the head's regulariser.
  """

  task: ImagePairs
  reader: DigitReader
  head: Comparator
  scale: float = 10.0
  side: int = 28
  dtype: jax.typing.DTypeLike = jnp.float32
  ramp: Ramp = UNREGULARISED

  def hparams(self, seeds: Sequence[int]) -> dict[str, list[int]]:
    """What names the order of images of each replica."""
    return {'draw': list(seeds)}

  def init(self, key: jax.Array) -> Params:
    """Fresh parameters."""
    image_BHW = jnp.zeros((1, self.side, self.side), jnp.uint8)
    pair_12 = jnp.zeros((1, 2), self.dtype)
    return {
      'reader': self.reader.init(named(key, 'reader'), image_BHW)['params'],
      'head': self.head.init(named(key, 'head'), pair_12)['params'],
    }

  def sample(self, ctx: Context) -> Batch:
    """The images of a step, and their digits."""
    draw = ctx.hparams['draw'].astype(jnp.uint32)
    order = named(jax.random.key(0), 'order', draw)
    place_B = self.task.places(order, ctx.step, len(ctx.data['label']))
    # Of an array that may be on the host.
    return {
      name: jnp.asarray(stored)[place_B] for name, stored in ctx.data.items()
    }

  def loss(
    self, params: Params, batch: Batch, ctx: Context
  ) -> tuple[jax.Array, Metrics]:
    """Mean absolute error over the pairs, and the regulariser."""
    number_B = self.numbers(params, batch['image'], ctx.key)
    holds_P = self.task.holds(batch['label'])
    error_P = jnp.abs(self.answer(params, number_B) - holds_P)
    loss = jnp.sum(self.task.weights(holds_P) * error_P)
    if self.ramp.factor:
      loss += self.ramp.at(ctx.step) * self.head.penalty(params['head'])
    return loss, {}

  def numbers(
    self, params: Params, image_BHW: jax.Array, key: jax.Array | None = None
  ) -> jax.Array:
    """What the network reads in each image, [B]; see `DigitReader`."""
    return self.reader.apply({'params': params['reader']}, image_BHW, key)

  def answer(self, params: Params, number_B: jax.Array) -> jax.Array:
    """Probability that the comparison holds of each pair, [P]."""
    pair_P2 = number_B[self.task.pair_P2]
    scale = jnp.asarray(self.scale, self.dtype)
    return self.head.apply({'params': params['head']}, pair_P2, scale)[:, 0]

  def project(self, params: Params, ctx: Context) -> Params:
    """Weights of the head clipped to where they belong."""
    del ctx
    return {**params, 'head': self.head.project(params['head'])}


class Scores(NamedTuple):
  """How replicas compare images that they have not seen, [R] each.

  Attributes:
    accuracy: share of pairs whose error is below a half.
    error: mean absolute error.
    read: share of images whose number rounds to their digit.
    pairs: how many there are; images: likewise.
  """

  accuracy: np.ndarray
  error: np.ndarray
  read: np.ndarray
  pairs: int
  images: int


def held_out_scores(
  problem: ImageProblem, params: Params, data: Mapping[str, np.ndarray]
) -> Scores:
  """Scores of all pairs within batches of images in their order.

  Pairs count as in training, over all batches together.

  Args:
    problem: what was learned.
    params: leading axis of replicas.
    data: as the problem's.
  """
  task = problem.task
  count = task.batches(len(data['label']))
  images = count * task.images
  batches = np.split(data['image'][:images], count)
  found = [_judge(problem, params, image_BHW) for image_BHW in batches]
  numbers, answers = zip(*jax.device_get(found), strict=True)
  label_N = data['label'][:images]
  holds_X = np.concatenate([task.holds(b) for b in np.split(label_N, count)])
  error_RX = np.abs(np.concatenate(answers, axis=1) - holds_X[None])
  error_RX = np.where(np.isfinite(error_RX), error_RX, FAILED)
  weight_X = np.asarray(task.weights(holds_X), np.float64)
  read_RN = np.rint(np.concatenate(numbers, axis=1)) == label_N[None]
  return Scores(
    accuracy=1 - (error_RX >= 0.5) @ weight_X,
    error=error_RX @ weight_X,
    read=read_RN.mean(axis=1),
    pairs=len(holds_X),
    images=images,
  )


@functools.partial(jax.jit, static_argnums=0)
def _judge(
  problem: ImageProblem, params: Params, image_BHW: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Numbers [R, B] and answers [R, P] of a batch."""

  def judge(params: Params) -> tuple[jax.Array, jax.Array]:
    number_B = problem.numbers(params, image_BHW)
    return number_B, problem.answer(params, number_B)

  return jax.vmap(judge)(params)
