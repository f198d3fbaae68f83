"""Step time and memory of position encodings, beside plain rotary's.

One language model, its encoding replaced: 2 layers of 256, four heads, float32.
A step is the loss, its gradients and Adam's update, of 4 rows of 512 tokens,
attention to all pairs at once, and of a row of 2,048, attention a block at a
time. An encoding's steps and rotary's take turns in one process; what counts is
the median of their ratios, in CPU time of one core, so that waiting for other
work of the machine does not count. Then the same gradients at 8,192 and 16,384
tokens, a block at a time: the memory is that of temporaries in the compiled
program, which never runs. It is linear in the length if twice as many tokens
take 2.1 times as much, or less; what holds all pairs takes four times as much.

Classes (`Position.cost`): A maps queries and keys, B adds a bias to keys, C has
a rule for each pair. The aim, for both steps: class A, where it keeps the width
of queries and keys and has fixed frequencies, and class B at most 1.1 times
rotary's; class C at most twice. Encodings that hold all pairs (class D) can be
named, and have neither an aim nor blocks.

Measured (`results/encodings.csv`): all aims are met. Nearest to them are FIRE
in blocks, where rows share nothing of its bias (1.96 times rotary's step; 1.10
with four rows at once), and SelfExtend and ReRoPE, which have two kinds of
queries and keys (1.5 and 1.2). Memory is 1.99 to 2.00 times as much for twice
the tokens, of all.

Command: python -m experiments.benchmarks.encodings
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn

from experiments.benchmarks import memory
from experiments.benchmarks.attention import structure
from experiments.benchmarks.table import publish
from experiments.benchmarks.timing import one_core, seconds
from extrap import cli
from extrap.arms import check_names
from extrap.config import option
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import CLEX, POSITIONS, Position
from extrap.models.transformer import Params
from extrap.tasks.task import Structure

CLAIM = 'rules for pairs at most twice the step of rotary, and linear memory'
TIME = 'a quarter of an hour on a CPU core'

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
  tokens: int = option(512, 'of rows whose pairs are held at once', minimum=1)
  batch_size: int = option(4, 'such rows of a step', minimum=1)
  long: int = option(
    2048, 'of the row whose attention is a block at a time', minimum=1
  )
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
  name: str, attention: str, rows: int, tokens: int
) -> Callable[[], object]:
  """A compiled training step, which begins at the same place in each call."""
  model = make_model(position_of(name, tokens), attention)
  optimizer = optax.adam(1e-3)

  @jax.jit
  def step(params: Params, state: optax.OptState, token_BT: jax.Array) -> tuple:
    value, grads = jax.value_and_grad(functools.partial(loss, model))(
      params, token_BT
    )
    updates, state = optimizer.update(grads, state)
    return value, optax.apply_updates(params, updates), state

  params = jax.jit(initial, static_argnums=0)(model)
  token_BT = jax.random.randint(jax.random.key(1), (rows, tokens), 0, VOCAB)
  state = optimizer.init(params)

  def call() -> None:
    jax.block_until_ready(step(params, state, token_BT))

  call()  # Compiles.
  return call


def temporaries(position: Position, tokens: int) -> float:
  """MiB that gradients of a row take beside it; nothing runs."""
  model = make_model(position, 'blockwise')
  gradient = jax.jit(jax.grad(functools.partial(loss, model)))
  params = jax.eval_shape(functools.partial(initial, model))
  token_BT = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
  return memory.temporaries(gradient.lower(params, token_BT))


def limit_of(position: Position) -> float | None:
  """The aim, in steps of rotary; None where there is none."""
  width = make_model(position, 'dense').config.head_width
  plain = position.key_shape(width) == (width,)
  if position.cost == 'A' and (not plain or isinstance(position, CLEX)):
    return None
  return LIMITS.get(position.cost)


def steps_of(benchmark: Benchmark, name: str) -> list[Callable[[], object]]:
  """The steps of an encoding that are timed; those in blocks are last."""
  dense = step_of(name, 'dense', benchmark.batch_size, benchmark.tokens)
  if POSITIONS.get(name)().cost not in LIMITS:
    return [dense]
  return [dense, step_of(name, 'blockwise', 1, benchmark.long)]


def measure(
  benchmark: Benchmark, name: str, bases: Sequence[Callable[[], object]]
) -> list[str]:
  """An encoding's row."""
  position = POSITIONS.get(name)()
  limit, own_ms, ratios = limit_of(position), [], []
  for base, step in zip(bases, steps_of(benchmark, name), strict=False):
    pairs = [(seconds(base), seconds(step)) for _ in range(benchmark.repeats)]
    own_ms.append(1e3 * np.median([own for _, own in pairs]))
    ratios.append(np.median([own / other for other, own in pairs]))
  used = []
  if position.cost in LIMITS:
    lengths = (benchmark.memory // 2, benchmark.memory)
    used = [temporaries(position_of(name, n), n) for n in lengths]
  growth = [used[1] / used[0]] if used else []
  holds = limit is None or max(ratios) <= limit
  return [
    name,
    position.cost,
    *_shown(own_ms, '.4g'),
    *_shown(ratios, '.2f'),
    '' if limit is None else f'{limit:g}',
    *_shown(used, '.4g'),
    *_shown(growth, '.2f', count=1),
    str(holds and all(found <= LINEAR for found in growth)),
  ]


def _shown(found: Sequence[float], form: str, count: int = 2) -> list[str]:
  """As many cells, empty ones for what there is not."""
  return ([f'{value:{form}}' for value in found] + [''] * count)[:count]


HEADERS = [
  'encoding',
  'class',
  'ms',
  'ms_in_blocks',
  'over_rotary',
  'in_blocks',
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
    bases = steps_of(benchmark, BASE)
    for name in names:
      rows.append(measure(benchmark, name, bases))
      print(': '.join((name, ', '.join(rows[-1][1:]))), file=sys.stderr)
  return publish(HEADERS, rows, benchmark.csv)


if __name__ == '__main__':
  cli.run(main, Benchmark, doc=__doc__)
