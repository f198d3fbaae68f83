"""The study of CoCA, small, and what its tables say."""

import dataclasses
import json
import math

import pytest
from text_models import write_modules

from experiments import collinear
from experiments.collinear import Config, check, make_problem, readings_of
from experiments.collinear_tables import claims_table, growth_table, main_table
from extrap import cli
from extrap.config_flags import from_arguments
from extrap.errors import UsageError
from extrap.evaluation.results import arms_of, read_csv, select
from extrap.models.positions import CoCA, DynamicNTK
from tests import made_rows

SMALL = (
  *('--nets=coca', '--steps=2', '--replicas=2', '--length=16', '--longest=32'),
  *('--windows=4', '--prompts=4', '--asked=8', '--batch_size=4'),
  *('--train.steps_per_dispatch=2', '--model.depth=1', '--model.width=8'),
  *('--model.heads=2', '--model.ffn_width=8'),
)


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  return write_modules(tmp_path_factory.mktemp('text'))


def test_nets_are_read_with_ntk_and_without_beside_their_cut(text, tmp_path):
  path = tmp_path / 'run'
  flags = (*SMALL, f'--text={text}', f'--workdir={path}')
  with pytest.raises(SystemExit) as caught:
    cli.run(collinear.main, Config, argv=['collinear', *flags])
  assert not caught.value.code
  results, _ = read_csv(path / 'results.csv')
  assert arms_of(results) == ['coca', 'coca_cut', 'coca NTK 4']
  assert {row.metric for row in results} == {
    *('loss', 'brackets', 'bracket_odds'),
  }
  loss = {
    (row.arm, row.size): row.value
    for row in select(results, metric='loss', replica=0)
  }
  near = [value for (_, size), value in loss.items() if size == '16']
  assert near == pytest.approx([near[0]] * 3, abs=1e-5)
  far = sorted(value for (_, size), value in loss.items() if size == '32')
  assert min(far[1] - far[0], far[2] - far[1]) > 1e-6
  notes = {row.arm: json.loads(row.hparams) for row in results}
  assert notes['coca NTK 4']['settings']['base']['scale'] == 4
  report = (path / 'report.md').read_text()
  assert 'coca_cut (control)' in report and '## Claims' in report
  assert (path / 'plots' / 'loss_by_context.png').exists()


def test_arms_are_what_they_are_called():
  config = from_arguments(Config, '--size=gpu')
  assert config.factors == (1.0, 4.0) and config.names
  readings = {r.arm: r for r in readings_of(config, 'coca_slack')}
  assert list(readings) == [
    *('coca_slack', 'coca_slack_cut', 'coca_slack NTK 1', 'coca_slack NTK 4'),
  ]
  assert readings['coca_slack_cut'].cut
  assert readings['coca_slack NTK 4'].position_at(2048) == CoCA(
    base=DynamicNTK(trained=128, scale=4.0), form='slack'
  )
  rotary = readings_of(config, 'rotary')[2].position_at(2048)
  assert rotary == DynamicNTK(trained=128, scale=1.0)
  assert make_problem(config, 'coca').model.config.position.form == 'strict'


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'nets': ('alibi',)}, '--nets=alibi: name each once, of rotary, coca'),
    ({'factors': (4.0, 4.0)}, '--factors: name each once'),
    ({'longest': 100}, 'times a power of 2'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message, text):
  few = dict(windows=2, prompts=2, longest=128, text=str(text))
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **few | changes))


def made(arm, far, apart=(0.8, 0.8), nets='rotary', factor=0.0, cut=False):
  """Rows of two seeds at 64 bytes, with a loss of 1.5, and at 1,024."""
  notes = {'nets': nets, 'factor': factor, 'cut': cut}
  source = made_rows.source(
    'collinear',
    arm,
    2,
    notes | {'text': 'a', 'python': '3.11', 'planned_steps': 9},
    rung='L0 none',
    steps=(9, 9),
    samples=(9, 9),
    flops=(2.0, 2.0) if nets == 'rotary' else (3.0, 3.0),
  )
  rows = []
  for size, losses in (('64', (1.5, 1.5)), ('1024', far)):
    split = 'in_distribution' if size == '64' else 'out_of_distribution'
    for replica in range(2):
      rows.append(source.row(replica, split, size, 'loss', losses[replica], 9))
      value = apart[replica]
      rows.append(source.row(replica, split, size, 'brackets', value, 9))
  return rows


def rows():
  log = math.log
  ntk = dict(factor=4.0)
  return [
    *made('rotary', (3.0, 3.1)),
    *made('rotary_cut', (1.49, 1.49), cut=True),
    *made('rotary NTK 4', (1.5 + log(6), 1.5 + log(6)), (0.6, 0.6), **ntk),
    *made('coca_slack', (2.0, 2.1), nets='coca_slack'),
    *made('coca_slack_cut', (1.6, 1.6), nets='coca_slack', cut=True),
    *made(
      'coca_slack NTK 4', (1.5 + log(2), 1.5 + log(2)), nets='coca_slack', **ntk
    ),
  ]


def lines_of(table):
  return {
    line[0]: dict(zip(table.headers, line, strict=True)) for line in table.rows
  }


def test_growth_stands_beside_the_published_one():
  lines = lines_of(growth_table(rows()))
  assert lines['rotary NTK 4']['at 16x'] == '6.00 (6.00 to 6.00)'
  assert lines['rotary NTK 4']['published 16x'] == '7.02'
  assert lines['coca_slack NTK 4']['at 16x'] == '2.00 (2.00 to 2.00)'
  assert lines['coca_slack NTK 4']['published 16x'] == '2.77'
  assert lines['coca_slack NTK 4']['passkeys, published 16x'] == '0.50'
  assert lines['coca_slack']['published 16x'] == '7.83'
  assert lines['rotary_cut']['published 16x'] == ''
  assert lines['rotary']['brackets at 16x'] == '80.0 % ± 0 %'
  # Geometric: the mean of the logarithms.
  assert lines['rotary']['at 16x'].startswith(f'{math.exp(1.55):.2f} (')


def test_each_form_is_judged_against_rotary_read_alike():
  found = {line[0]: line[1:] for line in claims_table(rows()).rows}
  assert list(found) == [
    f'{arm}: {claim}'
    for arm in ('coca_slack', 'coca_slack NTK 4')
    for claim in (
      *('its loss grows less', 'its loss is lower'),
      'it tells more brackets apart',
    )
  ]
  assert found['coca_slack: its loss grows less'] == [
    *('1,024', '+1.000 ± 0.000', 'confirmed'),
  ]
  apart = found['coca_slack NTK 4: it tells more brackets apart']
  assert apart[1:] == ['+0.200 ± 0.000', 'confirmed']


def test_each_arm_is_read_beside_the_cut_of_its_own_nets():
  lines = lines_of(main_table(rows()))
  assert lines['coca_slack NTK 4']['below its cut'] == '-0.593 ± 0.000'
  assert lines['rotary NTK 4']['below its cut'] == '-1.802 ± 0.000'
  assert lines['rotary NTK 4']['it gains'] == 'refuted'
  assert lines['coca_slack_cut (control)']['training'] == '1.50'
