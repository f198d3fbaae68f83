"""Compiled programs called ahead: order, errors, threads."""

import threading

import jax.numpy as jnp
import pytest

from extrap.compilation import in_order


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_calls_are_given_back_in_order_and_not_all_at_once(workers):
  begun = []

  def call(number):
    begun.append(number)
    return jnp.full((), number)

  found = in_order(call, range(20), workers)
  assert [int(next(found)) for _ in range(2)] == [0, 1]
  assert len(begun) <= workers + 2 + 2
  assert [int(value) for value in found] == list(range(2, 20))


@pytest.mark.parametrize('workers', [0, 2])
def test_what_a_call_raises_is_raised_where_its_value_is_asked_for(workers):
  def call(number):
    if number == 1:
      raise ValueError('the second')
    return jnp.zeros(())

  with pytest.raises(ValueError, match='the second'):
    list(in_order(call, range(3), workers))


def test_without_workers_all_calls_are_made_by_this_thread():
  threads = set()

  def call(number):
    threads.add(threading.get_ident())
    return jnp.zeros(())

  assert len(list(in_order(call, range(5), 0))) == 5
  assert threads == {threading.get_ident()}
