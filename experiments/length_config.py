"""What studies of length share: flags, what they refuse, and the text."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from extrap.config import option
from extrap.datasets.stdlib_text import Corpus, read
from extrap.errors import UsageError
from extrap.evaluation.results import write_text
from extrap.language import stored as stored_text
from extrap.models import TransformerConfig
from extrap.study import StudyConfig
from extrap.training import distributed
from extrap.training.config import TrainConfig

TEXT_FILE = 'text.json'

# Defaults of flags for an accelerator: the published 6 layers of 384
# (github.com/bob80333/investigating_extrapolation), for fewer steps, six passes
# over this text.
SIX_LAYERS = {
  'model.depth': 6,
  'model.width': 384,
  'model.heads': 6,
  'model.ffn_width': 1536,
}
GPU = {
  **SIX_LAYERS,
  'steps': 3000,
  'batch_size': 128,
  'train.learning_rate': 1e-3,
  'train.warmup_steps': 300,
}


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
