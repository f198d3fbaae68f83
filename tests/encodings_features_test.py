"""Encodings against their formulas: feature maps, and scores that are combined.

A formula turns the query by the distance that an encoding tells, where the
encodings turn queries and keys by positions.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import (
  HEADS,
  TOKENS,
  WIDTH,
  Encoded,
  Recorder,
  assert_encodes,
  rates,
  softmax_of,
  structure,
  turned,
)

from extrap.config import from_arguments, from_json, to_json
from extrap.errors import UsageError
from extrap.models import TransformerConfig
from extrap.models.backends import Hardware, choose
from extrap.models.positions import (
  ALiBi,
  CoCA,
  Differential,
  HiRoPE,
  Llama4Temperature,
  LMInfinite,
  LogN,
  NoPosition,
  PoPE,
  Position,
  ReRoPE,
  Rotary,
  ScaleInvariant,
  SelfExtend,
  differential,
  polar,
)
from extrap.models.positions.rotary import rotate

FAST = Rotary(base=30.0)  # Its slow pairs turn visibly in seven tokens.
LEVEL = np.array([0, 1, 1, 1, 2, 2, 4])


def at_distance(case, head, n, m, distance, base=10_000.0):
  """The rotary score of a pair that is told a distance (one for each pair)."""
  query, key = case.query[head, n], case.key[head, m]
  angle = distance * rates(case.width, base)
  return turned(query, angle) @ key / np.sqrt(case.width)


def rotary(case, head, n, m):
  return at_distance(case, head, n, m, n - m)


def product(case, head, n, m):
  return case.query[head, n] @ case.key[head, m] / np.sqrt(case.width)


# Two kinds of scores.


def self_extend(window, group):
  def logit(case, head, n, m):
    far = n // group - m // group + window - window // group
    return at_distance(case, head, n, m, n - m if n - m < window else far)

  return logit


def rerope(window, leak):
  def logit(case, head, n, m):
    distance = min(n - m, window) + leak * max(n - m - window, 0)
    return at_distance(case, head, n, m, distance)

  return logit


def lm_infinite(window, first):
  def logit(case, head, n, m):
    if n - m >= window and m >= first:
      return -np.inf
    return at_distance(case, head, n, m, min(n - m, window))

  return logit


def hirope(window, split, divisor):
  def logit(case, head, n, m):
    level = case.ids.get('level', np.arange(case.length) // divisor)
    levels = level[n] - level[m] + max(window - 1, 0)
    pairs = case.width // 2
    fast = np.arange(pairs) < np.floor(split * pairs)
    by_level = np.where(fast, n - m, levels)
    distance = n - m if n - m < window else by_level
    return at_distance(case, head, n, m, distance, base=30.0)

  return logit


# Features.


def factors(case, head, m):
  """CoCA's t, one for each pair of coordinates."""
  first, second = np.split(case.key[head, m], 2)
  return np.maximum((first + second) / 2, 0)


def coca_strict(case, head, n, m):
  first, second = np.split(case.query[head, n], 2)
  wave = np.cos((n - m) * rates(case.width))
  terms = factors(case, head, m) * (first**2 + second**2) * wave
  return terms.sum() / np.sqrt(case.width)


def coca_slack(case, head, n, m):
  rate, factor = rates(case.width), factors(case, head, m)
  query = case.query[head, n]
  key = turned(np.concatenate([factor, factor]), m * rate)
  terms = query * turned(query, n * rate) * key
  return terms.sum() / np.sqrt(case.width)


def softplus(x):
  return np.log1p(np.exp(x))


def pope(case, head, n, m):
  width = case.width
  rate = 10_000.0 ** (-np.arange(width) / width)
  phase = np.clip(case.params['phase'][head], -2 * np.pi, 0)
  size = softplus(case.query[head, n]) * softplus(case.key[head, m])
  return size @ np.cos((m - n) * rate + phase) / np.sqrt(width)


# Temperatures.


def ssmax(case, head, n, m):
  return case.params['log_n'][head] * np.log(n + 1) * rotary(case, head, n, m)


def su(case, head, n, m):
  factor = max(1, np.log(n + 1) / np.log(3))
  return factor * rerope(3, 0.0)(case, head, n, m)


def llama4(case, head, n, m):
  factor = 1 + 0.5 * np.log(np.floor((n + 1) / 2) + 1)
  return factor * product(case, head, n, m)


def scale_invariant(case, head, n, m):
  fall = 2 * np.log(1 + (n - m) / 2.0)
  return np.sqrt(fall + 1) * rotary(case, head, n, m) - fall


@pytest.mark.parametrize(
  ('position', 'logit', 'others', 'settings'),
  [
    (
      SelfExtend(window=3, group=2),
      self_extend(3, 2),
      (
        SelfExtend(window=4, group=2),
        SelfExtend(window=3, group=3),
        SelfExtend(window=3, group=2, base=FAST),
      ),
      {},
    ),
    (
      ReRoPE(window=3, leak=0.25),
      rerope(3, 0.25),
      (
        ReRoPE(window=4, leak=0.25),
        ReRoPE(window=3),
        ReRoPE(window=3, leak=0.25, base=FAST),
      ),
      {},
    ),
    (
      LMInfinite(window=3, first=2),
      lm_infinite(3, 2),
      (
        LMInfinite(window=4, first=2),
        LMInfinite(window=3, first=1),
        LMInfinite(window=3, first=2, base=FAST),
      ),
      {},
    ),
    (
      HiRoPE(window=3, divisor=2, base=FAST),
      hirope(3, 0.5, 2),
      (
        HiRoPE(window=2, divisor=2, base=FAST),
        HiRoPE(window=3, divisor=3, base=FAST),
        HiRoPE(window=3, divisor=2, split=0.67, base=FAST),
        HiRoPE(window=3, divisor=2),
      ),
      {},
    ),
    (
      HiRoPE(window=0, split=0.67, base=FAST),
      hirope(0, 0.67, 128),
      (
        HiRoPE(window=0, base=FAST),
        HiRoPE(window=2, split=0.67, base=FAST),
        FAST,
      ),
      dict(level=LEVEL),
    ),
    (
      CoCA(),
      coca_strict,
      (CoCA(form='slack'), CoCA(base=FAST)),
      {},
    ),
    (
      CoCA(form='slack'),
      coca_slack,
      (CoCA(), CoCA(form='slack', base=FAST)),
      {},
    ),
    (PoPE(), pope, (PoPE(base=FAST),), {}),
    (LogN(), ssmax, (LogN(form='su'), LogN(base=NoPosition())), {}),
    (
      LogN(form='su', trained=3, base=ReRoPE(window=3)),
      su,
      (
        LogN(form='su', trained=4, base=ReRoPE(window=3)),
        LogN(form='su', trained=3, base=ReRoPE(window=4)),
      ),
      {},
    ),
    (
      Llama4Temperature(growth=0.5, floor=2),
      llama4,
      (
        Llama4Temperature(growth=0.4, floor=2),
        Llama4Temperature(growth=0.5, floor=3),
        Llama4Temperature(growth=0.5, floor=2, base=Rotary()),
      ),
      {},
    ),
    (
      ScaleInvariant(tau=2.0),
      scale_invariant,
      (ScaleInvariant(tau=2.1), ScaleInvariant(tau=2.0, base=NoPosition())),
      dict(qk_norm=True),
    ),
  ],
  ids=lambda x: x.name if hasattr(x, 'name') else '',
)
def test_an_encoding_equals_its_formula(position, logit, others, settings):
  assert_encodes(position, softmax_of(logit), others, **settings)


# Two softmaxes.


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedRates(Rotary):
  """Rotary at rates that all layers share and learn."""

  def common(self, ids, param, head_width):
    init = jax.nn.initializers.ones
    return {'rates': param('rates', init, (head_width // 2,))}

  def query_map(self, query_BTHD, ids, param):
    rate_F = param('rates', jax.nn.initializers.ones, ())
    return rotate(query_BTHD, ids.position[..., None] * rate_F[None, None])

  key_map = query_map


def differential_read(start, epsilon=1e-5):
  """What a head reads by differential attention."""

  def read(case, head, n):
    width, p = case.width // 2, case.params
    rate = p.get('rates', rates(width))
    weights = []
    for half in (slice(0, width), slice(width, None)):
      query = case.query[head, n, half]
      keys = case.key[head, : n + 1, half]
      row = [turned(query, (n - m) * rate) @ keys[m] for m in range(n + 1)]
      weight = np.exp(np.array(row) / np.sqrt(width))
      weights.append(weight / weight.sum())
    share = np.exp(p['lambda_q1'] @ p['lambda_k1'])
    share += start - np.exp(p['lambda_q2'] @ p['lambda_k2'])
    out = (weights[0] - share * weights[1]) @ case.value[head, : n + 1]
    out /= np.sqrt((out**2).mean() + epsilon)
    return (1 - start) * out * p['norm']

  return read


def test_differential_attention_equals_its_formula(monkeypatch):
  encoded = assert_encodes(
    Differential(start=0.6),
    differential_read(0.6),
    (Differential(start=0.5), Differential(start=0.6, base=NoPosition())),
    blocks=False,
    width=8,
  )
  monkeypatch.setattr(differential, 'EPSILON', 0.1)
  with jax.disable_jit():
    read = encoded.read(encoded.params, encoded.x_BTE)
  expected = encoded.by_formula(differential_read(0.6, 0.1))
  np.testing.assert_allclose(read, expected, atol=2e-5)


# Bases of other kinds.


def pope_near(case, head, n, m):
  """PoPE up to a distance of 3, at learned rates."""
  rate = case.params['rates']
  phase = np.clip(case.params['phase'][head], -2 * np.pi, 0)
  size = softplus(case.query[head, n]) * softplus(case.key[head, m])
  wave = np.cos(phase - min(n - m, 3) * rate)
  return size @ wave / np.sqrt(case.width)


def alibi_scale_invariant(case, head, n, m):
  fall = 2 * np.log(1 + (n - m) / 10.0)
  logit = np.sqrt(fall + 1) * product(case, head, n, m) - fall
  return logit - 2.0 ** (-4 * (head + 1)) * (n - m)


@pytest.mark.parametrize(
  ('position', 'width', 'read'),
  [
    # A parameter that two kinds of scores ask for, and one that layers share.
    (
      ReRoPE(window=3, base=PoPE(base=LearnedRates())),
      WIDTH,
      softmax_of(pope_near),
    ),
    (Differential(base=LearnedRates()), 8, differential_read(0.8)),
    # A bias that is not multiplied.
    (ScaleInvariant(base=ALiBi()), WIDTH, softmax_of(alibi_scale_invariant)),
  ],
  ids=lambda x: getattr(x, 'name', ''),
)
def test_a_base_of_another_kind_keeps_its_own_rules(position, width, read):
  with jax.disable_jit():
    encoded = Encoded(position, width=width)
    out = encoded.read(encoded.params, encoded.x_BTE)
  expected = encoded.by_formula(read)
  np.testing.assert_allclose(out, expected, atol=2e-5)


# Where parameters start, and where they may go.


def start_of(position, name):
  """What a parameter starts with, as maps of queries and keys declare it."""
  made, x_BTHD = {}, jnp.ones((2, TOKENS, HEADS, WIDTH))
  for hook in (position.query_map, position.key_map):
    hook(x_BTHD, structure(TOKENS), Recorder(made, jax.random.key(0)))
  return np.asarray(made[name])


def test_parameters_start_where_the_papers_start():
  np.testing.assert_allclose(start_of(LogN(), 'log_n'), [0.43, 0.43])
  assert (start_of(LogN(start=1.0), 'log_n') == 1).all()
  np.testing.assert_array_equal(
    start_of(PoPE(), 'phase'), np.zeros((HEADS, WIDTH))
  )
  share = jax.random.uniform(jax.random.key(0), (HEADS, WIDTH))
  phase = start_of(PoPE(start='uniform'), 'phase')
  np.testing.assert_allclose(phase, 2 * np.pi * (share - 1), atol=1e-5)


@pytest.mark.parametrize(
  ('phase', 'kept', 'slope'),
  [(0.3, 0.0, 0), (0.0, 0.0, 1), (-2 * np.pi, 0.0, 1), (-7.0, 0.0, 0)],
)
def test_phases_stay_in_a_turn_and_may_leave_its_ends(phase, kept, slope):
  x_BTHD, ids = jnp.ones((2, 1, 1, WIDTH)), structure(1)

  def height(phase):
    param = lambda name, init, shape: jnp.full(shape, phase)  # noqa: E731
    return PoPE().key_map(x_BTHD, ids, param)[0, 0, 0, WIDTH:].mean()

  size = np.log1p(np.e)
  height, gradient = jax.value_and_grad(height)(phase)
  np.testing.assert_allclose(height, size * np.sin(kept), atol=1e-5)
  np.testing.assert_allclose(gradient, size * slope, atol=1e-5)
  np.testing.assert_allclose(polar.LOWEST_PHASE, -2 * np.pi)


# Ways to compute them.


@pytest.mark.parametrize(
  ('position', 'backend'),
  [
    (CoCA(), 'fused'),
    (LogN(), 'fused'),
    (Llama4Temperature(), 'fused'),
    (HiRoPE(window=0), 'fused'),
    (HiRoPE(), 'blockwise'),
    (PoPE(), 'blockwise'),  # Its keys are wider than its values.
    (ScaleInvariant(), 'blockwise'),
    (LogN(base=LMInfinite()), 'blockwise'),
    (Differential(), 'dense'),
  ],
  ids=lambda x: x if isinstance(x, str) else x.name,
)
def test_maps_are_as_fast_as_none(position, backend):
  config = TransformerConfig(
    position=position, width=128, heads=2, dtype='bfloat16'
  )
  gpu = Hardware('gpu', '9.0')
  assert choose(config, gpu, 10_000, windowed=False) == backend


# Flags, and what is refused.


def test_a_base_and_its_settings_are_flags():
  read = lambda *args: from_arguments(TransformerConfig, *args).position  # noqa: E731
  assert read('--position=log_n') == LogN()
  assert read('--position=log_n', '--position.base=none') == LogN(
    base=NoPosition()
  )
  config = from_arguments(
    TransformerConfig,
    '--position=log_n',
    '--position.form=su',
    '--position.base=rerope',
    '--position.base.window=64',
    '--position.base.base=rotary',
    '--position.base.base.base=500',
  )
  inside = ReRoPE(window=64, base=Rotary(base=500.0))
  assert config.position == LogN(form='su', base=inside)
  assert from_json(TransformerConfig, to_json(config)) == config


@pytest.mark.parametrize(
  ('position', 'message'),
  [
    (lambda: ReRoPE(base=ALiBi()), 'position=rerope needs a base that turns'),
    (lambda: CoCA(base=NoPosition()), 'not --model.position.base=none'),
    (lambda: PoPE(base=SelfExtend()), 'not --model.position.base=self_extend'),
    (lambda: LogN(base=ScaleInvariant(base=LogN())), 'around another log_n'),
    (lambda: Differential().check(2, 5), 'differential needs an even head'),
    (lambda: Differential().check(2, 6), 'rotary needs an even head width'),
    (lambda: Differential(base=HiRoPE()).check(2, 8), 'two kinds of scores'),
    (lambda: CoCA().check(2, 5), 'rotary needs an even head width'),
    (
      lambda: ScaleInvariant(base=Differential()).check(2, 8),
      'cannot change --model.position.base=differential',
    ),
  ],
)
def test_what_cannot_serve_is_refused_in_one_line(position, message):
  with pytest.raises(UsageError, match=message) as caught:
    position()
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'flag',
  [
    '=scale_invariant,tau=0.0',
    '=hirope,split=1.5',
    '=hirope,window=-1',
    '=hirope,divisor=0',
    '=rerope,window=0',
    '=rerope,leak=2.0',
    '=self_extend,group=0',
    '=lm_infinite,first=-1',
    '=log_n,trained=1',
    '=llama4_temperature,floor=0',
    '=differential,start=1.0',
  ],
)
def test_a_setting_out_of_bounds_names_its_flag(flag):
  select, setting = flag.split(',')
  args = (f'--position{select}', f'--position.{setting}')
  with pytest.raises(UsageError, match=rf'--position\.{setting}: must be'):
    from_arguments(TransformerConfig, *args)


def test_what_they_read_and_give_away_follows_from_the_base():
  assert HiRoPE().reads == ('level', 'position')
  assert ScaleInvariant(base=NoPosition()).reads == ('position',)
  assert LogN().rung == Position.rung
  assert ScaleInvariant().rung == 'L2 smooth relative'
