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

Measured (`results/language_length.csv`; five seeds, five minutes of a core a
trained arm, half of them its test, two to three times that where attention
depends on data, DAPE v2 an hour; all 41 trained arms and 16 by which their nets
are read). At 16 times the training length the loss of forgetting attention has
not changed (1.498 at 64 bytes and at 1,024), nor has that of continuous
position bias (1.489, 1.489), of DAPE and DAPE v2 (both 1.481, 1.481) and of
stick-breaking attention, the lowest of all (1.456, 1.456); KERPLE's is 0.5 %
above (1.512, 1.520): within 1 %, confirmed; ALiBi's 0.8 % (1.639, 1.653),
Sandwich's 2.4 % (1.489, 1.525). Rotary's is 1.96 nats above, which confirms
that it fails at once, and of its 1.528 cutting the context keeps all but 0.003;
sinusoidal positions (+2.15 ± .26), differential attention over rotary (+1.93 ±
.21), LogN (+1.90), partial rotary (+1.93), PoPE (+1.43 ± .09), CoCA (+1.41 ±
.08), xPos (+1.38 ± .20) and CoPE (+1.31 ± .35) fail, too. Stick-breaking gains
over the cut context by 0.075 ± 0.013 nats, DAPE by 0.049 ± 0.017, DAPE v2 by
0.050 ± 0.020, continuous bias by 0.042 ± 0.023, forgetting attention by 0.033 ±
0.013 and a window of 16 bytes a layer by 0.012 ± 0.009, of which what lies
beyond 64 bytes is none (their own losses do not fall); for KERPLE (0.011 ±
0.016) and Sandwich (0.006 ± 0.008) it is not resolved, all others lose. Read at
other scales, 8 times: YaRN (2.639) below linear (2.991) below NTK-aware
(3.229), the expected order; Llama-3's rule, which was not expected there, below
all of them (2.223). What keeps near positions as they are is better still,
ReRoPE 1.644 and SelfExtend 1.702 at 16 times, and LM-infinite at the cut
context; and of what is trained for it windows in turn with layers of no
encoding (RNoPE 1.649, SWAN 1.670, iRoPE 1.728) and skipped positions (PoSE
1.696); two that depend on data, PaTH (1.649) and Wall (1.778), lose little,
too. Positions drawn at random from the longest context cost 0.11 to 0.13 nats
at 64 and are 0.8 above that at 1,024. NTK-aware at the scale of a length and
dynamic NTK are the same numbers by construction.
  Flat is not far-sighted, here either: FoX, stick-breaking, continuous bias,
LM-infinite and windows tell brackets apart at 64 bytes in 72 to 98 % of pairs
and in 51 to 54 % at 1,024, chance; KERPLE, ALiBi, Sandwich, NoPE, T5, CoPE,
ReRoPE, RNoPE, SWAN, iRoPE, PoSE, PaTH and Wall in 97 % and more at both. DAPE
and DAPE v2 alone are flat, below the cut context and right far off, in 91 ± 12
and 90 ± 12 %. No arm copies names above chance, at any length: that needs more
training than these nets have, and nothing follows on it.

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
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from absl import flags
from flax import linen as nn

from experiments.language_length_arms import BASE, CONTROLS, model_of, recipes
from experiments.language_length_scores import (
  CURVE,
  Questions,
  Reader,
  score_arm,
)
from experiments.language_length_tables import all_tables
from experiments.length_config import (
  GPU,
  SIX_LAYERS,
  LengthConfig,
  check_lengths,
  identity_of,
)
from experiments.length_config import stored as stored
from experiments.length_nets import (
  loss_section,
  place_section,
  train_nets,
)
from extrap import cli
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import option, preset
from extrap.datasets.stdlib_text import read
from extrap.encoding_limits import check_reads
from extrap.errors import UsageError
from extrap.evaluation.results import Result
from extrap.kept import Kept, provenance
from extrap.language import TEXT, LanguageProblem
from extrap.models import Transformer
from extrap.models.backends import row_bytes
from extrap.models.positions import POSITIONS
from extrap.models.transformer import Params
from extrap.reporting.report import bullets, write_tables
from extrap.scoring import LARGEST_ROW

STUDY = 'language_length'
CLAIM = 'a language model of bytes beyond its training length, by encoding'
TIME = 'six minutes an encoding on a CPU core'

REQUIRED = (BASE, *CONTROLS)

# Defaults of the flags that a size changes.
PRESETS = {
  'cpu': {},
  'gpu': {
    **GPU,
    'length': 128,
    'longest': 2048,
  },
  'long': {
    'length': 4096,
    'longest': 65_536,
    'steps': 1000,
    'replicas': 3,
    'batch_size': 16,
    **SIX_LAYERS,
    'model.dtype': 'bfloat16',
    'model.remat': True,
    'train.learning_rate': 1e-3,
    'train.warmup_steps': 100,
  },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(LengthConfig):
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
  prompts: int = option(
    200,
    'prompts of retrieval, each length',
    unit='prompts',
    minimum=2,
    identity=False,
  )


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and tests each arm; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=names_of,
    identity=lambda config: (*identity_of(config), config.prompts),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  if config.arms:
    for name in set(config.arms) & set(POSITIONS.names()) - recipes().keys():
      check_reads(POSITIONS.get(name)(), TEXT.reads, 'of text')
    check_names('arms', config.arms, recipes())
  check_lengths(config)
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
  return Transformer(model_of(config, name, length), TEXT.vocab_size)


def make_problem(config: Config, name: str) -> LanguageProblem:
  """What the nets of an arm are trained on."""
  trained = recipes()[name].of or name
  return LanguageProblem(
    model=make_model(config, trained, config.longest),
    length=config.length,
    batch_size=config.batch_size,
  )


def problem(config: Config) -> LanguageProblem:
  """Rotary; by this name, and `stored`, `launch.plan` finds what is trained."""
  return make_problem(config, BASE)


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
  recipe = recipes()[name]
  problem = make_problem(config, name)
  trained = train_nets(STUDY, config, kept, recipe.of or name, problem)
  position = make_model(config, name, config.longest).config.position
  reader = reader_of(config, name, trained.params)
  source = trained.as_arm(
    name, position, position=recipe.position, of=recipe.of
  )
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


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md, with both figures; returns the tables."""
  report = folder / 'report.md'
  sections = [
    loss_section(results, config.length, report),
    place_section(results, config.length, report, CURVE),
    ('How it was made', bullets([*provenance()])),
  ]
  title = 'Language models beyond their training length'
  return write_tables(report, title, all_tables(results), sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
