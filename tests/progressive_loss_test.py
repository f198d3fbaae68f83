"""The progressive loss of looped models."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.sequence import SequenceProblem, random_loops
from extrap.tasks.addition import Addition
from extrap.training.problem import Context


def looped(progressive=0.0, recurrences=4):
  config = TransformerConfig(
    recurrences=recurrences, inject_every=1, width=8, heads=2, ffn_width=8
  )
  return SequenceProblem(
    task=Addition(),
    model=Transformer(config, Addition().vocab_size),
    max_size=3,
    batch_size=8,
    progressive=progressive,
  )


def test_loops_are_those_of_the_published_code():
  draw = jax.jit(jax.vmap(lambda key: random_loops(key, 4)))
  cut, trained = draw(jax.random.split(jax.random.key(0), 4000))
  count = collections.Counter(zip(cut.tolist(), trained.tolist(), strict=True))
  share = {pair: n / 4000 for pair, n in count.items()}
  assert share == pytest.approx(
    {(0, 1): 1 / 8, (0, 2): 1 / 8, (1, 1): 1 / 8, (1, 2): 1 / 8}
    | {(2, 1): 1 / 8, (2, 2): 1 / 8, (3, 1): 1 / 4},
    abs=0.03,
  )


def test_a_share_weighs_random_loops_against_all_of_them():
  problem = looped()
  params = nn.unbox(jax.jit(problem.init)(jax.random.key(0)))
  ctx = Context(jax.random.key(3), jnp.int32(0), {})
  batch = jax.jit(problem.sample)(ctx)

  @jax.jit
  def losses(key):
    at = ctx.replace(key=key)
    return [
      looped(share).loss(params, batch, at)[0] for share in (0.0, 1.0, 0.25)
    ]

  found = np.array([losses(jax.random.key(k)) for k in range(8)])
  whole, part, mixed = found.T
  np.testing.assert_allclose(mixed, 0.75 * whole + 0.25 * part, rtol=1e-5)
  assert np.ptp(whole) < 1e-6
  assert np.ptp(part) > 1e-4


@pytest.mark.parametrize('share', [-0.1, 1.1])
def test_a_share_is_refused_outside_its_range(share):
  with pytest.raises(UsageError, match='not in 0'):
    looped(share)
