"""The language model of bytes: windows, loss, structure, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from text_models import build, random_params

from extrap.datasets.stdlib_text import Text
from extrap.errors import UsageError
from extrap.language import LanguageProblem, stored
from extrap.models.positions import Abacus, Learned, Pointers, Position, Rotary
from extrap.tasks.text import RunningText
from extrap.training.problem import Context

RNG = np.random.default_rng(0)
TEXT = Text(
  RNG.integers(0, 128, 90).astype(np.uint8),
  np.cumsum(RNG.integers(0, 2, 90)).astype(np.int32),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByLevel(Position):
  """A bias of a nat a level between query and key."""

  reads = ('level',)

  def pair_bias(self, query, key, param, heads):
    return (key.level - query.level).astype(jnp.float32)


def problem_of(position, **settings):
  settings = dict(length=6, batch_size=4) | settings
  return LanguageProblem(model=build(position), **settings)


def context(key=0, text=TEXT):
  return Context(jax.random.key(key), jnp.int32(0), {}, stored(text))


def test_windows_are_of_the_text_and_of_all_of_it():
  """Six bytes and the next one in a text of eleven: five places to begin."""
  text = Text(
    np.arange(11, dtype=np.uint8), np.arange(100, 111, dtype=np.int32)
  )
  problem = problem_of(Rotary(), batch_size=200)
  batch = jax.device_get(problem.sample(context(text=text)))
  assert batch.tokens.shape == batch.level.shape == batch.targets.shape
  assert batch.tokens.shape == (200, 6) and batch.tokens.dtype == np.int32
  np.testing.assert_array_equal(
    batch.tokens, batch.tokens[:, :1] + np.arange(6)[None]
  )
  np.testing.assert_array_equal(batch.targets, batch.tokens + 1)
  np.testing.assert_array_equal(batch.level, batch.tokens + 100)
  first, counts = np.unique(batch.tokens[:, 0], return_counts=True)
  assert first.tolist() == [0, 1, 2, 3, 4]
  assert counts.min() > 20
  other = problem.sample(context(key=1, text=text))
  assert (np.asarray(other.tokens) != batch.tokens).any()


def test_the_loss_is_that_of_every_next_byte():
  problem = problem_of(ByLevel())
  params, ctx = random_params(problem.model), context()
  batch = problem.sample(ctx)

  @jax.jit
  def both(params, batch):
    structure = RunningText().structure(batch.tokens, batch.level)
    logits = problem.model.apply({'params': params}, batch.tokens, structure)
    return logits, problem.loss(params, batch, ctx)[0]

  logits_BTV, loss = both(params, batch)
  logits_BTV = np.asarray(logits_BTV, np.float64)
  total_BT = np.log(np.exp(logits_BTV).sum(-1))
  right_BT = np.take_along_axis(
    logits_BTV, np.asarray(batch.targets)[..., None], -1
  )[..., 0]
  assert loss == pytest.approx((total_BT - right_BT).mean(), rel=1e-5)
  # Levels are read, and count from wherever the window begins.
  shifted = both(params, batch.replace(level=batch.level + 7))[1]
  assert shifted == loss
  bent = batch.level.at[:, 3:].add(2)
  assert abs(both(params, batch.replace(level=bent))[1] - loss) > 1e-4


def test_text_is_of_no_digits_and_has_levels():
  tokens_BT = jnp.asarray(TEXT.token_N[None, :5], jnp.int32)
  ids = RunningText().structure(tokens_BT, jnp.array([[4, 4, 5, 5, 9]]))
  assert ids.level.tolist() == [[0, 0, 1, 1, 5]]
  assert ids.position.tolist() == ids.index.tolist() == [[0, 1, 2, 3, 4]]
  assert not ids.digit.any() and not ids.place.any() and not ids.anchor.any()
  picked = ids.take(jnp.array([[4, 2]]))
  assert picked.level.tolist() == [[5, 1]]
  assert ids.expand(1, 3).level.shape == (1, 1, 5, 1)


@pytest.mark.parametrize(
  ('position', 'settings', 'message'),
  [
    (Rotary(), {'length': 1}, 'at least 2'),
    (Abacus(), {}, 'Abacus reads place: of text it can know .*level'),
    (Pointers(), {}, 'reads see, role'),
    (Learned(max_size=5), {}, 'needs position ids up to 5'),
  ],
)
def test_what_cannot_serve_text_is_refused(position, settings, message):
  with pytest.raises(UsageError, match=message):
    problem_of(position, **settings)
