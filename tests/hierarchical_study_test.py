"""The study of two levels, small, and what its tables say."""

import dataclasses

import numpy as np
import pytest
from text_models import write_modules

from experiments import hierarchical, hierarchical_scores
from experiments.hierarchical import check
from experiments.hierarchical_scores import (
  Config,
  asked_rows,
  chosen,
  readings_of,
)
from experiments.hierarchical_tables import (
  claims_table,
  main_table,
  place_table,
)
from extrap import cli
from extrap.errors import UsageError
from extrap.evaluation.results import arms_of, read_csv, select
from tests import made_rows

SMALL = (
  *('--arms=hirope_even', '--steps=2', '--replicas=2', '--length=16'),
  *('--longest=32', '--windows=8', '--few=2', '--asked=8', '--batch_size=4'),
  *('--train.steps_per_dispatch=2', '--model.depth=1', '--model.width=16'),
  *('--model.heads=2', '--model.ffn_width=8'),
)


def test_code_is_read_up_to_the_longest_context(tmp_path, monkeypatch):
  monkeypatch.setattr(hierarchical_scores, 'WHOLE', 1)
  text, path = write_modules(tmp_path), tmp_path / 'run'
  flags = (*SMALL, f'--text={text}', f'--workdir={path}')
  with pytest.raises(SystemExit) as caught:
    cli.run(hierarchical.main, Config, argv=['hierarchical', *flags])
  assert not caught.value.code
  results, _ = read_csv(path / 'results.csv')
  arms = ['rotary', 'rotary_cut', 'sliding_rotary', 'hirope_even']
  assert arms_of(results) == arms
  shown = {(r.metric, r.split, r.size): r.n for r in results}
  assert shown == {
    ('loss', 'in_distribution', '16'): 8,
    ('loss_near', 'in_distribution', '16'): 8,
    ('loss', 'out_of_distribution', '32'): 2,
    ('loss_near', 'out_of_distribution', '32'): 2,
    ('loss', 'by_place', '16'): 2,
    ('loss', 'by_place', '32'): 2,
  }
  value = {
    (row.arm, row.metric, row.split[:3], row.size): row.value
    for row in select(results, replica=1)
  }
  beyond = {arm: value[arm, 'loss', 'out', '32'] for arm in arms}
  # In one layer a window is as good as a cut, whose windows are chosen later.
  sliding = beyond['sliding_rotary']
  assert beyond['rotary_cut'] == pytest.approx(sliding, abs=1e-5)
  apart = sorted(beyond[arm] for arm in arms if arm != 'rotary_cut')
  assert min(np.diff(apart)) > 1e-7
  # The same bytes as beyond, at the training length.
  near = value['rotary', 'loss_near', 'out', '32']
  assert near == value['rotary_cut', 'loss_near', 'out', '32']
  assert near != value['rotary', 'loss_near', 'in_', '16']
  # The first octave of a long window is read alike by all.
  first = value['rotary', 'loss', 'by_', '16']
  assert value['sliding_rotary', 'loss', 'by_', '16'] == pytest.approx(first)
  assert {file.name for file in (path / 'plots').iterdir()} == {
    *('loss_by_context.png', 'loss_by_place.png'),
  }


def test_arms_have_the_settings_that_the_length_asks_for():
  config, arms = Config(), readings_of(Config())
  assert config.lengths[-1] == 128**2 == 16_384
  assert [config.windows_at(n) for n in config.lengths] == [
    *(512, 512, 512, 128, 32, 8, 3, 3),
  ]
  assert arms['hirope'].position_at(16_384).window == 64
  # 10,000^(-j/12): of 12 pairs four have turned around within 128.
  assert int(12 * arms['hirope_trusted'].position_at(1).split) == 4
  assert arms['ntk'].position_at(16_384).scale == 128
  assert arms['hirope_even'].notes['even'] and arms['rotary_cut'].cut
  assert chosen(512, 2).tolist() == [0, 511]
  assert len(set(chosen(512, 128).tolist())) == 128


def test_even_levels_are_of_so_many_bytes_whatever_the_functions(tmp_path):
  text = str(write_modules(tmp_path))
  config = dataclasses.replace(
    Config(), text=text, length=16, longest=64, windows=2, few=2, asked=8
  )
  arms = readings_of(config)
  even, other = (
    asked_rows(config, arms[arm], 64) for arm in ('hirope_even', 'hirope')
  )
  assert (even.token_NT == other.token_NT).all()
  assert (even.level_NT == np.repeat(np.arange(4), 16)[None]).all()
  assert (even.level_NT != other.level_NT).any()
  # Every byte of the longest windows counts, and the last of others.
  assert even.query_NQ.shape == (2, 64)
  assert asked_rows(config, arms['hirope'], 32).query_NQ.shape == (2, 8)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'arms': ('alibi',)}, '--arms=alibi: name each once, of rotary'),
    ({'longest': 4096}, 'take a text of'),
    ({'longest': 300}, 'times a power of 2'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message, tmp_path):
  text = write_modules(tmp_path)
  few = dict(windows=2, longest=256, text=str(text))
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **few | changes))


def made(arm, far, places, near=(1.5, 1.5)):
  """Rows of two seeds: the loss at 256, and in the octaves to 128 and 256."""
  source = made_rows.source(
    'hierarchical',
    arm,
    2,
    {'text': 'a', 'python': '3.11', 'planned_steps': 9},
    rung='L0 none',
    steps=(9, 9),
    samples=(9, 9),
  )
  return [
    source.row(replica, split, size, metric, pair[replica], 8)
    for replica in range(2)
    for split, size, metric, pair in (
      ('in_distribution', '128', 'loss', near),
      ('out_of_distribution', '256', 'loss', far),
      ('out_of_distribution', '256', 'loss_near', near),
      ('by_place', '128', 'loss', (1.6, 1.6)),
      *(('by_place', '256', 'loss', pair) for pair in places),
    )
  ]


def rows():
  return [
    *made('rotary', (3.0, 3.1), [(3.0, 3.0)]),
    *made('rotary_cut', (1.49, 1.47), []),
    *made('sliding_rotary', (1.48, 1.48), [(1.5, 1.5)]),
    *made('ntk', (2.0, 2.1), [(1.65, 1.65)]),
    *made('hirope', (1.46, 1.44), [(1.58, 1.581)]),
    *made('hirope_even', (1.6, 1.6), [(1.61, 1.59)]),
  ]


def lines_of(table):
  return {
    line[0]: dict(zip(table.headers, line, strict=True)) for line in table.rows
  }


def test_stable_is_near_the_control_on_the_same_bytes():
  lines = lines_of(place_table(rows()))
  assert 'rotary_cut (control)' not in lines
  assert lines['hirope']['stable there'] == 'confirmed'
  assert lines['hirope']['stable up to'] == '256'
  assert lines['ntk']['above sliding_rotary, to 256'] == '+0.150 ± 0.000'
  assert lines['ntk']['stable there'] == 'refuted'
  assert lines['ntk']['stable up to'] == '128'
  assert lines['hirope_even']['stable there'] == 'not resolved at this size'
  assert lines['sliding_rotary (control)']['stable there'] == ''
  claims = {line[0]: line[1:] for line in claims_table(rows()).rows}
  assert claims['hirope is stable'][-1] == 'confirmed'
  assert claims['hirope below rotary'][-1] == 'confirmed'
  assert claims['hirope_even below ntk'][-1] == 'not resolved at this size'


def test_growth_is_told_of_the_same_bytes():
  lines = lines_of(main_table(rows()))
  assert lines['hirope']['more at 256'] == '-0.050 ± 0.127'
  assert lines['hirope']['below cut rotary'] == '+0.030 ± 0.000'
  assert lines['hirope']['it gains'] == 'confirmed'
  assert 'loss at 256 (8 windows)' in lines['hirope']
