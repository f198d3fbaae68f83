"""Encodings around another one: every hook of the base is passed on."""

import dataclasses
import inspect

import jax
import numpy as np
import pytest
from encoding_checks import Encoded, assert_encodes, rates, softmax_of, turned

from extrap.errors import UsageError
from extrap.models import TransformerConfig
from extrap.models.backends.choice import Hardware, choose
from extrap.models.positions import (
  ALiBi,
  NoPosition,
  Ordered,
  Position,
  Rotary,
)
from extrap.models.positions.wrapped import Wrapped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halved(Wrapped):
  """Half of the logits of the base."""

  def combine(self, score, query, key):
    return super().combine(score, query, key) / 2


VALUES = dict(
  reads=('position', 'length'),
  rung='L9',
  table='position',
  late=True,
  max_id=5,
  largest_shift=2,
  place_window=(1, 2),
  token_window=3,
)
# What a wrapper says of itself, or makes of what the base says.
OWN = {'acts', 'name', 'paper', 'cost', 'layers', 'limits', 'check'}
HOOKS = {
  name
  for name, member in vars(Position).items()
  if inspect.isfunction(member) and name[0] != '_' and name not in OWN
}


def hook(name):
  """A hook that gives back its name and what it was called with."""
  return lambda self, *arguments: (name, *arguments)


def refuse(self, *arguments):
  raise UsageError(f'refused {arguments}')


Everything = type(
  'Everything',
  (Position,),
  {name: hook(name) for name in HOOKS} | VALUES | {'check': refuse},
)


def test_all_that_an_encoding_may_have_is_passed_on():
  public = {name for name in dir(Position) if name[0] != '_'}
  assert public == HOOKS | set(VALUES) | OWN
  wrapped = Wrapped(base=Everything())
  assert {name: getattr(wrapped, name) for name in VALUES} == VALUES
  for name in HOOKS:
    count = len(inspect.signature(getattr(Position, name)).parameters) - 1
    arguments = tuple(range(count))
    assert getattr(wrapped, name)(*arguments) == (name, *arguments)
    assert wrapped.acts(name) and not Wrapped(base=Position()).acts(name)
  assert wrapped.limits == (('position', 5, 2, 'base.max_size'),)
  with pytest.raises(UsageError, match=r'refused \(1, 2\)'):
    wrapped.check(1, 2)


def halved(case, head, n, m):
  rate = rates(case.width)
  query, key = case.query[head, n], case.key[head, m]
  score = turned(query, n * rate) @ turned(key, m * rate)
  return score / np.sqrt(case.width) / 2


def test_a_wrapper_changes_one_hook_and_leaves_the_others():
  others = (Wrapped(), Halved(base=NoPosition()), Halved(base=Halved()))
  assert_encodes(Halved(), softmax_of(halved), others)


def test_a_rule_of_the_base_for_attention_stays():
  """Its logits are not those of `combine`, which a wrapper cannot reach."""
  with jax.disable_jit():
    encoded = Encoded(Ordered())
    read = encoded.read(encoded.params, encoded.x_BTE)
    around = encoded.with_position(Wrapped(base=Ordered()))
    same = around.read(encoded.params, encoded.x_BTE)
  np.testing.assert_array_equal(read, same)
  with pytest.raises(UsageError, match=r'Halved cannot change .*base=Ordered'):
    Halved(base=Ordered()).check(2, 4)


@pytest.mark.parametrize(
  ('position', 'expected'),
  [
    (Wrapped(), 'fused'),
    (Halved(), 'blockwise'),
    (Wrapped(base=ALiBi()), 'blockwise'),
    (Wrapped(base=Wrapped(base=ALiBi())), 'blockwise'),
    (Wrapped(base=Ordered()), 'dense'),
    (Rotary(), 'fused'),
  ],
)
def test_a_wrapper_is_computed_as_its_base_unless_it_acts(position, expected):
  config = TransformerConfig(position=position, dtype='bfloat16')
  gpu = Hardware('gpu', '9.0')
  assert choose(config, gpu, 4096, windowed=False) == expected
