"""What the tests of all tasks check.

Shape key: B examples, T tokens, Q answer queries.
"""

import jax
import jax.numpy as jnp
import numpy as np

from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import PlaceWindow

# What one key, or the query itself, adds to a view, by role, distance, token.
KEYS = np.random.default_rng(0).integers(2**62, size=(10, 5, 10))


def check_asked(task, batch, row):
  """The answer and its end are asked for, and nothing else; then padding."""
  tokens = np.asarray(batch.tokens[row]).tolist()
  first, last = tokens.index(task.token('=')), tokens.index(task.end)
  mask_Q = np.asarray(batch.mask[row])
  asked = np.asarray(batch.queries[row])[mask_Q].tolist()
  assert asked == list(range(first, last))
  targets = np.asarray(batch.targets[row])[mask_Q].tolist()
  assert targets == tokens[first + 1 : last + 1]
  assert set(tokens[last + 1 :]) <= {task.pad}


def check_causal(task, tokens_T):
  """What structure says of a token does not change with what comes after."""
  before = task.structure(tokens_T[None])
  future_TT = jnp.triu(jnp.ones((len(tokens_T),) * 2, bool), 1)
  structure = jax.jit(task.structure)
  for token in range(task.vocab_size):
    after = structure(jnp.where(future_TT, token, tokens_T[None]))
    for x_1T, y_TT in zip(
      jax.tree.leaves(before), jax.tree.leaves(after), strict=True
    ):
      assert bool(((x_1T == y_TT) | future_TT).all())


def check_same_row(task, sizes, small, large):
  """A row drawn alone does not depend on the largest size."""
  size_1S = jnp.array([sizes])
  sample = jax.jit(task.sample, static_argnames='max_size')
  rows = [
    sample(jax.random.key(3), size_1S, max_size=n).tokens[0].tolist()
    for n in (small, large)
  ]
  spelt = rows[0][: rows[0].index(task.end) + 1]
  assert rows[1][: len(spelt)] == spelt
  assert set(rows[1][len(spelt) :]) <= {task.pad}


def check_gathered(task, tokens_BT, **window):
  """A windowed model sees the same keys gathered and dense; its logits."""
  position = PlaceWindow(**window)
  structure, logits, params = task.structure(tokens_BT), {}, None
  for attention in ('gathered', 'dense'):
    config = TransformerConfig(
      position=position, width=8, heads=2, ffn_width=8, attention=attention
    )
    model = Transformer(config, task.vocab_size)
    if params is None:
      params = jax.jit(model.init)(jax.random.key(0), tokens_BT, structure)
    logits[attention] = jax.jit(model.apply)(params, tokens_BT, structure)
  np.testing.assert_allclose(
    logits['gathered'], logits['dense'], atol=1e-5, rtol=1e-5
  )
  return logits['dense']


def views(position, task, tokens_BT, query_BQ):
  """A number for the multiset of keys that a query sees, int64 [B, Q]."""

  @jax.jit
  def seen(tokens_BT, query_BQ):
    ids = task.structure(tokens_BT)
    key, query = ids.expand(1), ids.take(query_BQ).expand(2)
    before = key.index <= query.index
    return (
      position.visible(query, key) & before,
      key.role,
      position._difference(query, key),
    )

  seen_BQT, role_B1T, distance_BQT = map(np.asarray, seen(tokens_BT, query_BQ))
  tokens_BT, query_BQ = np.asarray(tokens_BT), np.asarray(query_BQ)
  key_BQT = KEYS[role_B1T, distance_BQT + 2, tokens_BT[:, None]]
  own_BQ = np.take_along_axis(tokens_BT, query_BQ % tokens_BT.shape[1], axis=1)
  return (key_BQT * seen_BQT).sum(axis=-1) + KEYS[9, 0, own_BQ]
