"""The study of erosion, small, and what its tables say."""

import dataclasses

import pytest

from experiments import erosion
from experiments.erosion import (
  ARMS,
  Config,
  check,
  make_problem,
)
from experiments.erosion_tables import (
  confusion_table,
  dilution_table,
  erosion_table,
)
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.results import read_csv, select
from tests import made_rows

SMALL = (
  '--arms=averaged',
  '--steps=20',
  '--train.schedule_steps=10',
  '--digits=2',
  '--batch_size=8',
  '--held_out=4',
  '--replicas=2',
  '--train.evaluate_every=5',
  '--model.depth=1',
  '--model.width=16',
  '--model.heads=2',
  '--model.ffn_width=16',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(erosion.main, Config, argv=['erosion', *flags])
  return caught.value.code or 0


def test_arms_are_watched_at_every_length(tmp_path, capfd, monkeypatch):
  monkeypatch.setattr(erosion, 'GAINS', (1.0, 2.0))
  path = tmp_path / 'run'
  assert run(*SMALL, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  looks = select(results, checkpoint='then', replica=1)
  assert {(row.steps, row.size) for row in looks} == {
    (step, size) for step in (5, 10, 15, 20) for size in ('2', '3', '4', '6')
  }
  assert {row.samples for row in looks} == {40, 80, 120, 160}
  inside = {row.size for row in looks if row.split == 'in_distribution'}
  assert inside == {'2'}
  ways = {row.split for row in results if ':' in row.split}
  assert ways == {'gain:1', 'gain:2', 'shifts:16'}
  assert {row.arm for row in results} == {'averaged'}
  assert len(select(results, metric='near_mass')) == 2 * 4
  out = capfd.readouterr().out
  assert 'not learned' in out and 'it falls' in out
  assert (path / 'plots' / 'digits_4.png').exists()


def test_arms_change_one_thing_each():
  config = Config()
  plain = make_problem(config, 'plain').model.config
  changed = {
    name: {
      field.name
      for field in dataclasses.fields(plain)
      if getattr(plain, field.name)
      != getattr(make_problem(config, name).model.config, field.name)
    }
    | set(ARMS[name][1])
    for name in ARMS
  }
  assert changed.pop('plain') == set()
  assert all(len(fields) == 1 for fields in changed.values())


def made(arm, curves, mass, ways):
  """Rows of an arm whose replicas see the same."""
  replicas = len(next(iter(curves.values()))[0])
  source = made_rows.source(
    'erosion',
    arm,
    replicas,
    rung='L4 coupling',
    steps=(2,) * replicas,
    samples=(2,) * replicas,
  )
  rows = []
  for length, curve in curves.items():
    split = 'in_distribution' if length == 10 else 'out_of_distribution'
    for step, right in enumerate(curve):
      then = dataclasses.replace(
        source, checkpoint='then', steps=(step,) * replicas
      )
      rows += then.exact_match(split, str(length), right, 100)
  for length, shares in mass.items():
    for replica, share in enumerate(shares):
      row = source.row(replica, 'x', str(length), 'near_mass', share, 8)
      rows.append(row)
  for way, right in ways.items():
    rows += source.exact_match(way, '20', right, 100)
  return rows


def test_what_is_lost_is_the_third_quarter_less_the_last():
  curves = {
    10: [(100, 100)] * 8,
    20: [
      (0, 0),
      (0, 99),
      (0, 0),
      (0, 0),
      (90, 60),
      (70, 80),
      (50, 20),
      (30, 20),
    ],
  }
  rows = made('a', curves, {10: (0.9, 0.8), 20: (0.5, 0.4)}, {})
  rows += made('b', {n: [(0, 0)] * 8 for n in curves}, {}, {})
  table = erosion_table(rows)
  (eroded, unlearned), headers = table.rows, table.headers
  one = dict(zip(headers, eroded, strict=True))
  assert one['20: greatest'] == '90.0 %, 99.0 %'
  assert one['third quarter'] == '80.0 %, 70.0 %'
  assert one['last quarter'] == '40.0 %, 20.0 %'
  assert one['lost'] == '+45.0'
  assert one['95 %'] == '-18.5..+108.5'
  assert one['erosion'] == 'not resolved at this size (2 of 2 seeds)'
  assert unlearned[-3:] == ['', '', 'not learned (0 of 2 seeds)']


def test_seeds_that_do_not_stay_right_at_n_are_left_out():
  before, late = [(0, 100, 0)] * 4, [(100, 98, 100)] * 4
  double = [(9, 9, 9)] * 4 + [(80, 0, 60)] * 2 + [(50, 90, 20)] * 2
  (line,) = erosion_table(
    made('a', {10: before + late, 20: double}, {}, {})
  ).rows
  assert line[1] == '100 %, 98.0 %, 100 %'
  assert line[-3] == '+35.0'
  assert line[-1] == 'not resolved at this size (2 of 3 seeds)'


def test_dilution_is_judged_by_both_predictions():
  mass = {10: (0.9, 0.8), 20: (0.5, 0.4)}
  ways = {'gain:1': (40, 20), 'gain:2': (30, 10)}
  rows = made('a', {10: [(100, 100)] * 4}, mass, ways)
  (line,) = dilution_table(rows).rows
  assert line[1:4] == ['0.90, 0.80', '0.50, 0.40', 'confirmed (2 of 2 seeds)']
  assert line[6] == '-10.0' and line[-1] == 'refuted (2 of 2 seeds)'
  rows = made('b', {10: [(98, 100)] * 4}, mass, ways)
  (line,) = dilution_table(rows).rows
  assert line[3] == line[-1] == 'not learned (1 of 2 seeds)'


def test_confusion_is_judged_by_the_mean_over_shifts():
  ways = {'gain:1': (40, 20), 'shifts:16': (80, 61)}
  rows = made('a', {10: [(100, 100)] * 4}, {}, ways)
  rows += made('b', {10: [(98, 100)] * 4}, {}, ways)
  learned, unlearned = confusion_table(rows).rows
  assert learned[3] == '+40.5' and learned[-1] == 'confirmed (2 of 2 seeds)'
  assert unlearned[-1] == 'not learned (1 of 2 seeds)'


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'arms': ()}, 'at least one entry'),
    ({'arms': ('none',)}, '--arms=none: name each once'),
    ({'eval': 'none'}, 'always evaluates'),
    ({'steps': 50}, 'evaluate_every=100'),
    ({'steps': 5999}, 'at least 6000, so that the learning rate is the same'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **changes))
