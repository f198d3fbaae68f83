"""Optimizers of optax with traced hyper-parameters, and their schedules."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon

from extrap.errors import UsageError
from extrap.training.config import TrainConfig
from extrap.training.ramp import elapsed
from extrap.training.rotated_adam import Adam, rotated_adam

HParams = Mapping[str, jax.Array]

ADAM_RMS = 0.2  # Of Adam's updates at a learning rate of 1, about.

# Axes that a hidden matrix sums over, and those that it makes; any before them
# count layers.
HEADS_IN = MuonDimensionNumbers((-3,), (-2, -1))  # [E, H, D]
HEADS_OUT = MuonDimensionNumbers((-3, -2), (-1,))  # [H, D, E]
DENSE = MuonDimensionNumbers((-2,), (-1,))  # [X, Y]
MATRICES = {
  'query': HEADS_IN,
  'key': HEADS_IN,
  'value': HEADS_IN,
  'out': HEADS_OUT,
  'kernel': DENSE,
}


def default_hparams(config: TrainConfig) -> dict[str, float]:
  """What `fit` may sweep: numbers that are traced, not compiled in."""
  return {
    'learning_rate': config.learning_rate,
    'weight_decay': config.weight_decay,
  }


def schedule(config: TrainConfig) -> Callable[[jax.Array], jax.Array]:
  """Factor of the learning rate, 0..1, at each step.

  Where batches grow it follows the examples seen, not the steps.
  """
  total = config.resolved_schedule_steps
  warmup = min(config.resolved_warmup_steps, total)
  if config.schedule == 'constant':
    parts = [optax.constant_schedule(1.0)]
    ends = []
  elif config.schedule == 'cosine':
    rest = max(total - warmup, 1)
    parts = [optax.cosine_decay_schedule(1.0, rest, config.final_fraction)]
    ends = []
  else:
    cooldown = max(round(config.cooldown_fraction * total), 1)
    flat = max(total - cooldown, warmup)
    parts = [
      optax.constant_schedule(1.0),
      optax.linear_schedule(1.0, config.final_fraction, cooldown),
    ]
    ends = [flat]
  # The first step already moves: the warm-up starts at 1 / warmup_steps.
  rise = optax.linear_schedule(1 / max(warmup, 1), 1.0, max(warmup - 1, 1))
  joined = optax.join_schedules([rise, *parts], [warmup, *ends])
  return lambda step: joined(elapsed(config, step))


def check_schedule(config: TrainConfig) -> None:
  """Refuses steps after a schedule that has ended at zero."""
  total = config.resolved_schedule_steps
  ends = config.schedule != 'constant' and config.final_fraction == 0
  if ends and config.steps > total:
    raise UsageError(
      f'--steps={config.steps} goes beyond --train.schedule_steps={total}, '
      f'where the {config.schedule} schedule has ended at zero: give a larger '
      '--train.schedule_steps to a new run'
    )


def make_optimizer(
  config: TrainConfig, hparams: HParams
) -> optax.GradientTransformation:
  """Clipping and an optimizer; called inside the vmapped step.

  Weight decay leaves norm scales, biases and position parameters alone. Muon
  (Jordan 2024, kellerjordan.github.io/posts/muon) makes the updates of hidden
  matrices orthogonal, at the root mean square of Adam's (Liu et al. 2025, arXiv
  2502.16982), so that one learning rate serves both, with momentum 0.95; all
  else has Adam's with Nesterov's momentum, and no decay. Adadelta (Zeiler 2012,
  arXiv 1212.5701) has a decay of 0.9 and an epsilon of 1e-6, as in PyTorch.
  """
  factor = schedule(config)

  def rate(step: jax.Array) -> jax.Array:
    return hparams['learning_rate'] * factor(step)

  decay = {'weight_decay': hparams['weight_decay'], 'mask': _decayed}
  betas = {'b1': config.b1, 'b2': config.b2}
  build = {
    'adamw': lambda: optax.adamw(rate, **betas, eps=config.epsilon, **decay),
    'adam': lambda: optax.adam(rate, **betas, eps=config.epsilon),
    'rotated_adam': lambda: rotated_adam(
      rate, Adam(config.b1, config.b2, config.epsilon)
    ),
    'nadamw': lambda: optax.nadamw(rate, **betas, eps=config.epsilon, **decay),
    'lion': lambda: optax.lion(rate, **betas, **decay),
    'adafactor': lambda: optax.adafactor(rate),
    'adadelta': lambda: optax.adadelta(rate),
    'rmsprop': lambda: optax.rmsprop(rate, eps=config.epsilon),
    'sgd': lambda: optax.sgd(rate, momentum=config.b1 or None),
    'muon': lambda: muon(
      rate,
      eps=config.epsilon,
      weight_decay=hparams['weight_decay'],
      adam_b1=config.b1,
      adam_b2=config.b2,
      muon_weight_dimension_numbers=_matrices,
      consistent_rms=ADAM_RMS,
    ),
  }[config.optimizer]
  if not config.clip:
    return build()
  return optax.chain(optax.clip_by_global_norm(config.clip), build())


def _names(path: tuple) -> list[object]:
  return [getattr(part, 'key', '') for part in path]


def _matrices(params: optax.Params) -> optax.Params:
  """Axes of the hidden matrices; None for all else, and for the logits."""

  def axes(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
    named = [name for name in _names(path) if name]  # Boxes add unnamed steps.
    inside = named and 'logits' not in named
    found = MATRICES.get(named[-1]) if inside else None
    return found if found and leaf.ndim >= len(sum(found, ())) else None

  return jax.tree_util.tree_map_with_path(axes, params)


def _decayed(params: optax.Params) -> optax.Params:
  def decays(path: tuple, leaf: jax.Array) -> bool:
    del leaf
    names = _names(path)
    return not any(
      name in ('scale', 'bias', 'logit_scale')
      or str(name).startswith('position_')
      for name in names
    )

  return jax.tree_util.tree_map_with_path(decays, params)


def as_replicas(
  hparams: Mapping[str, jax.typing.ArrayLike], replicas: int
) -> dict[str, np.ndarray]:
  """Every hyper-parameter as float32 [R], on the host."""
  return {
    name: np.broadcast_to(np.asarray(value, np.float32), (replicas,))
    for name, value in hparams.items()
  }
