"""Positions of two levels on code, up to the square of the length: HiRoPE.

Claimed elsewhere. HiRoPE (Zhang et al. 2024, arXiv 2403.19115): fast pairs of a
trained rotary model turn by the token's position as before, slow ones by the
function or class that it is of, so that distances of both kinds stay within
those that were trained up to the square of the training length. Nothing is
trained. On code of 8,192 to 16,384 tokens models of 4,096 have a perplexity of
1.978, with SelfExtend 2.010, ReRoPE 2.05 and NTK-aware scaling 2.77; a model
that was shrunk to 128 tokens stays stable near 128^2 = 16,384.

Here. One population of rotary byte models, trained at L = 128 on the text of
`experiments.language_length`, whose levels are classes and functions; it is
read up to L^2 by
  rotary          as it is
  ntk             NTK-aware, at a scale of the tested length over L
  rerope, self_extend     true distances up to L / 2, and bounded ones beyond
  hirope          half of the pairs by position, others by level; window L / 2
  hirope_trusted  by position all pairs that turn around once within L
  hirope_even     levels of L bytes each, in place of functions
and by two controls: rotary of which no prediction sees more than the last L
bytes, and rotary whose every layer sees no more.

Protocol. Loss in nats of the same last 32 bytes of windows of other modules as
the context before them grows. 512 windows up to 4 L; attention to longer ones
costs so much that their number falls with the square of the length, to 3 at
8,192 and 16,384 (--few), a part of the same windows: each number stands beside
the loss of the same bytes with L bytes of context. As so few bytes say little,
the claim is judged by loss at every place of the longest windows, by octaves of
place, half of all bytes in the last. Stable: at most 0.1 nats above rotary
whose layers see the last L bytes, on the same bytes; the margin was set before
any run. t intervals over seeds, gaps seed by seed.

Measured (`results/hierarchical.csv`; five seeds, 16 minutes of a core). With
half of its pairs by level HiRoPE is lost where rotary is, 1.86 ± 0.16 nats over
its control in the last octave up to 16,384 bytes: stable is refuted, and what
it gains over rotary is little (0.19 ± 0.16) and as much with even levels, so
that it is not due to functions. With those pairs by position that turn around
once within L it is confirmed as stable up to 2,048 bytes, 16 L, as ReRoPE and
SelfExtend are, and refuted at L^2 (0.41 ± 0.11 nats above), but 1.56 ± 0.12
below NTK-aware scaling, the order that was published for that; against the two
others the published order is refuted: it is 0.13 ± 0.08 above ReRoPE and 0.05 ±
0.04 above SelfExtend. Nothing is below rotary of which no prediction sees more
than L bytes: at no length is what lies farther of use to these nets.

Where it differs. One small model of bytes, trained at L from the start and not
shrunk to it. A level is entered behind the keyword that begins a class or a
function, as at the keyword it would tell what follows.

Commands (two CPU cores):
  python -m experiments.hierarchical              about 15 core minutes
  python -m experiments.hierarchical --size=gpu   larger, 16 long windows
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments.hierarchical_scores import (
  BY_PLACE,
  Config,
  check_windows,
  readings_of,
  score_reading,
)
from experiments.hierarchical_tables import all_tables
from experiments.length_config import (
  check_lengths,
  identity_of,
)
from experiments.length_config import stored as stored
from experiments.length_nets import (
  loss_section,
  make_model,
  place_section,
  train_nets,
)
from extrap import cli
from extrap.arms import check_names, check_scratch, run_arms
from extrap.evaluation.results import Result
from extrap.kept import Kept, provenance
from extrap.language import LanguageProblem
from extrap.models.positions import Rotary
from extrap.reporting.report import bullets, write_tables

STUDY = 'hierarchical'
CLAIM = 'HiRoPE on code, from the training length to its square'
TIME = 'a quarter of an hour on a CPU core'


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains the nets, and reads them by every arm; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: config.names,
    identity=lambda config: (*identity_of(config), config.few),
    make=rows_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_scratch(config)
  if config.arms:
    check_names('arms', config.arms, readings_of(config))
  check_lengths(config)
  check_windows(config)


def problem(config: Config) -> LanguageProblem:
  """The rotary nets'; `launch.plan` finds it, and `stored`, by these names."""
  return LanguageProblem(
    model=make_model(config, Rotary()),
    length=config.length,
    batch_size=config.batch_size,
  )


def rows_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Trains the nets unless they are there, and reads them by an arm."""
  trained = train_nets(STUDY, config, kept, 'rotary', problem(config))
  return score_reading(config, kept, trained, readings_of(config)[name])


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md with its figures; returns the tables."""
  report = folder / 'report.md'
  sections = [
    loss_section(results, config.length, report),
    place_section(
      results, config.length, report, BY_PLACE, 'end of the octave, bytes'
    ),
    ('How it was made', bullets([*provenance()])),
  ]
  title = 'Positions of two levels on code'
  return write_tables(report, title, all_tables(results), sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
