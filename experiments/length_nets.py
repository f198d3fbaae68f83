"""What studies of length share: flags, nets that are trained, arms that read.

An arm is a way of reading trained nets; nets that are read by several arms are
trained once.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.language_length_scores import (
  LOSS,
  Questions,
  Reader,
  score_arm,
)
from extrap.config import Value, option
from extrap.datasets.stdlib_text import Corpus, read
from extrap.errors import UsageError
from extrap.evaluation.results import (
  LENGTH_SPLITS,
  Provenance,
  Result,
  select,
  write_text,
)
from extrap.kept import Kept
from extrap.language import TEXT, LanguageProblem
from extrap.language import stored as stored_text
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import Position
from extrap.models.positions.given import GivenRates, given
from extrap.models.transformer import Params
from extrap.reporting import plots
from extrap.reporting.report import Section, picture
from extrap.study import StudyConfig
from extrap.study_training import account, train_arm
from extrap.training import distributed
from extrap.training.config import TrainConfig

TEXT_FILE = 'text.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class LengthConfig(StudyConfig):
  """Flags of every study of length."""

  text: str | None = option(
    None, "folder of *.py in place of this Python's standard library"
  )
  replicas: int = option(5, 'seeds of each arm', minimum=1)
  steps: int = option(
    900, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  length: int = option(64, 'L, of training windows', unit='bytes', minimum=2)
  longest: int = option(
    1024, 'longest context that is tested, L times a power of 2', unit='bytes'
  )
  batch_size: int = option(
    32, 'windows a step and replica', unit='windows', minimum=1
  )
  windows: int = option(
    512, 'test windows', unit='windows', minimum=2, identity=False
  )
  asked: int = option(
    32,
    'bytes at the end of each whose loss counts',
    unit='bytes',
    minimum=5,
    identity=False,
  )
  model: TransformerConfig = option(
    TransformerConfig(depth=2, width=96, ffn_width=384),
    "the model; its position is the arm's",
  )
  train: TrainConfig = option(
    TrainConfig(
      optimizer='adam',
      learning_rate=3e-3,
      warmup_steps=80,
      evaluate_every=0,
      save_every=300,
    ),
    'training',
  )

  @property
  def lengths(self) -> tuple[int, ...]:
    """L, 2 L, 4 L and so on, up to the longest."""
    doublings = (self.longest // self.length).bit_length()
    return tuple(self.length << n for n in range(doublings))


def check_lengths(config: LengthConfig) -> None:
  """Refuses lengths that do not go together, or not with the text.

  Raises:
    UsageError: saying which.
  """
  if config.lengths[-1] != config.longest or len(config.lengths) < 2:
    raise UsageError(
      f'--longest={config.longest} is not --length={config.length} times a '
      'power of 2'
    )
  if config.asked > config.length:
    raise UsageError(
      f'--asked={config.asked}: a window of --length={config.length} has not '
      'so many bytes'
    )
  check_holds(config, config.length)


def check_holds(config: LengthConfig, length: int) -> None:
  """Refuses windows that are as long as the text, or longer.

  Raises:
    UsageError: naming the length.
  """
  corpus = read(config.text)
  if len(corpus.train) <= length:
    raise UsageError(
      f'--length={length}: the text has {len(corpus.train)} bytes'
    )


def identity_of(config: LengthConfig) -> tuple[object, ...]:
  """What the rows of each arm depend on, beside the run's config."""
  asked = config.steps, config.windows, config.asked
  return (*asked, read(config.text).sha256)


def stored(config: LengthConfig) -> Mapping[str, np.ndarray]:
  """The text that is trained on."""
  return stored_text(read(config.text).train)


def make_model(config: LengthConfig, position: Position) -> Transformer:
  """The model with an encoding."""
  model = dataclasses.replace(config.model, position=position)
  return Transformer(model, TEXT.vocab_size)


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained population.

  Attributes:
    name: of the nets.
    params: leading replica axis.
    source: of rows of these nets, with what they have cost.
  """

  name: str
  params: Params
  source: Provenance

  def after(self, first: 'Trained') -> 'Trained':
    """With the cost of those that it began with, too; windows of any length."""
    own, before = self.source, first.source
    summed = {
      name: tuple(
        map(sum, zip(getattr(own, name), getattr(before, name), strict=True))
      )
      for name in ('steps', 'samples', 'flops')
    }
    notes = json.loads(own.hparams)
    notes['planned_steps'] += json.loads(before.hparams)['planned_steps']
    source = dataclasses.replace(
      own,
      seconds=own.seconds + before.seconds,
      hparams=json.dumps(notes),
      **summed,
    )
    return dataclasses.replace(self, source=source)

  def as_arm(
    self, arm: str, position: Position, /, **notes: object
  ) -> Provenance:
    """The source of an arm's rows, whose nets are read by an encoding."""
    there = json.loads(self.source.hparams)
    hparams = json.dumps(
      there | notes | {'settings': dataclasses.asdict(position)}
    )
    return dataclasses.replace(
      self.source, arm=arm, rung=position.rung, hparams=hparams
    )


def train_nets(
  study: str,
  config: LengthConfig,
  kept: Kept,
  name: str,
  problem: LanguageProblem,
  params: Params | None = None,
) -> Trained:
  """Trains a population unless it is there; its files are in arms/<name>.

  Args:
    study: its name.
    config: the study's; steps and training are those of these nets.
    kept: the run folder.
    name: of the nets.
    problem: what they are trained on.
    params: what they begin with; None: scratch.

  Raises:
    UsageError: the run is of another text.
  """
  corpus = read(config.text)
  keep_text(kept.run.path, corpus)
  folder, data = kept.run.path / 'arms' / name, stored(config)
  trained = train_arm(
    problem,
    config,
    kept.run,
    name,
    kept.stop,
    folder,
    data=data,
    may_fail=True,
    params=params,
  )
  rung = problem.model.config.position.rung
  source = account(study, name, rung, config, problem, trained, folder, data)
  notes = {
    'optimizer': config.train.optimizer,
    'learning_rate': config.train.learning_rate,
    'parameters': sum(x[0].size for x in jax.tree.leaves(trained.params)),
    'planned_steps': config.steps,
    'text': corpus.sha256,
    'python': corpus.python,
  }
  source = dataclasses.replace(source, hparams=json.dumps(notes))
  return Trained(name, trained.params, source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  """An arm: how trained nets are read.

  Attributes:
    arm: its name.
    position_at: the encoding, by tested length.
    cut: whether no prediction sees more than the training length.
    notes: what its rows say of it.
  """

  arm: str
  position_at: Callable[[int], Position]
  cut: bool = False
  notes: Mapping[str, Value] = dataclasses.field(default_factory=dict)


def reader_of(config: LengthConfig, params: Params, reading: Reading) -> Reader:
  """How an arm reads nets; what differs in rates alone shares its programs."""
  position = reading.position_at(config.longest)
  replicas = jax.tree.leaves(params)[0].shape[0]
  rates = given(position, config.model.head_width, replicas)
  same = all(reading.position_at(n) == position for n in config.lengths)
  position_at = reading.position_at
  if rates is not None and same:
    params, position_at = params | rates, lambda length: GivenRates()
  return Reader(
    model_at=lambda length: make_model(config, position_at(length)),
    params=params,
    cut=config.length if reading.cut else None,
  )


def read_nets(
  config: LengthConfig,
  kept: Kept,
  trained: Trained,
  readings: Sequence[Reading],
  questions: Questions,
) -> list[Result]:
  """The rows of all arms that read the same nets."""
  rows = []
  for reading in readings:
    reader = reader_of(config, trained.params, reading)
    position = reading.position_at(config.longest)
    notes = {'position': position.name, 'of': trained.name, **reading.notes}
    source = trained.as_arm(reading.arm, position, **notes)
    rows += score_arm(questions, reader, source, kept.check)
  return rows


def loss_section(
  results: Sequence[Result],
  trained: int,
  report: Path,
  *,
  heading: str = 'Loss by context',
  file: str = 'loss',
  split: str | Sequence[str] = LENGTH_SPLITS,
  xlabel: str = 'context (bytes)',
) -> Section:
  """A figure of losses beside a report, and the section that shows it."""
  figure = plots.loss_vs_length(
    select(results, metric=LOSS, split=split),
    trained,
    report.parent / 'plots' / f'{file}.png',
    f'Trained on {trained:,} bytes',
    xlabel,
  )
  return heading, picture(heading, figure, report)


def keep_text(folder: Path, corpus: Corpus) -> None:
  """Notes the text of a run, which must be that of its nets.

  Raises:
    UsageError: the run has another, or two of its processes have.
  """
  distributed.check_same(corpus.sha256, 'text')
  path = folder / TEXT_FILE
  with distributed.shared_fate():
    if not distributed.is_first():
      return
    if not path.exists():
      write_text(path, json.dumps(describe(corpus), indent=2) + '\n')
    elif json.loads(path.read_text('utf-8'))['sha256'] != corpus.sha256:
      raise UsageError(
        f'{folder} is of another text, see {path}: choose another --workdir'
      )


def describe(corpus: Corpus) -> dict[str, object]:
  """What a reader needs to know whether two texts are the same."""
  trained, held_out = corpus.modules
  return {
    'sha256': corpus.sha256,
    'python': corpus.python,
    'modules': {'train': trained, 'validation': held_out},
    'bytes': {'train': len(corpus.train), 'validation': len(corpus.validation)},
  }
