"""Neural status registers: comparisons learned on 1..9, tested up to 10^18.

Claimed elsewhere. A layer of two learned operands, the sign and the zero bit of
their difference and a sigmoid of these learns the six comparisons from the
pairs of 1..9 and is right many orders of magnitude beyond, where perceptrons
and arithmetic units are not (Faber and Wattenhofer 2020, arXiv 2004.07085). No
table of theirs can be compared with: the published code multiplies one of the
two numbers by 10,000 before it labels a pair, sets the redundancy to 1 and has
> for >= (lukasjf/neural_status_register).

Here. The register as the paper defines it, redundancy 10, and the heads it is
compared with: 20 sigmoid units, 10 NALUs, 20 NAUs, 20 NPUs, each with one unit
above them (`extrap/models/comparators.py`). Each run learns one comparison; all
runs of a head are one program. A run that fails stops no other, nor do all runs
of a head: they count as the largest error there is.

Protocol. All 81 pairs of 1..9; of = and != nine equal and nine unequal pairs.
Full batch, Adam, 1e-3, mean absolute error, 50,000 steps, ten seeds of each
comparison. Test at 10^1..10^18: a random number of the magnitude against those
at most 5 away, in both orders (of = and !=, as often against itself), 20 random
numbers (--eval=full: 100), the same for all runs. The score is the mean
absolute error. A type that rounds such numbers cannot tell them apart: at 10^7
in float32 and at 10^15 in float64 the numbers end where the type still holds
all of them, at 1.68e7 and 9.01e15, and larger magnitudes are void. A seed
succeeds if the mean error of its six comparisons is below 0.01 in every column
that counts. The last parameters are scored. All heads have the same seeds, so
that `nsr` and `nsr_sharpened` begin alike: their difference is paired.

With two inputs a register depends on their difference alone, whatever it has
learned, so that magnitude is no difficulty but rounding. With more inputs it
is: an operand is a mean of the inputs with softmax weights, and what leaks into
it from others grows with the magnitude. Hence the arms with ten inputs, of
which the last two are compared, and the others are drawn from the same numbers.
`nsr` is the paper's. In `nsr_sharpened` a factor of the operands' logits grows
geometrically over training from 1 to 1,000, so that each operand ends as a
single input. That number follows from rounding alone: a gap of 0.04 between the
two largest logits leaves a leak below the precision of float64; it is the only
factor that was tried. Before it, larger learning rates alone had been seen not
to do on the test. The leak of every run is reported.

Parts.
  comparisons  as above
  scales       all numbers times 1e-3..1e5 by lambda 1e-3..1e3, of > and =; a
               register of two inputs sees their product alone
  redundancy   1 to 15 pairs of operands, sharpened where there are ten inputs
  lists        a head folds a list of 5 numbers up to 10 into its minimum, or
               counts which of 5 equal a first; tested on up to 50 numbers up
               to 163,840, every seed with a training set of its own (400 lists)
  pieces       a head of five inputs weighs x4 + 4, where x0 > x1 (or =),
               against x3 - x2, each a unit with a bias; 4,000 rows a seed;
               tested with x0 from 2^3 to 2^14
  paths        messages of a graph's nodes are linear in distance and weight,
               or a NAU makes them, which the paper has not, and a head folds
               them into the least; every hop of one graph of 10 nodes with
               weights below 10 is learned, whole paths are tested in graphs up
               to 64 times as large, weights likewise
  images       a convolutional network gives each image of MNIST a number, a
               softmax's mean of the digits, and a head says of two numbers
               whether > (or =) holds: all pairs of 50 (100) images a step,
               lambda 10, 13 epochs of Adadelta, 1.0, whatever --steps and
               --train.optimizer are. The label of a pair is all that is
               learned from. Tested on the pairs of test images, within batches
               of as many; the score of a seed is its accuracy, the share of
               pairs whose error is below 0.5. Numbers need not be the digits:
               the share of images whose number rounds to theirs is reported.
               MNIST is downloaded into --images.folder if it is not there;
               where that cannot be the run is refused

Measured, comparisons (ten seeds; 11 and 18 minutes of one core). In float32 to
10^7 (`results/status_registers.csv`): with two inputs `nsr` and `nsr_sharpened`
succeed in ten of ten seeds, largest mean error 1e-9; the NAU in none, as it
learns most orders but neither = nor !=; MLP, NALU and NPU in none. With ten
inputs `nsr` succeeds in none (an error of 0.31 at 10^3, of 0.51 from 10^4 on),
`nsr_sharpened` in ten of ten, largest mean error 4e-8. In float64 to 10^15
(`results/status_registers_wide.csv`) likewise: largest mean errors 3e-10 with
two inputs and 4e-8 with ten, where `nsr` has 0.02 at 10^2, 0.28 at 10^3 and
0.50 from 10^4 on. Half of the sharpened operands of ten inputs leak less than
float64 can tell, the worst 0.1 %.

Measured, redundancy and scales (ten seeds, float32; eight minutes of a core,
`results/status_registers_parts.csv`). With four, eight and fifteen pairs of
operands all seeds succeed, with two inputs and, sharpened, with ten; with two
pairs 9 and 8 of ten, with one 7 and 3: what is not learned is = and !=. Lambda
and the unit of the numbers matter by their product alone: > is learned where it
is 0.1 or more (error 0.013 at 0.01), = where it is 1 or more (0.15 to 0.17,
mean of seeds, at 0.1).

Measured, lists (ten seeds, 13 minutes of a core, the same file). The register
folds a minimum without an error and counts with one of 5e-10 at most, in ten of
ten seeds, for up to 50 numbers up to 163,840. Of the others the NAU folds a
minimum in five, none counts, and none of MLP, NALU and NPU does either.

Measured, pieces (ten seeds, 2 to 4 minutes of a core a head and unit, the same
file). At a constant rate no seed is below 0.01, with any of `nsr`,
`nsr_sharpened` and `mlp` and either unit. With a rate that falls
(`--parts=pieces --heads=nsr_sharpened --train.schedule=cosine`,
`results/status_registers_pieces.csv`; the other heads have not been trained so)
sharpened registers between two NAUs are below it in ten of ten seeds where >
chooses, with x0 up to 2^14, largest mean error 0.001, and in three where =
does; between two NALUs in none.

Measured, paths (ten seeds, --steps=200000, 3 to 4 minutes of a core each, the
first file). Where messages are linear, as published, none is below 0.01, with
any of `nsr`, `mlp` and `nau`; where a NAU makes them, whose weights end as
whole numbers, registers are in five of ten, in graphs of up to 640 nodes with
weights below 640, and perceptrons and NAUs in none. Of the other five registers
two do not learn a hop; three do, and are 0.1 to 0.7 off at worst.

Seen while the protocol was made (ten seeds, no CSV). With fixed partners (two
inputs, 20,000 steps) `nsr` succeeds in five of ten. Images have not been run
here, where there is no MNIST, but for four drawn figures in the tests.

Where it differs. The unequal pairs of = and != are drawn anew in each step, so
that all are met; the original draws nine, once (--partners=fixed), and hardly
any of nine are neighbours, which the test asks for most. The regulariser of the
NAU, from 80 % of the steps on, is that of both its layers. NALU and NPU are the
units of this package; the published ones lack a product or a sign. Differences
are taken between inputs before they are weighted, which loses no digits, and a
list's minimum moves by a share of the difference, which of integers is exact
where the share is 0 or 1. Pieces are published with ten times the steps
(--steps=500000), paths with a step for each hop of 1,000 epochs, not one for
all hops, and in the published test graphs do not grow; the graph networks that
they are compared with are not here. An image is read once for all its pairs, in
the original anew for each, with another choice of what is dropped. Of = all
unequal pairs of a batch count, together as much as the equal ones; the original
draws one for each equal pair. There images are in float64, and a seed counts
with its best epoch on the test.

Commands (two CPU cores of an AMD EPYC):
  python -m experiments.status_registers                   to 10^7
  python -m experiments.status_registers --dtype=float64   to 10^15
  python -m experiments.status_registers --parts=scales,redundancy
  python -m experiments.status_registers --parts=lists,paths --heads=nsr,mlp
On a GPU (not run; a head takes a CPU core seven hours for each comparison, by
1.7 s that a step of > took):
  python -m experiments.status_registers --parts=images --heads=nsr,mlp \\
    --train.steps_per_dispatch=100 --train.save_every=1200
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from absl import flags

from experiments import status_registers_comparisons as comparisons
from experiments import status_registers_composites as composites
from experiments import status_registers_images as images
from experiments.status_registers_population import STUDY, Job
from experiments.status_registers_settings import Config, check
from experiments.status_registers_tables import over_comparisons, tables
from extrap import cli
from extrap.arms import run_arms
from extrap.evaluation.results import Result, select
from extrap.kept import Kept, provenance
from extrap.reporting import plots
from extrap.reporting.report import bullets, picture, write_tables
from extrap.training.problem import Problem

CLAIM = 'comparisons learned on 1..9, right to 10^15'
TIME = '12 minutes on a CPU core'
MODULES = (comparisons, composites, images)


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and tests every case of the parts; returns the exit code."""
  with jax.enable_x64(config.dtype == 'float64'):
    return run_arms(
      STUDY,
      config,
      flag_values,
      check=refuse,
      names=lambda config: [job.name for job in jobs(config)],
      identity=lambda config: (config.steps, config.eval),
      make=make,
      report=write_report_of,
    )


def refuse(config: Config) -> None:
  """Refuses what would only fail after training, missing data included."""
  check(config)
  images.check(config)


def jobs(config: Config) -> list[Job]:
  """What the parts train, in order."""
  found: list[Job] = []
  for part in config.parts:
    (of,) = (one for one in MODULES if part in one.CASES)
    for case in of.CASES[part](config):
      found.append(
        Job(
          name=case.name,
          problem=of.make_problem(config, case),
          config=of.config_of(config, case),
          make=functools.partial(of.study_of, case),
          stored=images.stored() if of is images else None,
        )
      )
  return found


def resolved(config: Config) -> Config:
  """As the first job is trained, for `launch.plan`."""
  return jobs(config)[0].config


def problem(config: Config) -> Problem:
  """The first job's; by this name `launch.plan` finds what a study trains."""
  return jobs(config)[0].problem


def stored(config: Config) -> Mapping[str, jax.ShapeDtypeStruct] | None:
  """Shapes of the arrays that it reads, likewise."""
  return jobs(config)[0].stored


def make(config: Config, kept: Kept, name: str) -> list[Result]:
  """The rows of a job."""
  (job,) = (job for job in jobs(config) if job.name == name)
  return job.make(config, kept)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md, with a figure for each number of inputs; returns the tables."""
  report, sections = folder / 'report.md', []
  compared = over_comparisons(select(results, rung='comparisons'))
  for inputs in config.inputs:
    words = f'{inputs} inputs'
    shown = [row for row in compared if row.arm.endswith(f', {words}')]
    if shown:
      figure = plots.error_vs_size(
        shown,
        folder / 'plots' / f'inputs_{inputs}.png',
        f'Comparisons of two of {words}, trained on 1..9',
        'magnitude of the numbers',
      )
      sections.append((f'Errors, {words}', picture(words, figure, report)))
  sections.append(('How it was made', bullets([*provenance()])))
  return write_tables(report, 'Status registers', tables(results), sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
