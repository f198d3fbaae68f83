"""The certificate of states: what it accepts, and what it must not.

Shape key: P pairs, N states, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.evaluation import closure
from extrap.evaluation.closure import certify_parity, check_closed
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import PlaceWindow, Previous
from extrap.tasks.parity import Parity

TASK = Parity()
CONFIG = TransformerConfig(
  position=Previous(),
  loops='doubling',
  carry='sign',
  width=8,
  heads=2,
  ffn_width=8,
)


class Machine:
  """States (parity, what a token is); one that multiplies parities' signs."""

  def __init__(self, *_, weak=1.0, wrong=False):
    self.weak, self.wrong = weak, wrong

  def start(self):
    bits, rest = [[1, 1, 1], [-1, 1, 1]], [[1, -1, 1], [1, 1, -1], [1, 1, -1]]
    return np.array(bits + rest, np.float64)

  def loop(self, own, other):
    own_PE, other_PE = np.array(own), np.array(other)
    made_PE = own_PE.copy()
    made_PE[:, 0] *= other_PE[:, 0] * self.weak
    if self.wrong:
      both = (own_PE[:, 0] < 0) & (other_PE[:, 0] < 0)
      made_PE[both & (own_PE[:, 1] > 0), 0] = -1
    return made_PE

  def logits(self, states):
    state_NE = np.array(states)
    logits_NV = np.zeros((len(states), TASK.vocab_size))
    logits_NV[:, 0], logits_NV[:, 1] = state_NE[:, 0], -state_NE[:, 0]
    logits_NV[state_NE[:, 2] < 0, TASK.end] = 5
    return logits_NV


def certify(monkeypatch, **kind):
  monkeypatch.setattr(closure, '_Numbers', lambda *_: Machine(**kind))
  (found,) = certify_parity(
    Transformer(CONFIG, TASK.vocab_size), {'x': jnp.zeros(1)}, TASK
  )
  return found


def test_a_machine_that_adds_parities_is_certified(monkeypatch):
  found = certify(monkeypatch)
  assert found.passed and found.wrong == 0
  # Two states of bits, of '=' and of what follows an answer.
  assert found.margin == 1
  assert found.contexts > 3 * 4


def test_a_wrong_pair_is_found(monkeypatch):
  found = certify(monkeypatch, wrong=True)
  assert not found.passed and found.wrong
  assert 'both parities' in found.offender


def test_a_margin_within_rounding_does_not_pass(monkeypatch):
  scales = iter((1e-5, 1.1e-5))
  monkeypatch.setattr(
    closure, '_Numbers', lambda *_: Machine(weak=next(scales))
  )
  (found,) = certify_parity(
    Transformer(CONFIG, TASK.vocab_size), {'x': jnp.zeros(1)}, TASK
  )
  assert found.wrong == 0 and not found.passed


def random_model():
  model = Transformer(CONFIG, TASK.vocab_size)
  tokens_BT = TASK.from_strings([[1, 0, 1]]).tokens
  init = jax.jit(jax.vmap(model.init, in_axes=(0, None, None)))
  keys = jax.random.split(jax.random.key(1), 2)
  params = init(keys, tokens_BT, TASK.structure(tokens_BT))['params']
  return model, jax.tree.map(
    lambda x: getattr(x, 'value', x),
    params,
    is_leaf=lambda x: hasattr(x, 'value'),
  )


def test_numbers_are_those_of_the_model():
  model, params = random_model()
  one = jax.tree.map(lambda x: x[0], params)
  numbers = closure._Numbers(model, one, TASK, 'float32')
  zero_E, one_E, equals_E = numbers.start()[:3]
  bits, end = [one_E, zero_E, one_E], equals_E

  def loop(own_E, other_E):
    return np.where(numbers.loop([own_E], [other_E])[0] > 0, 1.0, -1.0)

  # Of '=' at 3: first with the bit before it, then with the one 2 before.
  pair_E = loop(bits[1], bits[0])
  state_E = loop(loop(end, bits[2]), pair_E)
  batch = TASK.from_strings([[1, 0, 1]])
  expected = model.apply(
    {'params': one}, batch.tokens, TASK.structure(batch.tokens), batch.queries
  )[0, 0]
  np.testing.assert_allclose(
    numbers.logits([state_E])[0], expected, atol=1e-5, rtol=1e-5
  )


def test_an_untrained_model_fails():
  found = certify_parity(*random_model(), TASK)
  assert len(found) == 2
  assert not any(one.passed for one in found)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'carry': 'norm'}, 'not signs'),
    ({'loops': 'length'}, 'do not double'),
    ({'depth': 2}, 'more than one layer'),
    ({'inject_every': 1}, 'reads the input'),
    ({'logit_scale': 'log_length'}, 'reads the length'),
    ({'loops': 'fixed', 'position': PlaceWindow()}, 'do not double'),
  ],
)
def test_other_models_are_refused(changes, message):
  model = Transformer(dataclasses.replace(CONFIG, **changes), TASK.vocab_size)
  with pytest.raises(UsageError, match=message):
    check_closed(model, TASK)


def test_a_trace_is_refused():
  model = Transformer(CONFIG, TASK.vocab_size)
  with pytest.raises(UsageError, match='not parity'):
    check_closed(model, Parity(trace=True))
