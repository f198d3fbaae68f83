"""What studies of length share: nets that are trained, and arms that read.

An arm is a way of reading trained nets; nets that are read by several arms are
trained once.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from experiments.language_length_scores import (
  LOSS,
  Questions,
  Reader,
  score_arm,
)
from experiments.length_config import LengthConfig, keep_text, stored
from extrap.config import Value
from extrap.datasets.stdlib_text import read
from extrap.evaluation.results import (
  LENGTH_SPLITS,
  Provenance,
  Result,
  select,
)
from extrap.kept import Kept
from extrap.language import TEXT, LanguageProblem
from extrap.models import Transformer
from extrap.models.positions import Position
from extrap.models.positions.given import GivenRates, given
from extrap.models.transformer import Params
from extrap.reporting import plots
from extrap.reporting.report import Section, picture
from extrap.study_training import account, train_arm


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
  results: Sequence[Result], trained: int, report: Path
) -> Section:
  """A figure of losses by context beside a report, and its section."""
  rows = select(results, split=LENGTH_SPLITS)
  return _section(rows, trained, report, 'context', 'context (bytes)')


def place_section(
  results: Sequence[Result],
  trained: int,
  report: Path,
  split: str,
  unit: str = 'bytes',
) -> Section:
  """The same by place in a long window; such rows have a split of their own."""
  axis = f'place in a long window ({unit})'
  rows = select(results, split=split)
  return _section(rows, trained, report, 'place', axis)


def _section(
  rows: Sequence[Result], trained: int, report: Path, by: str, xlabel: str
) -> Section:
  figure = plots.loss_vs_length(
    select(rows, metric=LOSS),
    trained,
    report.parent / 'plots' / f'loss_by_{by}.png',
    f'Trained on {trained:,} bytes',
    xlabel,
  )
  heading = f'Loss by {by}'
  return heading, picture(heading, figure, report)
