"""Erosion: what longer training does to sums longer than any trained on.

Claimed elsewhere. An independent study of position coupling saw accuracy beyond
the training length come and go while accuracy inside it stayed at 100 %, and
saw logits doubled at inference bring it from 0 to 100 % in one seed of four
(Supergoatscriptguy/carrybit). The suspected cause is attention that is diluted
by the further keys of longer sums; scaled logits are the usual remedy (Chiang
and Cholak 2022, arXiv 2202.12172).

A second cause is possible: a sum of 2 N digits shows ids side by side that no
training sum had together, and nothing has taught the model to tell them apart.

Here. Position coupling, two layers, width 64, trained to N = 10 digits and long
after it has learned them, with Muon. The learning rate falls to 3 % from step
2,000 to step 3,000 and stays there, so that all later steps are alike.
Arms change one thing each: weight decay of 0 or 0.1 in place of 0.01, an
average of the weights (0.999), logits with a learned factor, logits times log
length.

Protocol. Operand lengths uniform over pairs from 1..N; learning rate of three
by loss in distribution. Exact match on 256 held-out sums each of N, 1.5 N, 2 N
and 3 N digits every 100 steps. Erosion is measured at 2 N: the mean of the
third quarter of training less that of the last, a difference for each seed;
fixed windows, since a step that was chosen for its score would be better than
the next by chance. Dilution makes two predictions. The share of the most
focused head on digits at most one place away falls from N to 2 N; the head is
chosen at N. And sharper logits at inference help: exact match of the last
parameters at 2 N with logits doubled, less without. Confusion of ids makes
another: which ids are confused is chance, so that other shifts of them err
elsewhere, and the mean of 16 shifts' predictions is better at 2 N than one
shift's (`extrap/models/shift_average.py`). Each is confirmed or refuted by a t
interval over the seeds that stay right at N, on 99 % in the mean of both
quarters; a seed that erodes at N, too, is left out so, and the loss may be
larger than it seems. Verdicts are not corrected for how many arms there are.

Measured (seeds 0..3, `results/erosion.csv`). At N all seeds of `log_length` and
`no_decay` stay right, on 99.6 % and more; of `plain` and `averaged` the third
does not (97.6 and 97.1 %), of `strong_decay` and of `learned_scale`, which
chose a lower rate, two do not. At 2 N seeds differ, from 0 to 83 %. From the
third quarter to the last -3.2 to +9.1 points are lost, all intervals hold 0,
the narrowest that of `log_length` (-4.0 to +4.2) and of `no_decay` (-5.3 to
+4.1): erosion not resolved at this size in any arm, though the median of
`plain` has fallen from 31 % at step 3,200, before these windows, to 13 %.
Dilution: near mass at 2 N falls in some seeds and grows in others, in all arms;
logits doubled help every seed of `no_decay`, by 20 points (-1.5 to +42.2), and
three seeds of `plain` and of `averaged`, one from 17 to 97 %, and harm the
fourth: not resolved. Confusion of ids: the mean of 16 shifts is right on 51 to
100 % at 2 N in the seeds that count of `plain`, `log_length`, `averaged` and
`no_decay`, confirmed in all four (+63 to +72 points); the other two arms have
two such seeds, too few. Neither scale, nor decay, nor averaged weights change
the picture. Three of the arms chose their rate on an H200 and were trained on a
CPU.

Tried before. A run with AdamW was ended after two arms (no CSV), as its seeds
were still short of 100 % at N after 6,000 steps. With Muon at a constant rate
of 5e-3 (8,000 steps, four seeds, no CSV) all arms end between 59 and 100 % at
N, and at 2 N with 0 to 35 %, too restless to speak of erosion; the mean of 16
shifts was right there on 26 to 99 %. Hence the rate that falls; to a tenth,
tried first with `plain` (no CSV), leaves two of four seeds below 99 % at N.

Where it differs. One model and one size, which are not those of the study
above; the optimizer is Muon.

Commands (two CPU cores of an AMD EPYC):
  python -m experiments.erosion
  python -m experiments.erosion --arms=plain,log_length
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.erosion_tables import (
  SHIFTS,
  all_tables,
)
from extrap import cli
from extrap.arms import (
  MUON_RATES,
  Arm,
  check_names,
  check_scratch,
  run_arms,
  shift_averaged,
  train_tuned,
)
from extrap.compilation import jit_once
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation.attention_mass import near_mass
from extrap.evaluation.grid import Suite
from extrap.evaluation.results import Result, length_split, select
from extrap.kept import Kept, provenance
from extrap.models import Transformer, TransformerConfig
from extrap.models.positions import Coupling
from extrap.randomness import named
from extrap.reporting import plots
from extrap.reporting.report import bullets, picture, write_tables
from extrap.reporting.writers import read_jsonl
from extrap.scoring import count_right
from extrap.sequence import SequenceProblem
from extrap.study import StudyConfig
from extrap.tasks.addition import Addition
from extrap.training.config import TrainConfig

STUDY = 'erosion'
CLAIM = 'what longer training does beyond the training length, and why'
TIME = 'half an hour an arm on a CPU core'

RUNG = 'L4 coupling'
MULTIPLE = 6  # Ids are trained up to so many times the training length.
SUMS = 8  # that attention is looked at on, of each length
GAINS = (1.0, 1.5, 2.0, 3.0)  # of the logits at inference; 2 is the claim's
# What each arm changes of the model and of training.
ARMS = {
  'plain': ({}, {}),
  'no_decay': ({}, dict(weight_decay=0.0)),
  'strong_decay': ({}, dict(weight_decay=0.1)),
  'averaged': ({}, dict(ema=0.999)),
  'learned_scale': (dict(logit_scale='learned'), {}),
  'log_length': (dict(logit_scale='log_length'), {}),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of this study."""

  arms: tuple[str, ...] = option(
    tuple(ARMS), f'arms to train, of {", ".join(ARMS)}', identity=False
  )
  model: TransformerConfig = option(
    TransformerConfig(depth=2), 'the model; its position is coupling'
  )
  steps: int = option(
    8000, 'optimizer steps', unit='steps', minimum=1, identity=False
  )
  train: TrainConfig = option(
    TrainConfig(
      optimizer='muon',
      schedule='trapezoid',
      schedule_steps=3000,
      cooldown_fraction=1 / 3,
      final_fraction=0.03,
      evaluate_every=100,
      save_every=1000,
    ),
    'training',
  )
  digits: int = option(10, 'longest training operand', unit='digits', minimum=2)
  batch_size: int = option(
    64, 'sums a step and replica', unit='sums', minimum=1
  )
  held_out: int = option(
    256, 'held-out sums of each length', unit='sums', minimum=1
  )

  @property
  def lengths(self) -> tuple[int, int, int, int]:
    """N, 1.5 N, 2 N and 3 N."""
    n = self.digits
    return n, n * 3 // 2, 2 * n, 3 * n


def main(config: Config, flag_values: flags.FlagValues) -> int:
  """Trains each arm and looks into it; returns the exit code."""
  return run_arms(
    STUDY,
    config,
    flag_values,
    check=check,
    names=lambda config: config.arms,
    identity=lambda config: (config.steps, config.eval),
    make=study_of,
    report=write_report_of,
  )


def check(config: Config) -> None:
  """Refuses what would only fail after training."""
  check_names('arms', config.arms, ARMS)
  check_scratch(config)
  if not 0 < config.train.evaluate_every <= config.steps:
    raise UsageError(
      f'--train.evaluate_every={config.train.evaluate_every}: this study looks '
      f'at held-out sums within its --steps={config.steps}'
    )
  alike = 2 * (config.train.schedule_steps or 0)
  if config.steps < alike:
    raise UsageError(
      f'--steps={config.steps}: at least {alike}, so that the learning rate is '
      'the same in both quarters that are compared, or a shorter '
      '--train.schedule_steps'
    )
  for name in config.arms:
    make_problem(config, name)


def problem(config: Config) -> SequenceProblem:
  """The first arm; by this name `launch.plan` finds what a study trains."""
  return make_problem(config, config.arms[0])


def make_problem(config: Config, name: str) -> SequenceProblem:
  """One arm."""
  largest = MULTIPLE * config.digits
  position = Coupling(shift=largest - config.digits - 1, max_size=largest + 3)
  changes = dict(position=position) | ARMS[name][0]
  inside, half, *beyond = config.lengths
  return SequenceProblem(
    task=Addition(),
    model=Transformer(
      dataclasses.replace(config.model, **changes), Addition().vocab_size
    ),
    max_size=config.digits,
    batch_size=config.batch_size,
    validation_size=half,
    validation_examples=config.held_out,
    watched=(inside, *beyond),
  )


def study_of(config: Config, kept: Kept, name: str) -> list[Result]:
  """Exact match by step, by gain of the logits, and near mass of an arm."""
  train = dataclasses.replace(config.train, **ARMS[name][1])
  config = dataclasses.replace(config, train=train)
  arm = train_tuned(
    STUDY,
    name,
    RUNG,
    make_problem(config, name),
    config,
    kept,
    MUON_RATES,
    -(-config.steps // 10),
  )
  if arm.trained.ema is not None:
    # Held-out sums were scored with the average: so is the rest.
    state = arm.trained.state.replace(params=arm.trained.ema)
    arm = dataclasses.replace(
      arm, trained=dataclasses.replace(arm.trained, state=state)
    )
  results = by_step(config, kept, arm) + by_gain(config, kept, arm)
  if averaged := shift_averaged(arm, SHIFTS):
    averaged = dataclasses.replace(averaged, source=arm.source)
    results += asked(config, kept, averaged, f'shifts:{SHIFTS}')
  return results + masses(config, arm)


def by_step(config: Config, kept: Kept, arm: Arm) -> list[Result]:
  """Held-out exact match of every look during training, a row a length."""
  path = kept.run.path / 'arms' / arm.name / 'metrics.jsonl'
  name_of = {length: f'exact_match_{length}' for length in config.lengths}
  name_of[arm.problem.validation_size] = 'exact_match'
  records = [r for r in read_jsonl(path) if 'held_out/loss' in r]
  replicas, results = len(arm.source.seeds), []
  for record in records:
    steps = (record['step'],) * replicas
    samples = tuple(step * config.batch_size for step in steps)
    each = arm.source.flops[0] / arm.source.samples[0]
    then = dataclasses.replace(
      arm.source,
      checkpoint='then',
      steps=steps,
      samples=samples,
      flops=tuple(n * each for n in samples),
    )
    for length, metric in name_of.items():
      right = np.rint(
        np.array(record[f'held_out/{metric}']) * config.held_out
      ).astype(int)
      results += then.exact_match(
        length_split(length, config.digits), str(length), right, config.held_out
      )
  return results


def by_gain(config: Config, kept: Kept, arm: Arm) -> list[Result]:
  """Exact match of the last parameters with sharper logits at inference.

  Only as they are where the scale of the logits is a parameter.
  """
  model, results = arm.problem.model, []
  free = model.config.logit_scale == 'constant'
  for gain in GAINS if free else GAINS[:1]:
    sharper = dataclasses.replace(model.config, logit_gain=gain)
    sharper = model.clone(config=sharper) if free else model
    notes = json.loads(arm.source.hparams) | {'logit_gain': gain}
    other = dataclasses.replace(
      arm,
      problem=dataclasses.replace(arm.problem, model=sharper),
      source=dataclasses.replace(arm.source, hparams=json.dumps(notes)),
    )
    results += asked(config, kept, other, f'gain:{gain:g}')
  return results


def asked(config: Config, kept: Kept, arm: Arm, way: str) -> list[Result]:
  """Exact match of the last parameters at each length, asked in some way."""
  rows = 1000 if config.eval == 'full' else 200
  cells = tuple((length, length) for length in config.lengths)
  suite = Suite(name='asked', cells=cells, rows=rows, buckets=(cells[-1][0],))
  counts = count_right(
    arm.problem.model,
    arm.trained.params,
    Addition(),
    suite,
    f'test {arm.name}, {way}',
    kept.check,
  )
  return [
    row
    for (length, _), right in counts.items()
    for row in arm.source.exact_match(way, str(length), right, rows)
  ]


def masses(config: Config, arm: Arm) -> list[Result]:
  """Near mass by length of the head of each replica that is focused at N."""
  results = []
  for replica, params in enumerate(arm.trained.each()):
    longest = config.lengths[-1]  # One shape: operations compile once.
    found = {n: _near(arm, params, n, longest) for n in config.lengths}
    head = np.argmax(found[config.digits])
    results += [
      arm.source.row(
        replica,
        length_split(length, config.digits),
        str(length),
        'near_mass',
        float(share_AH.reshape(-1)[head]),
        SUMS,
      )
      for length, share_AH in found.items()
    ]
  return results


def _near(arm: Arm, params: dict, length: int, longest: int) -> np.ndarray:
  key = named(jax.random.key(0), 'near mass', length)
  size_BS = jnp.full((SUMS, 2), length)
  sample = jit_once(Addition().sample, static_argnames='max_size')
  batch = sample(key, size_BS, max_size=longest)
  return near_mass(arm.problem.model, params, Addition(), batch)


def write_report_of(
  config: Config, folder: Path, results: Sequence[Result]
) -> str:
  """report.md, with a figure for each length; returns the tables."""
  report = folder / 'report.md'
  sections = []
  for length in config.lengths:
    figure = plots.accuracy_vs_step(
      select(results, checkpoint='then', size=str(length)),
      folder / 'plots' / f'digits_{length}.png',
      f'Trained on up to {config.digits} digits, tested on {length}',
    )
    sections.append((f'{length} digits', picture('by step', figure, report)))
  sections.append(('How it was made', bullets([*provenance()])))
  return write_tables(report, 'Erosion', all_tables(results), sections)


if __name__ == '__main__':
  sys.exit(cli.run(main, Config, doc=__doc__))
