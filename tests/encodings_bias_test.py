"""Biases by distance, adapted logits and forget gates against formulas.

Shape key: B examples, Q queries, K keys, H heads, C channels, M keys so far,
W keys in a window.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import (
  Encoded,
  assert_encodes,
  softmax_of,
  structure,
  with_gradient,
)
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models import TransformerConfig
from extrap.models.attention import Attention, View, empty_cache
from extrap.models.positions import (
  CPB,
  DAPE,
  DAPE2,
  KERPLE,
  T5,
  Forgetting,
  HardALiBi,
  PaTH,
  Sandwich,
  relative,
)


def product(case, head, n, m):
  return case.query[head, n] @ case.key[head, m] / np.sqrt(case.width)


def windowed(windows):
  def logit(case, head, n, m):
    inside = windows[head] == 0 or m > n - windows[head]
    return product(case, head, n, m) if inside else -np.inf

  return logit


def t5_bucket(distance, buckets, largest):
  """As the authors' code, where no key follows the query."""
  exact = buckets // 2
  if distance < exact:
    return distance
  far = np.log(distance / exact) / np.log(largest / exact)
  return min(exact + int(far * (buckets - exact)), buckets - 1)


def t5(case, head, n, m):
  bucket = t5_bucket(n - m, 5, 5)
  return product(case, head, n, m) + case.params['bias'][bucket, head]


def kernel(form, floor):
  def bias(params, head, t):
    p, a = (max(params[name][head], floor) for name in 'pa')
    if form == 'log':
      return -p * np.log(1 + a * t)
    return -a * t ** min(p, 2)

  return bias


def kerple(form, floor):
  bias = kernel(form, floor)
  return lambda case, head, n, m: (
    product(case, head, n, m) + bias(case.params, head, n - m)
  )


def sandwich(case, head, n, m):
  angles = [(n - m) / 10_000 ** (2 * j / 128) for j in range(64)]
  ratio = (head + 1) * 8 / len(case.query)
  return product(case, head, n, m) + np.cos(angles).sum() / ratio


def cpb(features):
  def logit(case, head, n, m):
    p = case.params
    hidden = np.maximum(features(n - m) @ p['in_kernel'] + p['in_bias'], 0)
    return product(case, head, n, m) + hidden @ p['out_kernel'][:, head]

  return logit


def fourier(t):
  angles = t * np.exp(-np.arange(3) * np.log(50.0) / 3)
  return np.concatenate([np.sin(angles), np.cos(angles)])


def convolved(x_CM, kernel_WCF):
  """Each key's neighbourhood times the kernel, zero outside, [F, M]."""
  side, keys = len(kernel_WCF) // 2, x_CM.shape[1]
  out = np.zeros((kernel_WCF.shape[2], keys))
  for m in range(keys):
    for w, kernel_CF in enumerate(kernel_WCF):
      if 0 <= m + w - side < keys:
        out[:, m] += x_CM[:, m + w - side] @ kernel_CF
  return out


def dape(case, head, n, m):
  """A + B + f([A; B]) over the keys that query n sees and no others."""
  heads, bias = range(len(case.query)), kernel('log', 0.5)
  scores = [[product(case, h, n, k) for k in range(n + 1)] for h in heads]
  biases = [[bias(case.params, h, n - k) for k in range(n + 1)] for h in heads]
  x_CM = np.array(scores + biases)
  hidden = convolved(x_CM, case.params['mix_in'])
  hidden += case.params['mix_bias'][:, None]
  hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
  adapted_HM = convolved(hidden, case.params['mix_out'])
  return scores[head][m] + biases[head][m] + adapted_HM[head, m]


def forgetting(case, head, n, m):
  p = case.params
  gates = case.x[m + 1 : n + 1] @ p['gate'][:, head] + p['gate_bias'][head]
  return product(case, head, n, m) - np.log(1 + np.exp(-gates)).sum()


@pytest.mark.parametrize(
  ('position', 'logit', 'others', 'settings'),
  [
    (
      HardALiBi(windows=(3, 0)),
      windowed((3, 0)),
      (HardALiBi(windows=(2, 0)), HardALiBi(windows=(3, 6)), HardALiBi()),
      {},
    ),
    (
      T5(buckets=5, max_distance=5),
      t5,
      (T5(buckets=5, max_distance=9),),
      {},
    ),
    (
      KERPLE(floor=0.5),
      kerple('log', 0.5),
      (KERPLE(floor=0.4), KERPLE(form='power', floor=0.5)),
      {},
    ),
    (
      KERPLE(form='power', floor=0.5),
      kerple('power', 0.5),
      (KERPLE(form='power', floor=0.4),),
      {},
    ),
    (
      Sandwich(),
      sandwich,
      (Sandwich(width=126), Sandwich(base=9e3), Sandwich(compression=7.0)),
      {},
    ),
    (
      CPB(hidden=4),
      cpb(lambda t: np.array([t])),
      (CPB(hidden=4, form='log'),),
      {},
    ),
    (CPB(hidden=4, form='log'), cpb(lambda t: np.log([1 + t])), (), {}),
    (
      CPB(hidden=4, form='fourier', waves=6, base=50.0),
      cpb(fourier),
      (CPB(hidden=4, form='fourier', waves=6, base=60.0),),
      {},
    ),
    (
      DAPE(hidden=3, floor=0.5),
      dape,
      (DAPE(hidden=3, floor=0.4), DAPE(hidden=3, floor=0.5, leak=0.02)),
      {'blocks': False},
    ),
    (
      DAPE2(hidden=3, floor=0.5),
      dape,
      (DAPE2(hidden=3, floor=0.5, leak=0.02),),
      {'blocks': False},
    ),
    (Forgetting(), forgetting, (), {}),
  ],
  ids=lambda x: x.name if hasattr(x, 'name') else '',
)
def test_an_encoding_equals_its_formula(position, logit, others, settings):
  encoded = assert_encodes(position, softmax_of(logit), others, **settings)
  if isinstance(position, KERPLE):
    # Some parameters lie below the floor, and some above.
    values = [encoded.params['own'][f'position_{name}'] for name in 'pa']
    below = np.concatenate(values) < 0.5
    assert below.any() and not below.all()


@pytest.mark.parametrize('pairs', [1, 50])
def test_a_network_takes_some_queries_at_a_time(pairs, monkeypatch):
  encoded = Encoded(DAPE2(hidden=3, floor=0.5))
  whole = with_gradient(encoded, 'dense')
  monkeypatch.setattr(relative, 'HELD', 3 * pairs)
  looped, loop = [], jax.lax.map

  def counted(*args, **settings):
    looped.append(args)
    return loop(*args, **settings)

  monkeypatch.setattr(jax.lax, 'map', counted)
  in_parts = with_gradient(encoded, 'dense')
  assert looped
  same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(same, in_parts, whole)


def initial(position, heads=8, width=8, **settings):
  """What the encoding's parameters start from, by name."""
  config = TransformerConfig(
    width=heads * width, heads=heads, position=position, **settings
  )
  ids = position.prepare(structure(1), None, False)
  x_BTE = jnp.zeros((*structure(1).index.shape, config.width))
  with jax.disable_jit():
    variables = Attention(config).init(
      jax.random.key(0), x_BTE, x_BTE, View(ids, ids)
    )
  prefix = 'position_'
  return {
    name.removeprefix(prefix): np.asarray(value)
    for name, value in nn.unbox(variables)['params'].items()
    if name.startswith(prefix)
  }


@pytest.mark.parametrize(
  ('position', 'shapes'),
  [
    (T5(), {'bias': (32, 8)}),
    (KERPLE(), {'p': (8,), 'a': (8,)}),
    (
      CPB(),
      {'in_kernel': (1, 256), 'in_bias': (256,), 'out_kernel': (256, 8)},
    ),
    (
      CPB(form='fourier'),
      {'in_kernel': (16, 256), 'in_bias': (256,), 'out_kernel': (256, 8)},
    ),
    (
      DAPE(),
      {
        'p': (8,),
        'a': (8,),
        'mix_in': (1, 16, 32),
        'mix_bias': (32,),
        'mix_out': (1, 32, 8),
      },
    ),
    (
      DAPE2(),
      {
        'p': (8,),
        'a': (8,),
        'mix_in': (3, 16, 32),
        'mix_bias': (32,),
        'mix_out': (3, 32, 8),
      },
    ),
    (Forgetting(), {'gate': (64, 8), 'gate_bias': (8,)}),
    (HardALiBi(), {}),
    (Sandwich(), {}),
  ],
  ids=lambda x: getattr(x, 'name', ''),
)
def test_parameters_start_as_published(position, shapes):
  params = initial(position)
  assert {name: x.shape for name, x in params.items()} == shapes
  for name, x in params.items():
    if name in ('bias', 'gate'):
      assert x.std() == pytest.approx(0.1 if name == 'bias' else 0.02, rel=0.2)
    elif name == 'gate_bias':
      assert not x.any()
    elif name in 'pa':
      high = 2 if name == 'p' else 1
      assert 0 <= x.min() < high / 2 < x.max() <= high
    else:
      kernel = params[name.replace('bias', 'kernel' if 'in_' in name else 'in')]
      bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
      assert -bound <= x.min() < -0.8 * bound
      assert 0.8 * bound < x.max() <= bound


def bias_at(position, distances, heads=2, offset=0, **params):
  """The bias of one query at each distance, [H, K], with these parameters."""
  last = offset + max(distances)
  query_T, key_T = np.array([last]), last - np.asarray(distances)
  query = structure(1, index=query_T, position=query_T)
  key = structure(len(key_T), index=key_T, position=key_T)
  bias_BHQK = position.pair_bias(
    query.expand(1, 3),
    key.expand(1, 2),
    lambda name, init, shape: jnp.asarray(params[name]),
    heads,
  )
  return bias_BHQK[0, :, 0]


@pytest.mark.parametrize(
  'settings', [(32, 128), (32, 64), (8, 1000), (7, 9), (2, 2), (6, 4)]
)
def test_t5_buckets_are_the_authors(settings):
  buckets, largest = settings
  table = np.broadcast_to(np.arange(float(buckets))[:, None], (buckets, 2))
  position = T5(buckets=buckets, max_distance=largest)
  found_HK = bias_at(position, range(1200), bias=table)
  expected = [t5_bucket(t, buckets, largest) for t in range(1200)]
  np.testing.assert_array_equal(found_HK, [expected, expected])
  if settings == (32, 128):
    np.testing.assert_array_equal(
      found_HK, bias_at(T5(), range(1200), bias=table)
    )


def test_kerple_clamps_and_a_gradient_lifts_what_is_clamped():
  params = dict(p=np.array([-1.0, 2.5]), a=np.array([0.5, 0.001]))
  for form in ('log', 'power'):
    bias_HK = bias_at(KERPLE(form=form), range(9), **params)
    formula = kernel(form, 0.01)
    expected = [[formula(params, h, t) for t in range(9)] for h in range(2)]
    np.testing.assert_allclose(bias_HK, expected, rtol=1e-5)

    def total(params, form=form):
      return bias_at(KERPLE(form=form), range(9), **params).sum()

    exact = {name: jnp.asarray(x, jnp.float32) for name, x in params.items()}
    slopes = jax.grad(total)(exact)
    assert all((slope < 0).all() for slope in slopes.values())


def test_by_default_half_of_the_heads_have_windows_of_a_head_more_each():
  bias_HK = bias_at(HardALiBi(), range(4), heads=5)
  rows = ([1, 0, 0, 0], [1, 1, 0, 0], *[[1, 1, 1, 1]] * 3)
  np.testing.assert_array_equal(bias_HK, np.where(rows, 0, -np.inf))


def test_far_along_sandwich_tells_near_keys_apart():
  """Angles of near keys are exact wherever they stand."""
  at_start = bias_at(Sandwich(), range(5))
  far_along = bias_at(Sandwich(), range(5), offset=1_000_000)
  np.testing.assert_array_equal(far_along, at_start)


def test_gates_start_with_decay_times_in_geometric_steps():
  (bias_H,) = (
    x
    for name, x in initial(Forgetting(shortest=2, longest=16), 4).items()
    if name == 'gate_bias'
  )
  gate_H = 1 / (1 + np.exp(-bias_H.astype(float)))
  np.testing.assert_allclose(gate_H ** [2, 4, 8, 16], np.exp(-1), rtol=1e-5)


def test_gates_are_kept_and_summed_in_float32():
  config = TransformerConfig(position=Forgetting(), dtype='bfloat16')
  assert empty_cache(config, (), (2, 3)).gate.dtype == jnp.float32
  # The last query of many reads near keys as it would those of a few.
  rng = np.random.default_rng(0)
  gate_BKH = -rng.exponential(size=(1, 16_384, 1)).astype(np.float32)
  after_K = np.append(gate_BKH[0, -19:, 0], 0)
  expected = np.cumsum(after_K[::-1].astype(float))[::-1]
  for bias_BKH in (
    Forgetting().key_bias(None, jnp.asarray(gate_BKH)),
    PaTH(forget=True).key_bias(None, {'forget': jnp.asarray(gate_BKH)}),
  ):
    np.testing.assert_allclose(bias_BKH[0, -20:, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (
      lambda: T5(max_distance=16),
      r'max_distance=16 is not beyond the 16 .*buckets=32',
    ),
    (lambda: Sandwich(width=7), r'position\.width=7 is not even'),
    (lambda: CPB(waves=5), r'position\.waves=5 is not even'),
    (lambda: DAPE2(kernel=2), r'position\.kernel=2 is not odd'),
    (lambda: Forgetting(longest=8), r'shortest=0 with .*longest=8: give both'),
    (lambda: Forgetting(shortest=8), r'shortest=8 with .*longest=0: give both'),
    (
      lambda: HardALiBi(windows=(2, 0, 0)).check(4, 8),
      r'windows=2,0,0: give one to each of --model\.heads=4',
    ),
  ],
)
def test_settings_that_cannot_serve_are_refused(make, words):
  with pytest.raises(UsageError, match=words) as caught:
    make()
  assert '\n' not in str(caught.value)
