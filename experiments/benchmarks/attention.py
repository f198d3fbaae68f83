"""Memory and time of attention, all pairs at once or a block at a time.

Forward and backward of one attention, batch 1 and four heads of 64 in float32,
gradients of queries, keys, values and the bias's parameters. The memory is that
of temporaries in the compiled program, which is never run: at 16,384 tokens
the dense path would not fit. At shorter lengths, where the dense path takes no
more than 4 GiB, both run, must agree, and are timed with
`jax.nn.dot_product_attention` beside them, which holds all pairs too.

Command: python -m experiments.benchmarks.attention
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import memory
from experiments.benchmarks.table import publish
from extrap import cli
from extrap.config import option
from extrap.models.attention import declare_pairs
from extrap.models.backends import PairRule, blockwise
from extrap.models.positions import FIRE, ALiBi, NoPosition, PlaceBias, Position
from extrap.models.positions.position import Pairs
from extrap.tasks.task import Structure

CLAIM = 'at 16,384 tokens, a twentieth of the dense temporaries or less'
TIME = 'three minutes on two CPU cores'

HEADS, WIDTH = 4, 64
PLACES = 100  # digits of a made-up sequence between two delimiters
METHODS = ('dense', 'blockwise', 'jax.nn, xla')
ENOUGH = 20  # times less memory
MOST = 4096  # MiB that the dense path may take where it runs

Params = dict[str, jax.Array]
Loss = Callable[[Params, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Flags of this benchmark."""

  memory: tuple[int, ...] = option(
    (2048, 4096, 8192, 16384), 'lengths that are compiled', unit='tokens'
  )
  timed: tuple[int, ...] = option(
    (1024, 2048, 4096), 'lengths that are run', unit='tokens'
  )
  repeats: int = option(
    5, 'timed calls of each method, in turns; the fastest counts', minimum=1
  )
  csv: str | None = option(None, 'where to write the numbers')


def structure(tokens: int) -> Structure:
  """Runs of digits with a delimiter after each, one row."""
  index_BT = jnp.arange(tokens)[None]
  place_BT = index_BT % (PLACES + 1)
  anchor_BT = (place_BT == PLACES).astype(jnp.int32)
  role_BT = jnp.where(anchor_BT > 0, 3, index_BT // (PLACES + 1) % 3)
  ids = (index_BT, index_BT, place_BT, role_BT, role_BT, anchor_BT)
  return Structure(*ids, runs=3, roles=4, anchors=tokens // PLACES + 1)


def dense(
  position: Position, params: Params, qkv_3BTHD: jax.Array, ids: Structure
) -> jax.Array:
  """The reference."""
  query, key = ids.expand(1, 3), ids.expand(1, 2)
  bias = position.pair_bias(query, key, lambda name, *_: params[name], HEADS)
  mask = (key.index <= query.index) & position.visible(query, key)
  scale = jnp.full((1, 1, 1, 1), WIDTH**-0.5)
  return position.attend(
    Pairs(*qkv_3BTHD, bias, mask, scale, query, key),
    lambda name, *_: params[name],
  )


def in_blocks(
  position: Position, params: Params, qkv_3BTHD: jax.Array, ids: Structure
) -> jax.Array:
  """A block at a time."""
  query_BTHD, key_BTHD, value_BTHD = qkv_3BTHD
  return blockwise(
    PairRule(position, HEADS),
    params,
    query_BTHD * WIDTH**-0.5,
    key_BTHD,
    value_BTHD,
    None,
    ids,
    ids,
    in_order=True,
  )


def peer(
  position: Position, params: Params, qkv_3BTHD: jax.Array, ids: Structure
) -> jax.Array:
  """JAX's own, with the bias given as an array of all pairs."""
  query, key = ids.expand(1, 3), ids.expand(1, 2)
  bias = position.pair_bias(query, key, lambda name, *_: params[name], HEADS)
  with jax.default_matmul_precision('highest'):
    return jax.nn.dot_product_attention(
      *qkv_3BTHD, bias, is_causal=True, implementation='xla'
    )


def gradient(method: str, position: Position) -> Callable:
  """(params, qkv, weight) to gradients of the weighted output."""
  attend = dict(zip(METHODS, (dense, in_blocks, peer), strict=True))[method]

  def loss(
    params: Params, qkv_3BTHD: jax.Array, weight_BTHD: jax.Array
  ) -> jax.Array:
    ids = structure(qkv_3BTHD.shape[2])
    return jnp.sum(attend(position, params, qkv_3BTHD, ids) * weight_BTHD)

  return jax.jit(jax.grad(loss, argnums=(0, 1)))


def arguments(position: Position, tokens: int) -> tuple:
  """Parameters of the bias, then queries, keys and values, then a cotangent."""
  rng = np.random.default_rng(0)

  def draw(*shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  params = declare_pairs(
    position, structure(1), lambda name, init, shape: draw(*shape), HEADS
  )
  qkv_3BTHD = draw(3, 1, tokens, HEADS, WIDTH)
  return params, qkv_3BTHD, draw(1, tokens, HEADS, WIDTH)


def temporaries(method: str, position: Position, tokens: int) -> float:
  """MiB of temporaries in the compiled program; nothing runs."""
  args = jax.eval_shape(functools.partial(arguments, position, tokens))
  return memory.temporaries(gradient(method, position).lower(*args))


def memory_rows(name: str, position: Position, tokens: int) -> list[list[str]]:
  """A row a method: MiB of temporaries, and over those of the dense path."""
  used = {
    method: temporaries(method, position, tokens)
    for method in ('dense', 'blockwise')
  }
  ratio = used['dense'] / used['blockwise']
  return [
    [
      str(tokens),
      name,
      method,
      f'{mebibytes:.5g}',
      f'{mebibytes / used["dense"]:.3g}',
      '',
      '',
      str(method == 'dense' or tokens < 16_384 or ratio >= ENOUGH),
    ]
    for method, mebibytes in used.items()
  ]


def timed_rows(
  name: str, position: Position, tokens: int, repeats: int
) -> list[list[str]]:
  """A row a method: the fastest call, and whether gradients agree."""
  args = arguments(position, tokens)
  calls = {
    method: functools.partial(gradient(method, position), *args)
    for method in METHODS
  }
  gradients = {method: jax.device_get(call()) for method, call in calls.items()}
  seconds = {method: [] for method in METHODS}
  for _ in range(repeats):
    for method, call in calls.items():
      began = time.perf_counter()
      jax.block_until_ready(call())
      seconds[method].append(time.perf_counter() - began)
  best = {method: min(times) for method, times in seconds.items()}
  return [
    [
      str(tokens),
      name,
      method,
      '',
      '',
      f'{best[method] * 1e3:.4g}',
      f'{best[method] / best["dense"]:.2f}',
      str(close(gradients[method], gradients['dense'])),
    ]
    for method in METHODS
  ]


def close(some: tuple, others: tuple) -> bool:
  """Equal but for the order of float32 sums."""
  return all(
    np.abs(one - other).max() <= 1e-4 * np.abs(other).max() + 1e-5
    for one, other in zip(
      jax.tree.leaves(some), jax.tree.leaves(others), strict=True
    )
  )


HEADERS = [
  'tokens',
  'encoding',
  'method',
  'temporaries_mib',
  'memory_ratio',
  'ms',
  'time_ratio',
  'agrees',
]


def main(benchmark: Benchmark, flag_values: flags.FlagValues) -> int:
  """Prints a table; returns 1 on disagreement or too much memory."""
  del flag_values
  rows = []
  for name, position in (
    ('none', NoPosition()),
    ('alibi', ALiBi()),
    ('fire', FIRE()),
    ('place_bias', PlaceBias()),
  ):
    for tokens in benchmark.timed:
      if temporaries('dense', position, tokens) <= MOST:
        rows += timed_rows(name, position, tokens, benchmark.repeats)
    for tokens in benchmark.memory:
      rows += memory_rows(name, position, tokens)
    print(f'{name}: measured', file=sys.stderr)
  return publish(HEADERS, rows, benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
