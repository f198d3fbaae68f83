"""Differential attention, and what encodings around another one make of it."""

import dataclasses

import jax
import numpy as np
import pytest
from encoding_checks import (
  WIDTH,
  Encoded,
  assert_encodes,
  product,
  rates,
  softmax_of,
  turned,
)

from extrap.config_flags import from_arguments
from extrap.config_json import from_json, to_json
from extrap.errors import UsageError
from extrap.models import TransformerConfig
from extrap.models.backends import Hardware, choose
from extrap.models.positions import (
  ALiBi,
  CoCA,
  Differential,
  HardALiBi,
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
)
from extrap.models.positions.rotary import rotate


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


def differential_read(start, epsilon=1e-5, windows=None):
  """What a head reads by differential attention: rotary, or in windows."""

  def read(case, head, n):
    width, p = case.width // 2, case.params
    rate = p.get('rates', rates(width)) if windows is None else 0
    far = np.arange(n, -1, -1) >= (windows[head] if windows else n + 1)
    weights = []
    for half in (slice(0, width), slice(width, None)):
      query = case.query[head, n, half]
      keys = case.key[head, : n + 1, half]
      row = [turned(query, (n - m) * rate) @ keys[m] for m in range(n + 1)]
      weight = np.where(far, 0, np.exp(np.array(row) / np.sqrt(width)))
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
  size = np.logaddexp(0, case.query[head, n])
  size *= np.logaddexp(0, case.key[head, m])
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
    # Windows of heads, not of their halves.
    (
      Differential(base=HardALiBi(windows=(1, 2))),
      8,
      differential_read(0.8, windows=(1, 2)),
    ),
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
