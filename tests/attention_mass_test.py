"""Attention on far places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from extrap.errors import UsageError
from extrap.evaluation.attention_mass import (
  attention_weights,
  far_mass,
  near_mass,
)
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import SWAN, NoPosition, PlaceBias, PlaceWindow
from extrap.tasks.addition import Addition


def setting(position, **settings):
  task = Addition()
  config = TransformerConfig(
    position=position, width=16, heads=2, ffn_width=16, **settings
  )
  model = Transformer(config, task.vocab_size)
  size_BS = jnp.array([[9, 9], [4, 7]])

  @jax.jit
  def program(key):
    batch = task.sample(key, size_BS, max_size=9)
    structure = task.structure(batch.tokens)
    params = model.init(key, batch.tokens, structure)['params']
    return nn.unbox(params), batch

  params, batch = program(jax.random.key(0))
  return model, params, task, batch


def test_weights_are_those_of_each_applied_layer():
  model, params, task, batch = setting(PlaceBias(), depth=2, recurrences=2)
  ids = task.structure(batch.tokens)
  weights = attention_weights(model, params, batch.tokens, ids)
  rows, tokens = batch.tokens.shape
  assert [w.shape for w in weights] == [(rows, 2, tokens, tokens)] * 4
  for weight in weights:
    np.testing.assert_allclose(weight.sum(axis=-1), 1, rtol=1e-5)
    assert not np.triu(weight[0, 0], 1).any()
  assert not np.allclose(weights[0], weights[1])
  # Their reads make the same logits.
  assert not np.allclose(weights[0], weights[2])


def test_layers_with_encodings_of_their_own_are_refused():
  config = TransformerConfig(position=SWAN(), depth=4)
  with pytest.raises(UsageError, match=r'position=swan: .* one encoding'):
    attention_weights(Transformer(config, 2), {}, None, None)


def test_a_window_has_no_far_mass():
  assert not far_mass(*setting(PlaceWindow())).any()


def test_digits_are_near_or_far_and_the_rest_is_the_query_and_delimiters():
  near = near_mass(*setting(NoPosition()))
  far = far_mass(*setting(NoPosition()))
  assert (near > 0.05).all() and (near + far < 0.98).all()
  # Through a window, all that is not near is no digit.
  assert (near_mass(*setting(PlaceWindow())) > near).all()


def test_without_logits_far_mass_is_the_share_of_far_tokens():
  model, params, task, batch = setting(NoPosition())
  params = jax.tree.map(jnp.zeros_like, params)
  ids = jax.tree.map(np.asarray, task.structure(batch.tokens))
  digit = np.asarray(ids.digit)
  shares = []
  for row, query in zip(*np.nonzero(batch.mask), strict=True):
    t = int(batch.queries[row, query])
    gap = abs(ids.place[row, : t + 1] - ids.place[row, t]) > 1
    far = gap & digit[row, : t + 1] & (ids.anchor[row, : t + 1] == 0)
    far[t] = False
    shares.append(far.mean())
  found = far_mass(model, params, task, batch)
  assert np.mean(shares) > 0.3
  np.testing.assert_allclose(found, np.mean(shares), rtol=1e-5)


@pytest.mark.parametrize('decay', [0.0, 2.0])
def test_decay_takes_mass_from_far_places(decay):
  position = PlaceBias(decay=decay, learn_decay=False)
  mass = far_mass(*setting(position))
  assert (mass > 0.3).all() if not decay else (mass < 0.1).all()
