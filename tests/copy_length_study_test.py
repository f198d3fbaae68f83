"""The study of copying, small, and what it refuses."""

import dataclasses

import pytest

from experiments import copy_length
from experiments.copy_length import (
  ARMS,
  CLAIMS,
  Config,
  check,
  make_problem,
  windows_of,
)
from extrap import cli, scoring
from extrap.config_flags import from_arguments
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv
from extrap.models.positions import HardALiBi
from extrap.sequence import SequenceProblem

SMALL = (
  '--arms=rotary,none',
  '--steps=4',
  '--length=2',
  '--batch_size=8',
  '--replicas=2',
  '--multiples=1,2,4,8',
  '--strings=3',
  '--rates=1e-3',
  '--train.optimizer=adamw',
  '--model.depth=1',
  '--model.width=8',
  '--model.heads=2',
  '--model.ffn_width=8',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(copy_length.main, Config, argv=['copy_length', *flags])
  return caught.value.code or 0


def test_arms_are_trained_and_tested_to_four_times_the_length(
  tmp_path, capfd, monkeypatch
):
  monkeypatch.setattr(scoring, 'BUCKETS', (16,))  # One program tests all.
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  # Four steps are no training: nothing is tested beyond 4 N.
  assert {(r.arm, r.size, r.replica) for r in results} == {
    (arm, size, replica)
    for arm in ('rotary', 'none')
    for size in ('2', '4', '8')
    for replica in (0, 1)
  }
  assert {row.n for row in results} == {3}
  assert {r.size for r in results if r.split == 'in_distribution'} == {'2'}
  out = capfd.readouterr().out
  assert 'not learned (0 of 2)' in out and 'none: under 50.0 % at 8' in out
  assert 'copy_length.png' in (path / 'report.md').read_text()
  assert (path / 'plots' / 'copy_length.png').exists()


def test_arms_differ_in_their_encoding_alone_and_are_told_no_places():
  models = {n: make_problem(Config(), n).model.config for n in ARMS}
  plain = models['none'].position
  for name, model in models.items():
    assert set(model.position.reads) <= {'position', 'length'}
    assert dataclasses.replace(model, position=plain) == models['none']
    assert model.position.name == name


def test_rows_are_filled_unless_they_are_told_not_to_be():
  filled, alone = (
    make_problem(dataclasses.replace(Config(), context=context), 'none')
    for context in (220, Config().context)
  )
  assert filled.context == 220 and filled.task == alone.task
  assert type(alone) is SequenceProblem


def test_windows_grow_by_steps_of_one():
  assert windows_of(8) == (2, 3, 4, 5, 6, 7, 0, 0)
  assert windows_of(4) == (2, 3, 0, 0)
  assert windows_of(2) == (0, 0) and windows_of(1) == (0,)
  hard = copy_length.arms_at(Config())['hard_alibi']
  assert hard == HardALiBi(windows=windows_of(8))


def test_claims_are_those_of_the_protocol():
  asked = {(c.arm, c.multiple): (c.side, c.threshold) for c in CLAIMS}
  assert asked == {
    ('hard_alibi', 4): ('above', 0.95),
    ('hard_alibi', 20): ('above', 0.95),
    **{(arm, 4): ('below', 0.5) for arm in ('rotary', 'none', 'alibi')},
  }
  assert {multiple for _, multiple in asked} <= set(Config().multiples)


def test_sizes_test_as_far_as_they_say():
  assert Config().lengths == [50, 100, 200, 400, 1000]
  large = from_arguments(Config, '--size=accelerator')
  assert large.lengths[-2:] == [1000, 2000]
  assert Config().rows == 200 and Config(eval='full').rows == 1000
  assert (large.model.depth, large.model.width) == (4, 256)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'arms': ()}, 'at least one entry'),
    ({'arms': ('rnn',)}, '--arms=rnn: name each once, of rotary'),
    ({'arms': ('none', 'none')}, 'name each once'),
    ({'eval': 'none'}, 'always evaluates'),
    ({'init_from': 'runs/x'}, 'from scratch'),
    ({'rates': ()}, '--rates needs at least one'),
    ({'context': 101}, 'rows of 101 tokens: the longest example has 103'),
    ({'multiples': (2, 4)}, '--multiples: 1, the training length, is not'),
    ({'multiples': (1, 100_000)}, '--multiples: at size 5000000'),
    (
      {'model': dataclasses.replace(Config().model, width=24)},
      '--model.position=rotary needs an even head width',
    ),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message) as caught:
    check(dataclasses.replace(Config(), **changes))
  assert '\n' not in str(caught.value)
