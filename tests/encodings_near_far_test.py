"""Encodings of true distances near by and others beyond, by their formulas.

A formula turns the query by the distance that an encoding tells, where the
encodings turn queries and keys by positions.
"""

import numpy as np
import pytest
from encoding_checks import assert_encodes, at_distance, softmax_of

from extrap.models.positions import (
  HiRoPE,
  LMInfinite,
  ReRoPE,
  Rotary,
  SelfExtend,
)

FAST = Rotary(base=30.0)  # Its slow pairs turn visibly in seven tokens.
LEVEL = np.array([0, 1, 1, 1, 2, 2, 4])


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
  ],
  ids=lambda x: x.name if hasattr(x, 'name') else '',
)
def test_an_encoding_equals_its_formula(position, logit, others, settings):
  assert_encodes(position, softmax_of(logit), others, **settings)
