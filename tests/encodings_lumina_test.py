"""Lumina-Next's rotary positions on a grid against their formulas."""

import functools

import numpy as np
import pytest
from encoding_checks import assert_encodes, softmax_of, turned, with_each

from extrap.errors import UsageError
from extrap.models.positions import Lumina

BASE = 50.0
GRID = {'run': [0, 0, 0, 1, 1, 1, 2], 'place': [0, 1, 2, 0, 1, 2, 0]}


def lumina(case, head, n, m):
  """Two pairs turn by the row and two by the column."""
  rate_A = np.array([by_time(0.6, i, 2) for i in range(2)])
  angle = lambda n: np.outer([case.ids[axis][n] for axis in GRID], rate_A)  # noqa: E731
  query = turned(case.query[head, n], angle(n).ravel())
  key = turned(case.key[head, m], angle(m).ravel())
  return query @ key / np.sqrt(case.width)


def stretched(power, i, count):
  """Pair i of `count` of an axis with base base 2^power, or interpolated."""
  exponent = -4 * i / (4 * count)
  return max((BASE * 2**power) ** exponent, BASE**exponent / 2)


def by_frequency(i, count):
  width = 4 * count
  target = width * np.log(20 / (2 * np.pi)) / np.log(BASE)
  return stretched(width / target, i, count)


def by_time(time, i, count):
  width = 4 * count
  return stretched(width / ((width - 1) * time + 1), i, count)


@pytest.mark.parametrize(
  ('position', 'rate', 'settings'),
  [
    (
      Lumina(base=BASE, rule='frequency', trained=20),
      by_frequency,
      dict(scale=3.0, trained=40, rule='time'),
    ),
    (
      Lumina(base=BASE, time=0.3),
      functools.partial(by_time, 0.3),
      dict(scale=3.0, time=0.2, rule='frequency'),
    ),
    (
      Lumina(base=BASE, rule='switch', time=0.2),
      lambda i, count: BASE ** (-i / count) / 2,
      dict(scale=3.0, time=0.3, watershed=0.1),
    ),
    (
      Lumina(base=BASE, rule='switch', time=0.3),
      lambda i, count: (BASE * 2) ** (-i / count),
      dict(scale=3.0, time=0.2, watershed=0.4, rule='time'),
    ),
  ],
)
def test_luminas_rules(position, rate, settings):
  expected = [rate(i, 4) for i in range(4)]
  np.testing.assert_allclose(position.rates(16), expected, rtol=1e-12)
  for other in with_each(position, base=30.0, **settings):
    assert abs(other.rates(16) - expected).max() > 1e-3, other


def test_it_equals_its_formula():
  position = Lumina(base=BASE, time=0.6)
  others = with_each(position, base=30.0, scale=3.0, time=0.9, rule='switch')
  assert_encodes(position, softmax_of(lumina), others, width=8, **GRID)


def test_the_suggested_watershed():
  assert Lumina().watershed == 0.3


def test_heads_that_do_not_fit_are_refused():
  with pytest.raises(UsageError, match='a multiple of 4, not 6'):
    Lumina().check(2, 6)
