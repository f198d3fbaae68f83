"""Encodings against their formulas: the ones that other families build on."""

import numpy as np
import pytest
from encoding_checks import assert_encodes, product, rates, softmax_of, turned

from extrap.models.positions import FIRE, ALiBi, NoPosition, Rotary


def rotary(case, head, n, m):
  rate = rates(case.width)
  query, key = case.query[head, n], case.key[head, m]
  return turned(query, n * rate) @ turned(key, m * rate) / np.sqrt(case.width)


def alibi(case, head, n, m):
  return product(case, head, n, m) - 2.0 ** (-4 * (head + 1)) * (n - m)


def fire(case, head, n, m):
  p = case.params
  scale, threshold = abs(p['log_scale']), abs(p['threshold'])
  ratio = np.log1p(scale * (n - m))
  ratio /= np.log1p(scale * max(n, threshold)) + 1e-6
  hidden = np.maximum(ratio * p['in_kernel'] + p['in_bias'], 0)
  return product(case, head, n, m) + hidden @ p['out_kernel'][:, head]


@pytest.mark.parametrize(
  ('position', 'logit', 'others'),
  [
    (NoPosition(), product, ()),
    (Rotary(), rotary, (Rotary(base=5000.0),)),
    (ALiBi(), alibi, ()),
    (FIRE(hidden=3, threshold=4.0), fire, ()),
  ],
  ids=lambda x: x.name if hasattr(x, 'name') else '',
)
def test_an_encoding_equals_its_formula(position, logit, others):
  assert_encodes(position, softmax_of(logit), others)
