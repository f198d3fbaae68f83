"""Encodings whose positions depend on content, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import (
  Encoded,
  Recorder,
  assert_encodes,
  softmax_of,
)

from extrap.models.positions import CoPE, PaTH, StickBreaking, Wall, path, wall
from extrap.models.positions.position import Pairs


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
  """Three chunks in seven tokens, of which the last is not full."""
  monkeypatch.setattr(path, 'CHUNK', 3)
  monkeypatch.setattr(wall, 'CHUNK', 3)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def product(case, head, n, m):
  return case.query[head, n] @ case.key[head, m] / np.sqrt(case.width)


def forgotten(case, head, n, m):
  """The log of the forget gates of all tokens after m, up to n."""
  kernel, bias = case.params['forget_kernel'], case.params['forget_bias']
  gates = [case.x[s] @ kernel + bias for s in range(m + 1, n + 1)]
  return sum(np.log(sigmoid(gate[head])) for gate in gates)


def cope(npos, counted, divided):
  def logit(case, head, n, m):
    query, root = case.query[head, n], np.sqrt(case.width)
    met = [counted(case, head, j) @ query for j in range(m, n + 1)]
    gates = sigmoid(np.array(met) / root)
    position = min(gates.sum(), npos - 1)
    low = int(position)
    row = case.params['table'][low]
    if position > low:
      row = row + (position - low) * (case.params['table'][low + 1] - row)
    extra = query @ row
    return product(case, head, n, m) + (extra / root if divided else extra)

  return softmax_of(logit)


def by_key(case, head, j):
  return case.key[head, j]


def by_value(case, head, j):
  return case.value[head, j]


def by_projection(case, head, j):
  return case.x[j] @ case.params['counted'][:, head]


def wall_logit(case, head, n, m):
  kernel, bias = case.params['decay_kernel'], case.params['decay_bias']
  kept = np.ones(case.width)
  for s in range(m + 1, n + 1):
    kept *= sigmoid(case.x[s] @ kernel[:, head] + bias[head])
  query = case.query[head, n] * kept
  return query @ case.key[head, m] / np.sqrt(case.width)


def wall_and_gate(case, head, n, m):
  return wall_logit(case, head, n, m) + forgotten(case, head, n, m)


def direction(case, head, s):
  p = case.params
  low_rank = 'w_down' in p

  def projected(t):
    low = case.x[t] @ p['w_down'] if low_rank else case.x[t]
    return low @ (p['w_up'] if low_rank else p['w'])[:, head]

  w = projected(s)
  if 'conv' in p:
    kernel = p['conv'][:, head]
    w = sum(kernel[i] * projected(s - i) for i in range(len(kernel)) if s >= i)
    w = w * sigmoid(w)
  return w / np.linalg.norm(w)


def path_logit(case, head, n, m):
  query = case.query[head, n]
  for s in range(n, m, -1):
    gate = case.x[s] @ case.params['beta_kernel'] + case.params['beta_bias']
    w = direction(case, head, s)
    query = query - 2 * sigmoid(gate[head]) * (w @ query) * w
  return query @ case.key[head, m] / np.sqrt(case.width)


def path_and_gate(case, head, n, m):
  return path_logit(case, head, n, m) + forgotten(case, head, n, m)


def stick(current, remainder):
  def read(case, head, n):
    left, out = 1.0, np.zeros(case.width)
    for m in range(n if current else n - 1, -1, -1):
      share = left * sigmoid(product(case, head, n, m))
      left, out = left - share, out + share * case.value[head, m]
    return out + left * case.value[head, n] if remainder else out

  return read


@pytest.mark.parametrize(
  ('position', 'read', 'others'),
  [
    (
      CoPE(npos=3),
      cope(3, by_key, True),
      (CoPE(npos=3, divided=False), CoPE(npos=3, gates='values')),
    ),
    (CoPE(npos=2, gates='values'), cope(2, by_value, True), ()),
    (
      CoPE(npos=4, gates='own', divided=False),
      cope(4, by_projection, False),
      (CoPE(npos=4, divided=False), CoPE(npos=4, gates='own')),
    ),
    (Wall(bias=0.0), softmax_of(wall_logit), ()),
    (
      Wall(bias=0.0, forget=True),
      softmax_of(wall_and_gate),
      (Wall(bias=0.0),),
    ),
    (PaTH(rank=4), softmax_of(path_logit), (PaTH(rank=4, conv=0),)),
    (
      PaTH(rank=0, conv=0, forget=True),
      softmax_of(path_and_gate),
      (PaTH(rank=0, conv=0),),
    ),
    (
      StickBreaking(),
      stick(current=False, remainder=True),
      (StickBreaking(current=True), StickBreaking(remainder=False)),
    ),
    (
      StickBreaking(current=True, remainder=False),
      stick(current=True, remainder=False),
      (),
    ),
  ],
  ids=lambda x: x.name if hasattr(x, 'name') else '',
)
def test_an_encoding_equals_its_formula(position, read, others):
  assert_encodes(position, read, others, blocks=False)


@pytest.mark.parametrize(
  ('position', 'name', 'read'),
  [
    (Wall(bias=0.0), 'position_decay_kernel', softmax_of(wall_logit)),
    (PaTH(rank=4), 'position_beta_kernel', softmax_of(path_logit)),
    (StickBreaking(), 'query', stick(current=False, remainder=True)),
  ],
  ids=['wall', 'path', 'stick_breaking'],
)
def test_extreme_gates_are_exact(position, name, read):
  """Open or closed, without rounding, overflow or undefined gradients."""
  with jax.disable_jit():
    encoded = Encoded(position)
  encoded.params['own'][name] *= 1000

  @jax.jit
  def read_and_gradient(params, x_BTE):
    loss = lambda *args: (jnp.sum(out := encoded.read(*args)), out)  # noqa: E731
    return jax.grad(loss, has_aux=True)(params, x_BTE)

  gradient, out = read_and_gradient(encoded.params, encoded.x_BTE)
  with np.errstate(over='ignore'):
    expected = encoded.by_formula(read)
  np.testing.assert_allclose(out, expected, atol=2e-5)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_what_parameters_start_with():
  made, x_BTE = {}, jnp.ones((1, 2, 6))
  record = Recorder(made, jax.random.key(0))
  Wall(forget=True).gate(x_BTE, record, 3)
  assert (made.pop('decay_bias') == 8).all()
  assert (made.pop('forget_bias') == 8).all()
  PaTH(forget=True).gate(x_BTE, record, 3)
  assert not made['beta_bias'].any() and not made['forget_bias'].any()
  assert made['w_down'].shape == (6, 32)
  assert made['w_up'].shape == (32, 3, 2)
  x_BTHD, one = jnp.ones((1, 2, 3, 2)), jnp.ones((1, 1, 1, 1), bool)
  pairs = Pairs(x_BTHD, x_BTHD, x_BTHD, None, one, one, None, None)
  CoPE().scores(pairs, record)
  assert made['table'].shape == (64, 2) and not made['table'].any()
  PaTH().directions(x_BTHD, record)
  assert made['conv'].shape == (3, 3, 2)


def test_the_same_reflection_many_times_is_solved():
  """Powers of this matrix overflow; its inverse has no entry above 2."""
  x_CS = np.triu(np.full((37, 37), 2, np.float32), 1)
  with jax.disable_jit():
    inverse = path.unit_inverse(jnp.asarray(x_CS)[None, None])
  gap_CS = np.array(inverse[0, 0]) @ (np.eye(37) + x_CS) - np.eye(37)
  assert abs(gap_CS).max() < 1e-5
