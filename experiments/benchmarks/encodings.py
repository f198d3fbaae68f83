"""Step time and memory of position encodings, beside plain rotary's.

One language model, its encoding replaced: 2 layers of 256, four heads, float32,
4 rows of 512 tokens, attention to all pairs. A step is the loss, its gradients
and Adam's update. An encoding's steps and rotary's take turns in one process;
what counts is the median of their ratios, in CPU time of one core, so that
waiting for other work of the machine does not count. Then the same gradients at
8,192 and 16,384 tokens, one row, attention a block at a time: the memory is
that of temporaries in the compiled program, which never runs. It is linear in
the length if twice as many tokens take 2.1 times as much, or less; what holds
all pairs takes four times as much.

Classes (`Position.cost`): A maps queries and keys, B adds a bias to keys, C has
a rule for each pair. The aim: class A, where it keeps the width of queries and
keys and learns nothing, and class B at most 1.1 times rotary's step; class C at
most twice. Encodings that hold all pairs (class D) can be named, and have no
aim.

Command: python -m experiments.benchmarks.encodings
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn

from experiments.benchmarks.attention import structure
from experiments.benchmarks.table import publish
from experiments.benchmarks.timing import one_core
from extrap import cli
from extrap.arms import check_names
from extrap.config import option
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import POSITIONS, Position
from extrap.models.transformer import Params
from extrap.tasks.task import Structure

CLAIM = 'biases of pairs at most twice the step of rotary, and linear memory'
TIME = '25 minutes on a CPU core'

BASE = 'rotary'
VOCAB = 128
LEVEL = 64  # tokens of each part of a made-up text
LIMITS = {'A': 1.1, 'B': 1.1, 'C': 2.0}
LINEAR = 2.1  # times the memory for twice the tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """Flags of this benchmark."""

  encodings: tuple[str, ...] = option(
    (), 'those to measure (default: all of classes A, B and C)'
  )
  tokens: int = option(512, 'of a row whose step is timed', minimum=1)
  batch_size: int = option(4, 'rows of it', minimum=1)
  repeats: int = option(
    9, 'timed steps of each, in turns; the median counts', minimum=1
  )
  memory: int = option(
    16_384, 'tokens of the longer row that is compiled', minimum=2
  )
  csv: str | None = option(None, 'where to write the numbers')


def position_of(name: str, tokens: int) -> Position:
  """An encoding by its name, trained on that many tokens if it asks."""
  entry = POSITIONS.get(name)
  asks = any(field.name == 'trained' for field in dataclasses.fields(entry))
  return entry(trained=tokens) if asks else entry()


def make_model(position: Position, attention: str) -> Transformer:
  """The model with an encoding."""
  config = TransformerConfig(
    depth=2,
    width=256,
    ffn_width=1024,
    position=position,
    attention=attention,
  )
  return Transformer(config, VOCAB)


def ids(rows: int, tokens: int) -> Structure:
  """Digits with delimiters, and a text's parts; alike in all rows."""
  one = structure(tokens)
  one = one.replace(level=one.index // LEVEL)
  all_rows = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, tokens)), one)
  return all_rows.replace(position=all_rows.index)


def loss(model: Transformer, params: Params, token_BT: jax.Array) -> jax.Array:
  """Mean cross-entropy of each row's next tokens, the first after the last."""
  logits_BTV = model.apply(
    {'params': params},
    token_BT,
    ids(*token_BT.shape),
    key=jax.random.key(0),
    train=True,
  )
  target_BT = jnp.roll(token_BT, -1, axis=1)
  return jnp.mean(
    optax.softmax_cross_entropy_with_integer_labels(logits_BTV, target_BT)
  )


def initial(model: Transformer) -> Params:
  """Parameters of a model."""
  token_BT = jnp.zeros((1, 2), jnp.int32)
  params = model.init(jax.random.key(0), token_BT, ids(1, 2))['params']
  return nn.unbox(params)


def step_of(
  position: Position, rows: int, tokens: int
) -> Callable[[], jax.Array]:
  """A compiled training step, which begins at the same place in each call."""
  model, optimizer = make_model(position, 'dense'), optax.adam(1e-3)

  @jax.jit
  def step(params: Params, state: optax.OptState, token_BT: jax.Array) -> tuple:
    value, grads = jax.value_and_grad(functools.partial(loss, model))(
      params, token_BT
    )
    updates, state = optimizer.update(grads, state)
    return value, optax.apply_updates(params, updates), state

  params = jax.jit(initial, static_argnums=0)(model)
  token_BT = jax.random.randint(jax.random.key(1), (rows, tokens), 0, VOCAB)
  call = functools.partial(step, params, optimizer.init(params), token_BT)
  jax.block_until_ready(call())  # Compiles.
  return call


def seconds(call: Callable[[], jax.Array]) -> float:
  """CPU time of a call."""
  began = time.process_time()
  jax.block_until_ready(call())
  return time.process_time() - began


def temporaries(position: Position, tokens: int) -> float:
  """MiB that gradients of a row take beside it; nothing runs."""
  model = make_model(position, 'blockwise')
  gradient = jax.jit(jax.grad(functools.partial(loss, model)))
  params = jax.eval_shape(functools.partial(initial, model))
  token_BT = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
  compiled = gradient.lower(params, token_BT).compile()
  return compiled.memory_analysis().temp_size_in_bytes / 2**20


def limit_of(position: Position) -> float | None:
  """The aim, in steps of rotary; None where there is none."""
  model = make_model(position, 'dense')
  width = model.config.head_width
  base = make_model(position_of(BASE, 1), 'dense')
  plain = position.key_shape(width) == (width,) and count(model) == count(base)
  return (
    None if position.cost == 'A' and not plain else LIMITS.get(position.cost)
  )


def count(model: Transformer) -> int:
  """Parameters of a model."""
  params = jax.eval_shape(functools.partial(initial, model))
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def measure(
  benchmark: Benchmark, name: str, base: Callable[[], jax.Array]
) -> list[str]:
  """An encoding's row."""
  position = position_of(name, benchmark.tokens)
  call = step_of(position, benchmark.batch_size, benchmark.tokens)
  pairs = [(seconds(base), seconds(call)) for _ in range(benchmark.repeats)]
  ratio = float(np.median([own / other for other, own in pairs]))
  limit, linear = limit_of(position), position.cost in LIMITS
  lengths = (benchmark.memory // 2, benchmark.memory) if linear else ()
  used = [temporaries(position_of(name, n), n) for n in lengths]
  growth = used[1] / used[0] if used else None
  return [
    name,
    position.cost,
    f'{np.median([own for _, own in pairs]) * 1e3:.4g}',
    f'{ratio:.2f}',
    '' if limit is None else f'{limit:g}',
    *([f'{mebibytes:.4g}' for mebibytes in used] or ['', '']),
    '' if growth is None else f'{growth:.2f}',
    str((limit is None or ratio <= limit) and (not used or growth <= LINEAR)),
  ]


HEADERS = [
  'encoding',
  'class',
  'ms',
  'over_rotary',
  'aim',
  'mib_half',
  'mib_long',
  'growth',
  'holds',
]


def main(benchmark: Benchmark, flag_values: flags.FlagValues) -> int:
  """Prints a table; returns 1 if an aim is missed."""
  del flag_values
  if benchmark.encodings:
    check_names('encodings', benchmark.encodings, POSITIONS.names())
  names = benchmark.encodings or [
    name for name in POSITIONS.names() if POSITIONS.get(name)().cost in LIMITS
  ]
  rows = []
  with one_core():
    plain = position_of(BASE, benchmark.tokens)
    base = step_of(plain, benchmark.batch_size, benchmark.tokens)
    for name in names:
      rows.append(measure(benchmark, name, base))
      print(': '.join((name, ', '.join(rows[-1][1:]))), file=sys.stderr)
  return publish(HEADERS, rows, benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
