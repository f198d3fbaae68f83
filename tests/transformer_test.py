"""The transformer against a plain numpy one, setting by setting.

Shape key: B examples, T tokens, Q queries, E model width, V vocabulary,
L layers.
"""

import functools
import operator
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import FIRE, ALiBi, Learned, PlaceBias, PlaceWindow
from extrap.tasks.addition import Addition

TASK = Addition()
VOCABULARY = 14
UNOPTIMISED = {'xla_backend_optimization_level': 0}
PAIRS = ((907, 45), (12, 345), (40, 8))


@functools.cache
def sums():
  """Tokens and structure of a few sums."""
  tokens_BT = TASK.from_integers(PAIRS).tokens
  return tokens_BT, jax.jit(TASK.structure)(tokens_BT)


def build(**settings):
  config = dict(width=16, heads=2, ffn_width=24) | settings
  return Transformer(TransformerConfig(**config), VOCABULARY)


def shapes(model):
  """Shapes and types of the parameters, boxed with their axis names."""
  tokens_BT = jnp.zeros((1, 4), jnp.int32)
  return jax.eval_shape(
    lambda key: model.init(key, tokens_BT, TASK.structure(tokens_BT)),
    jax.random.key(0),
  )['params']


def random_params(model):
  """Parameters of the right shapes; drawing them on the host is faster."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype),
    nn.unbox(shapes(model)),
  )


def flat(params):
  return traverse_util.flatten_dict(params, sep='/')


def count(model):
  return sum(leaf.size for leaf in flat(nn.unbox(shapes(model))).values())


def forward(model, params, *args):
  """Logits, in one compiled program."""

  @jax.jit
  def program(params, tokens_BT, structure, *args):
    return model.apply({'params': params}, tokens_BT, structure, *args)

  return np.asarray(program(params, *sums(), *args))


class Reference:
  """The same model in numpy, without positions: one row, loops, float64."""

  def __init__(self, config, params):
    self.config = config
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    self.params = params
    self.layers = [
      jax.tree.map(operator.itemgetter(layer), params['layers'])
      for layer in range(config.depth)
    ]

  def __call__(self, tokens_BT):
    return np.stack([self.row(tokens) for tokens in np.asarray(tokens_BT)])

  def row(self, tokens):
    config = self.config
    input_TE = self.params['embedding'][tokens]
    x_TE = 0 * input_TE if config.inject_every else input_TE
    for _ in range(config.recurrences):
      for layer in range(config.depth):
        if config.inject_every and layer % config.inject_every == 0:
          x_TE = x_TE + input_TE
        x_TE = self.layer(x_TE, self.layers[layer])
    x_TE = self.norm(x_TE, self.params['norm'])
    return x_TE @ self.params['logits']['kernel']

  def layer(self, x_TE, params):
    placement = self.config.norm_placement
    read, think = self.attention, self.feed_forward
    more = [(f'ffn_{n}', think) for n in range(2, self.config.ffn_depth + 1)]
    for name, sublayer in (('attention', read), ('ffn', think), *more):
      inner_TE = x_TE
      if placement in ('pre', 'both'):
        inner_TE = self.norm(inner_TE, params[f'{name}_norm'])
      x_TE = x_TE + sublayer(inner_TE, params[name])
      if placement in ('post', 'both'):
        x_TE = self.norm(x_TE, params[f'{name}_post_norm'])
    return x_TE

  def attention(self, x_TE, params):
    config, out_TE = self.config, np.zeros_like(x_TE)
    for head in range(config.heads):
      query, key, value = (
        x_TE @ params[name][:, head] for name in ('query', 'key', 'value')
      )
      if config.qk_norm:
        query = self.rms(query, params['query_norm']['scale'])
        key = self.rms(key, params['key_norm']['scale'])
      for t in range(len(x_TE)):
        logits = query[t] @ key[: t + 1].T * self.scale(params, head, t)
        weights = np.exp(logits - logits.max())
        read = weights / weights.sum() @ value[: t + 1]
        out_TE[t] += read @ params['out'][head]
    return out_TE

  def scale(self, params, head, t):
    config = self.config
    scale = (config.width // config.heads) ** -0.5
    if config.logit_scale == 'constant':
      return scale * config.logit_gain
    scale *= params['logit_scale'][head]
    return scale * np.log(t + 2) if config.logit_scale != 'learned' else scale

  def feed_forward(self, x_TE, params):
    hidden = x_TE @ params['in']['kernel']
    if self.config.ffn == 'gelu':
      hidden = self.gelu(hidden)
    else:
      gate = x_TE @ params['gate']['kernel']
      silu = gate / (1 + np.exp(-gate))
      hidden *= self.gelu(gate) if self.config.ffn == 'geglu' else silu
    return hidden @ params['out']['kernel']

  def norm(self, x, params):
    if self.config.norm == 'rmsnorm':
      return self.rms(x, params['scale'])
    x = x - x.mean(axis=-1, keepdims=True)
    return self.rms(x, params['scale']) + params['bias']

  @staticmethod
  def rms(x, scale):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * scale

  @staticmethod
  def gelu(x):
    return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'norm': 'layernorm', 'norm_placement': 'both', 'ffn': 'swiglu'},
    {'norm_placement': 'post', 'ffn': 'geglu', 'depth': 2},
    {'qk_norm': True, 'logit_gain': 3.0, 'heads': 4},
    {'logit_scale': 'learned', 'norm_placement': 'both'},
    {'logit_scale': 'log_length', 'norm': 'layernorm', 'depth': 3},
    {'ffn_depth': 3, 'norm_placement': 'both'},
    {'recurrences': 3},
    {'depth': 2, 'recurrences': 2, 'inject_every': 2},
    {'depth': 3, 'recurrences': 2, 'inject_every': 2, 'ffn': 'swiglu'},
    {'depth': 2, 'inject_every': 1, 'norm_placement': 'post'},
  ],
  ids=lambda settings: ','.join(f'{k}={v}' for k, v in settings.items()),
)
def test_logits_equal_those_of_a_plain_model(settings):
  model = build(**settings)
  params = random_params(model)
  logits_BTV = forward(model, params)
  assert logits_BTV.dtype == np.float32
  expected_BTV = Reference(model.config, params)(sums()[0])
  np.testing.assert_allclose(logits_BTV, expected_BTV, atol=1e-3, rtol=1e-3)


def test_settings_of_the_plain_model_are_told_apart():
  """What makes the comparison above worth something."""
  tokens_BT = sums()[0][:1]
  params = random_params(build(depth=2))
  settings = [
    {},
    {'norm': 'rmsnorm', 'inject_every': 1},
    {'inject_every': 2},
    {'recurrences': 2},
    {'recurrences': 2, 'inject_every': 1},
    {'recurrences': 2, 'inject_every': 2},
    {'logit_gain': 2.0},
  ]
  outputs = [
    Reference(build(depth=2, **setting).config, params)(tokens_BT)
    for setting in settings
  ]
  # A plain stack reads its input once, as does injection at its first layer.
  np.testing.assert_array_equal(outputs[0], outputs[2])
  distinct = [outputs[i] for i in (0, 1, 3, 4, 5, 6)]
  for i, one in enumerate(distinct):
    assert all(abs(one - other).max() > 0.05 for other in distinct[:i])


@pytest.mark.parametrize(
  ('settings', 'layer', 'once'),
  [
    # Four attention kernels, two of the feed-forward, two norm scales.
    ({}, 4 * 16**2 + 2 * 16 * 24 + 2 * 16, 16),
    ({'ffn': 'swiglu'}, 4 * 16**2 + 3 * 16 * 24 + 2 * 16, 16),
    ({'ffn': 'geglu'}, 4 * 16**2 + 3 * 16 * 24 + 2 * 16, 16),
    ({'norm': 'layernorm'}, 4 * 16**2 + 2 * 16 * 24 + 2 * 32, 32),
    ({'norm_placement': 'post'}, 4 * 16**2 + 2 * 16 * 24 + 2 * 16, 16),
    ({'norm_placement': 'both'}, 4 * 16**2 + 2 * 16 * 24 + 4 * 16, 16),
    ({'qk_norm': True}, 4 * 16**2 + 2 * 16 * 24 + 2 * 16 + 2 * 8, 16),
    ({'logit_scale': 'learned'}, 4 * 16**2 + 2 * 16 * 24 + 2 * 16 + 2, 16),
    ({'ffn_depth': 3}, 4 * 16**2 + 3 * 2 * 16 * 24 + 4 * 16, 16),
    # Loops and injection have none of their own.
    (
      {'recurrences': 5, 'inject_every': 1},
      4 * 16**2 + 2 * 16 * 24 + 2 * 16,
      16,
    ),
  ],
)
@pytest.mark.parametrize('depth', [1, 3])
def test_number_of_parameters(settings, layer, once, depth):
  tables = 2 * VOCABULARY * 16
  expected = tables + once + depth * layer
  assert count(build(depth=depth, **settings)) == expected


def test_the_demonstration_model_is_small():
  model = build(position=PlaceWindow(), width=64, heads=4, ffn_width=256)
  layer = 4 * 64**2 + 2 * 64 * 256 + 2 * 64 + 7 * 5 * 4
  assert count(model) == 2 * VOCABULARY * 64 + 7 * 64 + 64 + layer
  assert count(model) <= 70_000


def test_heads_must_divide_the_width():
  with pytest.raises(UsageError, match='heads=3 does not divide'):
    TransformerConfig(width=16, heads=3)


@pytest.mark.parametrize(
  'settings',
  [
    {'depth': 2, 'position': Learned()},
    {'depth': 2, 'position': PlaceWindow(), 'attention': 'gathered'},
    {'recurrences': 2, 'inject_every': 1, 'position': FIRE()},
  ],
  ids=['dense', 'gathered', 'looped'],
)
def test_logits_at_queries_are_those_of_all_tokens(settings):
  model = build(**settings)
  params = random_params(model)
  queries_BQ = np.array([[6, 7, 11, 12], [12, 0, 3, 3], [1, 2, 9, 8]])

  @jax.jit
  def program(tokens_BT, structure):
    apply = functools.partial(
      model.apply, {'params': params}, tokens_BT, structure
    )
    return apply(), apply(jnp.asarray(queries_BQ))

  every_BTV, some_BQV = program(*sums())
  assert some_BQV.shape == (3, 4, VOCABULARY)
  expected_BQV = np.asarray(every_BTV)[np.arange(3)[:, None], queries_BQ]
  np.testing.assert_allclose(some_BQV, expected_BQV, atol=1e-4)


def test_recomputed_activations_change_neither_loss_nor_gradient():
  settings = dict(position=PlaceBias(), depth=2, inject_every=2)
  plain, remat = build(**settings), build(**settings, remat=True)
  params = random_params(plain)

  def loss(model, params):
    logits_BTV = model.apply({'params': params}, *sums())
    return jnp.mean(jax.nn.logsumexp(logits_BTV, axis=-1))

  @jax.jit
  def program(params):
    return [
      jax.value_and_grad(functools.partial(loss, model))(params)
      for model in (plain, remat)
    ]

  (loss_plain, plain_gradient), (loss_remat, remat_gradient) = program(params)
  assert float(loss_plain) == pytest.approx(float(loss_remat), rel=1e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-3),
    plain_gradient,
    remat_gradient,
  )
  for name, leaf in flat(plain_gradient).items():
    assert abs(leaf).max() > 0, name
  # Only the one that is asked to recomputes.
  recomputes = [
    'remat' in str(jax.make_jaxpr(functools.partial(loss, m))(params))
    for m in (plain, remat)
  ]
  assert recomputes == [False, True]


def test_bfloat16_computes_in_half_and_keeps_float32_at_both_ends():
  models = [
    build(position=ALiBi(), qk_norm=True, dtype=dtype)
    for dtype in ('float32', 'bfloat16')
  ]
  assert {x.dtype for x in flat(nn.unbox(shapes(models[1]))).values()} == {
    np.dtype('float32')
  }
  params = random_params(models[0])
  exact, half = jax.jit(
    lambda *args: [model.apply({'params': params}, *args) for model in models]
  )(*sums())
  assert exact.dtype == half.dtype == np.float32
  assert np.isfinite(half).all()
  gap = abs(exact - half) / abs(exact).mean()
  # Eight bits of mantissa: errors of about 2^-8 in each of several steps.
  assert 1e-4 < gap.mean() < 0.05
  text = str(
    jax.make_jaxpr(lambda p: models[1].apply({'params': p}, *sums()))(params)
  )
  # The residual stream is in half precision, the softmax is not.
  shape = ','.join(map(str, (*sums()[0].shape, 16)))
  assert set(re.findall(rf'(\w+)\[{shape}\] = add', text)) == {'bf16'}
  assert set(re.findall(r'(\w+)\[[\d,]*\] = exp', text)) == {'f32'}


def test_layers_start_from_independent_parameters():
  model = build(depth=3, recurrences=2)
  # Random draws take long to compile well.
  init = jax.jit(model.init, compiler_options=UNOPTIMISED)
  params = nn.unbox(init(jax.random.key(0), *sums()))['params']['layers']
  kernels = {k: v for k, v in flat(params).items() if not k.endswith('scale')}
  assert len(kernels) == 6
  for name, leaf_L in kernels.items():
    first, *others = (np.asarray(leaf).ravel() for leaf in leaf_L)
    assert len(others) == 2, name
    for other in others:
      assert abs(np.corrcoef(first, other)[0, 1]) < 0.3, name
    # Variance one over the number of inputs.
    inputs = {'ffn/out/kernel': 24}.get(name, 16)
    assert leaf_L.std() == pytest.approx(inputs**-0.5, rel=0.2), name


@pytest.mark.parametrize('position', [FIRE(), PlaceBias()])
def test_shared_position_parameters_are_declared_once(position):
  settings = dict(position=position, depth=3)
  own = flat(nn.unbox(shapes(build(**settings))))
  shared = flat(nn.unbox(shapes(build(**settings, share_position=True))))
  pairwise = {
    name.rsplit('/', 1)[-1]: leaf.shape
    for name, leaf in own.items()
    if name.startswith('layers/attention/position_')
  }
  assert pairwise
  assert not [name for name in shared if name.startswith('layers/attention/p')]
  for name, shape in pairwise.items():
    assert shared[name].shape == shape[1:]


def test_shared_position_parameters_act_in_every_layer():
  settings = dict(position=PlaceBias(decay=0.0), depth=2)
  shared, own = build(**settings, share_position=True), build(**settings)
  params = random_params(shared)
  table = params['position_bias']
  # The same table in each layer, as parameters of the layers' own.
  copied = {k: v for k, v in params.items() if k != 'position_bias'}
  attention = copied['layers']['attention'] | {
    'position_bias': jnp.stack([table, table])
  }
  copied['layers'] = copied['layers'] | {'attention': attention}
  other = copied | {
    'layers': copied['layers']
    | {'attention': attention | {'position_bias': jnp.stack([table, -table])}}
  }

  @jax.jit
  def program(*args):
    return (
      shared.apply({'params': params}, *args),
      own.apply({'params': copied}, *args),
      own.apply({'params': other}, *args),
    )

  shared_BTV, copied_BTV, other_BTV = program(*sums())
  np.testing.assert_allclose(shared_BTV, copied_BTV, atol=1e-4)
  assert abs(shared_BTV - other_BTV).max() > 1e-2


def test_parameters_name_their_logical_axes():
  boxed = flat(shapes(build(position=PlaceBias(), depth=2, ffn='swiglu')))
  names = {
    name: leaf.names
    for name, leaf in boxed.items()
    if isinstance(leaf, nn.LogicallyPartitioned)
  }
  heads = ('layers', 'embed', 'heads', 'head')
  assert names == {
    'embedding': ('vocab', 'embed'),
    'logits/kernel': ('embed', 'vocab'),
    'layers/attention/query': heads,
    'layers/attention/key': heads,
    'layers/attention/value': heads,
    'layers/attention/out': ('layers', 'heads', 'head', 'embed'),
    'layers/ffn/in/kernel': ('layers', 'embed', 'ffn'),
    'layers/ffn/gate/kernel': ('layers', 'embed', 'ffn'),
    'layers/ffn/out/kernel': ('layers', 'ffn', 'embed'),
  }
  for name, axes in names.items():
    assert boxed[name].value.ndim == len(axes), name


def test_attention_gathers_from_a_length_on_or_when_told():
  def gathers(length, how):
    tokens_BT = jnp.zeros((1, length), jnp.int32)
    model = build(position=PlaceWindow(), attention=how)
    jaxpr = jax.make_jaxpr(
      lambda params: model.apply(
        {'params': params}, tokens_BT, TASK.structure(tokens_BT)
      )
    )(random_params(model))
    # Only dense attention has logits of all pairs, [B, H, T, T].
    return f'1,2,{length},{length}]' not in str(jaxpr)

  assert not gathers(127, 'auto')
  assert gathers(128, 'auto')
  assert not gathers(128, 'dense')
  assert gathers(60, 'gathered')


@pytest.mark.parametrize('depth', [pytest.param(1, marks=pytest.mark.slow), 2])
def test_loops_are_cut_off_and_learn_from_the_last_ones_alone(depth):
  settings = dict(depth=depth, inject_every=depth)
  looped = build(recurrences=4, **settings)
  params = random_params(looped)
  tokens_BT, ids = sums()
  queries_BQ = jnp.array([[5, 9]] * len(tokens_BT))

  def reader(model):
    def logits(params, *loops):
      out = model.apply(
        {'params': params}, tokens_BT, ids, queries_BQ, loops=loops or None
      )
      return jnp.sum(jnp.sin(out)), out

    program = jax.jit(jax.grad(logits, has_aux=True))

    def read(*loops):
      grads, out = program(params, *map(jnp.int32, loops))
      return out, grads['embedding']

    return read

  read = reader(looped)  # One program for all cuts.
  whole, slope = read()
  same, same_slope = read(0, 4)
  np.testing.assert_allclose(whole, same, atol=1e-5)
  np.testing.assert_allclose(slope, same_slope, atol=1e-4)
  for loops in (1, 3):
    short, short_slope = reader(build(recurrences=loops, **settings))()
    cut, cut_slope = read(0, loops)
    np.testing.assert_allclose(short, cut, atol=1e-5)
    np.testing.assert_allclose(short_slope, cut_slope, atol=1e-4)
  # The same loops, the first without a gradient.
  cut, cut_slope = read(2, 1)
  np.testing.assert_allclose(cut, short, atol=1e-5)
  assert abs(cut_slope - short_slope).max() > 1e-3
