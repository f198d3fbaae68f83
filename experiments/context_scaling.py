"""Nets of rotary read, and trained further, at other scales: Giraffe in small.

Claimed elsewhere. Giraffe (Pal et al. 2023, arXiv 2308.10882): of the ways to
make a rotary model read longer contexts, linear scaling serves best; a model
that was trained further at a scale may be read at up to twice that scale, and
fails at four times; and training at a scale does not buy that many times the
context. CLEX (Chen et al. 2024, arXiv 2310.16450): 4,096 tokens, all trained
further at 16,384 and tested there, perplexity 5.52 of CLEX, 5.72 of position
interpolation (linear), 5.73 of YaRN. Without any training YaRN is expected
below linear below NTK-aware at 8 times the length.

Here. One population of rotary byte models, trained at L on the text of
`experiments.language_length`. It is read, as it is, by every encoding that
stretches rotary, at every scale; and trained further, on windows of 4 L, by
each of these, from the same parameters and for as many bytes, then read again
at every scale:
  rotary        as it is: the plain continuation, at a training scale of 1
  linear        at every training scale: the whole grid of Giraffe
  ntk, yarn, power, truncated     at a training scale of 4
  clex          on windows of L, spread over up to 16 L
  clex_long     on windows of 4 L, spread over up to 16 L
`linear 4 x8` was trained further at a scale of 4 and is read at 8; `linear x8`
was not trained further.

Protocol. Loss in nats of the same last 32 bytes of 512 windows of other modules
as the context before them grows from L to 8 L. Controls in every table: rotary
without further training of which no prediction sees more than the last L bytes,
and rotary whose every layer sees no more. A continuation has 200 steps at a
third of the peak learning rate, with a fresh optimizer, 10 % warm-up and a
cosine; neither was tuned. What an arm costs is that of both trainings. Nothing
is chosen by these numbers: all cells of the sweep are shown. The claims of the
last table are judged seed by seed, with t intervals.

Measured (`results/context_scaling.csv`; five seeds, half an hour of a core that
did other work, too). Not trained further, at 8 times: YaRN (2.658) below linear
(3.012) below NTK-aware (3.229), both confirmed; Llama-3's rule, of which
nothing was claimed, below all three (2.227). Linear, trained further at a scale
of 4, goes further when it is read at twice that scale (1.899 at 512 bytes,
3.284 at its own): confirmed; at 2, it is worse at four times its scale than at
twice: confirmed. That linear serves best is refuted: with as much further
training the power and the truncated basis are below it at 4 and at 8 times
(truncated 1.558 and 1.590, the least loss of all at 512), and so is rotary as
it is, on longer windows, at 4 times (1.571, linear 1.643). CLEX on windows of L
is above linear and YaRN at 4 times, refuted; on windows of 4 L level with
linear there (1.637, not resolved) and above YaRN (1.586), refuted; at 8 times
it is below both as they were trained (1.780, 3.284 and 3.244), confirmed, but
not below YaRN read at 8 (1.732). No arm gains anything over cutting the
context.

Where it differs. One small model and little text; no instructions, and loss
alone: Giraffe tests retrieval, which nets of this size do not learn. CLEX's own
training on long windows has real-valued positions: `clex_long` takes its
windows to be of the trained length in their place, at a stretch of up to 4. Of
pairs of a head 8 of 12 turn more slowly than once in L here, more than in the
models of the papers.

Commands (two CPU cores):
  python -m experiments.context_scaling              half an hour of a core
  python -m experiments.context_scaling --size=gpu   128 to 2,048
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from absl import flags

from experiments.context_scaling_nets import (
  METHODS,
  SCALED,
  TUNED,
  ScalingConfig,
  nets_of,
  readings_of,
  trained_nets,
)
from experiments.context_scaling_tables import (
  all_tables,
  grid_methods,
  heat_map,
  matched_arms,
)
from experiments.language_length_scores import Questions
from experiments.length_config import (
  GPU,
  check_holds,
  check_lengths,
  identity_of,
)
from experiments.length_config import stored as stored
from experiments.length_nets import (
  loss_section,
  read_nets,
)
from extrap import cli
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import preset
from extrap.datasets.stdlib_text import read
from extrap.errors import UsageError
from extrap.evaluation.results import Result, select
from extrap.kept import Kept, provenance
from extrap.language import LanguageProblem
from extrap.reporting.report import Section, bullets, picture, write_tables

STUDY = 'context_scaling'
CLAIM = 'rotary nets at other scales: linear, NTK, YaRN, CLEX, trained further'
TIME = 'half an hour on a CPU core'

PRESETS = {
  'cpu': {},
  'gpu': {
    **GPU,
    'length': 128,
    'longest': 2048,
    'scales': (1, 2, 4, 8, 16),
    'grid': ('linear', 'ntk', 'yarn'),
    'tuning_steps': 500,
  },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ScalingConfig):
  """Flags of this study."""

  size: Literal['cpu', 'gpu'] = preset(
    'cpu', PRESETS, 'what is trained, and how long contexts are'
  )


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and reads all nets; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: [*nets_of(config)],
    identity=lambda config: (
      *identity_of(config),
      *(config.scales, config.methods, config.grid),
    ),
    make=rows_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  check_lengths(config)
  check_holds(config, config.window * config.length)
  if config.grid:
    check_names('grid', config.grid, SCALED)
  if config.tuned:
    check_names('tuned', config.tuned, TUNED)
  if config.methods:
    check_names('methods', config.methods, METHODS)
  check_scales('scales', config.scales)
  check_scales('trained_scales', config.trained_scales)
  if config.scales[:1] != (1,):
    raise UsageError('--scales: begin with 1, at which nets are as they are')
  if config.batch_size % config.window:
    raise UsageError(
      f'--window={config.window} does not divide --batch_size='
      f'{config.batch_size}: windows so much longer are so many fewer'
    )
  questions_of(config).check()


def check_scales(flag: str, scales: Sequence[int]) -> None:
  """Refuses scales that are named twice or in no order."""
  if sorted(set(scales)) != list(scales):
    raise UsageError(f'--{flag}={",".join(map(str, scales))}: not in order')


def questions_of(config: Config) -> Questions:
  """What every arm is asked."""
  return Questions(
    text=read(config.text).validation,
    trained=config.length,
    lengths=config.lengths,
    windows=config.windows,
    asked=config.asked,
    asks=('loss',),
  )


def problem(config: Config) -> LanguageProblem:
  """The first nets'; `launch.plan` finds it, and `stored`, by these names."""
  return nets_of(config)['rotary'].problem(config)


def rows_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Trains nets unless they are there, and reads them by all of their arms."""
  trained = trained_nets(STUDY, config, kept, name)
  readings = readings_of(config, name)
  return read_nets(config, kept, trained, readings, questions_of(config))


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md with its figures; returns the tables."""
  report = folder / 'report.md'
  shown = matched_arms(results, config.window)
  sections = [
    *(_grid_section(results, name, report) for name in grid_methods(results)),
    loss_section(select(results, arm=shown), config.length, report),
    ('How it was made', bullets([*provenance()])),
  ]
  title = 'Rotary nets at other scales'
  return write_tables(report, title, all_tables(results), sections)


def _grid_section(
  results: Sequence[Result], method: str, report: Path
) -> Section:
  """The heatmap of a method."""
  heading = f'Heatmap of training scale by evaluation scale: {method}'
  path = report.parent / 'plots' / f'grid_{method}.png'
  return heading, picture(heading, heat_map(results, method, path), report)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
