"""Models whose layers differ: a period against its layers one by one.

Shape key: B examples, T tokens, E model width, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.models.attention import View
from extrap.models.layers import Layer, final_norm
from extrap.models.positions import (
  SWAN,
  Abacus,
  ALiBi,
  Chunked,
  Gemma,
  IRoPE,
  NoPosition,
  Randomised,
  RNoPESWA,
  Rotary,
  Sinusoidal,
  Window,
  XPos,
)
from extrap.models.positions.patterns import Logarithmic, Stepwise
from extrap.scoring import row_bytes
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition

TASK = Addition()
PROMPT = 5
ASKED = ((4, 2), (3, 5))  # tokens of each sum, in any order


@functools.cache
def sums():
  tokens_BT = TASK.from_integers(((90, 45), (12, 345))).tokens
  return tokens_BT, jax.jit(TASK.structure)(tokens_BT)


def build(position, depth, **settings):
  config = TransformerConfig(
    position=position, depth=depth, width=8, heads=2, ffn_width=8, **settings
  )
  return Transformer(config, TASK.vocab_size)


def random_params(model):
  shapes = jax.eval_shape(model.init, jax.random.key(0), *sums())
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype),
    nn.unbox(shapes)['params'],
  )


def one_by_one(model, period, params, tokens_BT, ids):
  """The model without its scan: each layer has its encoding by hand."""
  input_BTE = params['embedding'][tokens_BT]
  every = model.config.inject_every
  x_BTE = 0 * input_BTE if every else input_BTE
  for nth in list(range(model.config.depth)) * model.config.recurrences:
    if every and nth % every == 0:
      x_BTE += input_BTE
    repeat, which = divmod(nth, len(period))
    config = build(period[which], 1).config
    layer = jax.tree.map(lambda x: x[repeat], params['layers'][str(which)])  # noqa: B023
    x_BTE, _ = Layer(config).apply({'params': layer}, x_BTE, View(ids, ids))
  x_BTE = final_norm(model.config).apply({'params': params['norm']}, x_BTE)
  return x_BTE @ params['logits']['kernel']


def decoded(model, params, tokens_BT, ids):
  """A prompt at once, then token by token."""
  rows, length = tokens_BT.shape
  apply = functools.partial(model.apply, {'params': params}, tokens_BT, ids)
  prompt_BQ = jnp.broadcast_to(jnp.arange(PROMPT)[None], (rows, PROMPT))
  first_BQV, cache = apply(prompt_BQ, model.empty_cache(rows, length))

  def step(cache, t):
    logits_B1V, cache = apply(jnp.full((rows, 1), t), cache)
    return cache, logits_B1V[:, 0]

  _, rest_QBV = jax.lax.scan(step, cache, jnp.arange(PROMPT, length))
  return jnp.concatenate([first_BQV, rest_QBV.swapaxes(0, 1)], axis=1)


@pytest.mark.parametrize(
  ('position', 'settings'),
  [
    (SWAN(windowed=1, window=3, trained=4), dict(inject_every=3)),
    (
      IRoPE(windowed=1, window=3, floor=2, base=ALiBi()),
      dict(recurrences=2, remat=True),
    ),
  ],
  ids=['swan', 'irope'],
)
def test_two_periods_equal_their_layers_one_by_one(position, settings):
  model = build(position, 2 * len(position.layers), **settings)
  params = random_params(model)
  period = position.layers

  @functools.partial(
    jax.jit, compiler_options={'xla_backend_optimization_level': 0}
  )
  def program(params):
    plain, other = (
      one_by_one(model, layers, params, *sums())
      for layers in (period, period[::-1])
    )
    whole = model.apply({'params': params}, *sums())
    asked = model.apply({'params': params}, *sums(), jnp.array(ASKED))
    return plain, whole, decoded(model, params, *sums()), other, asked

  expected_BTV, whole_BTV, decoded_BTV, other_BTV, asked_BQV = program(params)
  np.testing.assert_allclose(whole_BTV, expected_BTV, atol=1e-4)
  rows_BQV = np.take_along_axis(
    np.asarray(whole_BTV), np.array(ASKED)[..., None], axis=1
  )
  np.testing.assert_allclose(asked_BQV, rows_BQV, atol=1e-4)
  np.testing.assert_allclose(decoded_BTV, expected_BTV, atol=1e-4)
  assert abs(other_BTV - expected_BTV).max() > 0.01
  # Layers have parameters of their own, in as many stacks as a period has.
  assert set(params['layers']) == set(map(str, range(len(period))))


NEAR = Window(window=7, base=Rotary(base=5.0))
FAR = Rotary(base=9.0)
SMALL = dict(windowed=2, window=7, wavelength=5.0, base=FAR)


@pytest.mark.parametrize(
  ('position', 'layers'),
  [
    (SWAN(), (NoPosition(), *[Window(window=512)] * 3)),
    (SWAN(**SMALL), (FAR, NEAR, NEAR)),
    (
      SWAN(trained=8, offset=3.0, windowed=1),
      (
        Logarithmic(base=NoPosition(), trained=8, offset=3.0),
        Window(window=512),
      ),
    ),
    (RNoPESWA(), (*[Window(window=4096)] * 3, NoPosition())),
    (RNoPESWA(**SMALL), (NEAR, NEAR, FAR)),
    (
      IRoPE(),
      (
        *[Chunked(chunk=8192, base=Rotary(base=500_000.0))] * 3,
        Stepwise(base=NoPosition(), growth=0.1, floor=8192),
      ),
    ),
    (
      IRoPE(**SMALL, growth=0.5, floor=4),
      (
        *[Chunked(chunk=7, base=Rotary(base=5.0))] * 2,
        Stepwise(base=FAR, growth=0.5, floor=4),
      ),
    ),
    (Gemma(), (*[Window(window=1024)] * 5, Rotary(base=1_000_000.0))),
    (Gemma(**SMALL), (NEAR, NEAR, FAR)),
  ],
)
def test_a_pattern_is_the_published_one(position, layers):
  assert position.layers == layers
  assert position.reads == ('position',)


def test_a_pattern_ends_where_one_of_its_layers_does():
  assert SWAN().limits == ()
  (limit,) = XPos().limits
  for position in (Gemma(base=XPos()), SWAN(base=XPos(), trained=8)):
    assert position.limits == (limit._replace(option='base.decay'),)


@pytest.mark.parametrize('position', [SWAN(), Randomised(base=RNoPESWA())])
def test_depth_is_a_multiple_of_the_period(position):
  with pytest.raises(UsageError, match=r'depth=6 is no multiple of the 4'):
    TransformerConfig(position=position, depth=6)
  assert TransformerConfig(position=position, depth=8).depth == 8


@pytest.mark.parametrize('base', [Sinusoidal(), Abacus(), SWAN()])
def test_what_all_layers_share_is_no_encoding_of_some(base):
  with pytest.raises(UsageError, match=r'position\.base=\w+ cannot be the enc'):
    Gemma(base=base)


def test_a_row_needs_what_its_worst_layer_does():
  """Gathered keys and values of a narrow window, more than blocks do."""
  model = build(SWAN(window=8), 4)
  tokens = TASK.token_length(1000)
  needed = row_bytes(
    SequenceProblem(task=TASK, model=model, max_size=1000), 1000
  )
  assert needed == 4 * tokens * 8 * (8 + 8)
