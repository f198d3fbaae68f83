"""Needles beyond the training length: retrieval and loss, side by side.

Claimed elsewhere. A language model of 162M parameters, trained on 4,096 tokens,
finds a needle in 16 times as many if logits grow with the logarithm of length
over p-RoPE (94 %) or are scale-invariant over p-RoPE (97 %), its loss staying
flat; with rotary positions (0 %) and ALiBi (0.3 %) it does not, although the
loss of ALiBi stays flat, and with logarithmic logits over rotary itself (6 %)
hardly (Anson et al. 2025, arXiv 2505.17083).

Here. The symbolic core of that test, from scratch: eight keys with two digits
each stand in random filler, and all are asked for in turn
(`extrap/tasks/needles.py`), so that every row trains eight look-ups. One model,
one budget (20M tokens a seed, padding included) and ten arms, which differ in
the encoding alone (`arms_at`); all normalise queries and keys, as
scale-invariant attention asks for. p-RoPE turns those pairs that make at least
one turn in the training length L.

Protocol. Contexts of 24 to L tokens, log-uniform; learning rate of three by
loss in distribution, for each arm, in runs of a fifth of the budget with other
seeds; the last checkpoint. Tested at 1 to 16 times L: one needle asked for,
hidden at each of eleven depths, 0 to 100 % of the context; a prompt is right if
all digits are. Chance is printed: a blind guess, and the digits of any needle
of the row. Loss is that of the digits of all answers, depths random, in nats. A
seed has learned that finds 90 % at L, in the mean over depths; of others
nothing follows on extrapolation. Retrieval stays if it is above 90 % at the
longest test, too, and loss is flat if it is less than 0.1 nats higher there
than at L: t intervals over the seeds that learned. No length beyond L is looked
at before the end.

Measured (`results/retrieval_length.csv`; three seeds, 12 minutes of a core an
arm, 8.0e12 FLOP a seed; of the rates the largest, 1e-2, in all arms but
forgetting attention). Rows of training have up to 90 tokens, questions
included. In contexts of 1,024 tokens scale-invariant attention finds 100, >99.9
and 100 % of needles and its loss is flat, as published and beyond; logits that
grow over p-RoPE 92.5 to 93.6 %, as published; over rotary itself 4 to 19 %
(published: 6 %; under 20 % is not resolved), and rotary 0.1 % at most, as
published. Not so p-RoPE alone, 55 to 86 % where nothing was left, and ALiBi, 95
to 97 %. KERPLE (98.7 to 100 %) and forgetting attention (100 % in two seeds,
the third has not learned) keep needles with a flat loss, too; FIRE 77 to 94 %.
Without any encoding 69 % are found at 64 tokens: not learned.

Further out (`results/retrieval_length_far.csv`; the same nets at up to 64
times, 4,096 tokens): scale-invariant attention finds 100 % there, its loss as
flat as before; forgetting attention 98.8 and 99.7 % in the seeds that have
learned; logits that grow over p-RoPE 86 to 89 %; ALiBi 63 to 72 % at 2,048 and
35 to 38 % at 4,096. The flattest slope of ALiBi is 1/256 at any number of
heads: 4 nats against a needle at the front of 1,024 tokens, 16 of 4,096, 256 of
the 65,536 where others have seen it fail. Loss says little of its own here:
nets are so sure at 64 tokens (below 0.00001 nats, where they have learned) that
a first answer that is missed costs 2 to 45 nats, and a loss that stays flat is
one of hardly any miss.

Where it differs. No language: what stands around needles has no content, and
loss is that of the answers, so that it cannot stay flat without retrieval;
`experiments.language_length` has both apart. Two layers here (five in
`--size=accelerator`), one needle size, no fine-tuning.

Commands (one CPU core of two):
  python -m experiments.retrieval_length --arms=rotary     one arm
  python -m experiments.retrieval_length                   all ten
  python -m experiments.retrieval_length --arms=scale_invariant
    --multiples=1,2,4,8,16,32,64                           further out
  python -m experiments.retrieval_length --size=accelerator --arms=...
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from absl import flags

from experiments.multiples_config import (
  MultiplesConfig,
  check_multiples,
  run_multiples,
  train_multiples,
)
from experiments.retrieval_length_tables import (
  FIRST_LOSS,
  LOSS,
  all_tables,
  depth_shares,
  over_depths,
)
from extrap import cli
from extrap.arms import Arm
from extrap.config import option, preset
from extrap.errors import UsageError
from extrap.evaluation.answer_loss import value_loss
from extrap.evaluation.exact_match import value_match
from extrap.evaluation.grid import Cell, Suite
from extrap.evaluation.results import Result, arms_of, length_split
from extrap.kept import Kept, provenance
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import (
  FIRE,
  KERPLE,
  ALiBi,
  Forgetting,
  LogN,
  NoPosition,
  Position,
  PRotary,
  Rotary,
  ScaleInvariant,
  turning_share,
)
from extrap.reporting import heatmaps, plots
from extrap.reporting.report import bullets, picture, write_tables
from extrap.scoring import check_testable, count_right
from extrap.sequence import SequenceProblem
from extrap.tasks.haystack import DEPTHS
from extrap.tasks.needles import Needles

STUDY = 'retrieval_length'
CLAIM = 'a needle at 16 times the training length, and the loss, by encoding'
TIME = '12 minutes an arm on a CPU core'

# Defaults of the flags that a size changes; tokens of a run are 20M in each.
PRESETS = {
  'cpu': {},
  'accelerator': {
    'length': 512,
    'multiples': (1, 4, 16),
    'steps': 1_112,
    'batch_size': 32,
    'task.keys': 64,
    'task.needles': 16,
    'task.queries': 16,
    'model.depth': 5,
    'model.width': 256,
    'model.heads': 8,
    'model.ffn_width': 1024,
  },
}
ARMS = (
  *('rotary', 'none', 'alibi', 'fire', 'kerple', 'forgetting', 'p_rotary'),
  *('log_n_rotary', 'log_n_p_rotary', 'scale_invariant'),
)
BUCKETS: tuple[int, ...] = ()  # Every length has programs of its own.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(MultiplesConfig):
  """Flags of this study."""

  size: Literal['cpu', 'accelerator'] = preset(
    'cpu', PRESETS, 'L of 64 in two layers of 64, or of 512 in five of 256'
  )
  arms: tuple[str, ...] = option(
    ARMS, f'arms to train, of {", ".join(ARMS)}', identity=False
  )
  task: Needles = option(
    Needles(digits=2, keys=32, needles=8, queries=8, asks='turns'),
    'what is trained; one of its needles is asked for in tests',
  )
  model: TransformerConfig = option(
    TransformerConfig(depth=2, ffn_width=128, qk_norm=True),
    "the model; its position is the arm's",
  )
  steps: int = option(
    3_472, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  prompts: int = option(
    200,
    'prompts at each length and depth, and rows whose loss is measured at each '
    'length (five times as many with --eval=full)',
    unit='prompts',
    minimum=1,
    identity=False,
  )

  @property
  def rows(self) -> int:
    """Prompts of a length and depth."""
    return self.enlarged(self.prompts)

  @property
  def asked(self) -> Needles:
    """The task of tests: the first question of a row alone."""
    return dataclasses.replace(self.task, queries=1)


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains and tests each arm; returns the exit code."""
  return run_multiples(
    STUDY,
    config,
    flag_values,
    check=check,
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_multiples(config, ARMS)
  if config.task.asks != 'turns':
    raise UsageError(
      f'--task.asks={config.task.asks}: a test stops after the first answer, '
      'for which --task.asks=turns is needed'
    )
  if config.length < config.task.shortest:
    raise UsageError(
      f'--length={config.length}: its needles alone are '
      f'{config.task.shortest} tokens (--task.needles, --task.digits)'
    )
  longest = config.lengths[-1]
  config.task.check_size(longest)
  for name in config.arms:
    check_testable('--multiples', name, make_problem(config, name), longest)


def problem(config: Config) -> SequenceProblem:
  """The first arm; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.arms[0])


def arms_at(config: Config) -> Mapping[str, Position]:
  """The encodings by arm.

  FIRE's threshold starts at a quarter of L, as 512 is of its authors' 2,048.
  """
  fraction = turning_share(config.length, config.model.head_width)
  p_rotary = PRotary(fraction=fraction)
  return {
    'rotary': Rotary(),
    'none': NoPosition(),
    'alibi': ALiBi(),
    'fire': FIRE(threshold=config.length / 4),
    'kerple': KERPLE(),
    'forgetting': Forgetting(),
    'p_rotary': p_rotary,
    'log_n_rotary': LogN(base=Rotary()),
    'log_n_p_rotary': LogN(base=p_rotary),
    'scale_invariant': ScaleInvariant(base=p_rotary),
  }


def make_problem(config: Config, name: str) -> SequenceProblem:
  """One arm."""
  model = dataclasses.replace(config.model, position=arms_at(config)[name])
  return SequenceProblem(
    task=config.task,
    model=Transformer(model, config.task.vocab_size),
    min_size=config.task.shortest,
    max_size=config.length,
    sizes='log_uniform',
    batch_size=config.batch_size,
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Retrieval by length and depth, and loss by length, of an arm."""
  problem = make_problem(config, name)
  arm = train_multiples(STUDY, config, kept, name, problem)
  notes = json.loads(arm.source.hparams) | {
    'settings': dataclasses.asdict(problem.model.config.position),
    'chance': config.asked.chance(config.length),
    'needles': config.task.needles,
  }
  source = dataclasses.replace(arm.source, hparams=json.dumps(notes))
  arm = dataclasses.replace(arm, source=source)
  return [
    *needle_rows(config, kept, arm),
    *loss_rows(config, kept, arm, config.task, LOSS),
    *loss_rows(config, kept, arm, config.asked, FIRST_LOSS),
  ]


def needle_rows(config: Config, kept: Kept, arm: Arm) -> list[Result]:
  """Prompts that are answered, at each length and depth."""
  suite = Suite(
    name='depths',
    cells=tuple(
      (length, depth + 1)
      for length in config.lengths
      for depth in range(DEPTHS)
    ),
    rows=config.rows,
    sampler=config.asked.at_depth,
    buckets=BUCKETS,
    match=value_match,
  )
  counts = _counts(config.asked, suite, arm, 'needle', kept)
  return [
    row
    for (length, depth), right_R in counts.items()
    for row in arm.source.exact_match(
      length_split(length, config.length),
      f'{length}@{depth}',
      right_R,
      suite.rows,
    )
  ]


def loss_rows(
  config: Config, kept: Kept, arm: Arm, task: Needles, metric: str
) -> list[Result]:
  """Mean loss of a row's digits at each length, needles anywhere."""
  suite = Suite(
    name='loss',
    cells=tuple((length,) for length in config.lengths),
    rows=config.rows,
    buckets=BUCKETS,
    match=value_loss,
  )
  sums = _counts(task, suite, arm, metric, kept)
  return [
    arm.source.row(
      replica,
      length_split(length, config.length),
      str(length),
      metric,
      float(total / suite.rows),
      suite.rows,
    )
    for (length,), total_R in sums.items()
    for replica, total in enumerate(total_R)
  ]


def _counts(
  task: Needles, suite: Suite, arm: Arm, label: str, kept: Kept
) -> dict[Cell, np.ndarray]:
  return count_right(
    arm.problem.model,
    arm.trained.params,
    task,
    suite,
    f'test {arm.name}, {label}',
    kept.check,
  )


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md, with its figures; returns the tables."""
  report, plots_folder = folder / 'report.md', folder / 'plots'
  figure = plots.accuracy_vs_length(
    over_depths(results),
    config.length,
    plots_folder / 'retrieval.png',
    f'Needles, trained in contexts of up to {config.length} tokens',
    unit='tokens',
  )
  sections = [('Retrieval by length', picture('by arm', figure, report))]
  for name in arms_of(results):
    path = plots_folder / f'{name}.png'
    share_DL, names = depth_shares(results, name)
    note = 'length of the context (tokens); median of the seeds'
    heatmaps.share_heatmap(share_DL, names, path, f'{name}, by depth', note)
    sections.append((f'By depth: {name}', picture(name, path, report)))
  sections.append(('How it was made', bullets([*provenance()])))
  title = 'Needles beyond the training length'
  return write_tables(report, title, all_tables(results), sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
