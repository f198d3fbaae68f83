"""Flags of the study of status registers."""

import dataclasses
from typing import Literal

from extrap.arithmetic_runs import PLAIN, TRAIN
from extrap.arms import check_names, check_scratch
from extrap.config import option
from extrap.errors import UsageError
from extrap.models.comparators import HEADS
from extrap.study import StudyConfig
from extrap.training.config import TrainConfig

# Registers whose operands are sharpened as training goes on.
SHARPENED = 'nsr_sharpened'
NAMES = ('nsr', SHARPENED, *[name for name in HEADS if name != 'nsr'])
# Parts that compare two numbers at a time, of which operands are no choice.
OF_TWO = ('lists', 'paths', 'images')
PARTS = ('comparisons', 'scales', 'redundancy', 'pieces', *OF_TWO)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
  """Flags of the part of images."""

  folder: str = option(
    '.cache/mnist', 'where MNIST is, or is downloaded to', identity=False
  )
  epochs: int = option(
    13, 'times that each image is met, in place of --steps', minimum=1
  )
  learning_rate: float = option(1.0, "Adadelta's", minimum=0.0)
  scale: float = option(10.0, "the register's lambda", minimum=1e-30)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  parts: tuple[str, ...] = option(
    ('comparisons',), f'what to do, of {", ".join(PARTS)}', identity=False
  )
  heads: tuple[str, ...] = option(
    NAMES, f'what compares, of {", ".join(NAMES)}', identity=False
  )
  inputs: tuple[int, ...] = option(
    (2, 10), 'inputs of which two are compared', minimum=2, identity=False
  )
  dtype: Literal['float32', 'float64'] = option(
    'float32', 'type of inputs, parameters and updates'
  )
  redundancy: int = option(
    10, 'pairs of operands, or as many units of another head', minimum=1
  )
  redundancies: tuple[int, ...] = option(
    (1, 2, 4, 8, 15), 'of the part that varies it', minimum=1, identity=False
  )
  units: tuple[float, ...] = option(
    tuple(10.0**n for n in range(-3, 6)),
    'what numbers are multiplied by in the part that scales them',
    minimum=1e-30,
  )
  scales: tuple[float, ...] = option(
    tuple(10.0**n for n in range(-3, 4)),
    "the register's lambda there; elsewhere, but for images, it is 1",
    minimum=1e-30,
  )
  sharpness: float = option(
    1000.0,
    "factor of the operands' logits at the end, of registers that are "
    'sharpened; it grows geometrically from 1',
    minimum=1.0,
  )
  partners: Literal['fresh', 'fixed'] = option(
    'fresh',
    'unequal pairs that = and != are trained on: others in each step, or 9 '
    'pairs for a run',
  )
  images: ImageConfig = option(ImageConfig(), 'the part of images')
  replicas: int = option(10, 'seeds of each comparison', minimum=1)
  steps: int = option(
    50_000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  train: TrainConfig = option(
    dataclasses.replace(TRAIN, evaluate_every=0, save_every=10_000), 'training'
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  check_names('parts', config.parts, PARTS)
  check_names('heads', config.heads, NAMES)
  for flag in ('inputs', 'redundancies', 'units', 'scales'):
    _check_numbers(flag, getattr(config, flag))
  for part in config.parts:
    if part in OF_TWO and set(config.heads) == {SHARPENED}:
      raise UsageError(
        f'--heads={SHARPENED}: --parts={part} compares two numbers at a time, '
        'where nothing is to sharpen; give another head'
      )
  if config.train.optimizer not in PLAIN:
    raise UsageError(
      f'--train.optimizer={config.train.optimizer}: one of {", ".join(PLAIN)}, '
      'as nothing here is to decay'
    )
  schedule = config.train.schedule_steps or config.steps
  if config.sharpness > 1 and config.steps < schedule:
    raise UsageError(
      f'--steps={config.steps}: less than --train.schedule_steps={schedule}, '
      'at which operands are as sharp as they are tested'
    )
  if config.train.evaluate_every:
    raise UsageError(
      f'--train.evaluate_every={config.train.evaluate_every}: this study tests '
      'the last parameters alone, give 0'
    )


def _check_numbers(flag: str, given: tuple[float, ...]) -> None:
  """Refuses none, and one that is named twice."""
  if not given or len(set(given)) < len(given):
    text = ','.join(f'{number:g}' for number in given)
    raise UsageError(f'--{flag}={text}: at least one number, and each once')
