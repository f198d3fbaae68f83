"""Encodings around another one."""

import dataclasses
import inspect

import numpy as np
import pytest
from encoding_checks import assert_encodes, rates, softmax_of, turned

from extrap.errors import UsageError
from extrap.models.positions import NoPosition, Position
from extrap.models.positions.wrapped import Wrapped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halved(Wrapped):
  """Half of the logits of the base."""

  def combine(self, score, query, key):
    return super().combine(score, query, key) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everything(Position):
  """Every hook of its own: each multiplies or adds what no other does."""

  reads = ('position', 'length')
  rung = 'L9'
  table = 'position'
  late = True
  max_id = 5
  largest_shift = 2
  place_window = (1, 2)

  def check(self, heads, head_width):
    raise UsageError('refused')

  def key_shape(self, head_width):
    return (head_width + 1,)

  def prepare(self, ids, key, train):
    return 'prepare', ids, key, train

  def __getattribute__(self, name):
    """Hooks that are not written above give their name and arguments."""
    hooks = set(dir(Position)) - set(vars(Everything))
    if name in hooks and inspect.isfunction(getattr(Position, name)):
      if name not in ('acts', '__init__') and not name.startswith('__'):
        return lambda *arguments: (name, *arguments)
    return super().__getattribute__(name)

  def acts(self, hook):
    return True


def test_all_that_an_encoding_may_have_is_handed_on():
  base = Everything()
  wrapped = Wrapped(base=base)
  public = [name for name in dir(Position) if not name.startswith('_')]
  other = {'acts', 'name', 'paper', 'cost', 'layers', 'limits', 'check'}
  assert {'embed', 'scores', 'late', 'key_bias'} <= set(public) - other
  for name in set(public) - other:
    there = getattr(base, name)
    if not callable(there):
      assert getattr(wrapped, name) == there, name
      continue
    count = len(inspect.signature(getattr(Position, name)).parameters) - 1
    arguments = tuple(range(count))
    assert getattr(wrapped, name)(*arguments) == there(*arguments), name
  with pytest.raises(UsageError, match='refused'):
    wrapped.check(1, 2)
  (limit,) = wrapped.limits
  assert limit == ('position', 5, 2, 'base.max_size')


def halved(case, head, n, m):
  rate = rates(case.width)
  query, key = case.query[head, n], case.key[head, m]
  score = turned(query, n * rate) @ turned(key, m * rate)
  return score / np.sqrt(case.width) / 2


def test_a_wrapper_changes_one_hook_and_leaves_the_others():
  others = (Wrapped(), Halved(base=NoPosition()), Halved(base=Halved()))
  assert_encodes(Halved(), softmax_of(halved), others)
