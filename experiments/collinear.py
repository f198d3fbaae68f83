"""Keys in line with the queries beyond the training length: CoCA against RoPE.

Claimed elsewhere. CoCA (Zhu et al. 2023, arXiv 2309.08646): with keys that are
the query times a number that is not negative, no score rises with distance at
first, and a model reads on where rotary breaks. 350 million parameters, trained
at 512 tokens, with dynamic NTK scaling by a factor of 4 in tests: perplexity
20.1 at 512 and 55.8 at 8,192, and half of the passkeys there; rotary with the
same scaling 19.7, 138 and .41; without it rotary has 3,028, and CoCA 157. The
strict form, a function of distance, has the perplexity of the slack one, which
the authors' code computes, and finds fewer passkeys.

Here. Byte models of rotary, of CoCA's strict and of its slack form, trained
alike at L on the text of `experiments.language_length`, and read as they are,
with dynamic NTK scaling, and with the context cut.

Protocol. Loss in nats of the same last 32 bytes of 512 windows of other modules
as the context before them grows from L to 16 L. Perplexity is e to it, of a
byte and not of a token: what can be compared is how much it grows, and its
ratio stands beside the published one. Retrieval, 200 pairs of prompts a length,
depths uniform: which of two brackets is open, with nothing but words behind it
(chance is a half); with --names also a name to be copied, of which nets of the
CPU size know nothing. The control of each arm is its own nets, of which no
prediction sees more than the last L bytes: below it a longer context is of use.
Dynamic NTK scaling has the published factor; with more --factors all are shown.
Claims are judged seed by seed, with t intervals.

Measured (`results/collinear.csv`; five seeds, 15 minutes of a core). At 16
times the training length the loss of the strict form has grown by 0.54 ± 0.07
nats less than rotary's, with dynamic NTK scaling by 0.53 ± 0.15 less:
confirmed; perplexity grows to 4.11 and, scaled, 3.39 times, rotary's to 7.07
and 5.74 (published, of tokens: slack 7.83 and 2.77, rotary 154 and 7.02). But
none is below its own nets with the context cut (1.2 to 1.5 nats above): reading
on is of no use here. Brackets are told apart by all.

Where it differs. One small model of bytes and few steps, and brackets in place
of passkeys. At this L most pairs of a head never turn once in training.

Commands (two CPU cores):
  python -m experiments.collinear              about 15 core minutes
  python -m experiments.collinear --size=gpu   128 to 2,048
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from absl import flags

from experiments.collinear_tables import all_tables
from experiments.language_length_scores import Questions
from experiments.length_config import (
  GPU,
  LengthConfig,
  check_lengths,
  identity_of,
)
from experiments.length_config import stored as stored
from experiments.length_nets import (
  Reading,
  loss_section,
  make_model,
  read_nets,
  train_nets,
)
from extrap import cli
from extrap.arms import check_names, check_scratch, run_arms
from extrap.config import option, preset
from extrap.datasets.stdlib_text import read
from extrap.errors import UsageError
from extrap.evaluation.results import Result
from extrap.kept import Kept, provenance
from extrap.language import LanguageProblem
from extrap.models.positions import CoCA, DynamicNTK, Position, Rotary
from extrap.reporting.report import bullets, write_tables

STUDY = 'collinear'
CLAIM = 'CoCA against rotary beyond the training length, with NTK and without'
TIME = 'a quarter of an hour on a CPU core'

NETS = ('rotary', 'coca', 'coca_slack')
PRESETS = {
  'cpu': {},
  'gpu': {
    **GPU,
    'length': 128,
    'longest': 2048,
    'factors': (1.0, 4.0),
    'names': True,
  },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(LengthConfig):
  """Flags of this study."""

  size: Literal['cpu', 'gpu'] = preset(
    'cpu', PRESETS, 'what is trained, and how long contexts are'
  )
  nets: tuple[str, ...] = option(
    NETS, 'populations to train and test', identity=False
  )
  factors: tuple[float, ...] = option(
    (4.0,), 'of dynamic NTK scaling', minimum=1.0, identity=False
  )
  prompts: int = option(
    200,
    'pairs of prompts of retrieval, each length',
    unit='prompts',
    minimum=2,
    identity=False,
  )
  names: bool = option(False, 'ask for names, too', identity=False)


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and reads all nets; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: config.nets,
    identity=lambda config: (
      *identity_of(config),
      *(config.prompts, config.names, config.factors),
    ),
    make=rows_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  check_names('nets', config.nets, NETS)
  check_lengths(config)
  if len(set(config.factors)) < len(config.factors):
    raise UsageError('--factors: name each once')
  questions_of(config).check()


def questions_of(config: Config) -> Questions:
  """What every arm is asked."""
  names = ('shown', 'hidden') if config.names else ()
  return Questions(
    text=read(config.text).validation,
    trained=config.length,
    lengths=config.lengths,
    windows=config.windows,
    asked=config.asked,
    prompts=config.prompts,
    asks=('loss', 'brackets', *names),
  )


def position_of(name: str, base: Position) -> Position:
  """The encoding of a population, turned as the base says."""
  if name == 'rotary':
    return base
  return CoCA(base=base, form='slack' if name == 'coca_slack' else 'strict')


def make_problem(config: Config, name: str) -> LanguageProblem:
  """What a population is trained on."""
  return LanguageProblem(
    model=make_model(config, position_of(name, Rotary())),
    length=config.length,
    batch_size=config.batch_size,
  )


def problem(config: Config) -> LanguageProblem:
  """CoCA's; `launch.plan` finds it, and `stored`, by these names."""
  return make_problem(config, 'coca')


def rows_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Trains nets unless they are there, and reads them by all of their arms."""
  trained = train_nets(STUDY, config, kept, name, make_problem(config, name))
  readings = readings_of(config, name)
  return read_nets(config, kept, trained, readings, questions_of(config))


def readings_of(config: Config, name: str) -> list[Reading]:
  """As they are, with the context cut, and with dynamic NTK scaling."""
  plain = position_of(name, Rotary())
  bases = {
    factor: DynamicNTK(trained=config.length, scale=factor)
    for factor in config.factors
  }
  return [
    _reading(name, name, plain, 0.0),
    _reading(f'{name}_cut', name, plain, 0.0, cut=True),
    *(
      _reading(f'{name} NTK {factor:g}', name, position_of(name, base), factor)
      for factor, base in bases.items()
    ),
  ]


def _reading(
  arm: str, name: str, position: Position, factor: float, cut: bool = False
) -> Reading:
  notes = {'nets': name, 'factor': factor, 'cut': cut}
  return Reading(
    arm=arm, position_at=lambda length: position, cut=cut, notes=notes
  )


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md with its figure; returns the tables."""
  report = folder / 'report.md'
  sections = [
    loss_section(results, config.length, report),
    ('How it was made', bullets([*provenance()])),
  ]
  title = 'CoCA against RoPE beyond the training length'
  return write_tables(report, title, all_tables(results), sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
