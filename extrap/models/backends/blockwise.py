"""Attention a block of queries and keys at a time: memory linear in length.

Forward, an online softmax over blocks of keys (Rabe and Staats 2021, arXiv
2112.05682). Backward, a block's weights are computed anew from each row's
saved log-normaliser (Dao et al. 2022, arXiv 2205.14135), so that inputs,
output and one number a query are all that is kept.

A static list of block pairs is scanned, from which blocks that lie wholly in
the causal future are left out, and with a window of tokens those wholly before
it: a loop of known length does half the work, or work linear in length.

Shape key: B examples, T tokens, N blocks, Q queries and K keys of one block
(of all blocks in the arguments of `blockwise`), H heads, D head width.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from extrap.models.positions.position import Position, matmul_precision
from extrap.tasks.task import Structure

BLOCK = 512  # tokens: a head's logits are then 1 MiB, the size of a cache

PairParams = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class PairRule:
  """An encoding's pairwise hooks, with parameters that were declared before.

  Parameters cannot be declared inside a loop; `params` holds them by name.
  """

  position: Position
  heads: int

  def logits(
    self,
    score: jax.Array,
    params: PairParams,
    key_bias_BHK: jax.Array | None,
    query_ids: Structure,
    key_ids: Structure,
  ) -> jax.Array:
    """Logits [B, H, Q, K], -inf where a query does not see a key.

    Scores are products [B, H, Q, K], or [V, B, H, Q, K] of V kinds.
    """
    query, key = query_ids.expand(1, 3), key_ids.expand(1, 2)
    logits_BHQK = self.position.combine(score, query, key)
    bias = self.position.pair_bias(
      query, key, lambda name, init, shape: params[name], self.heads
    )
    if bias is not None:
      logits_BHQK += bias
    if key_bias_BHK is not None:
      logits_BHQK += key_bias_BHK[:, :, None]
    seen = key.index <= query.index
    seen &= self.position.visible(query, key)
    return jnp.where(seen, logits_BHQK, -jnp.inf)


@struct.dataclass
class _Queries:
  """Blocks of queries: states [N, B, H, Q, ..] and structure [N, B, Q]."""

  query: jax.Array
  ids: Structure


@struct.dataclass
class _Keys:
  """Blocks of keys: states [N, B, H, K, ..], structure, bias [N, B, H, K]."""

  key: jax.Array
  value: jax.Array
  bias: jax.Array | None
  ids: Structure


@struct.dataclass
class _Running:
  """What is known of each row so far: [N, B, H, Q, 1 or D]."""

  top: jax.Array
  total: jax.Array
  out: jax.Array


def blockwise(
  rule: PairRule,
  params: PairParams,
  query: jax.Array,
  key: jax.Array,
  value_BKHD: jax.Array,
  key_bias_BKH: jax.Array | None,
  query_ids: Structure,
  key_ids: Structure,
  *,
  in_order: bool,
  block: int = BLOCK,
) -> jax.Array:
  """Softmax attention in float32, with gradients, in linear memory.

  Lengths need not be multiples of the block. Structures have no gradient. A
  query that sees no key at all reads zero, where the dense path reads the mean
  of all values.

  Args:
    rule: bias and visibility of pairs.
    params: parameters of the pairwise bias; they have gradients.
    query: queries, multiplied by the scale of the logits, [B, Q, H, D], or
      [B, Q, H, V, D] for V kinds of scores; D may differ from that of values.
    key: keys, in token order, likewise.
    value_BKHD: values.
    key_bias_BKH: bias of each key whatever the query.
    query_ids: structure of the queries, [B, Q].
    key_ids: structure of the keys, [B, K].
    in_order: the queries are all tokens in order, so that blocks of keys in
      the future of a block of queries can be left out.
    block: most queries, and most keys, looked at together.

  Returns:
    [B, Q, H, D].
  """
  queries = _Queries(_heads(query, block), _tokens(query_ids, block))
  if key_bias_BKH is not None:
    key_bias_BKH = key_bias_BKH.astype(_exact(key_bias_BKH))
    key_bias_BKH = _heads(key_bias_BKH[..., None], block)[..., 0]
  length = key_ids.index.shape[1]
  keys = _Keys(
    _heads(key, block),
    _heads(value_BKHD, block),
    key_bias_BKH,
    _tokens(key_ids, block, fill=length),
  )
  out_NBHQD = _attend(rule, in_order, params, queries, keys)
  out_BNQHD = out_NBHQD.transpose(1, 0, 3, 2, 4)
  examples, _, _, *trailing = out_BNQHD.shape
  out_BTHD = out_BNQHD.reshape(examples, -1, *trailing)
  return out_BTHD[:, : query.shape[1]]


def _split(x_BTX: jax.Array, block: int) -> jax.Array:
  """[B, N, T / N, ...], the last token repeated up to a multiple of N."""
  tokens = x_BTX.shape[1]
  count = -(-tokens // block)
  size = -(-tokens // count)
  pad = [(0, 0)] * x_BTX.ndim
  pad[1] = (0, count * size - tokens)
  x_BTX = jnp.pad(x_BTX, pad, mode='edge')
  return x_BTX.reshape(x_BTX.shape[0], count, size, *x_BTX.shape[2:])


def _heads(x_BTHD: jax.Array, block: int) -> jax.Array:
  """Blocks [N, B, H, T / N, ..] of states."""
  split = _split(x_BTHD, block)
  return split.transpose(1, 0, 3, 2, *range(4, split.ndim))


def _tokens(ids: Structure, block: int, fill: int | None = None) -> Structure:
  """Blocks [N, B, T / N] of a structure; padding has index `fill`."""
  split = jax.tree.map(lambda x: _split(x, block).swapaxes(0, 1), ids)
  if fill is None:
    return split
  count, _, size = split.index.shape
  slot_NT = jnp.arange(count * size).reshape(count, size)
  # Padded keys are what comes next: no query sees them.
  index_NBT = jnp.where(slot_NT[:, None] < fill, split.index, fill)
  return split.replace(index=index_NBT)


def _pairs(
  rule: PairRule, queries: _Queries, keys: _Keys, in_order: bool
) -> jax.Array:
  """Which block of queries meets which block of keys, [pairs, 2]."""
  (rows, *_, height), (columns, *_, width) = (
    queries.ids.index.shape,
    keys.ids.index.shape,
  )
  window = rule.position.token_window or columns * width

  def meet(row: int, column: int) -> bool:
    first, last = row * height, (row + 1) * height - 1
    is_past = column * width <= last
    return is_past and (column + 1) * width > first + 1 - window

  return jnp.array(
    [
      (row, column)
      for row in range(rows)
      for column in range(columns)
      if not in_order or meet(row, column)
    ]
  )


def _at(tree: struct.PyTreeNode, block: jax.Array) -> struct.PyTreeNode:
  return jax.tree.map(
    lambda x: lax.dynamic_index_in_dim(x, block, keepdims=False), tree
  )


def _put(
  tree: struct.PyTreeNode, block: jax.Array, new: struct.PyTreeNode
) -> struct.PyTreeNode:
  return jax.tree.map(
    lambda x, y: lax.dynamic_update_index_in_dim(x, y, block, 0), tree, new
  )


def _exact(x: jax.Array) -> jnp.dtype:
  """The type to accumulate in."""
  return jnp.promote_types(x.dtype, jnp.float32)


def _product(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """A product of blocks in x's type, accumulated in float32 at least."""
  return jnp.einsum(
    spec,
    x,
    y.astype(x.dtype),
    precision=matmul_precision(x.dtype),
    preferred_element_type=_exact(x),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
  rule: PairRule,
  in_order: bool,
  params: PairParams,
  queries: _Queries,
  keys: _Keys,
) -> jax.Array:
  """Attention of blocks, [N, B, H, Q, D]."""
  return _forward(rule, in_order, params, queries, keys)[0]


_Saved = tuple[PairParams, _Queries, _Keys, jax.Array, jax.Array]


def _forward(
  rule: PairRule,
  in_order: bool,
  params: PairParams,
  queries: _Queries,
  keys: _Keys,
) -> tuple[jax.Array, _Saved]:
  """The output, and what the backward pass needs."""
  # In a scan over layers JAX would compute what hangs on structure alone, bias
  # and mask, beforehand, for all pairs at once; the barrier ties it to states.
  params, queries, keys = lax.optimization_barrier((params, queries, keys))

  def step(running: _Running, pair: jax.Array) -> tuple[_Running, None]:
    row, column = pair
    asking, offered = _at(queries, row), _at(keys, column)
    score = _product('BHQ...D,BHK...D->...BHQK', asking.query, offered.key)
    logits_BHQK = rule.logits(
      score, params, offered.bias, asking.ids, offered.ids
    )
    new = _update(_at(running, row), logits_BHQK, offered.value)
    return _put(running, row, new), None

  shape = (*queries.query.shape[:4], keys.value.shape[-1])
  out_NBHQD = jnp.zeros(shape, _exact(queries.query))
  none_NBHQ1 = jnp.zeros_like(out_NBHQD[..., :1])
  running = _Running(none_NBHQ1 - jnp.inf, none_NBHQ1, out_NBHQD)
  running, _ = lax.scan(step, running, _pairs(rule, queries, keys, in_order))
  # A row that saw nothing has no weights: out is 0, its weights exp(-inf).
  total_NBHQ1 = jnp.where(running.total == 0, 1, running.total)
  out_NBHQD = (running.out / total_NBHQ1).astype(queries.query.dtype)
  log_total_NBHQ1 = _finite(running.top) + jnp.log(total_NBHQ1)
  return out_NBHQD, (params, queries, keys, out_NBHQD, log_total_NBHQ1)


def _update(
  old: _Running, logits_BHQK: jax.Array, value_BHKD: jax.Array
) -> _Running:
  """One more block of keys in the running softmax of a block of queries."""
  top_BHQ1 = jnp.maximum(old.top, logits_BHQK.max(axis=-1, keepdims=True))
  shift_BHQ1 = _finite(top_BHQ1)
  weight_BHQK = jnp.exp(logits_BHQK - shift_BHQ1)
  shrink_BHQ1 = jnp.exp(old.top - shift_BHQ1)
  read_BHQD = _product(
    'BHQK,BHKD->BHQD', weight_BHQK.astype(value_BHKD.dtype), value_BHKD
  )
  return _Running(
    top_BHQ1,
    old.total * shrink_BHQ1 + weight_BHQK.sum(axis=-1, keepdims=True),
    old.out * shrink_BHQ1 + read_BHQD,
  )


def _finite(top: jax.Array) -> jax.Array:
  """The largest logit; 0 for a row that has seen nothing yet."""
  return jnp.where(jnp.isneginf(top), 0, top)


@struct.dataclass
class _Gradients:
  """Accumulated cotangents, float32 at least."""

  params: PairParams
  query: jax.Array
  key: jax.Array
  value: jax.Array
  bias: jax.Array | None


def _backward(
  rule: PairRule, in_order: bool, saved: _Saved, grad_NBHQD: jax.Array
) -> tuple[PairParams, _Queries, _Keys]:
  """Cotangents of parameters, queries and keys."""
  params, queries, keys, out_NBHQD, log_total_NBHQ1 = saved
  exact = _exact(grad_NBHQD)
  drift_NBHQ1 = jnp.sum(
    grad_NBHQD.astype(exact) * out_NBHQD, axis=-1, keepdims=True
  )
  rows = (queries, grad_NBHQD, log_total_NBHQ1, drift_NBHQ1)

  def step(sums: _Gradients, pair: jax.Array) -> tuple[_Gradients, None]:
    row, column = pair
    new = _block_gradients(rule, params, _at(rows, row), _at(keys, column))
    return _Gradients(
      jax.tree.map(jnp.add, sums.params, new.params),
      _add(sums.query, row, new.query),
      *(
        jax.tree.map(lambda x, y: _add(x, column, y), old, term)
        for old, term in (
          (sums.key, new.key),
          (sums.value, new.value),
          (sums.bias, new.bias),
        )
      ),
    ), None

  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, _exact(x)),
    _Gradients(params, queries.query, keys.key, keys.value, keys.bias),
  )
  sums, _ = lax.scan(step, zeros, _pairs(rule, queries, keys, in_order))
  inputs = _Gradients(params, queries.query, keys.key, keys.value, keys.bias)
  sums = jax.tree.map(lambda x, y: x.astype(y.dtype), sums, inputs)
  return (
    sums.params,
    _Queries(sums.query, None),
    _Keys(sums.key, sums.value, sums.bias, None),
  )


def _add(sums: jax.Array, block: jax.Array, term: jax.Array) -> jax.Array:
  return _put(sums, block, _at(sums, block) + term)


def _block_gradients(
  rule: PairRule,
  params: PairParams,
  rows: tuple[_Queries, jax.Array, jax.Array, jax.Array],
  offered: _Keys,
) -> _Gradients:
  """What one pair of blocks adds to each cotangent."""
  asking, grad_BHQD, log_total_BHQ1, drift_BHQ1 = rows
  logits_BHQK, pull = jax.vjp(
    lambda *args: rule.logits(*args, asking.ids, offered.ids),
    _product('BHQ...D,BHK...D->...BHQK', asking.query, offered.key),
    params,
    offered.bias,
  )
  weight_BHQK = jnp.exp(logits_BHQK - log_total_BHQ1)
  change_BHQK = _product('BHQD,BHKD->BHQK', grad_BHQD, offered.value)
  score, params, bias_BHK = pull(weight_BHQK * (change_BHQK - drift_BHQ1))
  score = score.astype(asking.query.dtype)
  weight_BHQK = weight_BHQK.astype(grad_BHQD.dtype)
  return _Gradients(
    params,
    _product('...BHQK,BHK...D->BHQ...D', score, offered.key),
    _product('...BHQK,BHQ...D->BHK...D', score, asking.query),
    _product('BHQK,BHQD->BHKD', weight_BHQK, grad_BHQD),
    bias_BHK,
  )


_attend.defvjp(_forward, _backward)
