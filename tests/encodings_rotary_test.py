"""Rotary encodings against their formulas, a pair of features at a time."""

import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import (
  assert_encodes,
  softmax_of,
  structure,
  turned,
  with_each,
)

from extrap.encoding_limits import check_table
from extrap.errors import UsageError
from extrap.models.positions import (
  DynamicNTK,
  HoPE,
  Llama3,
  LongRoPE,
  NTKAware,
  PartialRotary,
  PositionInterpolation,
  PowerBasis,
  PRotary,
  TruncatedBasis,
  XPos,
  YaRN,
  turning_share,
)
from extrap.tasks.addition import Addition

# Three pairs with wavelengths of 6, 23 and 85 tokens.
BASE, PAIRS = 50.0, 3


def theta(j, base=BASE):
  return base ** (-j / PAIRS)


def turning(rate, factor=1.0):
  """Logits where pair j of token n is turned by n rate(case, j)."""

  def logit(case, head, n, m):
    rate_F = np.array([rate(case, j) for j in range(case.width // 2)])
    query = turned(case.query[head, n], n * rate_F)
    key = turned(case.key[head, m], m * rate_F)
    return factor * query @ key / np.sqrt(case.width)

  return logit


def linear(case, j):
  return theta(j) / 4


def ntk(case, j):
  return theta(j, BASE * 3 ** (PAIRS / (PAIRS - 1)))


def dynamic(case, j):
  grown = max(2 * case.length / 5 - (2 - 1), 1)
  return theta(j, BASE * grown ** (PAIRS / (PAIRS - 1)))


def yarn(case, j):
  turns = 80 * theta(j) / (2 * np.pi)
  kept = min(max((turns - 1.5) / (10 - 1.5), 0), 1)
  return (1 - kept) * theta(j) / 4 + kept * theta(j)


def llama3(case, j):
  wavelength = 2 * np.pi / theta(j)
  if wavelength > 60 / 1:
    return theta(j) / 4
  if wavelength < 60 / 4:
    return theta(j)
  smooth = (60 / wavelength - 1) / (4 - 1)
  return (1 - smooth) * theta(j) / 4 + smooth * theta(j)


FACTORS = (1.0, 1.5, 4.0)


def longrope(case, head, n, m):
  """The first two tokens are turned at full rates."""
  rate_F = theta(np.arange(PAIRS))
  angle = lambda n: n * rate_F / (1 if n < 2 else np.array(FACTORS))  # noqa: E731
  query, key = case.query[head, n], case.key[head, m]
  product = turned(query, angle(n)) @ turned(key, angle(m))
  return product * (1 + np.log(4) / np.log(16)) / np.sqrt(case.width)


def power(case, j):
  return theta(j) * (1 - j / PAIRS) ** 0.7


def truncated(case, j):
  if theta(j) >= 2 * np.pi / 20:
    return theta(j)
  return 0 if theta(j) < 2 * np.pi / (2 * 20) else 2 * np.pi / (6 * 20)


def hope(case, j):
  return theta(j) if 2 * np.pi / theta(j) <= 24 else 0


def p_rotary(case, j):
  return theta(j) if j < 2 else 0


def partial_rotary(case, j):
  return BASE ** (-j / 2) if j < 2 else 0


def xpos(case, head, n, m):
  logit = 0
  for j in range(PAIRS):
    angle = theta(j)
    query = case.query[head, n, j] + 1j * case.query[head, n, j + PAIRS]
    key = case.key[head, m, j] + 1j * case.key[head, m, j + PAIRS]
    turn = np.exp(1j * (n - m) * angle)
    zeta = (j / PAIRS + 0.4) / 1.4
    logit += (turn * query * np.conj(key)).real * zeta ** ((n - m) / 8)
  return logit / np.sqrt(case.width)


def row(position, logit, settings):
  others = with_each(position, base=30.0, **settings)
  return pytest.param(position, logit, others, id=position.name)


ROWS = [
  row(
    PositionInterpolation(base=BASE, scale=4.0),
    turning(linear),
    dict(scale=3.5),
  ),
  row(NTKAware(base=BASE, scale=3.0), turning(ntk), dict(scale=2.5)),
  row(
    DynamicNTK(base=BASE, scale=2.0, trained=5),
    turning(dynamic),
    dict(scale=1.0, trained=4),
  ),
  row(
    YaRN(base=BASE, scale=4.0, trained=80, slow=1.5, fast=10.0),
    turning(yarn, (0.1 * np.log(4) + 1) ** 2),
    dict(scale=3.0, trained=60, slow=1.0, fast=32.0, sharper=0.0),
  ),
  row(
    Llama3(base=BASE, scale=4.0, trained=60),
    turning(llama3),
    dict(scale=8.0, trained=80, slow=0.5, fast=6.0),
  ),
  row(
    LongRoPE(base=BASE, scale=4.0, trained=16, factors=FACTORS, unscaled=2),
    longrope,
    dict(scale=2.0, trained=32, factors=(1.0, 2.5, 4.0), unscaled=3),
  ),
  row(
    LongRoPE(base=BASE, scale=3.0, trained=9),
    turning(ntk, 1.5),
    dict(scale=2.0, trained=16, factors=FACTORS, unscaled=3),
  ),
  row(PowerBasis(base=BASE, power=0.7), turning(power), dict(power=0.5)),
  row(
    TruncatedBasis(base=BASE, trained=20, still=2.0, slow=6.0),
    turning(truncated),
    dict(trained=24, still=8.0, slow=16.0),
  ),
  row(HoPE(base=BASE, trained=24), turning(hope), dict(trained=20)),
  row(PRotary(base=BASE, fraction=0.7), turning(p_rotary), dict(fraction=0.6)),
  row(
    PartialRotary(base=BASE, fraction=0.7),
    turning(partial_rotary),
    dict(fraction=0.6),
  ),
  row(XPos(base=BASE, decay=8.0), xpos, dict(decay=16.0, gamma=0.5)),
]


@pytest.mark.parametrize(('position', 'logit', 'others'), ROWS)
def test_an_encoding_equals_its_formula(position, logit, others):
  assert_encodes(position, softmax_of(logit), others)


def test_published_settings():
  """What each paper or its code takes, where nothing is said."""
  plain_F, circle = 10_000.0 ** (-np.arange(32) / 32), 2 * np.pi
  yarn, llama3 = YaRN(), Llama3()
  turns_F = 4096 * plain_F / circle
  kept_F = np.clip((turns_F - 1) / (32 - 1), 0, 1)
  wavelength_F = circle / plain_F
  blend_F = np.clip((8192 / wavelength_F - 1) / (4 - 1), 0, 1)
  truncated_F = np.where(wavelength_F <= 2048, plain_F, circle / (16 * 2048))
  for position, expected_F in (
    (yarn, plain_F * (kept_F + (1 - kept_F) / 16)),
    (llama3, plain_F * (blend_F + (1 - blend_F) / 8)),
    (PowerBasis(), plain_F * (1 - np.arange(32) / 32) ** 0.5),
    (
      TruncatedBasis(),
      np.where(wavelength_F > 8 * 2048, 0, truncated_F),
    ),
    (PRotary(), np.where(np.arange(32) < 24, plain_F, 0)),
    (PartialRotary(), np.append(10_000.0 ** (-np.arange(8) / 8), [0] * 24)),
  ):
    np.testing.assert_allclose(position.rates(64), expected_F, rtol=1e-12)
  assert (yarn.magnitude, llama3.magnitude) == (0.1 * np.log(16) + 1, 1)
  assert (XPos().decay, XPos().gamma) == (512, 0.4)
  assert (TruncatedBasis().still, TruncatedBasis().slow) == (8, 16)
  trained = [kind().trained for kind in (DynamicNTK, TruncatedBasis, LongRoPE)]
  assert trained == [2048, 2048, 4096]


def test_pairs_that_turn_at_least_once_in_a_length():
  # Of 12 pairs the fourth turns once in 62.8 tokens, the fifth in 135.
  kept = [int(12 * turning_share(length, 24)) for length in (62, 63, 64, 136)]
  assert kept == [3, 4, 4, 5]
  assert (turning_share(64, 16), turning_share(6, 16)) == (3 / 8, 0)
  assert turning_share(10**6, 16) == 1
  # No pair is lost by rounding: those of HoPE, which has a rule by rates.
  for width in range(2, 258, 2):
    p_rotary = PRotary(fraction=turning_share(64, width))
    np.testing.assert_array_equal(
      p_rotary.rates(width), HoPE(trained=64).rates(width)
    )


@pytest.mark.parametrize(
  ('settings', 'kind', 'message'),
  [
    (dict(slow=4.0, fast=4.0), YaRN, 'position.fast=4 must be more than'),
    (dict(slow=5.0), Llama3, 'position.slow=5'),
  ],
)
def test_limits_in_the_wrong_order_are_refused(settings, kind, message):
  with pytest.raises(UsageError, match=message):
    kind(**settings)


@pytest.mark.parametrize(
  ('position', 'width', 'message'),
  [
    (YaRN(), 7, '=yarn needs an even head width, not 7'),
    (LongRoPE(factors=(1.0, 2.0)), 6, 'has 2 numbers, but .* has 3 pairs'),
  ],
)
def test_heads_that_do_not_fit_are_refused(position, width, message):
  with pytest.raises(UsageError, match=message):
    position.check(2, width)


def test_a_head_of_two_features_is_not_scaled_by_ntk():
  """There is no last pair that the whole scale could go to."""
  np.testing.assert_array_equal(NTKAware(scale=8.0).rates(2), [1.0])


def test_xpos_holds_for_64k_tokens_and_says_where_it_ends():
  """At the far end as at the start, in range and in value."""
  position = XPos()
  (limit,) = position.limits
  assert 65_535 <= limit.largest < 70_000
  assert abs(XPos(decay=256).limits[0].largest / limit.largest - 0.5) < 1e-3
  tokens = limit.largest + 1
  rng = np.random.default_rng(0)
  query_D, key_D = rng.normal(size=(2, 8)).astype(np.float32)
  places = np.array([3, 8, tokens - 6, tokens - 1])
  ids = structure(4, position=places, length=np.full(4, tokens))
  mapped = [
    hook(jnp.tile(x_D, (2, 4, 1, 1)), ids, None)[0, :, 0]
    for hook, x_D in ((position.query_map, query_D), (position.key_map, key_D))
  ]
  queries_TD, keys_TD = map(np.asarray, mapped)
  assert np.isfinite(queries_TD).all() and (queries_TD != 0).all()
  assert np.isfinite(keys_TD).all() and (keys_TD != 0).all()
  near, far = queries_TD[1] @ keys_TD[0], queries_TD[3] @ keys_TD[2]
  # Angles of 64k radians are known to 0.004.
  np.testing.assert_allclose(far, near, atol=0.02)
  assert abs(near) > 0.1
  assert abs(queries_TD[3] @ keys_TD[0]) < 1e-6
  with pytest.raises(UsageError, match='raise its decay'):
    check_table(position, Addition(), 65_536)
