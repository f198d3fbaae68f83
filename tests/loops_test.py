"""Loops that grow with length, against loops in Python.

Shape key: B examples, T tokens, E model width.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.errors import UsageError
from extrap.models import Transformer, TransformerConfig
from extrap.models.attention import View
from extrap.models.layers import Layer, final_norm
from extrap.models.loops import carry, most_loops, takes_part
from extrap.models.positions import NoPosition, Previous
from extrap.sequence import SequenceProblem
from extrap.tasks.parity import Parity

TASK = Parity()
STRINGS = ((1, 0, 1, 1, 0), (0, 1), (1, 1, 0, 1))


def build(**settings):
  config = dict(position=Previous(), width=8, heads=2, ffn_width=8) | settings
  model = Transformer(TransformerConfig(**config), TASK.vocab_size)
  tokens_BT = TASK.from_strings(STRINGS).tokens
  structure = TASK.structure(tokens_BT)
  params = jax.jit(model.init)(jax.random.key(0), tokens_BT, structure)
  unboxed = jax.tree.map(
    lambda x: getattr(x, 'value', x),
    params['params'],
    is_leaf=lambda x: hasattr(x, 'value'),
  )
  return model, unboxed


def logits(model, params, tokens_BT):
  apply = jax.jit(lambda p, t: model.apply({'params': p}, t, TASK.structure(t)))
  return np.asarray(apply(params, tokens_BT))


def in_python(model, params, tokens_T):
  """One row; each token is updated from its own state and one other's."""
  config = model.config
  ids = TASK.structure(jnp.zeros((1, 2), jnp.int32))
  role_1T = TASK.structure(tokens_T[None]).role
  input_TE = params['embedding'][tokens_T]
  input_TE += params['position_roles'][role_1T[0]]
  state_TE = carry(config.carry, input_TE)
  layer = jax.tree.map(lambda x: x[0], params['layers'])

  @jax.jit
  def pair(x_12E):
    y_12E, _ = Layer(config).apply({'params': layer}, x_12E, View(ids, ids))
    return carry(config.carry, y_12E)[0, 1]

  doubles = config.loops == 'doubling'
  injected_TE = input_TE if config.inject_every else 0 * input_TE
  for loop in range(len(tokens_T)):
    before_TE = state_TE + injected_TE
    first, distance = (2**loop, 2**loop) if doubles else (loop + 1, 1)
    for token in range(first, len(tokens_T)):
      seen_2 = jnp.array([token - distance, token])
      new_E = pair(before_TE[seen_2][None])
      state_TE = state_TE.at[token].set(new_E)
  normed_TE = final_norm(config).apply({'params': params['norm']}, state_TE)
  return normed_TE @ params['logits']['kernel']


@pytest.mark.parametrize(
  'settings',
  [
    {'loops': 'length', 'inject_every': 1},
    {'loops': 'length', 'carry': 'plain'},
    {'loops': 'doubling'},
    {'loops': 'doubling', 'carry': 'sign', 'inject_every': 1},
  ],
)
@pytest.mark.parametrize('attention', ['dense', 'gathered'])
def test_tokens_are_updated_as_often_as_their_place_asks(settings, attention):
  model, params = build(attention=attention, **settings)
  tokens_T = TASK.from_strings(STRINGS).tokens[0]
  expected = in_python(model, params, tokens_T)
  found = logits(model, params, tokens_T[None])[0]
  np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('position', [NoPosition(), Previous()])
def test_nothing_depends_on_what_follows(position):
  model, params = build(position=position, loops='length')
  tokens_BT = TASK.from_strings(STRINGS).tokens
  whole = logits(model, params, tokens_BT)
  part = logits(model, params, tokens_BT[:, :4])
  np.testing.assert_allclose(part, whole[:, :4], atol=1e-5)


def test_all_bits_come_to_the_end_in_log_many_loops():
  model, params = build(loops='doubling', carry='plain')
  tokens_1T = TASK.from_strings([[0, 1, 1, 0, 1, 0, 0, 1, 1, 1]]).tokens
  row = logits(model, params, tokens_1T)[0, 10]
  for bit in range(10):
    changed = tokens_1T.at[0, bit].set(1 - tokens_1T[0, bit])
    assert np.abs(logits(model, params, changed)[0, 10] - row).max() > 1e-6


def test_loops_are_counted_from_the_number_of_tokens():
  index = jnp.arange(9)[None]
  for rule, least in (('length', range(9)), ('doubling', (0, 1, 2, 2, 3))):
    loops = most_loops(rule, 9)
    part = [takes_part(rule, index, jnp.int32(t))[0] for t in range(loops)]
    taken = np.sum(part, axis=0)
    assert taken[: len(least)].tolist() == list(least)
    assert taken[8] == loops


def test_signs_are_exact_and_have_a_gradient():
  x_E = jnp.array([0.3, -1e-9, 2.0, -0.7])
  assert carry('sign', x_E).tolist() == [1, -1, 1, -1]
  slope = jax.grad(lambda x: carry('sign', x)[0])(x_E)
  assert abs(slope[0]) > 0.1


def test_a_state_of_unit_mean_square():
  x_E = carry('norm', jnp.array([3.0, -4.0]))
  np.testing.assert_allclose(jnp.mean(x_E**2), 1, rtol=1e-5)
  np.testing.assert_allclose(x_E[0] / x_E[1], -0.75, rtol=1e-5)


def test_noise_is_for_training_alone():
  model, params = build(loops='doubling', carry_noise=0.5)
  tokens_BT = TASK.from_strings(STRINGS).tokens

  @jax.jit
  def apply(key):
    structure = TASK.structure(tokens_BT)
    return [
      model.apply({'params': params}, tokens_BT, structure, key=key, train=t)
      for t in (True, False)
    ]

  noisy, still = apply(jax.random.key(0))
  other, again = apply(jax.random.key(1))
  np.testing.assert_array_equal(still, again)
  assert np.abs(noisy - still).max() > 1e-3
  assert np.abs(noisy - other).max() > 1e-3
  # What is not updated gets none.
  np.testing.assert_allclose(noisy[:, 0], still[:, 0], atol=1e-6)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'loops': 'length', 'recurrences': 2}, 'does not go with'),
    ({'loops': 'doubling', 'position': NoPosition()}, 'can be stretched'),
  ],
)
def test_loops_that_do_not_fit_are_refused(settings, message):
  with pytest.raises(UsageError, match=message):
    TransformerConfig(**settings)


def test_neither_a_cache_nor_a_progressive_loss():
  model, _ = build(loops='length')
  with pytest.raises(UsageError, match='loops that grow have no cache'):
    model.empty_cache(1, 8)
  with pytest.raises(UsageError, match='fixed number of loops'):
    SequenceProblem(task=TASK, model=model, max_size=4, progressive=1.0)


def test_log_uniform_sizes_stay_inside_and_favour_short_ones():
  problem = SequenceProblem(
    task=TASK,
    model=build()[0],
    max_size=7,
    batch_size=20_000,
    sizes='log_uniform',
  )
  batch = problem._draw(jax.random.key(0), 20_000, 1, 7)
  length, count = np.unique(batch.queries[:, 0], return_counts=True)
  assert length.tolist() == list(range(1, 8))
  expected = np.log1p(1 / np.arange(1, 8)) / np.log(8)
  np.testing.assert_allclose(count / 20_000, expected, atol=0.015)
