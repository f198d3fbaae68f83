"""Language models beyond their training length: loss and retrieval.

Claimed elsewhere. What a causal language model makes of contexts longer than
any it was trained on hangs on its position encoding: rotary fails at once
(Press et al. 2021, arXiv 2108.12409), biases by distance stay flat (ALiBi, the
same; KERPLE, Chi et al. 2022, arXiv 2205.09921), forgetting gates, too (Lin et
al. 2025, arXiv 2503.02130); and rotary nets can be read at other scales than
they were trained at (Chen et al. 2023, arXiv 2306.15595; YaRN, Peng et al.
2023, arXiv 2309.00071). A flat loss may just mean that what lies far is
ignored: biases that keep it flat are reported to lose retrieval.

Here. One model of bytes, one text (this Python's standard library,
`extrap/datasets/stdlib_text.py`), every encoding of the registry that can serve
text, and encodings that nets of rotary are read by without any training
(`experiments/language_length_arms.py`). Loss and retrieval always stand side by
side, and two controls are in every table: rotary of which no prediction sees
more than the last L bytes, L the training length; and rotary whose every layer
sees no more than that, but through the layers below hears of earlier ones.

Protocol. Windows of L bytes from anywhere in the modules for training; loss in
nats of the same last 32 bytes of 512 windows of other modules, as the context
before them grows from L to 16 L (the windows of all lengths end together).
Retrieval, 200 prompts a length, depths uniform: which of two brackets is open,
with nothing but words behind it (`extrap/evaluation/brackets.py`; chance is a
half); and a random name that stands once in the window, whose first three of
eight letters are given at the end (`extrap/evaluation/needle.py`; chance is
measured by windows that have another name). Encodings that are trained on
random positions are tested on such at all lengths, of the same range: at the
longest context it is full, and nothing is random. A claim to extrapolate is
judged at the longest context by the loss of cut rotary less the arm's, seed by
seed: staying flat is no gain over cutting what lies far. Nor is all of a gain
from what lies far, where an arm is the better one at L already: what its own
loss adds from L on stands beside it. An arm whose loss at L is more than 0.15
nats above the best arm's is called under-trained; the rule was set before any
run. One learning rate serves all arms, not tuned. t intervals over seeds.

Where it differs. One small model and few steps: what needs more training to
show does not show here. The text differs between versions of Python: its hash
stands below the tables, and numbers of two texts never share one.

Commands (two CPU cores):
  python -m experiments.language_length --arms=alibi,fire
  python -m experiments.language_length                      every arm
  python -m experiments.language_length --size=gpu           128 to 2,048
  python -m experiments.language_length --size=long          4,096 to 65,536
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn

from experiments.language_length_arms import BASE, CONTROLS, model_of, recipes
from experiments.language_length_scores import (
  CURVE,
  LOSS,
  Questions,
  Reader,
  score_arm,
)
from experiments.language_length_tables import all_tables
from extrap import cli
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import option, preset
from extrap.datasets.stdlib_text import Corpus, read
from extrap.errors import UsageError
from extrap.evaluation.results import (
  LENGTH_SPLITS,
  Result,
  select,
  write_text,
)
from extrap.kept import Kept, provenance
from extrap.language import TEXT, LanguageProblem, check_reads
from extrap.language import stored as stored_text
from extrap.models import Transformer, TransformerConfig
from extrap.models.backends import row_bytes
from extrap.models.positions import POSITIONS
from extrap.models.transformer import Params
from extrap.reporting import plots
from extrap.reporting.report import bullets, picture, write_tables
from extrap.scoring import LARGEST_ROW
from extrap.study import StudyConfig
from extrap.study_training import account, train_arm
from extrap.training import distributed
from extrap.training.config import TrainConfig

STUDY = 'language_length'
CLAIM = 'a language model of bytes beyond its training length, by encoding'
TIME = 'four minutes an encoding on a CPU core'

REQUIRED = (BASE, *CONTROLS)
TEXT_FILE = 'text.json'

# Defaults of the flags that a size changes. gpu: the published 6 layers of 384
# (github.com/bob80333/investigating_extrapolation), for fewer steps, six passes
# over this text.
PRESETS = {
  'cpu': {},
  'gpu': {
    'length': 128,
    'longest': 2048,
    'steps': 3000,
    'batch_size': 128,
    'model.depth': 6,
    'model.width': 384,
    'model.heads': 6,
    'model.ffn_width': 1536,
    'train.learning_rate': 1e-3,
    'train.warmup_steps': 300,
  },
  'long': {
    'length': 4096,
    'longest': 65_536,
    'steps': 1000,
    'replicas': 3,
    'batch_size': 16,
    'model.depth': 6,
    'model.width': 384,
    'model.heads': 6,
    'model.ffn_width': 1536,
    'model.dtype': 'bfloat16',
    'model.remat': True,
    'train.learning_rate': 1e-3,
    'train.warmup_steps': 100,
  },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  size: Literal['cpu', 'gpu', 'long'] = preset(
    'cpu', PRESETS, 'what is trained, and how long contexts are'
  )
  arms: tuple[str, ...] = option(
    (),
    'arms to test (default: all that fit); rotary and its two controls always '
    'are',
    identity=False,
  )
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
  prompts: int = option(
    200,
    'prompts of retrieval, each length',
    unit='prompts',
    minimum=2,
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


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and tests each arm; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=names_of,
    identity=lambda config: (
      *(config.steps, config.windows, config.asked, config.prompts),
      read(config.text).sha256,
    ),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  if config.arms:
    for name in set(config.arms) & set(POSITIONS.names()) - recipes().keys():
      check_reads(POSITIONS.get(name)())
    check_names('arms', config.arms, recipes())
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
  corpus = read(config.text)
  if len(corpus.train) <= config.length:
    raise UsageError(
      f'--length={config.length}: the text has {len(corpus.train)} bytes'
    )
  questions_of(config).check()
  for name in names_of(config):
    check_arm(config, name)


def check_arm(config: Config, name: str) -> None:
  """Refuses an arm that cannot be made, or read by its encoding."""
  problem = make_problem(config, name)
  needed = memory(config, name)
  if needed > LARGEST_ROW:
    raise UsageError(
      f'--arms={name}: attention to a single row of {config.longest:,} bytes '
      f'would take {needed / 2**30:.1f} GiB; lower --longest'
    )
  near, far = (
    dataclasses.replace(problem, model=make_model(config, name, length))
    for length in (config.length, config.longest)
  )
  if (
    not parameter_shapes(near)
    == parameter_shapes(far)
    == (parameter_shapes(problem))
  ):
    raise UsageError(
      f'--arms={name}: it has parameters that nets of '
      f'{recipes()[name].of or name} lack'
    )


def parameter_shapes(problem: LanguageProblem) -> dict[str, object]:
  """Shapes of all parameters, as a tree; nothing is compiled."""
  found = nn.unbox(jax.eval_shape(problem.init, jax.random.key(0)))
  return jax.tree.map(lambda leaf: leaf.shape, found)


def memory(config: Config, name: str) -> int:
  """What attention to a single row of the longest context takes."""
  length = config.length if recipes()[name].cut else config.longest
  model = make_model(config, name, length).config

  def neighbours(tokens_BT: jax.Array) -> jax.Array | None:
    return model.position.neighbours(TEXT.structure(tokens_BT, tokens_BT))

  row = jax.ShapeDtypeStruct((1, length), jnp.int32)
  found_BTW = jax.eval_shape(neighbours, row)
  window = None if found_BTW is None else found_BTW.shape[-1]
  return row_bytes(model, length, window)


def names_of(config: Config) -> tuple[str, ...]:
  """Rotary, its controls and what is asked for, or else all that fits."""
  asked = config.arms or [
    name for name in recipes() if memory(config, name) <= LARGEST_ROW
  ]
  return tuple(dict.fromkeys((*REQUIRED, *asked)))


def make_model(config: Config, name: str, length: int) -> Transformer:
  """The model of an arm as it is tested at a length."""
  length = config.longest if recipes()[name].drawn else length
  model = model_of(config.model, name, config.length, length)
  return Transformer(model, TEXT.vocab_size)


def make_problem(config: Config, name: str) -> LanguageProblem:
  """What the nets of an arm are trained on."""
  trained = recipes()[name].of or name
  return LanguageProblem(
    model=make_model(config, trained, config.longest),
    length=config.length,
    batch_size=config.batch_size,
  )


def problem(config: Config) -> LanguageProblem:
  """Rotary; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, BASE)


def stored(config: Config) -> Mapping[str, np.ndarray]:
  """The text that is trained on."""
  return stored_text(read(config.text).train)


def questions_of(config: Config) -> Questions:
  """What every arm is asked."""
  return Questions(
    text=read(config.text).validation,
    trained=config.length,
    lengths=config.lengths,
    windows=config.windows,
    asked=config.asked,
    prompts=config.prompts,
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Trains an arm's nets unless they are there, and tests them."""
  corpus, recipe = read(config.text), recipes()[name]
  keep_text(kept.run.path, corpus)
  trained_as = recipe.of or name
  folder = kept.run.path / 'arms' / trained_as
  problem, data = make_problem(config, name), stored(config)
  trained = train_arm(
    problem,
    config,
    kept.run,
    trained_as,
    kept.stop,
    folder,
    data=data,
    may_fail=True,
  )
  position = make_model(config, name, config.longest).config.position
  source = account(
    STUDY, name, position.rung, config, problem, trained, folder, data
  )
  notes = {
    'position': recipe.position,
    'settings': dataclasses.asdict(position),
    'of': recipe.of,
    'optimizer': config.train.optimizer,
    'learning_rate': config.train.learning_rate,
    'parameters': sum(x[0].size for x in jax.tree.leaves(trained.params)),
    'text': corpus.sha256,
    'python': corpus.python,
  }
  reader = reader_of(config, name, trained.params)
  source = dataclasses.replace(source, hparams=json.dumps(notes))
  return score_arm(questions_of(config), reader, source, kept.check)


def reader_of(config: Config, name: str, params: Params) -> Reader:
  """How nets of an arm are read."""
  recipe = recipes()[name]
  return Reader(
    model_at=lambda length: make_model(config, name, length),
    params=params,
    cut=config.length if recipe.cut else None,
    drawn=recipe.drawn,
  )


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


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md, with both figures; returns the tables."""
  report, sections = folder / 'report.md', []
  for heading, split, file, xlabel in (
    ('Loss by context', LENGTH_SPLITS, 'loss', 'context (bytes)'),
    ('Loss by place', CURVE, 'places', 'place in a long window (bytes)'),
  ):
    figure = plots.loss_vs_length(
      select(results, metric=LOSS, split=split),
      config.length,
      folder / 'plots' / f'{file}.png',
      f'Trained on {config.length:,} bytes',
      xlabel,
    )
    sections.append((heading, picture(heading, figure, report)))
  sections.append(('How it was made', bullets([*provenance()])))
  title = 'Language models beyond their training length'
  return write_tables(report, title, all_tables(results), sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
