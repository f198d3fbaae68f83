"""Every way of computing attention against the dense one.

Shape key: B examples, T tokens, Q queries, K keys, H heads, D head width,
E model width, V vocabulary, R replicas.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AbstractDevice, AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.benchmarks.attention import temporaries
from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig, attention, transformer
from extrap.models.attention import declare_pairs
from extrap.models.backends import (
  KERNELS,
  Hardware,
  PairRule,
  blockwise,
  choose,
  fused,
  hardware,
  splash,
)
from extrap.models.positions import (
  FIRE,
  POSITIONS,
  Abacus,
  ALiBi,
  NoPosition,
  PlaceBias,
  PlaceWindow,
  Position,
  Rotary,
)
from extrap.models.positions.position import Pairs
from extrap.tasks.addition import Addition
from extrap.tasks.task import Structure
from extrap.training.flops import count_flops
from extrap.training.sharding import MeshConfig, ShardingRules, make_mesh

TASK = Addition()
UNOPTIMISED = {'xla_backend_optimization_level': 0}
PAIRS = ((907, 45), (12, 345), (40, 8))
QUERIES_BQ = np.array([[6, 7, 11, 12], [12, 0, 3, 3], [1, 2, 9, 8]])
CPU, H100, TPU = Hardware('cpu'), Hardware('gpu', '9.0'), Hardware('tpu')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everything(FIRE):
  """A bias of pairs and one of keys, learned both, and hidden keys."""

  def gate(self, x_BTE, param, heads):
    init = jax.nn.initializers.normal(1.0)
    kernel_EH = param('gate', init, (x_BTE.shape[-1], heads))
    return jax.nn.log_sigmoid(x_BTE @ kernel_EH)

  def key_bias(self, ids, gate_BKH):
    return -jnp.cumsum(gate_BKH, axis=1)

  def visible(self, query, key):
    return (query.index - key.index) % 3 != 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnRule(Position):
  """Replaces attention by a mean."""

  def attend(self, pairs, param):
    return pairs.query * 0 + pairs.value.mean(axis=1, keepdims=True)


@functools.cache
def sums():
  """Tokens and structure of a few sums."""
  tokens_BT = TASK.from_integers(PAIRS).tokens
  return tokens_BT, jax.jit(TASK.structure)(tokens_BT)


def build(**settings):
  config = dict(width=16, heads=2, ffn_width=24, depth=2) | settings
  return Transformer(TransformerConfig(**config), TASK.vocab_size)


def random_params(model):
  """Parameters of the right shapes; drawing them on the host is faster."""
  one = (jnp.zeros((1, 4), jnp.int32), TASK.structure(jnp.zeros((1, 4), int)))
  shapes = jax.eval_shape(model.init, jax.random.key(0), *one)['params']
  return jax.tree_util.tree_map_with_path(
    lambda path, x: parameter(jax.tree_util.keystr(path), x.shape) / 2,
    nn.unbox(shapes),
  )


def parameter(name, shape):
  """Random numbers; FIRE's threshold inside the sequence, where it acts."""
  return draw(*shape) + 12 * ('threshold' in name)


def draw(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def at_some_tokens(models, params, transform=lambda loss: loss):
  """A loss and the logits of each model, transformed, in one program."""

  def loss(params, model, *batch):
    logits_BQV = model.apply({'params': params}, *batch)
    return jnp.mean(jax.nn.log_softmax(logits_BQV)[..., 3] ** 2), logits_BQV

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(params, *batch):
    return [transform(loss)(params, model, *batch) for model in models]

  return jax.device_get(program(params, *sums(), jnp.asarray(QUERIES_BQ)))


def assert_close(some, others, atol=2e-5, rtol=1e-3):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=atol, rtol=rtol),
    some,
    others,
  )


def in_blocks_of(monkeypatch, block):
  """Makes models look at blocks this small."""
  monkeypatch.setattr(
    attention, 'blockwise', functools.partial(blockwise, block=block)
  )


def test_a_model_in_blocks_equals_a_dense_one(monkeypatch):
  """The last layer has some queries alone, the other all tokens."""
  in_blocks_of(monkeypatch, 4)
  settings = dict(position=Everything(), share_position=True, remat=True)
  settings['logit_scale'] = 'log_length'
  models = [build(**settings, attention=a) for a in ('dense', 'blockwise')]
  gradient = functools.partial(jax.grad, has_aux=True)
  dense, blocks = at_some_tokens(models, random_params(models[0]), gradient)
  assert_close(blocks, dense)
  # Every parameter takes part, or the above is empty.
  for path, leaf in jax.tree_util.tree_leaves_with_path(blocks[0]):
    assert abs(leaf).max() > 0, jax.tree_util.keystr(path)


def line(tokens, examples=1):
  """A structure of tokens in a row."""
  index_BT = jnp.broadcast_to(jnp.arange(tokens)[None], (examples, tokens))
  place_BT, role_BT = index_BT % 7, index_BT // 7 % 3
  zero_BT = jnp.zeros_like(index_BT)
  return Structure(
    *(index_BT, index_BT, place_BT, role_BT, role_BT, zero_BT), runs=3, roles=3
  )


def inputs(position, queries, keys, examples=2, heads=2, width=4):
  """Parameters, queries, keys, values and key biases."""
  params = declare_pairs(
    position, line(1), lambda name, _, shape: parameter(name, shape), heads
  )
  query_BQHD = draw(examples, queries, heads, width, seed=1)
  key_BKHD, value_BKHD = draw(2, examples, keys, heads, width, seed=2)
  return params, query_BQHD, key_BKHD, value_BKHD, draw(examples, keys, heads)


def dense(position, query_ids, key_ids, params, query_BQHD, key, value, bias):
  """The reference: all pairs, by `Position.attend`."""
  heads = query_BQHD.shape[2]
  asking, offered = query_ids.expand(1, 3), key_ids.expand(1, 2)
  bias_BHQK = bias.swapaxes(1, 2)[:, :, None]
  pairs = position.pair_bias(asking, offered, lambda n, *_: params[n], heads)
  if pairs is not None:
    bias_BHQK += pairs
  mask = (offered.index <= asking.index) & position.visible(asking, offered)
  one = jnp.ones((1, 1, 1, 1))
  return position.attend(
    Pairs(query_BQHD, key, value, bias_BHQK, mask, one, asking, offered), None
  )


def with_gradient(attend, *args):
  """What is read, and the gradient of every input."""

  def loss(*args):
    out = attend(*args)
    return jnp.sum(jnp.sin(jnp.arange(out.size)).reshape(out.shape) * out), out

  return jax.grad(loss, argnums=tuple(range(len(args))), has_aux=True)(*args)


def read_and_gradients(position, query_ids, ids, in_order, block):
  """Of the dense path and of blocks, in one program."""
  args = inputs(position, query_ids.index.shape[1], ids.index.shape[1])

  def attend(*args):
    rule = PairRule(position, 2)
    return blockwise(
      rule, *args, query_ids, ids, in_order=in_order, block=block
    )

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(*args):
    all_pairs = functools.partial(dense, position, query_ids, ids)
    return [with_gradient(way, *args) for way in (all_pairs, attend)]

  return program(*args)


@pytest.mark.parametrize(
  'position',
  [NoPosition(), ALiBi(), FIRE(), PlaceBias(), PlaceWindow()],
  ids=POSITIONS.name_of,
)
def test_blocks_equal_all_pairs_in_values_and_gradients(position):
  ids = line(13, examples=2)
  expected, blocks = read_and_gradients(position, ids, ids, True, 5)
  assert_close(blocks, expected)
  (params, *_), _ = blocks
  assert all(abs(leaf).max() > 0 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(('tokens', 'block'), [(7, 3), (24, 512)])
def test_blocks_of_any_size_and_queries_in_any_order(tokens, block):
  ids = line(tokens, examples=2)
  rng = np.random.default_rng(0)
  asked = 5 * tokens // 4  # with repetitions, and no multiple of a block
  index_BQ = jnp.asarray(rng.integers(0, tokens, (2, asked)))
  expected, blocks = read_and_gradients(
    Everything(), ids.take(index_BQ), ids, False, block
  )
  assert_close(blocks, expected)


def test_a_query_that_sees_no_key_reads_zero():
  class Blind(ALiBi):
    def visible(self, query, key):
      return query.index != 3

  ids = line(6, examples=2)
  args = inputs(Blind(), 6, 6)
  attend = functools.partial(
    blockwise, PairRule(Blind(), 2), query_ids=ids, key_ids=ids, in_order=True
  )
  gradients, out_BQHD = jax.jit(
    lambda *args: with_gradient(functools.partial(attend, block=2), *args)
  )(*args)
  assert not out_BQHD[:, 3].any()
  assert out_BQHD[:, [0, 1, 2, 4, 5]].all()
  assert not gradients[1][:, 3].any()
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_blocks_of_the_future_are_left_out():
  ids = line(64)
  args = inputs(NoPosition(), 64, 64, examples=1)

  def flops(in_order, gradient):
    def attend(*args):
      rule = PairRule(NoPosition(), 2)
      return blockwise(rule, *args, ids, ids, in_order=in_order, block=8)

    run = functools.partial(with_gradient, attend) if gradient else attend
    return count_flops(run, *args)

  all_pairs = 2 * 2 * 64 * 64 * 4 * 2  # products, 2 m k n, heads
  assert flops(False, gradient=False) == all_pairs
  # 36 of 64 pairs of blocks lie on or below the diagonal.
  assert flops(True, gradient=False) == all_pairs * 36 / 64
  # Backward, five products: the logits once more and four cotangents.
  assert flops(True, gradient=True) == all_pairs * 36 / 64 * (1 + 5 / 2)


def test_memory_is_linear_in_length():
  """Temporaries of the compiled program; nothing runs."""

  def temporary_bytes(tokens):
    ids, rule = line(tokens), PairRule(ALiBi(), 2)

    def attend(*args):
      return blockwise(rule, *args, ids, ids, in_order=True, block=64)

    args = jax.eval_shape(lambda: inputs(ALiBi(), tokens, tokens, 1))
    run = jax.jit(lambda *args: with_gradient(attend, *args)[0])
    analysis = run.lower(*args).compile().memory_analysis()
    return analysis.temp_size_in_bytes

  short, long = temporary_bytes(2048), temporary_bytes(4096)
  assert long < 2.1 * short
  # A twentieth of the logits of all pairs: two heads, four bytes.
  assert short < 2 * 2048**2 * 4 / 20


@pytest.mark.slow
@pytest.mark.parametrize('position', [ALiBi(), FIRE()], ids=POSITIONS.name_of)
def test_the_benchmarks_claim_at_16384_tokens(position):
  dense_mib, blocks_mib = (
    temporaries(method, position, 16_384) for method in ('dense', 'blockwise')
  )
  assert blocks_mib < dense_mib / 20


def test_bfloat16_accumulates_in_float32():
  ids = line(24, examples=2)
  params, *arrays = inputs(PlaceBias(), 24, 24)
  half = [x.astype(jnp.bfloat16) for x in arrays]

  def attend(*args):
    rule = PairRule(PlaceBias(), 2)
    return blockwise(rule, *args, ids, ids, in_order=True, block=5)

  @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
  def program(params, half):
    # The same rounded numbers, computed in float32.
    exact = [x.astype(jnp.float32) for x in half]
    return [with_gradient(attend, params, *x) for x in (half, exact)]

  (gradients, out_BQHD), expected = program(params, half)
  assert out_BQHD.dtype == jnp.bfloat16
  assert [x.dtype for x in gradients[1:]] == [jnp.bfloat16] * 4
  assert gradients[0]['bias'].dtype == jnp.float32
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(
      one.astype(float), other, atol=0.02 * abs(other).max()
    ),
    (gradients, out_BQHD),
    expected,
  )


def test_replicas_examples_and_heads_lie_on_a_mesh():
  position, ids = PlaceBias(), line(16, examples=4)
  args = [inputs(position, 16, 16, examples=4) for _ in range(2)]
  args_R = jax.tree.map(lambda *x: jnp.stack([x[0], 1.5 * x[1]]), *args)

  def attend(*args):
    rule = PairRule(position, 2)
    return blockwise(rule, *args, ids, ids, in_order=True, block=8)

  def program(*args_R):
    return jax.vmap(
      functools.partial(with_gradient, attend), spmd_axis_name='replica'
    )(*args_R)

  whole = jax.jit(program)(*args_R)
  mesh = make_mesh(MeshConfig(replica=2, data=2, model=2))
  table, states = P('replica', None, 'model'), P('replica', 'data', None)
  pairs = {'bias': table, 'decay': P('replica', 'model')}
  specs = [pairs, *[P(*states, 'model', None)] * 3, P(*states)]
  shardings = jax.tree.map(
    lambda spec: NamedSharding(mesh, spec),
    tuple(specs),
    is_leaf=lambda x: isinstance(x, P),
  )
  with ShardingRules().on(mesh):
    run = jax.jit(program, in_shardings=shardings)
    text = run.lower(*args_R).compile().as_text()
    spread = run(*args_R)
  assert_close(spread, whole)
  # Gradients of the table are added up; nothing else moves.
  assert 'all-reduce' in text
  assert 'all-gather' not in text and 'all-to-all' not in text


HALF = {'dtype': 'bfloat16', 'width': 256}


@pytest.mark.parametrize(
  ('on', 'tokens', 'settings', 'expected'),
  [
    # A hard window's keys are gathered, wherever.
    (CPU, 128, {'position': PlaceWindow()}, 'gathered'),
    (TPU, 4096, {'position': PlaceWindow(), **HALF}, 'gathered'),
    (CPU, 127, {'position': PlaceWindow()}, 'dense'),
    # Any bias, a block at a time.
    (CPU, 1023, {'position': FIRE()}, 'dense'),
    (CPU, 1024, {'position': FIRE()}, 'blockwise'),
    (H100, 1024, {'position': ALiBi(), **HALF}, 'blockwise'),
    (TPU, 1024, {'position': Everything(), **HALF}, 'blockwise'),
    (CPU, 1024, {'position': Rotary(), **HALF}, 'blockwise'),
    # The kernels: causal mask alone, half precision, their own platform.
    (H100, 512, {'position': Rotary(), **HALF}, 'fused'),
    (TPU, 512, {'position': Abacus(), **HALF}, 'splash'),
    (TPU, 511, {'position': Abacus(), **HALF}, 'dense'),
    (H100, 512, {'position': Rotary(), 'width': 256}, 'dense'),
    (TPU, 1024, {'position': Rotary(), 'width': 256}, 'blockwise'),
    (Hardware('gpu', '7.5'), 1024, HALF, 'blockwise'),
    (Hardware('gpu', 'gfx942'), 1024, HALF, 'blockwise'),
    (Hardware('gpu', '12.0'), 1024, HALF, 'fused'),
    (H100, 1024, HALF | {'heads': 1}, 'blockwise'),
    (H100, 1024, HALF | {'width': 48}, 'blockwise'),
    (TPU, 1024, HALF | {'width': 128}, 'blockwise'),
    (TPU, 1024, HALF | {'width': 512}, 'splash'),
    # A rule of its own is computed by nobody else.
    (TPU, 4096, {'position': OwnRule(), **HALF}, 'dense'),
  ],
)
def test_auto_chooses_by_encoding_length_and_hardware(
  on, tokens, settings, expected
):
  config = TransformerConfig(**{'heads': 4} | settings)
  windowed = isinstance(config.position, PlaceWindow)
  assert choose(config, on, tokens, windowed=windowed) == expected
  # What is chosen can also be asked for, at any length.
  asked = dataclasses.replace(config, attention=expected)
  assert choose(asked, on, 1, windowed=windowed) == expected


@pytest.mark.parametrize(
  ('asked', 'on', 'settings', 'words'),
  [
    ('gathered', CPU, {'position': FIRE()}, ['position=fire', 'hard window']),
    ('blockwise', TPU, {'position': OwnRule()}, ['OwnRule', 'rule of its own']),
    ('fused', CPU, HALF, ['position=none', 'NVIDIA', 'auto, dense, blockwise']),
    ('fused', H100, HALF | {'position': ALiBi()}, ['alibi', 'causal mask']),
    ('fused', H100, {}, ['dtype=bfloat16, not float32']),
    ('fused', H100, HALF | {'width': 48}, ['not 12']),
    ('splash', H100, HALF, ['a TPU, not a gpu', 'blockwise, fused']),
    ('splash', TPU, HALF | {'width': 128}, ['64', 'not 32']),
  ],
)
def test_a_backend_that_cannot_serve_is_refused(asked, on, settings, words):
  config = TransformerConfig(attention=asked, **settings)
  with pytest.raises(UsageError) as caught:
    choose(config, on, 4096, windowed=False)
  message = str(caught.value)
  for word in [f'--model.attention={asked}', 'possible here', *words]:
    assert word in message
  assert '\n' not in message


def test_a_model_refuses_before_anything_is_computed():
  model = build(attention='splash', dtype='bfloat16')
  with pytest.raises(UsageError, match='needs a TPU, not a cpu'):
    jax.eval_shape(model.init, jax.random.key(0), *sums())


def test_hardware_is_that_of_the_mesh_in_use():
  if jax.default_backend() == 'cpu':
    assert hardware() == CPU
  device = AbstractDevice('TPU v5 lite', None, 'tpu')
  mesh = AbstractMesh((1,), ('data',), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh):
    assert hardware() == TPU


def test_a_model_hands_kernels_scaled_queries_of_all_tokens(monkeypatch):
  calls = []

  def kernel(*arrays_BTHD):
    calls.append([(x.shape, x.dtype) for x in arrays_BTHD])
    return fused(*arrays_BTHD, implementation='xla')

  monkeypatch.setitem(KERNELS, 'fused', kernel)
  monkeypatch.setattr(transformer, 'hardware', lambda: H100)
  in_blocks_of(monkeypatch, 4)
  settings = dict(position=Rotary(), logit_scale='log_length', logit_gain=2.0)
  models = [
    build(**settings, dtype='bfloat16', depth=3, attention=a)
    for a in ('dense', 'fused')
  ]
  dense, kernels = at_some_tokens(models, random_params(models[0]))
  # Layers are scanned, hence traced once; the last has some queries alone.
  assert len(calls) == 1
  state = ((3, sums()[0].shape[1], 2, 8), jnp.bfloat16)
  assert calls[0] == [state] * 3
  for one, other in zip(*map(jax.tree.leaves, (kernels, dense)), strict=True):
    assert abs(one - other).mean() < 0.03 * abs(other).mean() + 1e-6


def half_inputs(tokens, heads=2, width=64):
  arrays = draw(3, 2, tokens, heads, width).astype(jnp.bfloat16)
  return [x * (width**-0.5 if i == 0 else 1) for i, x in enumerate(arrays)]


def gaps(kernel, arrays):
  """Largest differences from the reference, output and gradients."""
  reference = functools.partial(fused, implementation='xla')
  some, others = (
    jax.tree.leaves(jax.jit(functools.partial(with_gradient, attend))(*arrays))
    for attend in (kernel, reference)
  )
  return [
    float(abs(x - y).max() / abs(y).max())
    for x, y in zip(*map(jax.device_get, (some, others)), strict=True)
  ]


def test_splash_pads_and_runs_on_each_devices_own_heads():
  """200 tokens, no multiple of its blocks; the kernel is interpreted."""
  kernel = functools.partial(splash, interpret=True)
  with ShardingRules().on(make_mesh(MeshConfig(data=2, model=2))):
    assert max(gaps(kernel, half_inputs(200))) < 0.01


@pytest.mark.accelerator
@pytest.mark.parametrize('tokens', [200, 1024])
def test_the_platforms_kernel_equals_the_reference(tokens):
  config = TransformerConfig(width=128, heads=2, dtype='bfloat16')
  backend = choose(config, hardware(), 4096, windowed=False)
  assert backend in KERNELS
  assert max(gaps(KERNELS[backend], half_inputs(tokens))) < 0.02


def test_every_encoding_has_a_way_at_every_length():
  names = [n for n in POSITIONS.names() if POSITIONS.get(n).cost != 'D']
  layers = [layer for n in names for layer in POSITIONS.get(n)().layers]
  for position, on in itertools.product(layers, (CPU, H100, TPU)):
    config = TransformerConfig(position=position, **HALF)
    assert choose(config, on, 10_000, windowed=False) != 'dense'
