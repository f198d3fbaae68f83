"""Addition, trained on 10 digits, right at every length: a certificate.

Claimed elsewhere. A single-shot decoder that is told which digits belong
together extrapolates addition 6.7 times (30 to 200 digits: position coupling,
Cho et al. 2024, arXiv 2405.20671), six times with Abacus embeddings (20 to 120
digits: McLeish et al. 2024, arXiv 2405.17399). Both stop where their learned
tables or their attention give out, and neither can say what happens beyond the
lengths that were tested.

Here. One layer, width 64, whose heads are biased by the difference of places
and see only the operands' digits at their own place and the next, themselves
and the operators. That gives alignment *and* locality away (rung L6 of the
structure ladder): it says nothing on how a network would discover them. In
return, what a query sees no longer depends on the length of the sum, so all
contexts that can occur are enumerated (24,518 in base 10) and checked: the
certificate. The same budget at weaker rungs (learned positions, rotary, Abacus)
is shown beside it.

Protocol. Operand lengths uniform over ordered pairs from 1..10, least
significant digit first; exact match of the whole answer and its end, teacher
forced (equal to greedy decoding). Replicas are seeds; the last checkpoint is
scored; 'best' is the lowest loss at 15 digits. Grid 100 x 100 of length pairs,
equal lengths to 10,000 digits, and the carry suite, since uniform digits hardly
ever make a long carry.

Measured (full evaluation, seeds 0..3, 1,200 steps of 64 sums each, 4.2e11 FLOPs
a replica; `results/addition*.csv`). Every sum right in every replica: 10 to
10,000 digits, all 10,000 cells of the grid, every length of the carry suite.
The certificate passes for each replica, with margins of 2.1 to 5.4 against
rounding below 4e-5. Learned positions, rotary and Abacus, one layer and the
same budget, do not learn 10 digits (at most 1 % in a replica); nothing follows
from that on how far they extrapolate.

Commands (two CPU cores of an AMD EPYC):
  python -m experiments.addition              quick evaluation
  python -m experiments.addition --eval=full  100 sums a cell and replica
  python -m experiments.addition --certify=<run folder>
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments.addition_report import asked, show, write_report_of
from extrap import cli
from extrap.config import option
from extrap.encoding_limits import check_table, in_table
from extrap.errors import UsageError
from extrap.evaluation import certificate as certificates
from extrap.evaluation.carries import carry_suites
from extrap.evaluation.certificate import Certificate
from extrap.evaluation.every_context import check_model
from extrap.evaluation.grid import Cell, Suite
from extrap.evaluation.results import Provenance, Result, format_size, write_csv
from extrap.kept import Kept, provenance
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import POSITIONS, PlaceWindow, Position
from extrap.reporting.environment import peak_memory_bytes
from extrap.reporting.progress import format_duration
from extrap.scoring import count_right
from extrap.sequence import SequenceProblem
from extrap.study import (
  StudyConfig,
  open_run,
  read_config,
  run_path,
  terminated,
)
from extrap.study_training import account, restore_arm, train_arm
from extrap.tasks.addition import Addition
from extrap.training import distributed
from extrap.training.loop import Fit
from extrap.training.run_folder import RunFolder
from extrap.training.sharding import make_mesh
from extrap.training.trainer import make_trainer

STUDY = 'addition'
CLAIM = 'trained on 10 digits, certified for every length, 1,000x measured'
TIME = '5 to 9 minutes on two CPU cores'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  task: Addition = option(Addition(), 'the task')
  model: TransformerConfig = option(
    TransformerConfig(position=PlaceWindow()), 'the main arm'
  )
  steps: int = option(
    1200, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  digits: int = option(10, 'longest training operand', unit='digits', minimum=1)
  batch_size: int = option(
    64, 'sums a step and replica', unit='sums', minimum=1
  )
  compare: tuple[str, ...] = option(
    ('learned', 'rotary', 'abacus'),
    'position encodings trained with the same budget, for comparison',
    identity=False,
  )
  lengths: tuple[int, ...] = option(
    (10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 500, 1000, 10_000),
    'equal operand lengths to test',
    unit='digits',
    minimum=1,
    identity=False,
  )
  compare_up_to: int = option(
    100,
    'longest test of the compared arms',
    unit='digits',
    minimum=1,
    identity=False,
  )
  grid: int = option(
    100,
    'side of the grid of length pairs (0: none)',
    unit='digits',
    minimum=0,
    identity=False,
  )
  carries: int = option(
    1000,
    'longest sum of the carry suite (0: none)',
    unit='digits',
    minimum=0,
    identity=False,
  )
  certify: str | None = option(
    None,
    'certify the model of a finished run and exit (1 if it fails)',
    identity=False,
  )

  @property
  def positions(self) -> dict[str, Position]:
    """The main arm and those compared with it, each once, by name."""
    main_arm = POSITIONS.name_of(self.model.position)
    others = {name: POSITIONS.get(name)() for name in self.compare}
    return {main_arm: self.model.position} | {
      name: position for name, position in others.items() if name != main_arm
    }

  @property
  def trained(self) -> dict[str, Position]:
    """The arms that are trained: nothing is compared without evaluation."""
    arms = list(self.positions.items())
    return dict(arms[:1] if self.eval == 'none' else arms)

  @property
  def compared_lengths(self) -> list[int]:
    """The lengths that all arms are tested at."""
    return [n for n in self.tested_lengths if n <= self.compare_up_to]

  @property
  def tested_lengths(self) -> list[int]:
    """The lengths of the main arm, each once."""
    return sorted(set(self.lengths))


@dataclasses.dataclass(frozen=True)
class Arm:
  """A trained population."""

  name: str
  model: Transformer
  task: Addition
  trained: Fit
  source: Provenance


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains, evaluates, certifies and reports; returns the exit code."""
  if config.certify:
    return certify_run(Path(config.certify))
  began = time.perf_counter()
  distributed.initialize(config.cluster)
  with distributed.shared_fate():
    check(config)
  run, config = open_run(STUDY, config, flag_values)
  with run, terminated() as stop:
    if distributed.from_first(_is_done(config, run)):
      report = run.path / 'report.md'
      distributed.say(
        f'done already: {report if report.exists() else run.path}'
      )
      return 0
    arms = [train(config, run, name, stop) for name in config.trained]
    if config.eval != 'none':
      report = evaluate_arms(config, run, arms, stop)
      distributed.say(f'\nreport: {report}')
    run.status('done', arms[0].trained.steps)
  taken = format_duration(time.perf_counter() - began)
  memory = peak_memory_bytes() / 2**30
  distributed.say(f'{taken}, at most {memory:.2f} GiB of memory')
  return 0


def _is_done(config: Config, run: RunFolder) -> bool:
  """Whether all that is asked for is there."""
  if not run.is_done or config.eval == 'none':
    return run.is_done
  report = run.path / 'report.md'
  return report.exists() and asked(config) in report.read_text('utf-8')


def evaluate_arms(
  config: Config,
  run: RunFolder,
  arms: Sequence[Arm],
  stop: Callable[[], bool],
) -> Path:
  """Measures, certifies, prints and writes the report; returns its path."""
  kept = Kept(run, stop)
  results = measure(config, kept, arms)
  kept.check()
  certified = certify(config, arms[0])
  report = run.path / 'report.md'
  with distributed.shared_fate():
    if distributed.is_first():
      write_csv(run.path / 'results.csv', results, kept.comments)
      if not isinstance(certified, str):
        rows = certificates.rows(arms[0].source, certified)
        write_csv(run.path / 'certificate.csv', rows, provenance())
      write_report_of(config, run, arms, results, certified)
      show(config, arms, results, certified)
  return report


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  if not config.lengths:
    raise UsageError('--lengths is empty; name at least one length')
  if config.model.dtype == 'float64':
    raise UsageError('--model.dtype=float64: training is in float32 at most')
  longest = max(*config.lengths, config.grid, config.carries)
  if config.eval != 'none':
    check_table(config.model.position, config.task, longest)
    config.task.check_size(longest)
  # A run that was begun has passed what follows, which takes seconds.
  begun = (run_path(STUDY, config) / 'config.json').exists()
  for name, position in () if begun else config.trained.items():
    main_arm = position is config.model.position
    with _naming('' if main_arm else f'--compare={name}: '):
      trainer = make_trainer(
        make_problem(config, position),
        dataclasses.replace(config.train, steps=config.steps),
        replicas=config.replicas,
        mesh=make_mesh(config.mesh),
      )
      trainer.check()


@contextlib.contextmanager
def _naming(prefix: str) -> Iterator[None]:
  """Says which arm a refusal is about."""
  try:
    yield
  except UsageError as error:
    raise UsageError(f'{prefix}{error}') from error


def problem(config: Config) -> SequenceProblem:
  """The main arm; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.model.position)


def make_problem(config: Config, position: Position) -> SequenceProblem:
  """The main arm, or another encoding in its place."""
  model = dataclasses.replace(config.model, position=position)
  return SequenceProblem(
    task=config.task,
    model=Transformer(model, config.task.vocab_size),
    max_size=config.digits,
    batch_size=config.batch_size,
  )


def train(
  config: Config, run: RunFolder, name: str, stop: Callable[[], bool]
) -> Arm:
  """Trains one arm, or picks it up where it was left."""
  position = config.positions[name]
  main_arm = position is config.model.position
  folder = None if main_arm else run.path / 'arms' / name
  problem = make_problem(config, position)
  trained = train_arm(problem, config, run, name, stop, folder)
  rung = rung_of(config.task, position)
  where = folder or run.path
  source = account(STUDY, name, rung, config, problem, trained, where)
  return Arm(name, problem.model, config.task, trained, source)


def rung_of(task: Addition, position: Position) -> str:
  """The structure rung: the order of digits counts where nothing else does."""
  rung = position.rung
  if rung.startswith('L0') and task.order == 'lsb':
    rung = 'L1 reversed'
  return f'{rung}, index hints' if task.hints else rung


def split_of(config: Config, cell: Cell) -> str:
  """Where a cell lies."""
  if max(cell) <= config.digits:
    return 'in_distribution'
  return 'out_of_distribution' if max(cell) <= 100 else 'beyond'


def measure(config: Config, kept: Kept, arms: Sequence[Arm]) -> list[Result]:
  """Every row of exact match, kept in the run folder as it is made."""
  main_arm, *others = arms
  results = []
  for suite in main_suites(config):
    results += score(config, kept, main_arm, suite)
  compared = config.compared_lengths
  suite = Suite(
    name='equal',
    cells=_equal(compared),
    rows=_rows(config, 100),
    buckets=(max(compared, default=1),),
  )
  for arm in others if compared else ():
    results += score(config, kept, arm, suite)
    if (chosen := best(arm)) is not None:
      results += score(config, kept, chosen, suite)
  return results


def _rows(config: Config, total: int) -> int:
  """Sums a replica: all of them in full, else its share, rounded up."""
  return total if config.eval == 'full' else -(-total // config.replicas)


def main_suites(config: Config) -> list[Suite]:
  """Everything that the main arm is tested on."""
  full = config.eval == 'full'
  short = [n for n in config.tested_lengths if n <= 1000]
  long = [n for n in config.tested_lengths if n > 1000]
  suites = [
    Suite(name='equal', cells=_equal(lengths), rows=_rows(config, total))
    for lengths, total in ((short, 1000), (long, 100))
    if lengths
  ]
  if config.grid:
    side = range(1, config.grid + 1)
    cells = tuple((i, j) for i in side for j in side)
    rows = _rows(config, 100 if full else 10)
    suites.append(Suite(name='grid', cells=cells, rows=rows))
  if lengths := _carry_lengths(config):
    # Few and short sums: padding costs less than compiling.
    buckets = (100, 400, config.carries) if full else (config.carries,)
    rows = 4 if full else _rows(config, 10)
    suites += carry_suites(config.task, lengths, rows, buckets).values()
  return suites


def _equal(lengths: Sequence[int]) -> tuple[Cell, ...]:
  return tuple((length, length) for length in lengths)


def _carry_lengths(config: Config) -> list[int]:
  if config.eval == 'full':
    return list(range(1, config.carries + 1))
  steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
  return [length for length in steps if length <= config.carries]


def best(arm: Arm) -> Arm | None:
  """The same arm at its best held-out value; None where there is none."""
  state = arm.trained.state
  if state.best is None:
    return None
  value, steps = distributed.to_host((state.best.value, state.best.step))
  if not np.isfinite(value).all():
    return None
  steps = tuple(steps.tolist())
  source = dataclasses.replace(arm.source, checkpoint='best', steps=steps)
  chosen = state.replace(params=state.best.params)
  trained = dataclasses.replace(arm.trained, state=chosen)
  return dataclasses.replace(arm, trained=trained, source=source)


def score(config: Config, kept: Kept, arm: Arm, suite: Suite) -> list[Result]:
  """Exact match of one arm in one suite; blank beyond an arm's table."""

  def make() -> list[Result]:
    position = arm.model.config.position
    inside = tuple(
      cell for cell in suite.cells if in_table(position, arm.task, max(cell))
    )
    counts = {}
    if inside:
      within = dataclasses.replace(suite, cells=inside)
      label = f'test {arm.name}, {suite.name}'
      params = arm.trained.params
      counts = count_right(
        arm.model, params, arm.task, within, label, kept.check
      )
    results = []
    for cell in suite.cells:
      special = suite.name.startswith('carry')
      results += arm.source.exact_match(
        suite.name if special else split_of(config, cell),
        str(cell[0]) if suite.name == 'equal' else format_size(cell),
        counts.get(cell),
        suite.rows,
      )
    return results

  checkpoint = arm.source.checkpoint
  name = f'{arm.name}-{checkpoint}-{suite.name.replace(":", "-")}'
  identity = (suite.cells, suite.rows, arm.trained.steps)
  return kept.rows(name, identity, make)


def certify(config: Config, arm: Arm) -> list[Certificate] | str:
  """Certificates of the main arm, or why there can be none."""
  params = distributed.to_host(arm.trained.params)
  try:
    return certificates.certify(arm.model, params, config.task)
  except UsageError as error:
    return str(error)


def certify_run(path: Path) -> int:
  """Certifies the model of a finished run; 1 if any replica fails."""
  config = read_config(path, STUDY, Config)
  problem = make_problem(config, config.model.position)
  check_model(problem.model)
  trained = restore_arm(problem, config, path / 'checkpoints')
  found = certificates.certify(problem.model, trained.params, config.task)
  for seed, one in zip(config.seeds, found, strict=True):
    print(f'seed {seed}: {one}')
  passed = all(one.passed for one in found)
  print(certificates.STATEMENT if passed else 'not certified')
  return 0 if passed else 1


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
