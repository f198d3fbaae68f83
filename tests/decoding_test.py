"""Greedy decoding with a cache, exact match, and that the two agree.

Shape key: B examples, T tokens, Q answer queries, V vocabulary.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from encoding_checks import of_digits
from flax import linen as nn

from extrap.evaluation.decoding import decoded_match, greedy_decode
from extrap.evaluation.exact_match import exact_match
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import (
  POSITIONS,
  Abacus,
  Learned,
  NoPosition,
  PlaceWindow,
  Rotary,
)
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.tasks.task import Batch
from extrap.training import Context

TASK = Addition(base=2)
# Compiling takes most of the time here.
UNOPTIMISED = {'xla_backend_optimization_level': 0}
# Numbers of up to four digits: prompts of many lengths.
SUMS = tuple((a, b) for a in range(16) for b in range(0, 16, 2))
SOME = ((13, 6), (0, 0), (15, 2), (2, 10), (7, 8), (1, 14))


@functools.cache
def every_sum():
  return jax.tree.map(np.asarray, TASK.from_integers(SUMS))


def batch_of(pairs):
  rows = np.array([SUMS.index(pair) for pair in pairs])
  return jax.tree.map(lambda x: jnp.asarray(x[rows]), every_sum())


def build(position, **settings):
  config = dict(width=16, heads=2, ffn_width=16) | settings
  return Transformer(
    TransformerConfig(position=position, **config), TASK.vocab_size
  )


def random_params(model):
  """Parameters of the right shapes; drawing them on the host is faster."""
  tokens_BT = jnp.zeros((1, 4), jnp.int32)
  shapes = jax.eval_shape(
    lambda key: model.init(key, tokens_BT, TASK.structure(tokens_BT)),
    jax.random.key(0),
  )
  rng = np.random.default_rng(0)

  def draw(path, x):
    mean = path[-1].key == 'scale'
    return jnp.asarray(rng.normal(mean, 0.2, x.shape), x.dtype)

  return jax.tree_util.tree_map_with_path(draw, nn.unbox(shapes)['params'])


def teacher_forced(model, params, batch):
  """Logits at the queries, from one forward pass over the right answer."""
  structure = TASK.structure(batch.tokens)
  return model.apply({'params': params}, batch.tokens, structure, batch.queries)


def check_agreement(decoded_BQ, logits_BQV, batch):
  """Both ways write the same, up to their first wrong token."""
  mask_BQ = np.asarray(batch.mask)
  forced_BQ = np.argmax(logits_BQV, axis=-1)
  wrong_BQ = (forced_BQ != np.asarray(batch.targets)) & mask_BQ
  before_BQ = np.cumsum(wrong_BQ, axis=1) - wrong_BQ == 0
  same_BQ = (np.asarray(decoded_BQ) == forced_BQ) | ~(before_BQ & mask_BQ)
  assert same_BQ.all()
  match_B = exact_match(logits_BQV, batch)
  np.testing.assert_array_equal(decoded_match(decoded_BQ, batch), match_B)
  return match_B


@pytest.mark.parametrize(
  ('name', 'recurrences'),
  [('none', 1), ('none', 3), ('learned', 1)]
  + [(name, 1) for name in of_digits()],
)
def test_cached_logits_equal_those_of_a_forward_pass(name, recurrences):
  model = build(
    POSITIONS.get(name)(), depth=2, recurrences=recurrences, inject_every=2
  )
  params, batch = random_params(model), batch_of(SOME)
  examples, tokens = batch.tokens.shape

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(params, tokens_BT):
    structure = TASK.structure(tokens_BT)
    apply = functools.partial(
      model.apply, {'params': params}, tokens_BT, structure
    )

    def step(cache, t):
      logits_B1V, cache = apply(jnp.full((examples, 1), t), cache)
      return cache, logits_B1V[:, 0]

    _, cached_TBV = jax.lax.scan(
      step, model.empty_cache(examples, tokens), jnp.arange(tokens)
    )
    return apply(), cached_TBV.swapaxes(0, 1)

  every_BTV, cached_BTV = program(params, batch.tokens)
  np.testing.assert_allclose(cached_BTV, every_BTV, atol=1e-4)


def briefly_trained(problem, params, steps=150):
  """Parameters after some steps on the sums of small numbers."""
  batch = batch_of([pair for pair in SUMS if max(pair) < 12])
  optimizer = optax.adam(5e-3)
  keys = jax.random.split(jax.random.key(0), steps)

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def train(params):
    def step(carry, key):
      params, state = carry
      ctx = Context(key, jnp.zeros((), jnp.int32), {})
      (loss, _), gradient = jax.value_and_grad(problem.loss, has_aux=True)(
        params, batch, ctx
      )
      updates, state = optimizer.update(gradient, state)
      return (optax.apply_updates(params, updates), state), loss

    carry = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, carry, keys)
    return params, losses

  params, losses = train(params)
  assert losses[-1] < 0.7 * losses[0]
  return params


@pytest.mark.parametrize(
  ('position', 'depth'),
  [
    (NoPosition(), 2),
    pytest.param(Rotary(), 1, marks=pytest.mark.slow),
    pytest.param(Learned(), 1, marks=pytest.mark.slow),
    (Abacus(shift=2), 1),
    (PlaceWindow(), 1),
  ],
  ids=['none', 'rotary', 'learned', 'abacus', 'place_window'],
)
def test_decoding_writes_what_exact_match_says(position, depth):
  model = build(position, depth=depth, width=32, ffn_width=64)
  problem = SequenceProblem(task=TASK, model=model, max_size=3)
  batch = batch_of(SUMS)
  noise_BT = np.random.default_rng(0).integers(
    TASK.vocab_size, size=batch.tokens.shape
  )
  # Any token may stand where the answer was, delimiters too.
  prompt_BT = np.arange(noise_BT.shape[1]) <= np.asarray(batch.queries[:, :1])
  hidden = Batch(
    jnp.where(prompt_BT, batch.tokens, noise_BT),
    batch.queries,
    jnp.zeros_like(batch.targets),
    jnp.zeros_like(batch.mask),
  )

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(params):
    both = jax.tree.map(lambda *x: jnp.concatenate(x), batch, hidden)
    decoded_BQ = greedy_decode(model, params, TASK, both)
    return jnp.split(decoded_BQ, 2), teacher_forced(model, params, batch)

  untrained = random_params(model)
  trained = briefly_trained(problem, untrained)
  for params in (untrained, trained):
    (decoded_BQ, without_answer_BQ), logits_BQV = program(params)
    match_B = check_agreement(decoded_BQ, logits_BQV, batch)
    np.testing.assert_array_equal(
      jnp.where(batch.mask, without_answer_BQ, 0),
      jnp.where(batch.mask, decoded_BQ, 0),
    )
  # Some right and some wrong, or agreement would mean little.
  assert 0 < match_B.sum() < len(SUMS)
  # What was decoded reads as a number, the sum where it is right.
  row = int(jnp.argmax(match_B))
  tokens = [*batch.tokens[row, : batch.queries[row, 0] + 1], *decoded_BQ[row]]
  assert TASK.read(np.array(tokens)) == (SUMS[row], sum(SUMS[row]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peeking(Addition):
  """Addition with a structure that leaks what stands at the end."""

  def structure(self, tokens_BT):
    structure = super().structure(tokens_BT)
    peeked_BT = structure.position + tokens_BT.sum(axis=1, keepdims=True)
    return structure.replace(position=peeked_BT)


def test_decoder_reads_no_answer_even_where_structure_peeks():
  """Causal structure would hide an answer that the decoder left in place."""
  batch = batch_of(SOME)
  model = build(Learned(max_size=100))
  prompt_BT = np.arange(batch.tokens.shape[1]) <= np.asarray(
    batch.queries[:, :1]
  )
  corrupt_BT = jnp.where(prompt_BT, batch.tokens, 0)
  params = random_params(model)

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(params, *tokens):
    # The first token alone: later ones read what was decoded.
    return [
      greedy_decode(
        model,
        params,
        Peeking(base=2),
        batch.replace(tokens=tokens_BT, queries=batch.queries[:, :1]),
      )
      for tokens_BT in tokens
    ]

  decoded_BQ, without_answer_BQ = program(params, batch.tokens, corrupt_BT)
  np.testing.assert_array_equal(decoded_BQ, without_answer_BQ)


def scored(batch):
  """Logits whose argmax are the targets, writable."""
  logits_BQV = jax.nn.one_hot(batch.targets, TASK.vocab_size)
  return np.array(logits_BQV)


def test_exact_match_needs_every_token_that_counts():
  batch = batch_of(SOME)
  logits_BQV = scored(batch)
  assert exact_match(logits_BQV, batch).all()
  last_B = np.asarray(batch.mask).sum(axis=1) - 1
  for query_B in (np.zeros_like(last_B), last_B):
    for row, query in enumerate(query_B):
      wrong_BQV = logits_BQV.copy()
      # The end token's query counts, too.
      wrong_BQV[row, query] = np.roll(wrong_BQV[row, query], 1)
      right_B = np.arange(len(SOME)) != row
      np.testing.assert_array_equal(exact_match(wrong_BQV, batch), right_B)


def test_exact_match_ignores_what_is_masked():
  batch = batch_of(SOME)
  mask_BQ = np.asarray(batch.mask)
  assert (~mask_BQ).any()
  logits_BQV = scored(batch)
  logits_BQV[~mask_BQ] = np.roll(logits_BQV[~mask_BQ], 1, axis=-1)
  logits_BQV[~mask_BQ, 0] = np.nan
  assert exact_match(logits_BQV, batch).all()


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_exact_match_counts_logits_that_are_not_finite_as_wrong(bad):
  batch = batch_of(SOME)
  logits_BQV = scored(batch)
  # Elsewhere than at the target, and at the target itself.
  logits_BQV[1, 0, (batch.targets[1, 0] + 1) % TASK.vocab_size] = bad
  logits_BQV[2, 1, batch.targets[2, 1]] = bad
  np.testing.assert_array_equal(
    exact_match(logits_BQV, batch), [True, False, False, True, True, True]
  )


def test_decoded_match_needs_every_token_that_counts():
  batch = batch_of(SOME)
  decoded_BQ = np.array(batch.targets)
  decoded_BQ[~np.asarray(batch.mask)] = 0
  decoded_BQ[3, 0] ^= 1
  np.testing.assert_array_equal(
    decoded_match(decoded_BQ, batch), np.arange(len(SOME)) != 3
  )
