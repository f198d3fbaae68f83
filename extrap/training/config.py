"""How a run trains."""

import dataclasses
from typing import Literal

from extrap.config import option
from extrap.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """Optimizer, schedule, dispatch and what is kept."""

  steps: int = dataclasses.field(
    default=1000, metadata={'flag': False, 'identity': False}
  )
  schedule_steps: int | None = option(
    None,
    'length of the learning rate schedule, fixed when a run starts '
    '(default: --steps)',
    unit='steps',
    minimum=1,
  )
  optimizer: Literal[
    'adamw',
    'adam',
    'nadamw',
    'lion',
    'adafactor',
    'adadelta',
    'rmsprop',
    'sgd',
    'muon',
    'rotated_adam',
  ] = option(
    'adamw', 'optimizer of optax, or rotated_adam, for arithmetic units'
  )
  learning_rate: float = option(5e-3, 'peak of the learning rate', minimum=0.0)
  weight_decay: float = option(
    0.01,
    'decoupled weight decay of kernels and embeddings (muon: no embeddings)',
    minimum=0.0,
  )
  b1: float = option(
    0.9,
    "decay of the first moment (muon's own is 0.95)",
    minimum=0.0,
    maximum=1.0,
  )
  b2: float = option(
    0.98, 'decay of the second moment', minimum=0.0, maximum=1.0
  )
  epsilon: float = option(1e-8, "the optimizer's epsilon", minimum=0.0)
  clip: float = option(
    1.0, 'largest global norm of the gradient (0: not clipped)', minimum=0.0
  )
  schedule: Literal['constant', 'cosine', 'trapezoid'] = option(
    'cosine', 'learning rate after the warm-up'
  )
  warmup_steps: int = option(100, 'linear warm-up', unit='steps', minimum=0)
  warmup_fraction: float = option(
    0.0,
    'its share of the schedule, where that is longer',
    minimum=0.0,
    maximum=1.0,
  )
  cooldown_fraction: float = option(
    0.1, "share of the trapezoid's linear end", minimum=0.0, maximum=1.0
  )
  final_fraction: float = option(
    0.0, 'learning rate at the end over its peak', minimum=0.0, maximum=1.0
  )
  accumulate: int = option(
    1,
    'parts that a batch is split into, one after the other, to save memory',
    minimum=1,
  )
  ramp: float = option(
    0.0,
    'share of the examples over which a step grows from one of those parts to '
    'all of them (0: it is whole from the start)',
    minimum=0.0,
    maximum=1.0,
  )
  ema: float = option(
    0.0,
    'decay of an average of the parameters a step (0: none is kept)',
    minimum=0.0,
    maximum=1.0,
  )
  steps_per_dispatch: int = option(
    50,
    'steps that run in one call of the compiled program',
    unit='steps',
    minimum=1,
    identity=False,
  )
  evaluate_every: int = option(
    50,
    'held-out evaluation inside the program (0: never)',
    unit='steps',
    minimum=0,
  )
  best: str = option(
    'loss',
    'held-out metric whose lowest value makes the best checkpoint; begin '
    'with a - for the highest, as in -exact_match',
  )
  enough: float = option(
    0.0,
    'a replica has learned, and stops, once its held-out exact_match is this '
    '(0: it goes on)',
    minimum=0.0,
    maximum=1.0,
  )
  save_every: int = option(
    500,
    'checkpoint interval (0: at the end only)',
    unit='steps',
    minimum=0,
    identity=False,
  )

  def __post_init__(self) -> None:
    if self.ramp and self.accumulate == 1:
      raise UsageError(
        f'--train.ramp={self.ramp:g} grows a batch by its parts: give '
        '--train.accumulate'
      )

  @property
  def resolved_warmup_steps(self) -> int:
    share = round(self.warmup_fraction * self.resolved_schedule_steps)
    return max(self.warmup_steps, share)

  @property
  def resolved_schedule_steps(self) -> int:
    return self.schedule_steps or self.steps
