"""Loss of the same bytes as the context before them grows.

Windows of all lengths end at the same places, and their last bytes are asked
for: a loss that stays says that the model extrapolates, one that falls that it
uses what it is given.

Shape key: N rows, T tokens of a row, Q of them asked for, R replicas, X rows
of a program.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from extrap.compilation import default_workers, in_order, jit_once
from extrap.datasets.stdlib_text import Text
from extrap.errors import UsageError
from extrap.evaluation.grid import default_tokens, mesh_of, on_mesh
from extrap.models.transformer import Params, Transformer
from extrap.randomness import named
from extrap.tasks.text import RunningText


class Asked(NamedTuple):
  """Rows of text, and which of their next bytes are asked for.

  Attributes:
    token_NT: uint8.
    level_NT: int32, see `Text`.
    query_NQ: int32, the tokens whose next one is asked for.
    target_NQ: int32, the next ones.
  """

  token_NT: np.ndarray
  level_NT: np.ndarray
  query_NQ: np.ndarray
  target_NQ: np.ndarray


class Scores(NamedTuple):
  """What replicas made of each byte that was asked for.

  Attributes:
    loss_RNQ: float32, in nats.
    right_RNQ: bool, whether it was the most likely one.
  """

  loss_RNQ: np.ndarray
  right_RNQ: np.ndarray


def ends(text: Text, count: int, longest: int, asked: int) -> np.ndarray:
  """Where windows end: the last bytes that are asked for, int64 [N].

  They lie at equal distances, as far apart as the text allows.

  Args:
    text: that of validation.
    count: of windows.
    longest: tokens of the longest window.
    asked: bytes of a window that are asked for.

  Raises:
    UsageError: two windows would ask for the same byte.
  """
  needed = longest + (count - 1) * asked + 1
  if len(text) < needed:
    raise UsageError(
      f'{count} windows of {longest:,} bytes take a text of {needed:,} bytes '
      f'for validation, not of {len(text):,}: ask for fewer or shorter ones'
    )
  return np.linspace(longest, len(text) - 1, count).astype(np.int64)


def windows(text: Text, end_N: np.ndarray, length: int, asked: int) -> Asked:
  """The windows of a length that end there, of whose bytes the last are asked.

  Args:
    text: they are of.
    end_N: from `ends`.
    length: tokens, at most those that the ends are made for.
    asked: Q.
  """
  place_NT = end_N[:, None] - length + np.arange(length)[None]
  token_NT = text.token_N[place_NT]
  query_Q = np.arange(length - asked, length, dtype=np.int32)
  return Asked(
    token_NT=token_NT,
    level_NT=text.level_N[place_NT],
    query_NQ=np.broadcast_to(query_Q, (len(end_N), asked)),
    target_NQ=text.token_N[place_NT[:, -asked:] + 1].astype(np.int32),
  )


def last_asked(rows: Asked, count: int) -> Asked:
  """The same rows, of whose bytes the last that were asked for still are."""
  return rows._replace(
    query_NQ=rows.query_NQ[:, -count:], target_NQ=rows.target_NQ[:, -count:]
  )


def cut(rows: Asked, length: int) -> Asked:
  """A row for each byte that is asked for, with the last tokens before it.

  A model that is trained on so many tokens is always at home in it.

  Args:
    rows: of `length` tokens or more.
    length: tokens of the new rows; none is cut where the old ones have no more.
  """
  query_N1 = rows.query_NQ.reshape(-1, 1)
  start_N1 = np.maximum(query_N1 + 1 - length, 0)
  row_N1 = np.repeat(np.arange(len(rows.query_NQ)), rows.query_NQ.shape[1])
  row_N1, place_NT = row_N1[:, None], start_N1 + np.arange(length)[None]
  return Asked(
    token_NT=rows.token_NT[row_N1, place_NT],
    level_NT=rows.level_NT[row_N1, place_NT],
    query_NQ=query_N1 - start_N1,
    target_NQ=rows.target_NQ.reshape(-1, 1),
  )


def score(
  model: Transformer,
  params: Params,
  rows: Asked,
  *,
  drawn: bool = False,
  tokens_per_call: int | None = None,
  progress: Callable[[int], None] | None = None,
) -> Scores:
  """Loss of every byte that is asked for, and whether it is predicted.

  Args:
    model: the model; params: of a population, leading replica axis.
    rows: of one length; one program serves all of the same shape.
    drawn: whether positions are drawn as in training, as encodings need that
      are trained on random ones.
    tokens_per_call: see `grid.evaluate`.
    progress: called with the number of rows done since the last call.
  """
  total, length = rows.token_NT.shape
  mesh = mesh_of(params)
  # The same number of rows for all questions: one compilation serves them.
  each = max(1, (tokens_per_call or default_tokens()) // length)
  each *= 1 if mesh is None else mesh.size
  program, place = _program(model, drawn, mesh), _placement(mesh)

  def call(first: int) -> jax.Array:
    # The last call is filled up by repeating a row, so that shapes agree.
    take_X = np.minimum(np.arange(first, first + each), total - 1)
    part = jax.tree.map(lambda leaf: leaf[take_X], rows)
    return program(params, place(part), np.uint32(first))

  alone = mesh is not None or each == 1
  starts, found = range(0, total, each), []
  for first, part in zip(
    starts,
    in_order(call, starts, 0 if alone else default_workers()),
    strict=True,
  ):
    found.append(part)
    if progress is not None:
      progress(min(each, total - first))
  loss_RNQ, right_RNQ = np.concatenate(found, axis=2)[:, :, :total]
  return Scores(loss_RNQ, right_RNQ > 0)


@functools.lru_cache(maxsize=64)
def _program(model: Transformer, drawn: bool, mesh: Mesh | None) -> Callable:
  """(params, rows, number of the first) -> losses and hits, [2, R, X, Q]."""
  text = RunningText()

  def score(params: Params, rows: Asked, key: jax.Array) -> jax.Array:
    token_XT = rows.token_NT.astype(jnp.int32)
    logits_XQV = model.apply(
      {'params': params},
      token_XT,
      text.structure(token_XT, rows.level_NT),
      rows.query_NQ,
      key=key,
      train=drawn,
    )
    loss_XQ = optax.softmax_cross_entropy_with_integer_labels(
      logits_XQV, rows.target_NQ
    )
    right_XQ = jnp.argmax(logits_XQV, axis=-1) == rows.target_NQ
    return jnp.stack([loss_XQ, right_XQ.astype(loss_XQ.dtype)])

  # One replica after the other: as fast as all at once, in less memory.
  def score_all(params: Params, rows: Asked, first: jax.Array) -> jax.Array:
    key = named(jax.random.key(0), 'positions', first) if drawn else None
    found_R2XQ = jax.lax.map(lambda params: score(params, rows, key), params)
    return found_R2XQ.swapaxes(0, 1)

  return on_mesh(score_all, mesh)


def _placement(mesh: Mesh | None) -> Callable[[Asked], Asked]:
  """Spreads rows over all axes of a mesh, if there is one."""
  if mesh is None:
    return lambda rows: rows
  over = NamedSharding(mesh, P(mesh.axis_names))
  return jit_once(lambda rows: rows, out_shardings=over)
