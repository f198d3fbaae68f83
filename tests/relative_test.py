"""Biases by distance: fewer numbers than pairs, a cache at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import encodings
from extrap.language import TEXT
from extrap.models.positions import (
  CPB,
  FIRE,
  KERPLE,
  POSITIONS,
  T5,
  ALiBi,
  relative,
)


def line(tokens):
  """Structure of one row of text."""
  tokens_BT = jnp.zeros((1, tokens), jnp.int32)
  return TEXT.structure(tokens_BT, tokens_BT)


def bias_of(position, query, key, params):
  """Its bias of pairs, [B, H, Q, K]."""
  return position.pair_bias(
    query.expand(1, 3), key.expand(1, 2), lambda name, *_: params[name], 2
  )


def some_params(position):
  """Random parameters of a bias of two heads."""
  rng, found = np.random.default_rng(0), {}

  def declare(name, init, shape):
    found[name] = jnp.asarray(rng.normal(size=shape), jnp.float32)
    return found[name]

  one = line(1)
  position.pair_bias(one.expand(1, 3), one.expand(1, 2), declare, 2)
  return found


@pytest.mark.parametrize('rows', [1, 2, 5])
def test_numbers_are_spread_over_diagonals(rows):
  count = rows + 6
  x_BH1N = jnp.arange(2 * count, dtype=jnp.float32).reshape(1, 2, 1, count)
  found = relative.along_diagonals(x_BH1N, rows)
  i, j = np.ogrid[:rows, : count - rows + 1]
  assert np.array_equal(
    found, np.asarray(x_BH1N)[:, :, 0][..., j - i + rows - 1]
  )


@pytest.mark.parametrize(
  'position',
  [T5(buckets=8, max_distance=10), KERPLE(), CPB(hidden=5, form='log')],
  ids=POSITIONS.name_of,
)
def test_counted_tokens_have_the_bias_of_their_distances(position):
  params = some_params(position)
  ids = position.prepare(line(12), None, train=False)
  assert ids.counted
  queries, keys = (
    jax.tree.map(lambda x, part=part: x[:, part], ids)
    for part in (slice(5, 12), slice(2, 11))
  )
  grads = [
    jax.grad(
      lambda params, query=query, key=key: jnp.sum(
        jnp.sin(bias_of(position, query, key, params))
      )
    )(params)
    for query, key in (
      (queries, keys),
      (queries.replace(counted=False), keys),
    )
  ]
  for one, other in zip(*map(jax.tree.leaves, grads), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    bias_of(position, queries, keys, params),
    bias_of(position, queries, keys.replace(counted=False), params),
    rtol=1e-5,
    atol=1e-6,
  )


def test_other_positions_are_not_counted():
  ids = KERPLE().prepare(line(12), None, train=False)
  assert ids.counted and ids.expand(1, 2).counted
  assert ids.replace(index=ids.index).counted
  assert not ids.replace(position=ids.position // 2).counted
  assert not ids.take(jnp.array([[0, 3]])).counted


def test_networks_are_computed_a_few_pairs_at_a_time(monkeypatch):
  position = FIRE(threshold=4)
  params, ids = some_params(position), line(11)

  def biased(params, position_BT):
    of = ids.replace(position=position_BT)
    return bias_of(position, of, of, params)

  def loss(*args):
    return jnp.sum(jnp.sin(biased(*args)))

  args = params, jnp.arange(11.0)[None] * 1.5
  found = []
  for held in (2**18, 30 * position.hidden):  # 30 of 121 pairs, and one.
    monkeypatch.setattr(relative, 'HELD', held)
    both = jax.jit(lambda *args: (biased(*args), jax.grad(loss, (0, 1))(*args)))
    found.append((str(jax.make_jaxpr(both)(*args)), both(*args)))
  (whole_text, whole), (parts_text, parts) = found
  assert 'scan' not in whole_text and 'scan' in parts_text
  for one, other in zip(*map(jax.tree.leaves, (whole, parts)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_memory_of_a_whole_model_is_linear_in_length():
  """Biases of all pairs are not kept between layers; nothing runs."""
  short, long = (
    encodings.temporaries(ALiBi(), tokens) for tokens in (4096, 8192)
  )
  assert long < encodings.LINEAR * short
  # Twenty MiB beside what the encoding has nothing to do with.
  none = encodings.temporaries(POSITIONS.get('none')(), 8192)
  assert long < none + 20


def test_the_benchmark_measures_an_encoding_beside_rotary(monkeypatch):
  monkeypatch.setattr(encodings, 'temporaries', lambda position, tokens: tokens)
  bases = [lambda: 'all pairs', lambda: 'blocks']
  benchmark = encodings.Benchmark(
    tokens=8, batch_size=2, long=8, repeats=1, memory=8
  )
  monkeypatch.setattr(
    encodings,
    'seconds',
    lambda call: 1.0 if call is bases[0] else 2.0 if call() else 3.0,
  )

  def row(name):
    found = encodings.measure(benchmark, name, bases)
    return dict(zip(encodings.HEADERS, found, strict=True))

  kerple = row('kerple')
  assert kerple['over_rotary'] == '3.00' and kerple['in_blocks'] == '1.50'
  assert kerple['growth'] == '2.00' and kerple['holds'] == 'False'
  monkeypatch.setattr(encodings, 'LIMITS', encodings.LIMITS | {'C': 3.0})
  assert row('kerple')['holds'] == 'True'
  cope = row('cope')
  assert (cope['in_blocks'], cope['growth'], cope['aim']) == ('', '', '')
  assert cope['holds'] == 'True'


def test_aims_are_of_encodings_that_are_made_as_rotary_is():
  aims = {
    name: encodings.limit_of(POSITIONS.get(name)())
    for name in ('yarn', 'log_n', 'pope', 'clex', 'forgetting', 'fire', 'cope')
  }
  assert aims == {
    'yarn': 1.1,  # As many numbers a head, frequencies fixed.
    'log_n': 1.1,
    'pope': None,
    'clex': None,
    'forgetting': 1.1,
    'fire': 2.0,
    'cope': None,
  }
