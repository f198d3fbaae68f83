"""Operations with a local rule, right at every length: certificates.

Claimed elsewhere. Nothing is certified. For subtraction we know of no ratio of
test to training length; for N x 1 products 2.5 (position coupling, Cho et al.
2024, arXiv 2405.20671) and 2 (with a trace); for copying 7.5 (coupling); parity
with a trace and coupled positions 2.5, and plain transformers stay at chance.

Here. One layer, width 64, whose heads see the digits at their own place and the
next, themselves and the operators (rung L6 of the structure ladder: alignment
and locality are given away). Where the next digit of an answer depends on so
much only, all contexts that can occur are enumerated and checked, and by
induction the answer is right at every length. Tasks: a - b (the difference
padded to a's length), N x 1 products, copies, parity with a trace of prefix
parities, prefix sums modulo the base. All least significant digit first.

Protocol. Lengths uniform in 1..10; the same steps, batch and learning rate for
all tasks; exact match of the whole answer and its end, teacher forced (equal to
greedy decoding). Replicas are seeds, the last checkpoint is scored.

Measured (seeds 0..3, 1,600 steps of 64 problems, 4.2e11 to 5.2e11 FLOPs a
replica; `results/certified.csv`). All 20 models are certified, with margins of
3.5 to 17 against rounding below 5e-5; every one of 100 problems a length and
replica is right at 10 to 1,000 digits (100 times the training length), and
every problem of the stress suites: borrows through all places, products of
nines, periodic strings.

Where it differs. The ratios above were reached without being told to look at
one place and the next; ours says nothing on how that is found. Differences are
padded: where a trimmed one ends is not local, and no such model could know.

Commands (two CPU cores of an AMD EPYC):
  python -m experiments.certified                     all tasks, base 10
  python -m experiments.certified --tasks=subtraction --base=2
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import flags

from extrap import cli
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation import certificate as certificates
from extrap.evaluation.borrows import BORROWS
from extrap.evaluation.certificate import Certificate
from extrap.evaluation.grid import Cell, Sampler, Suite
from extrap.evaluation.patterns import PATTERNS
from extrap.evaluation.products import PRODUCTS
from extrap.evaluation.results import Result, select, write_csv
from extrap.evaluation.stress import Kind, stress_suites
from extrap.evaluation.sums import SUMS, sum_sampler
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import PlaceWindow
from extrap.reporting.report import bullets, write_report
from extrap.reporting.tables import (
  certificate_table,
  exact_match_table,
  suite_table,
)
from extrap.sequence import SequenceProblem
from extrap.study import (
  Kept,
  StudyConfig,
  account,
  count_right,
  open_run,
  provenance,
  terminated,
  train_arm,
)
from extrap.tasks.copying import Copying
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums
from extrap.tasks.subtraction import Subtraction
from extrap.tasks.summation import Summation
from extrap.training import distributed

STUDY = 'certified'
CLAIM = 'subtraction, N x 1 products, copies, parity: certified at every length'
TIME = '7 minutes on two CPU cores'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A task, and what it needs.

  Attributes:
    task: what is learned.
    name: of its stress suite.
    kinds: the problems of that suite.
    longer: how many times --steps it trains.
    window: what is particular to its window of places.
    sampler: draws problems of a kind; None for the usual one.
  """

  task: NumberTask
  name: str
  kinds: Mapping[str, Kind]
  longer: int = 1
  window: Mapping[str, int] = dataclasses.field(default_factory=dict)
  sampler: Callable[[NumberTask, Kind], Sampler] | None = None


def _sum(longer: int, **task: int) -> Case:
  window = {'own_step': True} if task.get('trace') else {}
  return Case(
    task=Summation(**task),
    name='sum',
    kinds=SUMS,
    longer=longer,
    window=window,
    sampler=sum_sampler,
  )


CASES = {
  'subtraction': Case(task=Subtraction(), name='borrow', kinds=BORROWS),
  'product': Case(
    task=Multiplication(second_digits=1), name='product', kinds=PRODUCTS
  ),
  'copying': Case(task=Copying(), name='pattern', kinds=PATTERNS),
  'parity': Case(task=Parity(trace=True), name='pattern', kinds=PATTERNS),
  'prefix_sums': Case(task=PrefixSums(), name='pattern', kinds=PATTERNS),
  'sum_3': _sum(3, operands=3),
  'sum_4': _sum(4, operands=4),
  'sum_5': _sum(6, operands=5),
  'running_sums': _sum(1, operands=10, trace=True),
  'product_2': Case(
    task=Multiplication(second_digits=2),
    name='product',
    kinds=PRODUCTS,
    longer=6,
    window={'behind': 1},
  ),
}
STRESS_LENGTHS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  tasks: tuple[str, ...] = option(
    tuple(CASES), f'tasks to train, of {", ".join(CASES)}', identity=False
  )
  base: int = option(
    10, 'base of the digits (parity has 2)', minimum=2, maximum=16
  )
  model: TransformerConfig = option(
    TransformerConfig(position=PlaceWindow()), 'the model'
  )
  steps: int = option(
    1600, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  digits: int = option(10, 'longest training length', unit='digits', minimum=1)
  batch_size: int = option(
    64, 'problems a step and replica', unit='problems', minimum=1
  )
  lengths: tuple[int, ...] = option(
    (10, 20, 50, 100, 200, 500, 1000),
    'lengths to test',
    unit='digits',
    minimum=1,
    identity=False,
  )

  def task(self, name: str) -> NumberTask:
    """A task in the base asked for."""
    task = CASES[name].task
    if isinstance(task, Parity):
      return task
    return dataclasses.replace(task, base=self.base)

  def model_of(self, name: str) -> TransformerConfig:
    """The model, with the window that a task needs."""
    position, window = self.model.position, CASES[name].window
    if isinstance(position, PlaceWindow):
      position = dataclasses.replace(position, **window)
    return dataclasses.replace(self.model, position=position)

  def longer(self, name: str) -> 'Config':
    """The same with the steps of a task."""
    times, train = CASES[name].longer, self.train
    return dataclasses.replace(
      self,
      steps=self.steps * times,
      train=dataclasses.replace(
        train,
        steps=train.steps * times,
        schedule_steps=train.resolved_schedule_steps * times,
      ),
    )


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains, evaluates and certifies each task; returns the exit code."""
  distributed.initialize(config.cluster)
  with distributed.shared_fate():
    check(config)
  run, config = open_run(STUDY, config, flag_values)
  results: list[Result] = []
  with run, terminated() as stop:
    kept = Kept(run, stop)
    for name in config.tasks:
      results += kept.rows(
        name,
        (config.steps, config.lengths, config.eval),
        lambda name=name: study_of(config, kept, name),
      )
    report = run.path / 'report.md'
    with distributed.shared_fate():
      if distributed.is_first():
        write_csv(run.path / 'results.csv', results, kept.comments)
        write_report_of(config, report, results)
        print(f'\n{summary(config, results)}\n\nreport: {report}')
    run.status('done', config.steps)
  return 0


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  if not config.tasks or not config.lengths:
    raise UsageError('--tasks and --lengths need at least one entry each')
  if config.eval == 'none' or config.init_from:
    raise UsageError('this study trains from scratch and always evaluates')
  for name in config.tasks:
    if name not in CASES or config.tasks.count(name) > 1:
      raise UsageError(f'--tasks={name}: name each once, of {", ".join(CASES)}')
  for name in config.tasks:
    problem = make_problem(config, name)
    certificates.contexts_for(problem.model, problem.task)


def problem(config: Config) -> SequenceProblem:
  """The first task; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.tasks[0])


def make_problem(config: Config, name: str) -> SequenceProblem:
  """The model on one task."""
  task = config.task(name)
  return SequenceProblem(
    task=task,
    model=Transformer(config.model_of(name), task.vocab_size),
    max_size=config.digits,
    batch_size=config.batch_size,
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Exact match by length, and the certificate, of every replica."""
  folder = kept.run.path / 'arms' / name
  problem, config = make_problem(config, name), config.longer(name)
  trained = train_arm(problem, config, kept.run, name, kept.stop, folder)
  rung = config.model.position.rung
  source = account(STUDY, name, rung, config, problem, trained, folder)
  results = []
  for suite in suites(config, name):
    label = f'test {name}, {suite.name}'
    counts = count_right(
      problem.model, trained.params, problem.task, suite, label, kept.check
    )
    for cell, right in counts.items():
      split, size = split_of(config, suite, cell), str(max(cell))
      results += source.exact_match(split, size, right, suite.rows)
  params = distributed.to_host(trained.params)
  found = certificates.certify(problem.model, params, problem.task)
  show(config, name, found)
  return results + certificates.rows(source, found)


def suites(config: Config, name: str) -> list[Suite]:
  """Uniform problems of equal lengths, and the stress suite."""
  lengths, axes = sorted(set(config.lengths)), len(config.task(name).axes)
  equal = Suite(
    name='equal',
    cells=tuple((length,) * axes for length in lengths),
    rows=1000 if config.eval == 'full' else 100,
  )
  stress = stress_suites(
    CASES[name].name,
    CASES[name].kinds,
    config.task(name),
    [length for length in STRESS_LENGTHS if length <= lengths[-1]],
    rows=10,
    buckets=(lengths[-1],),  # few rows: padding costs less than compiling
    sampler=CASES[name].sampler,
  )
  return [equal, *stress.values()]


def split_of(config: Config, suite: Suite, cell: Cell) -> str:
  """Where a cell lies; a stress suite is a split of its own."""
  if suite.name != 'equal':
    return suite.name
  inside = max(cell) <= config.digits
  return 'in_distribution' if inside else 'out_of_distribution'


def show(config: Config, name: str, found: Sequence[Certificate]) -> None:
  """One line a replica."""
  for seed, one in zip(config.seeds, found, strict=True):
    distributed.say(f'{name}, seed {seed}: {one}')


def summary(config: Config, results: Sequence[Result]) -> str:
  """Exact match by length, one column a task."""
  scored = [
    row
    for row in results
    if row.metric == 'exact_match' and ':' not in row.split
  ]
  table = exact_match_table(
    scored,
    list(config.tasks),
    sorted(set(config.lengths)),
    config.digits,
    intervals=False,
    unit='problems',
  )
  return table.text()


def write_report_of(
  config: Config, report: Path, results: Sequence[Result]
) -> None:
  """report.md: exact match, and the certificate of each task."""
  sections = [('Exact match', f'```\n{summary(config, results)}\n```')]
  for name in config.tasks:
    rows = select(results, arm=name, split='certificate')
    sections.append((f'Certificate: {name}', certificate_table(rows)))
    rows = [row for row in select(results, arm=name) if ':' in row.split]
    sections.append((f'Stress suite: {name}', suite_table(rows)))
  sections += [
    ('What a certificate says', certificates.STATEMENT),
    ('How it was made', bullets([*provenance()])),
  ]
  write_report(report, 'Certified operations', sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
