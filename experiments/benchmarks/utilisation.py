"""How much of a device's matrix-product rate training reaches.

The model is the 122M decoder of the Abacus recipe (McLeish et al. 2024, arXiv
2405.17399): 16 layers of width 1024, gated feed-forward, sums of up to 20
digits. The rate of the device is measured in the same process, by products of
large square matrices of the same type. Utilisation is the FLOPs that the model
needs (recomputation does not count) over the time of its steps and that rate.

  python -m experiments.benchmarks.utilisation                 an accelerator
  python -m experiments.benchmarks.utilisation --batch_size=8 --steps=2 \\
    --model.dtype=float32 --side=2048                          two CPU cores

--trace=<folder> keeps a profile of the timed steps, for TensorBoard or
Perfetto.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.benchmarks.table import publish
from extrap import cli
from extrap.config import option
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import Abacus
from extrap.models.positions.position import matmul_precision
from extrap.sequence import SequenceProblem
from extrap.tasks.addition import Addition
from extrap.training import MeshConfig, TrainConfig, make_mesh
from extrap.training.flops import count_step_flops
from extrap.training.trainer import Trainer, make_trainer

CLAIM = 'the 122M recipe keeps a large share of an accelerator busy'
TIME = '3 minutes on an accelerator'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Flags of this benchmark."""

  model: TransformerConfig = option(
    TransformerConfig(
      position=Abacus(),
      depth=16,
      width=1024,
      heads=16,
      ffn='geglu',
      ffn_width=2048,
      dtype='bfloat16',
    ),
    'what is trained',
  )
  mesh: MeshConfig = option(MeshConfig(data=-1), 'devices')
  batch_size: int = option(1024, 'sums a step', unit='sums', minimum=1)
  accumulate: int = option(1, 'parts of a batch', minimum=1)
  steps: int = option(10, 'steps that are timed', minimum=1)
  side: int = option(8192, 'side of the square matrices', minimum=1)
  trace: str | None = option(None, 'folder for a profile of the steps')
  csv: str | None = option(None, 'file to write the table to')


def main(config: Config, flag_values: object) -> int:
  """Prints the table."""
  del flag_values
  trainer = make(config)
  rate = product_rate(config.side, config.model.dtype)
  seconds, finite = time_steps(config, trainer)
  plain = dataclasses.replace(config.model, remat=False, attention='dense')
  needed = make(dataclasses.replace(config, model=plain))
  flops = count_step_flops(needed.problem, needed.abstract.params)
  devices = trainer.mesh.size
  reached = flops / seconds / devices
  parameters = sum(
    leaf.size for leaf in jax.tree.leaves(trainer.abstract.params)
  )
  headers = [
    'parameters',
    'type',
    'devices',
    'sums a step',
    'seconds a step',
    'TFLOP a step',
    'product TFLOP/s a device',
    'reached TFLOP/s a device',
    'utilisation',
    'finite',
  ]
  row = [
    f'{parameters / 1e6:.0f}M',
    config.model.dtype,
    str(devices),
    str(config.batch_size),
    f'{seconds:.3g}',
    f'{flops / 1e12:.3g}',
    f'{rate / 1e12:.3g}',
    f'{reached / 1e12:.3g}',
    f'{100 * reached / rate:.1f} %',
    str(finite),
  ]
  return publish(headers, [row], config.csv)


def make(config: Config) -> Trainer:
  """The training of one replica."""
  task = Addition()
  problem = SequenceProblem(
    task=task,
    model=Transformer(config.model, task.vocab_size),
    max_size=20,
    batch_size=config.batch_size,
  )
  train = TrainConfig(evaluate_every=0, accumulate=config.accumulate)
  return make_trainer(problem, train, mesh=make_mesh(config.mesh))


def product_rate(side: int, dtype: str, repeats: int = 10) -> float:
  """FLOP/s of products of square matrices on one device, the best of three."""
  x = jax.random.normal(jax.random.key(0), (side, side), dtype) / side**0.5
  precision = matmul_precision(dtype)

  @jax.jit
  def chain(x: jax.Array) -> jax.Array:
    step = lambda _, y: jnp.matmul(x, y, precision=precision)  # noqa: E731
    return jax.lax.fori_loop(0, repeats, step, x)

  chain(x).block_until_ready()
  best = min(_seconds(lambda: chain(x).block_until_ready()) for _ in range(3))
  return 2.0 * side**3 * repeats / best


def _seconds(call: Callable[[], object]) -> float:
  began = time.perf_counter()
  call()
  return time.perf_counter() - began


def time_steps(config: Config, trainer: Trainer) -> tuple[float, bool]:
  """Seconds of a step, in one dispatch after one that compiles; all finite?"""
  state, run = trainer.create(), trainer.dispatch()
  state, metrics = run(state, 0, config.steps)
  jax.block_until_ready(metrics)
  profile = contextlib.nullcontext()
  if config.trace:
    profile = jax.profiler.trace(config.trace)
  with profile:
    began = time.perf_counter()
    state, metrics = run(state, config.steps, config.steps)
    jax.block_until_ready((state, metrics))
    seconds = (time.perf_counter() - began) / config.steps
  return seconds, bool(jnp.isfinite(metrics['train/loss']).all())


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
