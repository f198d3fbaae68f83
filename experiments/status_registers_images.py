"""Populations that compare the digits of images, end to end.

Shape key: N images.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from experiments.status_registers_population import head_of, ramp_of, train
from experiments.status_registers_settings import SHARPENED, Config
from extrap.comparison import FAILED
from extrap.errors import UsageError
from extrap.evaluation.results import Result
from extrap.image_comparison import ImageProblem, held_out_scores
from extrap.kept import Kept
from extrap.models.digits import DigitReader
from extrap.tasks.image_pairs import DIGITS, ImagePairs
from extrap.training import distributed

PART = 'images'
BATCH = {'gt': 50, 'eq': 100}  # Images, all pairs of which are compared.
SIDE, TRAINED = 28, 60_000  # Of the images; how many there are to train on.
CHANNELS, HIDDEN = (32, 64), 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """What one program trains.

  Attributes:
    name: of the case, unique.
    head: what compares.
    comparison: what is learned.
  """

  name: str
  head: str
  comparison: str

  @property
  def task(self) -> ImagePairs:
    """What is learned."""
    comparison = self.comparison
    return ImagePairs(comparison=comparison, images=BATCH[comparison])


def _images(config: Config) -> Iterator[Case]:
  """Two numbers are compared at a time: there is nothing to sharpen."""
  for comparison in BATCH:
    for head in config.heads:
      if head != SHARPENED:
        name = f'{head}, {comparison} of images'
        yield Case(name=name, head=head, comparison=comparison)


CASES = {PART: _images}


def check(config: Config) -> None:
  """Refuses a part of images without images, which are downloaded if need be.

  Raises:
    UsageError: pairs would not be those of a batch.
    ExtrapError: the images are not to be had.
  """
  if PART not in config.parts:
    return
  if config.train.accumulate > 1:
    raise UsageError(
      f'--train.accumulate={config.train.accumulate}: --parts={PART} compares '
      'all images of a batch, which has to be whole'
    )
  if distributed.is_first():
    from extrap.datasets import mnist

    mnist.prepare(config.images.folder)


def make_problem(config: Config, case: Case) -> ImageProblem:
  """What every replica of a case learns."""
  dtype = np.dtype(config.dtype)
  return ImageProblem(
    task=case.task,
    reader=DigitReader(channels=CHANNELS, hidden=HIDDEN, dtype=dtype),
    head=head_of(config, case.head, config.redundancy),
    scale=config.images.scale,
    side=SIDE,
    dtype=dtype,
    ramp=ramp_of(config_of(config, case)),
  )


def config_of(config: Config, case: Case) -> Config:
  """The config by which a case is trained: Adadelta, for some epochs."""
  steps = config.images.epochs * case.task.batches(TRAINED)
  train = dataclasses.replace(
    config.train,
    optimizer='adadelta',
    learning_rate=config.images.learning_rate,
    steps=steps,
    schedule_steps=steps,
  )
  return dataclasses.replace(config, steps=steps, train=train)


def stored() -> Mapping[str, jax.ShapeDtypeStruct]:
  """Shapes of the images that are trained on, and of their digits."""
  return {
    'image': jax.ShapeDtypeStruct((TRAINED, SIDE, SIDE), np.uint8),
    'label': jax.ShapeDtypeStruct((TRAINED,), np.int32),
  }


def study_of(case: Case, config: Config, kept: Kept) -> list[Result]:
  """Trains a case; how every run compares images that it has not seen."""
  from extrap.datasets import mnist

  problem, folder = make_problem(config, case), config.images.folder
  # Both at once: what is damaged is said before hours of training.
  data, held_out = (mnist.read(folder, split) for split in ('train', 'test'))
  replicas = config.replicas
  made = train(
    config_of(config, case), kept, case.name, problem, replicas, data=data
  )
  params = distributed.to_host(made.fit.params)
  scores = held_out_scores(problem, params, held_out)
  notes = {'redundancy': config.redundancy, 'dtype': config.dtype}
  notes |= {'scale': config.images.scale, 'epochs': config.images.epochs}
  notes['learning_rate'] = config.images.learning_rate
  source = made.source(
    case.name,
    PART,
    slice(0, replicas),
    case.task.images,
    json.dumps(notes),
  )
  rows, finite_R = [], made.fit.finite
  for metric, value_R, worst, count in (
    ('accuracy', scores.accuracy, 0.0, scores.pairs),
    ('error', scores.error, FAILED, scores.pairs),
    ('read', scores.read, 0.0, scores.images),
  ):
    value_R = np.where(finite_R, value_R, worst).tolist()
    of_case = (case.comparison, str(DIGITS - 1), metric)
    rows += [
      source.row(replica, *of_case, value, count)
      for replica, value in enumerate(value_R)
    ]
  return rows
